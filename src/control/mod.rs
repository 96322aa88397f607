//! Waits for a hint, reloads, logs the outcome; forever.

mod asked;
mod changes;
mod history;
mod manifest;
mod reload;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

use crate::shutdown::Shutdown;
use crate::stats;
use asked::Waiting;
pub use asked::{Asked, Told};
pub use changes::{AppChange, Changes};
pub use history::{Entry, History, Verdict};
pub use manifest::ManifestFile;
pub use reload::{Outcome, Reloader, Swap};
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
    /// Who wants to know what the next look came to.
    waiting: Waiting,
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

    /// The same, and what is returned tells the outcome for the files as they are now.
    pub fn ask_and_wait(&self) -> Asked {
        let asked = self.0.waiting.add();
        self.ask();
        asked
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
pub async fn run(mut reloader: Reloader, hint: Hint, history: Arc<History>, shutdown: Shutdown) {
    tokio::select! {
        () = shutdown.begun() => {}
        () = follow(&mut reloader, hint, &history) => {}
    }
    reloader.evict();
}

async fn follow(reloader: &mut Reloader, hint: Hint, history: &History) {
    let mut watch = Watch::start(hint.clone());
    let mut next = Instant::now() + RESCAN;
    let mut asked = false;
    let mut waiting = Vec::new();
    loop {
        let generation = reloader.current().load();
        let followed = spawn_blocking(move || {
            let more = watch.follow(&generation.config);
            (watch, more)
        });
        let more;
        (watch, more) = followed.await.unwrap_or_else(|_| (Watch::start(hint.clone()), true));
        if more {
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
        if hint.take_asked() {
            asked = true;
            reloader.try_again();
        }
        waiting.extend(hint.0.waiting.take());
        let outcome = reloader.reload(asked).await;
        next = Instant::now() + if outcome.look_again { RETRY } else { RESCAN };
        // Who reads of it in the log finds it here.
        if let Some(entry) = history.add(&outcome) {
            counted(entry.verdict).inspect(|it| reloader.stats().reloads.count(*it));
            waiting.iter_mut().for_each(|it: &mut asked::Waiter| it.saw(&entry));
        }
        report(&outcome);
        if !outcome.look_again && !outcome.compiling {
            waiting.drain(..).for_each(asked::Waiter::tell);
        }
        if asked && !outcome.look_again {
            asked = false;
            if outcome.swap.is_none() && outcome.problems.is_empty() {
                info!("nothing changed");
            }
        }
    }
}

/// The same, as it is counted. None for the start, which is no reload.
fn counted(verdict: Verdict) -> Option<stats::Verdict> {
    match verdict {
        Verdict::Started => None,
        Verdict::Applied => Some(stats::Verdict::Applied),
        Verdict::Partial => Some(stats::Verdict::Partial),
        Verdict::Refused => Some(stats::Verdict::Refused),
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
