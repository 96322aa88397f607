//! What an error page shows of a guest's inside, for the developers of an app in `dev`.

use std::fmt::Write;

use serde_json::json;

use crate::pool::Insight;

/// After the lines of a page of text.
pub fn text(insight: &Insight) -> String {
    let mut text = format!("\n{}\n", insight.reason);
    // Writing to a String cannot fail.
    for (number, frame) in insight.frames.iter().enumerate() {
        let _ = writeln!(text, "{number:>4}: {frame}");
    }
    if !insight.lines.is_empty() {
        text.push_str("\nits last lines:\n");
    }
    for line in &insight.lines {
        let _ = writeln!(text, "{}: {}", line.stream, line.text);
    }
    text
}

/// Before the end of a page of HTML.
pub fn html(insight: &Insight) -> String {
    format!("<pre>{}</pre>", escaped(&text(insight)))
}

/// Before the end of an object of JSON.
pub fn json(insight: &Insight) -> String {
    let Insight { reason, frames, lines } = insight;
    let (reason, frames, lines) = (json!(reason), json!(frames), json!(lines));
    format!(",\"reason\":{reason},\"backtrace\":{frames},\"lines\":{lines}")
}

/// As text that no browser takes for anything else.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::last_lines::Line;
    use crate::guest::trace::Frame;

    fn hostile() -> Insight {
        let evil = "</pre><script>alert(\"1\")</script>'&";
        let frame =
            Frame { function: evil.into(), module: None, offset: None, source: Some(evil.into()) };
        let line = Line { stream: "stderr".into(), text: evil.into() };
        Insight { reason: evil.into(), frames: vec![frame], lines: vec![line] }
    }

    #[test]
    fn nothing_of_a_guest_is_taken_for_html() {
        let html = html(&hostile());
        let inner = html.strip_prefix("<pre>").unwrap().strip_suffix("</pre>").unwrap();
        assert!(!inner.contains(['<', '>', '"', '\'']), "{inner}");
        assert_eq!(inner.matches("&lt;script&gt;").count(), 4);
    }

    #[test]
    fn nothing_of_a_guest_breaks_json() {
        let json = format!("{{\"status\":502{}}}", json(&hostile()));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["reason"], hostile().reason);
        assert_eq!(json["backtrace"][0]["function"], hostile().reason);
    }
}
