//! From an event to a line, as text or JSON.
//!
//! This is a `tracing` subscriber of our own and not tracing-subscriber's: the
//! access log writes a line per request, and without spans, layers and their
//! storage a line costs a third.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::num::NonZeroUsize;

use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use super::label;
use super::queue::Queue;
use super::{ACCESS, GUEST};
use crate::config::LogFormat;
use crate::limit::Bucket;

/// Bytes of a line that a thread keeps for the next one.
const KEPT_MAX: usize = 16 * 1024;

/// Bytes of one value in a line; a longer one is cut. Guests choose some of them.
const VALUE_MAX: usize = 32 * 1024;

/// What stands where one was cut.
const CUT: &str = " ... (cut)";

/// Lines of the libraries below, for all that guests and clients make them say: a second
/// in the long run, and at once.
const LIBRARIES_RATE: NonZeroUsize = NonZeroUsize::new(10).expect("written here, not zero");
const LIBRARIES_BURST: NonZeroUsize = NonZeroUsize::new(100).expect("written here, not zero");

/// Formats events and hands the lines on.
pub struct Lines {
    ours: LevelFilter,
    /// What the libraries below may say: their debug lines would drown ours.
    libraries: LevelFilter,
    libraries_lines: Bucket,
    format: LogFormat,
    stderr: Queue,
    file: Option<Queue>,
}

#[derive(Default)]
struct Buffers {
    line: String,
    /// Holds what is formatted before it is escaped.
    value: String,
    /// The app that the line is about, if it names one.
    app: String,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

impl Lines {
    pub fn new(level: LevelFilter, format: LogFormat, stderr: Queue, file: Option<Queue>) -> Lines {
        let libraries = if level == LevelFilter::TRACE {
            LevelFilter::DEBUG
        } else {
            level.min(LevelFilter::WARN)
        };
        Lines { ours: level, libraries, libraries_lines: Bucket::new(), format, stderr, file }
    }

    /// Hands a labelled line on.
    fn hand_on(&self, line: &str, target: &str) {
        if let Some(file) = &self.file {
            file.push(line, target);
        }
        if self.file.is_none() || target != ACCESS {
            self.stderr.push(line, target);
        }
    }

    /// Whether a line of a library is one too many; it is counted then.
    fn is_flood(&self, target: &str) -> bool {
        let flood = !is_ours(target) && !self.libraries_lines.take(LIBRARIES_RATE, LIBRARIES_BURST);
        if flood {
            [Some(&self.stderr), self.file.as_ref()]
                .into_iter()
                .flatten()
                .for_each(Queue::leave_out);
        }
        flood
    }
}

impl Subscriber for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Levels never change while we run, so the answer holds and costs one load from then on.
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let most = if is_ours(metadata.target()) { self.ours } else { self.libraries };
        // `enabled!` asks with a hint, which is no event.
        !metadata.is_span() && *metadata.level() <= most
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.ours)
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        if self.is_flood(metadata.target()) {
            return;
        }
        let write = |buffers: &mut Buffers| {
            buffers.line.clear();
            buffers.app.clear();
            begin(
                &mut buffers.line,
                self.format,
                OffsetDateTime::now_utc(),
                *metadata.level(),
                metadata.target(),
            );
            event.record(&mut Fields { format: self.format, buffers });
            end(&mut buffers.line, self.format);
            let target = metadata.target();
            // What libraries mean by that name is another matter.
            let app = if is_ours(target) { &*buffers.app } else { "" };
            label::attach(&mut buffers.line, app, target);
            self.hand_on(&buffers.line, target);
            if buffers.line.capacity() + buffers.value.capacity() > KEPT_MAX {
                *buffers = Buffers::default();
            }
        };
        BUFFERS.with(|buffers| match buffers.try_borrow_mut() {
            Ok(mut buffers) => write(&mut buffers),
            // A value that logs while it is formatted.
            Err(_) => write(&mut Buffers::default()),
        });
    }

    // Spans are not enabled, so none of these is called for one that matters.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Whether a line is the program's own, or one of what it serves.
fn is_ours(target: &str) -> bool {
    target == ACCESS || target == GUEST || target.starts_with("tidegate")
}

/// A line about the log itself, with a count of lines.
pub fn notice(format: LogFormat, message: &str, lines: usize) -> String {
    let mut line = String::new();
    begin(&mut line, format, OffsetDateTime::now_utc(), Level::WARN, "tidegate::logging");
    match format {
        LogFormat::Text => {
            let _ = write!(line, " {message} lines={lines}");
        }
        LogFormat::Json => {
            let _ = write!(line, r#","message":"{message}","lines":{lines}"#);
        }
    }
    end(&mut line, format);
    line
}

fn begin(line: &mut String, format: LogFormat, now: OffsetDateTime, level: Level, target: &str) {
    match format {
        LogFormat::Text => {
            write_time(line, now);
            // The module a line is from says little to a reader; the two streams that are not the program's own are named.
            line.push_str(match level {
                Level::ERROR => " ERROR",
                Level::WARN => " WARN ",
                Level::INFO => " INFO ",
                Level::DEBUG => " DEBUG",
                Level::TRACE => " TRACE",
            });
            if target == ACCESS || target == GUEST {
                line.push(' ');
                line.push_str(target);
            }
        }
        LogFormat::Json => {
            line.push_str(r#"{"time":""#);
            write_time(line, now);
            line.push_str(r#"","level":""#);
            line.push_str(level.as_str());
            line.push_str(r#"","target":""#);
            line.push_str(target);
            line.push('"');
        }
    }
}

fn end(line: &mut String, format: LogFormat) {
    line.push_str(match format {
        LogFormat::Text => "\n",
        LogFormat::Json => "}\n",
    });
}

/// RFC 3339 in UTC, to the millisecond: by hand, as the general formatter costs more than the rest of a line.
fn write_time(line: &mut String, now: OffsetDateTime) {
    let (year, month, day) = now.to_calendar_date();
    let (hour, minute, second, milli) = now.to_hms_milli();
    let digit = |value: u16| char::from(b'0' + (value % 10) as u8);
    let year = year.clamp(0, 9999) as u16;
    for value in [year / 1000, year / 100, year / 10, year] {
        line.push(digit(value));
    }
    for (before, value) in
        [('-', u8::from(month)), ('-', day), ('T', hour), (':', minute), (':', second)]
    {
        line.push(before);
        line.push(digit(u16::from(value / 10)));
        line.push(digit(u16::from(value)));
    }
    line.push('.');
    for value in [milli / 100, milli / 10, milli] {
        line.push(digit(value));
    }
    line.push('Z');
}

/// Writes an event's fields: its message bare, the others as `name=value` or JSON members.
struct Fields<'a> {
    format: LogFormat,
    buffers: &'a mut Buffers,
}

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        let line = &mut self.buffers.line;
        match self.format {
            LogFormat::Text => {
                line.push(' ');
                if field.name() != "message" {
                    line.push_str(field.name());
                    line.push('=');
                }
            }
            LogFormat::Json => {
                line.push_str(",\"");
                line.push_str(field.name());
                line.push_str("\":");
            }
        }
    }

    /// A value that needs no escaping.
    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        let _ = write!(self.buffers.line, "{value}");
    }

    /// A value that is formatted first and escaped then.
    fn formatted(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut text = std::mem::take(&mut self.buffers.value);
        text.clear();
        // A value that is too long ends here, and its formatting with it.
        let _ = Capped(&mut text).write_fmt(value);
        self.record_str(field, &text);
        self.buffers.value = text;
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        if field.name() == "app" {
            self.buffers.app.push_str(value);
        }
        write_value(&mut self.buffers.line, self.format, field.name() == "message", value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.formatted(field, format_args!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.formatted(field, format_args!("{}", Causes(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match self.format {
            // JSON has no word for what is no number.
            LogFormat::Json if !value.is_finite() => self.plain(field, "null"),
            LogFormat::Text | LogFormat::Json => self.plain(field, value),
        }
    }
}

/// An error and what caused it, in one line.
struct Causes<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Collects what is formatted, up to a little more than is kept of it.
struct Capped<'a>(&'a mut String);

impl fmt::Write for Capped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (VALUE_MAX + 1).saturating_sub(self.0.len());
        self.0.push_str(&text[..text.ceil_char_boundary(room)]);
        if room > text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Writes a text that may be anybody's, so that it stays one value in one line.
pub fn write_value(line: &mut String, format: LogFormat, is_message: bool, value: &str) {
    let kept = &value[..value.floor_char_boundary(VALUE_MAX)];
    let cut = if kept.len() < value.len() { CUT } else { "" };
    let (quote, escape): (_, fn(&mut String, &str)) = match format {
        LogFormat::Json => ("\"", escape_json),
        LogFormat::Text if is_message => ("", escape_bare),
        LogFormat::Text if cut.is_empty() && is_word(kept) => return line.push_str(kept),
        LogFormat::Text => ("\"", escape_quoted),
    };
    line.push_str(quote);
    escape(line, kept);
    line.push_str(cut);
    line.push_str(quote);
}

/// Whether a value can stand in a line without quotes.
fn is_word(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'='))
}

fn escape_bare(line: &mut String, value: &str) {
    write_escaped(line, value, false);
}

fn escape_quoted(line: &mut String, value: &str) {
    write_escaped(line, value, true);
}

/// What clients and guests send must not be able to end a line or to move a terminal's cursor.
fn write_escaped(line: &mut String, value: &str, quoted: bool) {
    for char in value.chars() {
        match char {
            '"' | '\\' if quoted => line.extend(['\\', char]),
            char if char.is_control()
                || matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                line.extend(char.escape_default());
            }
            char => line.push(char),
        }
    }
}

fn escape_json(line: &mut String, value: &str) {
    if value.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        return line.push_str(value);
    }
    for char in value.chars() {
        match char {
            '"' | '\\' => line.extend(['\\', char]),
            '\n' => line.push_str("\\n"),
            char if char < ' ' => {
                let _ = write!(line, "\\u{:04x}", char as u32);
            }
            char => line.push(char),
        }
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
