//! What is answered: JSON as a rule, other text, or a stream; and failures, each with what helps.

use std::convert::Infallible;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

use super::shapes;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a handler makes of a request.
pub type Outcome = Result<Response<Body>, Failure>;

/// The media type of a stream of JSON, one object a line.
pub const JSON_LINES: &str = "application/jsonl";

/// Why a request is not done.
#[derive(Debug)]
pub struct Failure {
    pub status: StatusCode,
    /// What is wrong; lower case, no full stop.
    pub error: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The methods that the path is asked with, where it was another.
    pub allow: Option<HeaderValue>,
}

/// An answer in JSON.
pub fn json(value: &impl Serialize) -> Outcome {
    let failed = |error| Failure::internal(format!("cannot write the answer: {error}"));
    let mut text = serde_json::to_vec(value).map_err(failed)?;
    text.push(b'\n');
    Ok(whole("application/json", text))
}

/// An answer of this media type.
pub fn whole(media_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    with(media_type, Full::new(bytes.into()).boxed_unsync())
}

/// An answer that goes on for as long as `pieces` does, or until its client leaves.
pub fn stream(
    media_type: &'static str,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    let pieces: Pin<Box<dyn Stream<Item = Bytes> + Send>> = Box::pin(pieces);
    let frames = pieces.map(|piece| Ok(Frame::data(piece)));
    with(media_type, StreamBody::new(frames).boxed_unsync())
}

/// One line of a stream in [`JSON_LINES`].
pub fn json_line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn with(media_type: &'static str, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What guests have written, such as log lines, is nothing for a browser to guess at.
    const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    answer
}

impl Failure {
    pub fn new(status: StatusCode, error: impl Into<String>) -> Failure {
        Failure { status, error: error.into(), help: None, allow: None }
    }

    pub fn internal(error: impl Into<String>) -> Failure {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }

    pub fn with_help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }

    pub fn answer(&self) -> Response<Body> {
        let told = shapes::Error { error: self.error.clone(), help: self.help.clone() };
        let mut answer = whole("application/json", json_line(&told));
        *answer.status_mut() = self.status;
        answer.headers_mut().extend(self.allow.clone().map(|allow| (ALLOW, allow)));
        answer
    }
}
