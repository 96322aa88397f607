//! Takes lines from their queue and writes them in batches, on the log's own thread.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;

use super::label::{self, Label};
use super::line::notice;
use super::queue::Waiting;
use super::tail::Tail;
use crate::config::LogFormat;

/// Bytes written at once at the most.
const BATCH_MAX: usize = 64 * 1024;

/// How long lines gather after a batch was written.
///
/// While the thread lingers, handing it a line wakes nobody: under load this
/// saves a wake-up and a `write` for nearly every line. A lone line is not
/// delayed, as the wait comes after the write.
const LINGER: Duration = Duration::from_millis(5);

/// Lines that could not be written so far: there is one log in a process.
pub static LOST: AtomicU64 = AtomicU64::new(0);

/// Where lines end up.
pub trait Output: Send + 'static {
    /// Writes whole lines. On an error some of them may have been written.
    fn write_lines(&mut self, lines: &[u8]) -> io::Result<()>;

    /// For messages about it.
    fn name(&self) -> String;
}

/// Standard error, around a progress bar while one is drawn there.
pub struct Stderr(pub ProgressBar);

impl Output for Stderr {
    fn write_lines(&mut self, lines: &[u8]) -> io::Result<()> {
        self.0.suspend(|| io::stderr().lock().write_all(lines))
    }

    fn name(&self) -> String {
        "standard error".to_owned()
    }
}

/// What tracing-appender's thread writes to.
pub struct Sink<O> {
    output: O,
    format: LogFormat,
    batch: Vec<u8>,
    /// Knows the lines that were left out.
    waiting: Arc<Waiting>,
    dropped_told: usize,
    /// Lines that could not be written since the last that could.
    lost: usize,
    linger: Duration,
    /// Where those are read who ask for the last lines.
    tail: Option<&'static Tail>,
}

impl<O: Output> Sink<O> {
    /// A sink for the lines of a queue.
    pub fn new(
        output: O,
        format: LogFormat,
        waiting: Arc<Waiting>,
        tail: Option<&'static Tail>,
    ) -> Sink<O> {
        Sink {
            output,
            format,
            batch: Vec::new(),
            waiting,
            dropped_told: 0,
            lost: 0,
            linger: LINGER,
            tail,
        }
    }

    fn write_batch(&mut self) {
        let dropped = self.waiting.dropped();
        let mut lines = std::mem::take(&mut self.batch);
        let mut news = String::new();
        if dropped > self.dropped_told {
            news += &notice(
                self.format,
                "log lines were dropped: more came than may be written",
                dropped - self.dropped_told,
            );
        }
        let dropped_news = news.clone();
        if self.lost > 0 {
            // The last batch may have ended within a line.
            news.insert(0, '\n');
            news +=
                &notice(self.format, "log lines were lost: they could not be written", self.lost);
        }
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        if !news.is_empty() {
            lines.splice(0..0, news.into_bytes());
        }

        match self.output.write_lines(&lines) {
            Ok(()) => {
                self.dropped_told = dropped;
                self.lost = 0;
                if let Some(tail) = self.tail.filter(|_| !dropped_news.is_empty()) {
                    tail.take(dropped_news.as_bytes(), Label::default());
                }
            }
            Err(error) => {
                if self.lost == 0 {
                    // Said once, where it may still be read; the count follows when there is room again.
                    let _ = writeln!(
                        io::stderr(),
                        "tidegate: cannot write {}, log lines are lost: {error}",
                        self.output.name()
                    );
                }
                self.lost = self.lost.saturating_add(count);
                LOST.fetch_add(count as u64, Relaxed);
            }
        }
        lines.clear();
        lines.shrink_to(BATCH_MAX);
        self.batch = lines;
    }
}

/// Never fails: what goes wrong is counted here, as tracing-appender's thread would ignore it.
impl<O: Output> Write for Sink<O> {
    fn write(&mut self, labelled: &[u8]) -> io::Result<usize> {
        self.waiting.leave(labelled);
        let (line, label) = label::detach(labelled);
        if let Some(tail) = self.tail {
            tail.take(line, label);
        }
        self.batch.extend_from_slice(line);
        if self.batch.len() >= BATCH_MAX {
            self.write_batch();
        }
        Ok(labelled.len())
    }

    /// Called when the queue is empty.
    fn flush(&mut self) -> io::Result<()> {
        if !self.batch.is_empty() {
            self.write_batch();
            thread::sleep(self.linger);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::super::tail::Wanted;
    use super::{Output, Sink, Tail};
    use crate::config::LogFormat;

    #[derive(Clone, Default)]
    struct Disk {
        full: Arc<Mutex<bool>>,
        written: Arc<Mutex<String>>,
    }

    impl Output for Disk {
        fn write_lines(&mut self, lines: &[u8]) -> io::Result<()> {
            if *self.full.lock().unwrap() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.lock().unwrap().push_str(std::str::from_utf8(lines).unwrap());
            Ok(())
        }

        fn name(&self) -> String {
            "the test's disk".to_owned()
        }
    }

    #[test]
    fn lines_lost_to_a_full_disk_are_counted_once_it_has_room() {
        let disk = Disk::default();
        let mut sink = Sink::new(disk.clone(), LogFormat::Text, Arc::default(), None);

        *disk.full.lock().unwrap() = true;
        sink.write_all(b"one\n").unwrap();
        sink.flush().unwrap();
        sink.write_all(b"two\nthree\n").unwrap();
        sink.flush().unwrap();
        *disk.full.lock().unwrap() = false;
        sink.write_all(b"four\n").unwrap();
        sink.flush().unwrap();
        sink.write_all(b"five\n").unwrap();
        sink.flush().unwrap();

        let written = disk.written.lock().unwrap();
        let lines: Vec<_> = written.trim_start().lines().collect();
        assert!(
            lines[0].ends_with("log lines were lost: they could not be written lines=3"),
            "{written}"
        );
        assert_eq!(lines[1..], ["four", "five"]);
    }

    #[test]
    fn who_follows_gets_the_lines_and_nobody_sees_their_labels() {
        let tail: &'static Tail = Box::leak(Box::new(Tail::new()));
        let disk = Disk::default();
        let mut sink = Sink::new(disk.clone(), LogFormat::Text, Arc::default(), Some(tail));
        sink.write_all(b"of an app\n.shop").unwrap();
        sink.write_all(b"of a request\nrshop").unwrap();
        sink.write_all(b"of none\n").unwrap();
        sink.flush().unwrap();

        assert_eq!(*disk.written.lock().unwrap(), "of an app\nof a request\nof none\n");
        assert_eq!(tail.last(&Wanted::default(), 9), "of an app\nof none\n");
        let of_shop = Wanted { app: Some("shop".to_owned()), access: false };
        assert_eq!(tail.last(&of_shop, 9), "of an app\n");
    }

    #[test]
    fn lines_wait_for_an_empty_queue_and_are_written_together() {
        let disk = Disk::default();
        let mut sink = Sink::new(disk.clone(), LogFormat::Text, Arc::default(), None);

        sink.write_all(b"one\n").unwrap();
        sink.write_all(b"two\n").unwrap();
        assert_eq!(*disk.written.lock().unwrap(), "");
        sink.flush().unwrap();

        assert_eq!(*disk.written.lock().unwrap(), "one\ntwo\n");
    }
}
