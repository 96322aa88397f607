//! The tail of the log: its last lines, and whoever follows it from there.
//!
//! Fed by the thread that writes the log, so no request pays for it. Lines of the access log are
//! for those who follow and ask for them: kept, they would push out all others within a second.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use super::label::Label;
use super::line::notice;
use super::recent::{LINES_MAX, Line, Recent};
use crate::config::LogFormat;

/// Followers at a time.
pub const FOLLOWERS_MAX: usize = 8;

/// Bytes of lines that wait for one follower. What comes when they do is left out for it.
const WAITING_MAX: usize = 256 << 10;

/// See the module.
pub struct Tail {
    state: Mutex<State>,
    /// Somebody follows, or did until the last line.
    followed: AtomicBool,
}

struct State {
    format: LogFormat,
    recent: Recent,
    followers: Vec<Weak<Follower>>,
}

/// Which lines somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those about this app; all where it is absent.
    pub app: Option<String>,
    /// Those of the access log, too.
    pub access: bool,
}

/// Who follows the log. Dropping it is the end of that.
pub struct Follower {
    wanted: Wanted,
    format: LogFormat,
    waiting: Mutex<Waiting>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    /// Lines after those that were left out.
    lost: usize,
}

/// There are as many followers as there may be.
#[derive(Debug, thiserror::Error)]
#[error("{FOLLOWERS_MAX} others follow the log already")]
pub struct TooMany;

impl Tail {
    /// Without lines and followers.
    pub const fn new() -> Tail {
        let state = State { format: LogFormat::Text, recent: Recent::new(), followers: Vec::new() };
        Tail { state: Mutex::new(state), followed: AtomicBool::new(false) }
    }

    /// How its lines are written.
    pub fn format(&self) -> LogFormat {
        self.lock().format
    }

    /// Lines are written like that from now on.
    pub(super) fn set_format(&self, format: LogFormat) {
        self.lock().format = format;
    }

    /// Whether a line about this app is kept.
    pub fn knows(&self, app: &str) -> bool {
        !self.lock().recent.last(Some(app), 1).is_empty()
    }

    /// The last lines that are wanted, `count` at the most and `LINES_MAX` in any case.
    pub fn last(&self, wanted: &Wanted, count: usize) -> Bytes {
        let lines = self.lock().recent.last(wanted.app.as_deref(), count.min(LINES_MAX));
        concat(lines.iter())
    }

    /// The same, and every line that is wanted from then on.
    ///
    /// # Errors
    /// When too many follow already.
    pub fn follow(&self, wanted: Wanted, count: usize) -> Result<Arc<Follower>, TooMany> {
        let mut state = self.lock();
        state.followers.retain(|follower| follower.strong_count() > 0);
        if state.followers.len() >= FOLLOWERS_MAX {
            return Err(TooMany);
        }
        let lines = state.recent.last(wanted.app.as_deref(), count.min(LINES_MAX));
        let bytes = lines.iter().map(|line| line.cost()).sum();
        let waiting = Waiting { lines: lines.into(), bytes, lost: 0 };
        let follower = Arc::new(Follower {
            wanted,
            format: state.format,
            waiting: Mutex::new(waiting),
            waker: AtomicWaker::new(),
        });
        state.followers.push(Arc::downgrade(&follower));
        self.followed.store(true, Relaxed);
        Ok(follower)
    }

    /// A line was written.
    pub(super) fn take(&self, text: &[u8], label: Label<'_>) {
        if label.is_access && !self.followed.load(Relaxed) {
            return;
        }
        let mut state = self.lock();
        let mut line = None;
        state.followers.retain(|follower| {
            let follower = follower.upgrade();
            if let Some(follower) = follower.as_ref().filter(|it| it.wanted.has(label)) {
                follower.push(line.get_or_insert_with(|| Line::new(text)));
            }
            follower.is_some()
        });
        self.followed.store(!state.followers.is_empty(), Relaxed);
        if !label.is_access {
            state.recent.push(line.unwrap_or_else(|| Line::new(text)), label);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Tail {
    fn default() -> Tail {
        Tail::new()
    }
}

impl Wanted {
    fn has(&self, label: Label<'_>) -> bool {
        (self.access || !label.is_access) && self.app.as_ref().is_none_or(|app| app == label.app)
    }
}

impl Follower {
    /// What has come since it was last asked, whole lines; with how many were left out after them.
    pub fn poll_lines(&self, cx: &mut Context<'_>) -> Poll<Bytes> {
        self.waker.register(cx.waker());
        let Waiting { lines, lost, .. } = mem::take(&mut *self.lock());
        if lines.is_empty() && lost == 0 {
            return Poll::Pending;
        }
        let news = (lost > 0).then(|| {
            let text =
                notice(self.format, "log lines are missing here: more came than were read", lost);
            Line::new(text.as_bytes())
        });
        Poll::Ready(concat(lines.iter().chain(&news)))
    }

    fn push(&self, line: &Arc<Line>) {
        let mut waiting = self.lock();
        // After the first that is left out no other gets in: the gap has one place.
        if waiting.lost > 0 || waiting.bytes + line.cost() > WAITING_MAX {
            waiting.lost += 1;
            return;
        }
        waiting.bytes += line.cost();
        waiting.lines.push_back(line.clone());
        drop(waiting);
        self.waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn concat<'a>(lines: impl Iterator<Item = &'a Arc<Line>>) -> Bytes {
    lines.flat_map(|line| line.text.iter().copied()).collect()
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
