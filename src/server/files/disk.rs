//! Turns at the disk: what may block runs on so many threads at the most, and is waited for so long.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Turns at a time. Each takes one of the 64 threads that may block, of which others need some
/// even where all disks hang.
const TURNS_MAX: usize = 32;

/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a turn is waited for. Where a disk hangs, its thread hangs with it and keeps the
/// turn, but no client does.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The disks of all folders.
#[derive(Clone)]
pub struct Disk(Arc<Semaphore>);

/// One turn.
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Disk {
    pub fn new() -> Disk {
        Disk(Arc::new(Semaphore::new(TURNS_MAX)))
    }

    /// The next turn; none where there is none for too long.
    pub async fn turn(&self) -> Option<Turn> {
        let permit = timeout(TURN_TIMEOUT, Arc::clone(&self.0).acquire_owned()).await;
        Some(Turn { _permit: permit.ok()?.ok()? })
    }
}

impl Turn {
    /// Does what may block.
    ///
    /// # Errors
    /// When it takes too long. It goes on then, and nobody hears of it.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let working = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(self);
            done
        });
        match timeout(READ_TIMEOUT, working).await {
            Ok(done) => done.map_err(io::Error::other),
            Err(_) => {
                let seconds = READ_TIMEOUT.as_secs();
                let message = format!("the disk has not answered for {seconds} s");
                Err(io::Error::new(ErrorKind::TimedOut, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_given_up_but_keeps_its_turns() {
        let disk = Disk::new();
        let mut hanging = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..TURNS_MAX {
            let (end, ended) = mpsc::channel::<()>();
            let turn = disk.turn().await.unwrap();
            hanging.push(tokio::spawn(turn.run(move || ended.recv().is_err())));
            ends.push(end);
        }
        let other = tokio::spawn({
            let disk = disk.clone();
            async move { disk.turn().await.is_some() }
        });
        tokio::task::yield_now().await;
        tokio::time::advance(READ_TIMEOUT).await;
        for given_up in hanging {
            assert_eq!(given_up.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        }
        assert!(!other.await.unwrap(), "its threads hang still");

        drop(ends);
        let turn = disk.turn().await.expect("the disk is back");
        assert_eq!(turn.run(|| 7).await.unwrap(), 7);
    }
}
