//! Colours, for those who see them.

use std::env;
use std::io::{self, IsTerminal};

/// How a text is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Title,
    Faint,
    Good,
    Warning,
    Bad,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    #[cfg(test)]
    pub const NONE: Paint = Paint(false);

    /// For standard output: none where it is no terminal, or where NO_COLOR asks for none
    /// (<https://no-color.org>).
    pub fn for_stdout() -> Paint {
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
        Paint(io::stdout().is_terminal() && !no_color && !is_dumb)
    }

    pub fn on(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.0 => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Title => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The text, in one line, without what a terminal would obey: guests and clients choose some of it.
pub fn tame(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// The same of each line, where a text has several.
pub fn tame_lines(text: &str) -> String {
    text.split('\n').map(tame).collect::<Vec<_>>().join("\n")
}

/// The text in so many columns.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain((width > 0).then_some('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_several_lines_keeps_them_and_nothing_else_that_a_terminal_obeys() {
        let text = "a.toml:3: it is \x1b[31mred\x07\n  help: \u{9b}2J";
        assert_eq!(tame_lines(text), "a.toml:3: it is  [31mred \n  help:  2J");
        assert_eq!(tame(text), "a.toml:3: it is  [31mred    help:  2J");
    }
}
