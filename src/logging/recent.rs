//! The last lines of the log, in memory: those of each app, and those of none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::label::Label;

/// Lines that are kept.
pub const LINES_MAX: usize = 1000;

/// Bytes that they take.
pub const BYTES_MAX: usize = 256 << 10;

/// What keeping a line costs besides its text.
const LINE_COST: usize = 128;

/// A line as it was written.
#[derive(Debug)]
pub struct Line {
    pub text: Box<[u8]>,
}

/// The last lines, bounded. When there are too many the oldest goes of whoever has most of them:
/// an app that writes all the time does not push out the only line of another.
#[derive(Default)]
pub struct Recent {
    /// By app; empty for lines about none.
    parts: BTreeMap<Box<str>, Part>,
    /// The number of the next line.
    next: u64,
    lines: usize,
    bytes: usize,
}

#[derive(Default)]
struct Part {
    lines: VecDeque<(u64, Arc<Line>)>,
    bytes: usize,
}

impl Line {
    pub fn new(text: &[u8]) -> Arc<Line> {
        Arc::new(Line { text: text.into() })
    }

    /// Bytes that it takes in memory.
    pub fn cost(&self) -> usize {
        self.text.len() + LINE_COST
    }
}

impl Recent {
    /// None yet.
    pub const fn new() -> Recent {
        Recent { parts: BTreeMap::new(), next: 0, lines: 0, bytes: 0 }
    }

    pub fn push(&mut self, line: Arc<Line>, label: Label<'_>) {
        let cost = line.cost();
        if !self.parts.contains_key(label.app) {
            self.parts.insert(label.app.into(), Part::default());
        }
        if let Some(part) = self.parts.get_mut(label.app) {
            part.lines.push_back((self.next, line));
            part.bytes += cost;
        }
        self.next += 1;
        self.lines += 1;
        self.bytes += cost;
        while self.lines > LINES_MAX || self.bytes > BYTES_MAX {
            self.drop_one();
        }
    }

    /// The last `count` lines, of one app or of all.
    pub fn last(&self, app: Option<&str>, count: usize) -> Vec<Arc<Line>> {
        let parts = self.parts.iter().filter(|(name, _)| app.is_none_or(|app| app == &***name));
        let mut lines: Vec<_> = parts.flat_map(|(_, part)| &part.lines).collect();
        lines.sort_unstable_by_key(|(number, _)| *number);
        let skipped = lines.len().saturating_sub(count);
        lines[skipped..].iter().map(|(_, line)| line.clone()).collect()
    }

    fn drop_one(&mut self) {
        let most = self.parts.iter_mut().max_by_key(|(_, part)| part.bytes);
        let Some((name, part)) = most else { return };
        if let Some((_, line)) = part.lines.pop_front() {
            let cost = line.cost();
            part.bytes -= cost;
            self.bytes -= cost;
            self.lines -= 1;
        }
        if part.lines.is_empty() {
            let name = name.clone();
            self.parts.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(recent: &mut Recent, app: &str, text: &str) {
        recent.push(Line::new(text.as_bytes()), Label { app, is_access: false });
    }

    fn texts(lines: &[Arc<Line>]) -> Vec<String> {
        lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect()
    }

    #[test]
    fn the_last_lines_are_there_in_their_order() {
        let mut recent = Recent::new();
        for (app, text) in [("a", "1"), ("", "2"), ("b", "3"), ("a", "4")] {
            push(&mut recent, app, text);
        }
        assert_eq!(texts(&recent.last(None, 10)), ["1", "2", "3", "4"]);
        assert_eq!(texts(&recent.last(None, 2)), ["3", "4"]);
        assert_eq!(texts(&recent.last(Some("a"), 10)), ["1", "4"]);
        assert_eq!(texts(&recent.last(Some("a"), 1)), ["4"]);
        assert!(recent.last(Some("nobody"), 10).is_empty());
    }

    #[test]
    fn a_noisy_app_pushes_out_its_own_lines() {
        let mut recent = Recent::new();
        push(&mut recent, "quiet", "the only one");
        push(&mut recent, "", "started");
        (0..3 * LINES_MAX).for_each(|number| push(&mut recent, "noisy", &number.to_string()));

        assert_eq!(recent.last(None, usize::MAX).len(), LINES_MAX);
        assert_eq!(texts(&recent.last(Some("quiet"), 1)), ["the only one"]);
        assert_eq!(texts(&recent.last(Some(""), 1)), ["started"]);
        let last = (3 * LINES_MAX - 1).to_string();
        assert_eq!(texts(&recent.last(Some("noisy"), 1)), [last]);
    }

    #[test]
    fn long_lines_are_fewer() {
        let mut recent = Recent::new();
        let long = "x".repeat(10_000);
        for number in 0..1000 {
            push(&mut recent, &format!("app{}", number % 50), &long);
            assert!(recent.bytes <= BYTES_MAX);
        }
        let kept = recent.last(None, usize::MAX).len();
        assert_eq!(kept, BYTES_MAX / (10_000 + LINE_COST));

        push(&mut recent, "a", &"x".repeat(BYTES_MAX + 1));
        push(&mut recent, "b", "after one that is too long to be kept");
        assert_eq!(recent.last(Some("b"), 9).len(), 1);
        assert!(recent.last(Some("a"), 9).is_empty());
    }
}
