//! The last lines that an instance has written, for the case that it fails.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Lines kept of an instance, their bytes together, and those of one of them; a longer one is cut.
const MAX_LINES: usize = 20;
const MAX_BYTES: usize = 4 << 10;
const MAX_LINE: usize = 512;

/// A line of guest output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// `stdout` or `stderr`.
    pub stream: String,
    pub text: String,
}

/// Takes no memory of its own before there is a line.
#[derive(Default)]
pub struct LastLines {
    lines: VecDeque<(&'static str, Box<str>)>,
    bytes: usize,
}

impl LastLines {
    pub fn push(&mut self, stream: &'static str, line: &str) {
        let line = &line[..line.floor_char_boundary(MAX_LINE)];
        while self.lines.len() >= MAX_LINES || self.bytes + line.len() > MAX_BYTES {
            let Some((_, oldest)) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
        self.bytes += line.len();
        self.lines.push_back((stream, line.into()));
    }

    /// The oldest first.
    pub fn lines(&self) -> Vec<Line> {
        let line = |(stream, text): &(&'static str, Box<str>)| Line {
            stream: (*stream).to_owned(),
            text: text.to_string(),
        };
        self.lines.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(last: &LastLines) -> Vec<String> {
        last.lines().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn the_newest_lines_stay() {
        let mut last = LastLines::default();
        (1..=30).for_each(|number| last.push("stdout", &number.to_string()));
        let newest: Vec<_> = (11..=30).map(|number| number.to_string()).collect();
        assert_eq!(texts(&last), newest);
    }

    #[test]
    fn long_lines_are_cut_and_leave_no_room_for_many() {
        let mut last = LastLines::default();
        (0..20).for_each(|_| last.push("stderr", &"ä".repeat(4000)));
        assert_eq!(last.lines.len(), MAX_BYTES / MAX_LINE);
        assert!(texts(&last).iter().all(|line| line.len() == MAX_LINE));
        assert_eq!(last.bytes, MAX_BYTES);
    }
}
