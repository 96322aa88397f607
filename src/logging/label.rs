//! What is known of a line besides its text, carried behind it to the thread that writes it.
//!
//! In the text an app's name is one word of many, and guests write the others.

use super::ACCESS;

/// Marks a line about a request.
const REQUEST: u8 = b'r';

/// Marks any other line.
const OTHER: u8 = b'.';

/// What a line is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Label<'a> {
    /// Empty where it is about none.
    pub app: &'a str,
    /// It is one of the access log.
    pub is_access: bool,
}

/// Puts the label of a line with this target behind the end of the line.
pub fn attach(line: &mut String, app: &str, target: &str) {
    let is_access = target == ACCESS;
    if is_access || !app.is_empty() {
        line.push(char::from(if is_access { REQUEST } else { OTHER }));
        line.push_str(app);
    }
}

/// The line up to its end, and its label.
pub fn detach(labelled: &[u8]) -> (&[u8], Label<'_>) {
    let end = labelled.iter().rposition(|byte| *byte == b'\n').map_or(labelled.len(), |at| at + 1);
    let (line, label) = labelled.split_at(end);
    let label = label.split_first().map_or(Label::default(), |(kind, app)| Label {
        app: str::from_utf8(app).unwrap_or_default(),
        is_access: *kind == REQUEST,
    });
    (line, label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_comes_off_as_it_was_put_on() {
        for (app, target) in [("", "tidegate"), ("shop", "guest"), ("", ACCESS), ("é", ACCESS)] {
            let mut line = "it happened app=other\n".to_owned();
            attach(&mut line, app, target);
            let label = Label { app, is_access: target == ACCESS };
            assert_eq!(detach(line.as_bytes()), (&b"it happened app=other\n"[..], label));
        }
    }
}
