//! The access log: one line per request, once its answer is complete or lost.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode};
use http_body::Frame;
use tracing::{Level, enabled, info};

use super::connection::Client;
use crate::config::{AppName, Host};
use crate::logging::ACCESS;
use crate::request_id::RequestId;

/// The status of a request whose client left before there was one; the number is nginx's.
const CLIENT_LEFT: u16 = 499;

/// What is known of a request. Dropping it writes its line.
pub struct Record {
    begun: Instant,
    id: RequestId,
    client: Arc<Client>,
    method: Method,
    /// Without its query when it is written: secrets travel in those.
    path: Option<PathAndQuery>,
    generation: u64,
    pub host: Option<Host>,
    pub app: Option<AppName>,
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
        generation: u64,
    ) -> Option<Box<Record>> {
        enabled!(target: ACCESS, Level::INFO).then(|| {
            Box::new(Record {
                begun: Instant::now(),
                id,
                client: Arc::clone(client),
                method: request.method().clone(),
                path: request.uri().path_and_query().cloned(),
                generation,
                host: None,
                app: None,
                instance: None,
                status: CLIENT_LEFT,
                bytes: 0,
                promised: None,
                complete: false,
            })
        })
    }

    /// The answer's head, with the length of its body where it is known.
    pub fn answered(&mut self, status: StatusCode, length: Option<u64>) {
        self.status = status.as_u16();
        self.promised = length;
        // Answers without a body are not asked for it.
        self.complete = self.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
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
}

impl Drop for Record {
    fn drop(&mut self) {
        info!(
            target: ACCESS,
            client = self.client.address.to_str().unwrap_or_default(),
            host = self.host.as_ref().map(Host::as_str),
            method = self.method.as_str(),
            path = self.path.as_ref().map(PathAndQuery::path),
            status = self.status,
            bytes = self.bytes,
            // Seconds, to the microsecond.
            duration = self.begun.elapsed().as_micros() as f64 / 1e6,
            app = self.app.as_ref().map(AppName::as_str),
            instance = self.instance,
            generation = self.generation,
            request = %self.id,
            cut = (!self.complete).then_some(true),
        );
    }
}
