use std::sync::{Arc, Mutex};

use time::macros::datetime;
use tracing::subscriber::with_default;
use tracing::{Level, enabled, info, warn};

use super::*;
use crate::logging::sink::Output;

/// What one subscriber writes to standard error and to its file.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Output for Written {
    fn write_lines(&mut self, lines: &[u8]) -> std::io::Result<()> {
        self.0.lock().unwrap().extend_from_slice(lines);
        Ok(())
    }
    fn name(&self) -> String {
        "the test's log".to_owned()
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs `log` under a subscriber without a file: what reaches standard error.
fn lines(level: LevelFilter, format: LogFormat, log: impl FnOnce()) -> String {
    let stderr = Written::default();
    let (queue, guard) = Queue::start(stderr.clone(), LogFormat::Text, None);
    with_default(Lines::new(level, format, queue, None), log);
    drop(guard);
    stderr.text()
}

fn text(log: impl FnOnce()) -> String {
    lines(LevelFilter::INFO, LogFormat::Text, log)
}

fn json(log: impl FnOnce()) -> serde_json::Value {
    let line = lines(LevelFilter::INFO, LogFormat::Json, log);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// The line without its time.
fn rest(line: &str) -> &str {
    line.split_once(' ').map_or("", |(_, rest)| rest)
}

#[test]
fn who_asks_whether_the_access_log_is_read_hears_yes() {
    let mut asked = None;
    text(|| asked = Some(enabled!(target: ACCESS, Level::INFO)));
    assert_eq!(asked, Some(true));
}

#[test]
fn a_text_line_has_its_message_first_and_its_fields_by_name() {
    let line = text(|| info!(generation = 8, retired = 7, manifest = "a b", "reloaded"));
    assert_eq!(rest(&line), "INFO  reloaded generation=8 retired=7 manifest=\"a b\"\n");
}

#[test]
fn a_json_line_is_an_object_with_typed_fields() {
    let line = json(|| warn!(count = 3, share = 0.5, ok = true, name = "a\"\\\n\u{1}", "said"));
    assert_eq!(line["message"], "said");
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["count"], 3);
    assert_eq!(line["share"], 0.5);
    assert_eq!(line["ok"], true);
    assert_eq!(line["name"], "a\"\\\n\u{1}");
}

#[test]
fn what_is_no_number_is_null_in_json() {
    assert!(json(|| info!(share = f64::NAN, "said"))["share"].is_null());
}

#[test]
fn nothing_that_is_logged_ends_the_line_or_moves_the_cursor() {
    let evil = "a\nINFO b\r\u{1b}[2J\u{202e}\u{85}";
    let line = text(|| info!(path = evil, "{evil}"));
    assert_eq!(line.matches('\n').count(), 1, "{line:?}");
    assert!(!line.contains(['\r', '\u{1b}', '\u{202e}', '\u{85}']), "{line:?}");
}

#[test]
fn a_quoted_value_can_be_told_from_what_follows_it() {
    let line = text(|| info!(path = r#"/" status=200 \"#, empty = "", "said"));
    assert_eq!(rest(&line), "INFO  said path=\"/\\\" status=200 \\\\\" empty=\"\"\n");
}

#[test]
fn lines_that_are_not_the_programs_own_are_named() {
    let line = text(|| info!(target: GUEST, app = "hello", "from within"));
    assert_eq!(rest(&line), "INFO  guest from within app=hello\n");
}

#[test]
fn libraries_are_heard_from_warnings_on() {
    let lines = text(|| {
        info!(target: "hyper::proto", "chatter");
        warn!(target: "hyper::proto", "trouble");
    });
    assert_eq!(rest(&lines), "WARN  trouble\n");
}

#[test]
fn libraries_that_are_made_to_warn_are_heard_now_and_then() {
    let lines = text(|| {
        (0..10_000).for_each(|number| warn!(target: "hyper::proto", number, "trouble"));
        info!("ours");
    });
    let heard = lines.matches("trouble").count();
    assert!((100..200).contains(&heard), "{heard}");
    assert!(lines.contains("ours"));
    let counted = lines.lines().filter_map(|line| {
        line.split_once("lines were dropped: more came than may be written lines=")
    });
    let counted: usize = counted.map(|(_, count)| count.parse::<usize>().unwrap()).sum();
    assert!(counted + heard <= 10_000, "{counted}");
}

#[test]
fn a_value_without_end_is_cut() {
    struct Endless;
    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            (0..u32::MAX).try_for_each(|_| f.write_str("\u{20ac} "))
        }
    }
    let long = "\u{20ac}".repeat(VALUE_MAX);
    for value in [json(|| info!(value = %Endless)), json(|| info!(value = long))] {
        let value = value["value"].as_str().unwrap();
        let kept = value.strip_suffix(CUT).expect("it says that it was cut");
        assert!((VALUE_MAX - 4..=VALUE_MAX).contains(&kept.len()), "{}", kept.len());
    }
    assert_eq!(
        json(|| info!(value = "x".repeat(VALUE_MAX)))["value"].as_str().unwrap().len(),
        VALUE_MAX
    );
}

#[test]
fn an_error_is_told_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot read a")]
    struct Outer(#[source] std::io::Error);
    let error = Outer(std::io::Error::other("no such disk"));
    let error: &(dyn std::error::Error + 'static) = &error;

    let line = json(|| info!(error, "failed"));
    assert_eq!(line["error"], "cannot read a: no such disk");
}

#[test]
fn a_value_that_logs_while_it_is_written_does_not_spoil_the_line() {
    struct Chatty;
    impl fmt::Display for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            info!("inner");
            f.write_str("outer")
        }
    }
    let lines = text(|| info!(value = %Chatty, "said"));
    assert_eq!(lines.lines().last().map(rest), Some("INFO  said value=outer"));
}

#[test]
fn access_lines_go_to_the_file_alone_where_there_is_one() {
    let (stderr, file) = (Written::default(), Written::default());
    let (stderr_queue, stderr_guard) = Queue::start(stderr.clone(), LogFormat::Text, None);
    let (file_queue, file_guard) = Queue::start(file.clone(), LogFormat::Text, None);
    let subscriber = Lines::new(LevelFilter::INFO, LogFormat::Text, stderr_queue, Some(file_queue));
    with_default(subscriber, || {
        info!(target: ACCESS, status = 200);
        info!("serving");
    });
    drop((stderr_guard, file_guard));

    assert_eq!(rest(&stderr.text()), "INFO  serving\n");
    assert!(file.text().contains("INFO  access status=200\n"), "{}", file.text());
    assert!(file.text().contains("INFO  serving\n"));
}

#[test]
fn a_time_is_to_the_millisecond_in_utc() {
    let mut line = String::new();
    write_time(&mut line, datetime!(2026-02-03 04:05:06.0789 UTC));
    assert_eq!(line, "2026-02-03T04:05:06.078Z");
}

#[test]
fn a_notice_looks_like_any_line() {
    let line = notice(LogFormat::Text, "log lines were lost", 3);
    assert_eq!(rest(&line), "WARN  log lines were lost lines=3\n");
    let line: serde_json::Value =
        serde_json::from_str(&notice(LogFormat::Json, "log lines were lost", 3)).unwrap();
    assert_eq!(line["lines"], 3);
}
