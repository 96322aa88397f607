//! Takes lines from their queue and writes them in batches, on the log's own thread.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;

use super::line::notice;
use super::queue::Waiting;
use crate::config::LogFormat;

/// Bytes written at once at the most.
const BATCH_MAX: usize = 64 * 1024;

/// How long lines gather after a batch was written.
///
/// While the thread lingers, handing it a line wakes nobody: under load this
/// saves a wake-up and a `write` for nearly every line. A lone line is not
/// delayed, as the wait comes after the write.
const LINGER: Duration = Duration::from_millis(5);

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
}

impl<O: Output> Sink<O> {
    /// A sink for the lines of a queue.
    pub fn new(output: O, format: LogFormat, waiting: Arc<Waiting>) -> Sink<O> {
        Sink {
            output,
            format,
            batch: Vec::new(),
            waiting,
            dropped_told: 0,
            lost: 0,
            linger: LINGER,
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
            }
        }
        lines.clear();
        lines.shrink_to(BATCH_MAX);
        self.batch = lines;
    }
}

/// Never fails: what goes wrong is counted here, as tracing-appender's thread would ignore it.
impl<O: Output> Write for Sink<O> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.leave(line);
        self.batch.extend_from_slice(line);
        if self.batch.len() >= BATCH_MAX {
            self.write_batch();
        }
        Ok(line.len())
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

    use super::{Output, Sink};
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
        let mut sink = Sink::new(disk.clone(), LogFormat::Text, Arc::default());

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
    fn lines_wait_for_an_empty_queue_and_are_written_together() {
        let disk = Disk::default();
        let mut sink = Sink::new(disk.clone(), LogFormat::Text, Arc::default());

        sink.write_all(b"one\n").unwrap();
        sink.write_all(b"two\n").unwrap();
        assert_eq!(*disk.written.lock().unwrap(), "");
        sink.flush().unwrap();

        assert_eq!(*disk.written.lock().unwrap(), "one\ntwo\n");
    }
}
