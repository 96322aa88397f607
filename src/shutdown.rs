//! The stop signal, and the tasks that are waited for after it. Who listens for SIGTERM is not decided here.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// How long connections stay open for a request of theirs once another process serves whoever comes.
///
/// One that is closed at once may have a request under way to it, which its client sees fail.
pub const GIVE_WAY: Duration = Duration::from_secs(3);

/// Told once to everything that runs: stop taking work, and end when what is there is done.
///
/// Clones are the same signal.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Since when another process serves whoever comes.
    handed_over: Arc<OnceLock<Instant>>,
}

/// The signal as one connection hears it. It may be given to that one alone.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    token: CancellationToken,
    handed_over: Arc<OnceLock<Instant>>,
}

impl Shutdown {
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Gives the signal. The first call counts.
    pub fn begin(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    /// Gives the signal because another process has the sockets: there is no hurry for connections then.
    pub fn hand_over(&self) {
        let _ = self.handed_over.set(Instant::now());
        self.begin();
    }

    /// Whether another process has the sockets.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.get().is_some()
    }

    pub fn has_begun(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Resolves once the signal is given.
    pub async fn begun(&self) {
        self.stop.cancelled().await;
    }

    /// A token that is cancelled with the signal.
    ///
    /// Each task polls one of its own: the tasks do not contend for the signal's lock.
    pub fn token(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// The same for a connection.
    pub fn connection(&self) -> Stop {
        Stop { token: self.token(), handed_over: Arc::clone(&self.handed_over) }
    }

    /// Spawns a task that [`Shutdown::drained`] waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// The tasks that [`Shutdown::drained`] waits for, for those who spawn their own.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// How many tasks run.
    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until every task has ended after the signal. False when `limit` passes first.
    pub async fn drained(&self, limit: Duration) -> bool {
        timeout(limit, async {
            self.begun().await;
            self.tasks.wait().await;
        })
        .await
        .is_ok()
    }
}

impl Stop {
    /// Gives the signal to this connection.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves once the signal is given.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    /// Since when another process serves whoever comes, where that is why the signal was given.
    pub fn handed_over(&self) -> Option<Instant> {
        self.handed_over.get().copied()
    }

    /// Resolves when what has its own deadline is to end at once: never where another process serves.
    pub async fn in_a_hurry(&self) {
        self.cancelled().await;
        if self.handed_over().is_some() {
            std::future::pending().await
        }
    }

    /// Resolves when a connection without a request is no longer to be waited for.
    pub async fn over(&self) {
        self.cancelled().await;
        if let Some(since) = self.handed_over() {
            sleep_until(since + GIVE_WAY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{GIVE_WAY, Shutdown};

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_the_last_task() {
        let shutdown = Shutdown::new();
        let stop = shutdown.token();
        let task = shutdown.spawn(async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        });

        shutdown.begin();

        assert!(!shutdown.drained(Duration::from_secs(2)).await);
        assert!(shutdown.drained(Duration::from_secs(2)).await);
        assert!(task.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_drained_before_the_signal() {
        let shutdown = Shutdown::new();

        assert!(!shutdown.drained(Duration::from_secs(60)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_time_where_another_process_took_over() {
        for (handed_over, time) in [(false, Duration::ZERO), (true, GIVE_WAY)] {
            let (shutdown, begun) = (Shutdown::new(), Instant::now());
            let connection = shutdown.connection();
            match handed_over {
                true => shutdown.hand_over(),
                false => shutdown.begin(),
            }
            connection.over().await;
            assert_eq!(begun.elapsed(), time);
        }
    }
}
