//! The process before this one, which this one was started by to take over from.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Channel, Estate, Message, Passed, VARIABLE};

/// Bytes of a reason that are told; all of it is in the log.
const REASON_MAX: usize = 4096;

/// The process before this one.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
    /// It was told to stop, which is meant for both.
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Predecessor {
    /// Who started this process to take over, and what there is to take. None where nobody did.
    ///
    /// To be called once, before there are other threads or processes: standard input is theirs after that.
    ///
    /// # Errors
    /// When the environment says that somebody did, and standard input is not what they pass.
    pub fn find() -> io::Result<Option<(Predecessor, Estate)>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let (channel, estate) = take().map_err(|error| {
            let text = format!("{VARIABLE} is set, which upgrades do, and standard input is not an upgrade's: {error}");
            io::Error::new(error.kind(), text)
        })?;
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        Ok(Some((Predecessor { channel, stop, ended }, estate)))
    }

    /// Tells it that everything is loaded, and returns once the sockets are this process' own.
    ///
    /// # Errors
    /// When it does not let them go.
    pub async fn relieve(&self) -> io::Result<()> {
        if let Err(error) = self.channel.send(&Message::Ready, &[]) {
            warn!(%error, "the process before this one cannot be told that this one is ready");
        }
        match self.channel.receive().await? {
            Some(Message::Yours) => Ok(()),
            None => {
                warn!("the process before this one has ended, this one takes over");
                self.ended.cancel();
                Ok(())
            }
            Some(other) => {
                Err(io::Error::other(format!("the process before this one said {other:?}")))
            }
        }
    }

    /// Tells it why this process ends.
    pub fn fail(&self, reason: &str) {
        let mut end = reason.len().min(REASON_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        // It may have ended itself.
        let _ = self.channel.send(&Message::Failed(reason[..end].to_owned()), &[]);
    }

    /// Follows what becomes of it until it has ended.
    pub async fn follow(&self) {
        while !self.has_ended() {
            match self.channel.receive().await {
                Ok(Some(Message::Stop)) => self.stop.cancel(),
                Ok(Some(other)) => warn!(?other, "the process before this one is not understood"),
                Ok(None) => {
                    info!("the process before this one has ended");
                    self.ended.cancel();
                }
                Err(error) => {
                    warn!(%error, "the process before this one cannot be followed");
                    self.ended.cancel();
                }
            }
        }
    }

    /// Resolves when it was told to stop, and this process is meant as well.
    pub async fn told_to_stop(&self) {
        self.stop.cancelled().await;
    }

    /// Whether it has finished all that it had begun.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Cancelled when it has ended.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }
}

/// Takes the channel and the sockets from standard input, which is empty after that.
fn take() -> io::Result<(Channel, Estate)> {
    let stdin = io::stdin();
    let channel = Channel::from(stdin.as_fd().try_clone_to_owned()?);
    let nothing = File::open("/dev/null")?;
    // SAFETY: both are open, and nothing else in this process uses standard input. What it starts
    // may inherit that, and would keep the channel open.
    if unsafe { libc::dup2(nothing.as_raw_fd(), stdin.as_raw_fd()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    match channel.take()? {
        Some((Message::Take { sockets: labels, keys, drained }, sockets))
            if labels.len() == sockets.len() =>
        {
            let passed = sockets.into_iter().zip(labels);
            let sockets = passed.map(|(socket, label)| Passed { socket, label }).collect();
            Ok((channel, Estate { sockets, keys, drained }))
        }
        Some((other, _)) => Err(io::Error::other(format!("it began with {other:?}"))),
        None => Err(io::Error::other("its other end is closed")),
    }
}
