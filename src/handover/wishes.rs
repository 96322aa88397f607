//! Upgrades that operators ask for, each answered with what became of it.

use tokio::sync::{Mutex, mpsc, oneshot};

/// Who asks for an upgrade, and is told the process that has taken over, or why there is none.
pub struct Wish(oneshot::Sender<Upgraded>);

/// The number of the new process, or why there is none, in words.
pub type Upgraded = Result<u32, String>;

/// One that waits at a time: another upgrade is refused while one is under way anyway.
const WAITING_MAX: usize = 1;

/// Between who asks and who sees to it.
pub struct Wishes {
    ask: mpsc::Sender<Wish>,
    asked: Mutex<mpsc::Receiver<Wish>>,
}

impl Default for Wishes {
    fn default() -> Self {
        let (ask, asked) = mpsc::channel(WAITING_MAX);
        Self { ask, asked: Mutex::new(asked) }
    }
}

impl Wishes {
    /// Asks for an upgrade. What is returned tells what became of it; there is nothing where
    /// another one waits already.
    pub fn ask(&self) -> Option<oneshot::Receiver<Upgraded>> {
        let (tell, told) = oneshot::channel();
        self.ask.try_send(Wish(tell)).ok().map(|()| told)
    }

    /// Resolves when somebody asks.
    pub async fn next(&self) -> Wish {
        match self.asked.lock().await.recv().await {
            Some(wish) => wish,
            // Not while we are there ourselves.
            None => std::future::pending().await,
        }
    }
}

impl Wish {
    /// Who has left need not know.
    pub fn tell(self, upgraded: Upgraded) {
        let _ = self.0.send(upgraded);
    }
}
