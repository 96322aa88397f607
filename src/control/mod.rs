//! Waits for a hint, reloads, logs the outcome; forever.

mod manifest;
mod reload;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

use crate::shutdown::Shutdown;
pub use reload::{Outcome, Reloader};
use watch::Watch;

/// A hint may be lost; what changed is found this much later at the latest.
const RESCAN: Duration = Duration::from_secs(10);

/// Hints that follow one another this closely are one change.
const QUIET: Duration = Duration::from_millis(20);

/// A change that never becomes quiet is looked at after this all the same.
const MAX_DELAY: Duration = Duration::from_millis(200);

/// When to look again at a file that may have been half written.
const RETRY: Duration = Duration::from_millis(100);

/// Something may have changed. Never a fact: contents decide.
#[derive(Clone, Default)]
pub struct Hint(Arc<Inner>);

#[derive(Default)]
struct Inner {
    given: Notify,
    asked: AtomicBool,
}

impl Hint {
    pub fn give(&self) {
        self.0.given.notify_one();
    }

    /// The same from a person, who is told the outcome even where nothing is new.
    pub fn ask(&self) {
        self.0.asked.store(true, Ordering::Relaxed);
        self.give();
    }

    /// Resolves at the next hint, or at once if one was given since the last.
    async fn given(&self) {
        self.0.given.notified().await;
    }

    fn take_asked(&self) -> bool {
        self.0.asked.swap(false, Ordering::Relaxed)
    }
}

/// Keeps what runs in step with the files until shutdown begins, and lets idle instances go then.
///
/// `hint` is how others, such as SIGHUP, ask for a look.
pub async fn run(mut reloader: Reloader, hint: Hint, shutdown: Shutdown) {
    tokio::select! {
        () = shutdown.begun() => {}
        () = follow(&mut reloader, hint) => {}
    }
    reloader.evict();
}

async fn follow(reloader: &mut Reloader, hint: Hint) {
    let mut watch = Watch::start(hint.clone());
    let mut next = Instant::now() + RESCAN;
    let mut asked = false;
    loop {
        if watch.follow(&reloader.current().load().config) {
            next = Instant::now();
        }
        tokio::select! {
            () = sleep_until(next) => {}
            () = reloader.compiled() => {}
            () = hint.given() => {
                let until = Instant::now() + MAX_DELAY;
                while Instant::now() < until && timeout(QUIET, hint.given()).await.is_ok() {}
            }
        }
        // What was asked for is answered once nothing is half written any more.
        asked |= hint.take_asked();
        let outcome = reloader.reload(asked).await;
        next = Instant::now() + if outcome.look_again { RETRY } else { RESCAN };
        report(&outcome);
        if asked && !outcome.look_again {
            asked = false;
            if outcome.swap.is_none() && outcome.problems.is_empty() {
                info!("nothing changed");
            }
        }
    }
}

fn report(outcome: &Outcome) {
    for problem in &outcome.problems {
        error!("{problem}");
    }
    for warning in &outcome.warnings {
        warn!("{warning}");
    }
    if let Some(swap) = &outcome.swap {
        info!(
            generation = swap.number,
            retired = swap.retired,
            apps = swap.apps,
            changed = swap.changed,
            elapsed = ?swap.elapsed,
            "reloaded"
        );
    }
}
