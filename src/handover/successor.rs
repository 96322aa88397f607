//! The process that is started to take this one's place.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Channel, Estate, Label, Message, VARIABLE};
use crate::systemd::OWN_ENVIRONMENT;

/// How long a process that has said why it ends, or has closed its channel, may take to be gone.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// What to start: what is at the path that this process was started from by then.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

/// The process that takes over. It goes on when this is dropped.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    channel: Arc<Channel>,
    pid: u32,
}

/// What tells it to stop.
pub struct Stopper(Arc<Channel>);

/// Why there is no process that takes over. The one that was started is gone.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(
        "an upgrade is under way already: the process before this one still finishes its requests"
    )]
    UnderWay,
    #[error(
        "this is process 1, whose end would be the container's: start another container instead"
    )]
    First,
    #[error("the sockets cannot be passed: {0}")]
    Sockets(io::Error),
    #[error("cannot start {}: {source}", path.display())]
    Start { path: PathBuf, source: io::Error },
    #[error("the new process ended before it was ready: {0}")]
    Ended(ExitStatus),
    #[error("the new process cannot serve: {0}")]
    Unable(String),
    #[error("the new process was not ready within {0:?}, server.upgrade_timeout, and was ended")]
    Late(Duration),
    #[error("the new process is not understood, and was ended: {0}")]
    Unknown(String),
}

/// Ended when dropped.
struct Starting(Option<Child>);

impl Program {
    /// As this process was started. To be called before its file may be replaced.
    ///
    /// # Errors
    /// When the system does not say where the program is.
    pub fn this() -> io::Result<Program> {
        let mut arguments = std::env::args_os();
        // A link that is turned to another version leads there, where the file it led to does not.
        let named =
            arguments.next().map(PathBuf::from).filter(|path| path.components().count() > 1);
        let named = named.and_then(|path| std::path::absolute(path).ok());
        let path = match named.filter(|path| is_running(path)) {
            Some(path) => path,
            None => std::env::current_exe()?,
        };
        Ok(Program { path, arguments: arguments.collect() })
    }

    /// Starts it with what it is to take over, and waits until it has loaded everything, but not for longer than `limit`.
    ///
    /// Dropping the future ends it.
    ///
    /// # Errors
    /// When it does not get ready. It is gone then.
    pub async fn start(&self, estate: Estate, limit: Duration) -> Result<Successor, Failure> {
        let (channel, theirs) = Channel::pair().map_err(Failure::Sockets)?;
        let (labels, sockets): (Vec<Label>, Vec<_>) =
            estate.sockets.into_iter().map(|passed| (passed.label, passed.socket)).unzip();
        let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let (keys, drained) = (estate.keys, estate.drained);
        let take = Message::Take { sockets: labels, keys, drained };
        channel.send(&take, &descriptors).map_err(Failure::Sockets)?;
        // They are on their way: what this process closes by then is closed.
        drop(sockets);

        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::from(theirs)).env(VARIABLE, "1");
        for name in OWN_ENVIRONMENT {
            command.env_remove(name);
        }
        let child =
            command.spawn().map_err(|source| Failure::Start { path: self.path.clone(), source })?;
        // It has its own end by now, and must be the only one who does.
        drop(command);
        let pid = child.id().unwrap_or_default();
        info!(pid, program = %self.path.display(), "upgrading: the new process loads");
        let mut starting = Starting(Some(child));
        let said = timeout(limit, channel.receive()).await.map_err(|_| Failure::Late(limit))?;
        match said {
            Ok(Some(Message::Ready)) => {
                let child = starting.0.take().ok_or_else(|| Failure::Unknown("no child".into()))?;
                Ok(Successor { child, channel: Arc::new(channel), pid })
            }
            Ok(Some(Message::Failed(reason))) => {
                starting.end().await;
                Err(Failure::Unable(reason))
            }
            Ok(None) => match starting.end().await {
                Some(status) => Err(Failure::Ended(status)),
                None => Err(Failure::Unknown("it closed its standard input".into())),
            },
            Ok(Some(other)) => Err(Failure::Unknown(format!("it said {other:?}"))),
            Err(error) => Err(Failure::Unknown(error.to_string())),
        }
    }
}

impl Successor {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells it that the sockets are its own.
    ///
    /// # Errors
    /// When it has ended meanwhile.
    pub fn take_over(&self) -> Result<(), Failure> {
        self.channel.send(&Message::Yours, &[]).map_err(|error| Failure::Unknown(error.to_string()))
    }

    /// Ends it, which has not taken over.
    pub fn dismiss(mut self) {
        // An error means that it has ended by itself. The runtime waits for it.
        let _ = self.child.start_kill();
    }

    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.channel))
    }

    /// Resolves when it has ended.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

impl Stopper {
    /// Has it stop, as this process was told to.
    pub fn stop(&self) {
        if let Err(error) = self.0.send(&Message::Stop, &[]) {
            warn!(%error, "the new process cannot be told to stop");
        }
    }
}

impl Starting {
    /// How it ended, if it does by itself.
    async fn end(&mut self) -> Option<ExitStatus> {
        let child = self.0.as_mut()?;
        timeout(LAST_MOMENT, child.wait()).await.ok()?.ok()
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // An error means that it has ended by itself. The runtime waits for it.
            let _ = child.start_kill();
        }
    }
}

/// Whether a file is the program of this process.
fn is_running(path: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|meta| (meta.dev(), meta.ino()));
    matches!((identity(path), identity(Path::new("/proc/self/exe"))), (Ok(a), Ok(b)) if a == b)
}
