//! The log's last lines, and those that come: `/v1/logs`.

use std::future::poll_fn;

use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};

use super::answer::{Body, Failure, Outcome, stream as streamed, whole};
use super::apps::unknown_app;
use super::router::Call;
use crate::config::LogFormat;
use crate::logging::{Wanted, tail};

/// Lines that are told of where nothing is said.
const LINES: usize = 100;

pub async fn logs(call: Call) -> Outcome {
    let app = call.parameter("app").filter(|app| !app.is_empty()).map(str::to_owned);
    if let Some(app) = &app {
        let current = &call.admin.current;
        let is_there = current.load().apps.keys().any(|name| name.as_str() == app);
        // One that the manifest is without by now may have lines.
        if !is_there && !tail().knows(app) {
            return Err(unknown_app(current, app));
        }
    }
    let lines = match call.parameter("lines") {
        None => LINES,
        Some(lines) => lines.parse().map_err(|_| not("lines", "a number"))?,
    };
    let wanted = Wanted { app, access: flag(&call, "access")? };
    if !flag(&call, "follow")? {
        return Ok(whole(media_type(), tail().last(&wanted, lines)));
    }
    follow(wanted, lines)
}

fn follow(wanted: Wanted, lines: usize) -> Result<Response<Body>, Failure> {
    let follower = tail().follow(wanted, lines).map_err(|too_many| {
        let failure = Failure::new(StatusCode::SERVICE_UNAVAILABLE, too_many.to_string());
        failure.with_help("end one of them, or ask without follow")
    })?;
    // The client may ask for the whole head before the first line comes.
    let lines = stream::unfold(follower, |follower| async {
        let lines: Bytes = poll_fn(|cx| follower.poll_lines(cx)).await;
        Some((lines, follower))
    });
    Ok(streamed(media_type(), lines))
}

fn media_type() -> &'static str {
    match tail().format() {
        LogFormat::Json => "application/jsonl",
        LogFormat::Text => "text/plain; charset=utf-8",
    }
}

fn flag(call: &Call, name: &'static str) -> Result<bool, Failure> {
    match call.parameter(name) {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(_) => Err(not(name, "true or false")),
    }
}

fn not(name: &str, what: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, format!("the parameter `{name}` is not {what}"))
}
