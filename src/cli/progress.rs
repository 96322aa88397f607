//! How far the first build is: a bar on a terminal. Elsewhere the log lines say it.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts `apps` on standard error; hidden where that is not a terminal.
pub fn bar(apps: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(apps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} components {msg}") {
        bar.set_style(style);
    }
    bar
}
