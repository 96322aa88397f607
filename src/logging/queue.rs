//! Lines between the threads that log and the one that writes: bounded in bytes, and nobody waits.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::sink::{Output, Sink};
use super::tail::Tail;
use super::{ACCESS, GUEST};
use crate::config::LogFormat;

/// Bytes of lines that wait for the disk at the most.
const WAITING_MAX: usize = 16 << 20;

/// What a short line counts as, so that the number of those that wait is bounded as well.
const LINE_MIN: usize = 512;

/// Lines that were left out by any queue so far: there is one log in a process.
pub static DROPPED: AtomicU64 = AtomicU64::new(0);

/// A queue of lines. Clones push to the same.
#[derive(Clone)]
pub struct Queue {
    lines: NonBlocking,
    waiting: Arc<Waiting>,
}

/// What is in the queue, for both of its ends.
#[derive(Debug, Default)]
pub struct Waiting {
    bytes: AtomicUsize,
    dropped: AtomicUsize,
}

impl Queue {
    /// Starts the thread that writes to `output`, and what it writes to `tail`. It ends with the
    /// guard, once the queue is empty.
    pub fn start(
        output: impl Output,
        format: LogFormat,
        tail: Option<&'static Tail>,
    ) -> (Queue, WorkerGuard) {
        let waiting = Arc::new(Waiting::default());
        // As many lines as there can be, and room for the order to end.
        let (lines, thread) = NonBlockingBuilder::default()
            .buffered_lines_limit(WAITING_MAX / LINE_MIN + 1)
            .lossy(true)
            .thread_name("log")
            .finish(Sink::new(output, format, Arc::clone(&waiting), tail));
        (Queue { lines, waiting }, thread)
    }

    /// Hands a labelled line on. One for which there is no room is counted.
    pub fn push(&self, line: &str, target: &str) {
        if self.waiting.enter(line, target) {
            // It fails only when the thread has ended.
            let _ = self.lines.clone().write_all(line.as_bytes());
        }
    }

    /// Counts a line that was left out.
    pub fn leave_out(&self) {
        self.waiting.drop_one();
    }
}

impl Waiting {
    /// Makes room for a line, or counts it as dropped.
    fn enter(&self, line: &str, target: &str) -> bool {
        let weight = weight(line.as_bytes());
        let before = self.bytes.fetch_add(weight, Relaxed);
        let fits = before + weight <= share(target);
        if !fits {
            self.bytes.fetch_sub(weight, Relaxed);
            self.drop_one();
        }
        fits
    }

    fn drop_one(&self) {
        self.dropped.fetch_add(1, Relaxed);
        DROPPED.fetch_add(1, Relaxed);
    }

    /// A line has left the queue.
    pub fn leave(&self, line: &[u8]) {
        self.bytes.fetch_sub(weight(line), Relaxed);
    }

    /// Lines that were left out so far.
    pub fn dropped(&self) -> usize {
        self.dropped.load(Relaxed)
    }
}

fn weight(line: &[u8]) -> usize {
    line.len().max(LINE_MIN)
}

/// How full the queue may be for a line with this target: when the disk is too slow for all
/// that clients do, what guests write has room left, and what the program says has most.
fn share(target: &str) -> usize {
    match target {
        ACCESS => WAITING_MAX / 2,
        GUEST => WAITING_MAX / 4 * 3,
        _ => WAITING_MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Writes nothing before it is told to.
    struct Stuck(Receiver<()>, Arc<AtomicUsize>);

    impl Output for Stuck {
        fn write_lines(&mut self, lines: &[u8]) -> io::Result<()> {
            let _ = self.0.recv();
            self.1.fetch_add(lines.iter().filter(|byte| **byte == b'\n').count(), Relaxed);
            Ok(())
        }

        fn name(&self) -> String {
            "the test's disk".to_owned()
        }
    }

    #[test]
    fn requests_leave_room_for_guests_and_those_for_the_programs_own_lines() {
        let (go, stuck) = channel();
        let written = Arc::new(AtomicUsize::new(0));
        let (queue, guard) =
            Queue::start(Stuck(stuck, Arc::clone(&written)), LogFormat::Text, None);
        let all = WAITING_MAX / LINE_MIN;
        let push = |target, line: &str| {
            let dropped = queue.waiting.dropped();
            (0..2 * all).for_each(|_| queue.push(line, target));
            2 * all - (queue.waiting.dropped() - dropped)
        };
        // The thread holds a batch of those that it could not write yet.
        let batch = (64 << 10) / 6 + 1;
        let near = |pushed: usize, share: usize| pushed >= share && pushed <= share + batch;

        let (access, guest, own) =
            (push(ACCESS, "a line\n"), push(GUEST, "a line\n"), push("tidegate", "a line\n"));

        assert!(near(access, all / 2), "{access}");
        assert!(near(access + guest, all / 4 * 3), "{guest}");
        assert!(near(access + guest + own, all), "{own}");
        drop(go);
        drop(guard);
        // And one that tells of those dropped.
        let news = written.load(Relaxed) - access - guest - own;
        assert!(news > 0, "the dropped ones are told");
        assert_eq!(queue.waiting.bytes.load(Relaxed), 0);
    }

    #[test]
    fn long_lines_take_their_length() {
        let (go, stuck) = channel();
        let (queue, guard) = Queue::start(Stuck(stuck, Arc::default()), LogFormat::Text, None);
        let line = format!("{}\n", "x".repeat((1 << 20) - 1));
        (0..1000).for_each(|_| queue.push(&line, "tidegate"));
        // One or two are in the thread's hands.
        let dropped = queue.waiting.dropped();
        assert!((1000 - 18..=1000 - 16).contains(&dropped), "{dropped}");
        drop(go);
        drop(guard);
    }
}
