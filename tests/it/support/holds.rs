//! What was shown to hold, for the page that `tests/holds.sh` makes of it.
//!
//! Where `TIDEGATE_HOLDS` names a file, each test that shows a promise of
//! SECURITY.md adds a line to it, and tries as often as the promise says. In a
//! plain `cargo test` it tries less often, and only asserts.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// How often to try: `full` for the page, `quick` else.
pub fn times(quick: usize, full: usize) -> usize {
    if std::env::var_os("TIDEGATE_HOLDS").is_some() { full } else { quick }
}

/// Something that was tried, and what came of it.
pub struct Shown<'a> {
    /// The part of the page, such as `Tenants: CPU`.
    pub part: &'a str,
    /// What was tried.
    pub tried: &'a str,
    pub times: usize,
    /// What was promised, such as `at most 2x`.
    pub bound: &'a str,
}

impl Shown<'_> {
    /// Writes the row, and fails the test where the promise did not hold.
    pub fn holds(&self, figure: impl Display, pass: bool) {
        let figure = figure.to_string();
        println!("{}: {}, {}x: {figure} ({})", self.part, self.tried, self.times, self.bound);
        if let Some(path) = std::env::var_os("TIDEGATE_HOLDS") {
            let row = serde_json::json!({
                "part": self.part,
                "tried": self.tried,
                "times": self.times,
                "bound": self.bound,
                "figure": figure,
                "pass": pass,
            });
            let file = OpenOptions::new().append(true).create(true).open(path);
            // One write, so that tests side by side do not tear each other's lines.
            let written = file.and_then(|mut file| file.write_all(format!("{row}\n").as_bytes()));
            written.expect("write to the file that TIDEGATE_HOLDS names");
        }
        assert!(pass, "{}: {}: {figure}, where {} was promised", self.part, self.tried, self.bound);
    }
}
