//! The stop signal, and the tasks that are waited for after it. Who listens for SIGTERM is not decided here.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Told once to everything that runs: stop taking work, and end when what is there is done.
///
/// Clones are the same signal.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    tasks: TaskTracker,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Shutdown;

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
}
