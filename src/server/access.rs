//! What is known of a request: its line in the access log, and its spans, once its answer is complete or lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Version};
use http_body::Frame;
use tracing::{Level, enabled, info};

use super::connection::Client;
use super::forwarded::Sender;
use crate::config::{AppName, Host};
use crate::generation::Route;
use crate::logging::ACCESS;
use crate::request_id::RequestId;
use crate::traces::{Served, Trace};

/// The status of a request whose client left before there was one; the number is nginx's.
const CLIENT_LEFT: u16 = 499;

/// What is known of a request. Dropping it writes its line, and ends its span.
pub struct Record {
    /// From the request's head to the end of its answer.
    pub took: Duration,
    /// Somebody reads the access log.
    is_logged: bool,
    /// Where its spans are recorded.
    trace: Option<Arc<Trace>>,
    id: RequestId,
    client: Arc<Client>,
    /// Whom a trusted proxy says that it is from.
    forwarded: Option<Sender>,
    method: Method,
    version: Version,
    /// Without its query when it is written: secrets travel in those.
    path: Option<PathAndQuery>,
    generation: u64,
    pub host: Option<Host>,
    app: Option<AppName>,
    /// What of tidegate's own answers here, where it is no app.
    route: Option<&'static str>,
    /// The prefix of its route, where it is traced.
    prefix: Option<String>,
    pub instance: Option<u64>,
    status: u16,
    bytes: u64,
    /// Bytes that the answer has said it has.
    promised: Option<u64>,
    complete: bool,
}

impl Record {
    /// A record for the request, or none where nobody reads it.
    pub fn begin<B>(
        request: &Request<B>,
        id: RequestId,
        client: &Arc<Client>,
        forwarded: Option<&Sender>,
        generation: u64,
        trace: Option<&Arc<Trace>>,
    ) -> Option<Box<Record>> {
        let is_logged = enabled!(target: ACCESS, Level::INFO);
        let trace = trace.filter(|trace| trace.is_recorded());
        (is_logged || trace.is_some()).then(|| {
            Box::new(Record {
                took: Duration::ZERO,
                is_logged,
                trace: trace.cloned(),
                id,
                client: Arc::clone(client),
                forwarded: forwarded.cloned(),
                method: request.method().clone(),
                version: request.version(),
                path: request.uri().path_and_query().cloned(),
                generation,
                host: None,
                app: None,
                route: None,
                prefix: None,
                instance: None,
                status: CLIENT_LEFT,
                bytes: 0,
                promised: None,
                complete: false,
            })
        })
    }

    /// The request is one of this route.
    pub fn matched(&mut self, route: &Route) {
        self.app = route.app().map(|app| app.name.clone());
        self.route = route.target.own_name();
        self.prefix = self.trace.is_some().then(|| route.prefix.clone());
    }

    /// The answer's head, with the length of its body where it is known.
    pub fn answered(&mut self, status: StatusCode, length: Option<u64>) {
        self.status = status.as_u16();
        self.promised = length;
        // Answers without a body are not asked for it.
        self.complete = self.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    }

    /// The body will be of another length than was said.
    pub fn forget_length(&mut self) {
        self.promised = None;
    }

    /// A frame of the body, or its end.
    pub fn note<E>(&mut self, frame: &Option<Result<Frame<Bytes>, E>>) {
        match frame {
            None => self.complete = true,
            Some(Ok(frame)) => self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => self.promised = Some(u64::MAX),
        }
    }

    /// The body is dropped, `ended` if it has no more to give.
    pub fn finish(&mut self, ended: bool) {
        let broken = self.promised == Some(u64::MAX);
        self.complete |=
            !broken && (ended || self.promised.is_some_and(|promised| promised <= self.bytes));
    }

    fn sender(&self) -> &Sender {
        self.forwarded.as_ref().unwrap_or(&self.client.sender)
    }

    fn write_line(&self) {
        info!(
            target: ACCESS,
            client = self.sender().name(),
            host = self.host.as_ref().map(Host::as_str),
            method = self.method.as_str(),
            path = self.path.as_ref().map(PathAndQuery::path),
            status = self.status,
            bytes = self.bytes,
            // Seconds, to the microsecond.
            protocol = protocol(self.version),
            duration = self.took.as_micros() as f64 / 1e6,
            app = self.app.as_ref().map(AppName::as_str),
            route = self.route,
            instance = self.instance,
            generation = self.generation,
            request = %self.id,
            trace = self.trace.as_ref().and_then(|trace| trace.id()).map(display),
            cut = (!self.complete).then_some(true),
        );
    }

    fn finish_trace(&self, trace: &Trace) {
        trace.finish(&Served {
            id: self.id,
            method: &self.method,
            version: self.version,
            scheme: self.sender().scheme.as_str(),
            host: self.host.as_ref().map(Host::as_str),
            path: self.path.as_ref().map(PathAndQuery::path),
            route: self.prefix.as_deref(),
            client: self.sender().name(),
            status: StatusCode::from_u16(self.status).ok().filter(|it| it.as_u16() != CLIENT_LEFT),
            bytes: self.bytes,
            complete: self.complete,
            app: self.app.as_ref().map(AppName::as_str),
            own: self.route,
            instance: self.instance,
            generation: self.generation,
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.is_logged {
            self.write_line();
        }
        if let Some(trace) = &self.trace {
            self.finish_trace(trace);
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_3 => "HTTP/3",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
