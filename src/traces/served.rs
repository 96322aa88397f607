//! The spans of a request that was served: its own, and those of what it went through.

use std::borrow::Cow;
use std::time::Instant;

use http::{Method, StatusCode, Version};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceState};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData};

use super::export::scope;
use super::trace::{Marks, Recorded, Trace};
use crate::request_id::RequestId;

/// Bytes of a text in a span; a longer one is cut. Clients choose some of them.
const TEXT_MAX: usize = 1024;

/// What is told of a request, by the names of the semantic conventions for HTTP.
///
/// Not its query and none of its headers: secrets travel in those.
pub struct Served<'a> {
    pub id: RequestId,
    pub method: &'a Method,
    pub version: Version,
    pub scheme: &'static str,
    pub host: Option<&'a str>,
    pub path: Option<&'a str>,
    /// The prefix of its route.
    pub route: Option<&'a str>,
    /// As the access log has it.
    pub client: &'a str,
    /// None where the client left before there was one.
    pub status: Option<StatusCode>,
    /// Of the answer's body.
    pub bytes: u64,
    pub complete: bool,
    pub app: Option<&'a str>,
    /// What of tidegate's own answered, where it was no app.
    pub own: Option<&'static str>,
    pub instance: Option<u64>,
    pub generation: u64,
}

impl Trace {
    /// The request is over: its spans are handed on.
    pub fn finish(&self, served: &Served<'_>) {
        let Some(recorded) = &self.recorded else { return };
        let end = Instant::now();
        for (name, from, to) in recorded.marks.phases(end) {
            recorded.send(SpanData {
                parent_span_id: self.context.span_id(),
                start_time: recorded.time(from),
                end_time: recorded.time(to),
                ..span(&child(&self.context), SpanKind::Internal, name.into())
            });
        }
        let method = served.method_name();
        let name = match served.route {
            Some(route) => format!("{} {}", method.unwrap_or("HTTP"), cut(route)).into(),
            None => method.unwrap_or("HTTP").to_owned().into(),
        };
        recorded.send(SpanData {
            parent_span_id: recorded.parent,
            parent_span_is_remote: recorded.parent != SpanId::INVALID,
            start_time: recorded.time(recorded.begun),
            end_time: recorded.time(end),
            attributes: served.attributes(),
            status: served.outcome(),
            ..span(&self.context, SpanKind::Server, name)
        });
    }
}

impl Marks {
    /// What there was a time for, from when to when.
    fn phases(&self, end: Instant) -> impl Iterator<Item = (&'static str, Instant, Instant)> {
        let [asked, taken, made, answered] =
            [&self.asked, &self.taken, &self.made, &self.answered].map(|mark| mark.get().copied());
        let or_end = |mark: Option<Instant>| mark.unwrap_or(end);
        let began = made.or(taken);
        [
            asked.map(|from| ("queue", from, or_end(taken))),
            taken.zip(made).map(|(from, to)| ("instantiate", from, to)),
            began.map(|from| ("guest", from, or_end(answered))),
            answered.map(|from| ("body", from, end)),
        ]
        .into_iter()
        .flatten()
    }
}

impl Recorded {
    pub(super) fn send(&self, span: SpanData) {
        self.spans.send(&self.settings, span);
    }
}

impl Served<'_> {
    fn method_name(&self) -> Option<&str> {
        known(self.method)
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let text = |name, value: &str| KeyValue::new(name, cut(value).to_owned());
        let number =
            |name, value: u64| KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX));
        let mut all = Vec::with_capacity(17);
        all.push(text("http.request.method", self.method_name().unwrap_or("_OTHER")));
        if self.method_name().is_none() {
            all.push(text("http.request.method_original", self.method.as_str()));
        }
        all.push(KeyValue::new("url.scheme", self.scheme));
        all.push(KeyValue::new("network.protocol.version", protocol(self.version)));
        all.push(text("client.address", self.client));
        all.extend(self.host.map(|host| text("server.address", host)));
        all.extend(self.path.map(|path| text("url.path", path)));
        all.extend(self.route.map(|route| text("http.route", route)));
        if let Some(status) = self.status {
            all.push(number("http.response.status_code", status.as_u16().into()));
        }
        match self.status {
            Some(status) if status.is_server_error() => {
                all.push(text("error.type", status.as_str()));
            }
            None => all.push(KeyValue::new("error.type", "client_left")),
            Some(_) => {}
        }
        all.push(number("http.response.body.size", self.bytes));
        all.extend(self.app.map(|app| text("tidegate.app", app)));
        all.extend(self.own.map(|own| KeyValue::new("tidegate.route", own)));
        all.extend(self.instance.map(|instance| number("tidegate.instance", instance)));
        all.push(number("tidegate.generation", self.generation));
        all.push(KeyValue::new("tidegate.request", self.id.to_string()));
        all.extend((!self.complete).then_some(KeyValue::new("tidegate.cut", true)));
        all
    }

    /// As the conventions have it for servers: a client's mistake is none of ours.
    fn outcome(&self) -> Status {
        match self.status {
            Some(status) if status.is_server_error() => Status::error(""),
            _ => Status::Unset,
        }
    }
}

/// The method, if it is one that the conventions name: others would be names without end.
pub(super) fn known(method: &Method) -> Option<&str> {
    let is_known = matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::PATCH
            | Method::OPTIONS
            | Method::TRACE
            | Method::CONNECT
    );
    is_known.then(|| method.as_str())
}

/// A span without attributes, that begins and ends nowhere yet.
pub(super) fn span(context: &SpanContext, kind: SpanKind, name: Cow<'static, str>) -> SpanData {
    SpanData {
        span_context: context.clone(),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: kind,
        name,
        start_time: std::time::SystemTime::UNIX_EPOCH,
        end_time: std::time::SystemTime::UNIX_EPOCH,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: Status::Unset,
        instrumentation_scope: scope(),
    }
}

/// The context of a span below `parent`.
pub(super) fn child(parent: &SpanContext) -> SpanContext {
    let id = RandomIdGenerator::default().new_span_id();
    SpanContext::new(parent.trace_id(), id, parent.trace_flags(), false, TraceState::NONE)
}

pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_3 => "3",
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
