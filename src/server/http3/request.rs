//! One request over HTTP/3: its head, and the answer to its last byte.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;
use tracing::debug;

use super::shared::{Gone, Shared};
use super::transport::{Transport, Writer};
use super::upload::{Malformed, Upload};
use crate::limit::Limit;
use crate::server::body::Body;
use crate::server::connection::Client;
use crate::server::quic::SEND_WINDOW;
use crate::server::service;
use crate::server::stream::Pace;

/// Bytes a second, at the least, that a client takes of an answer's end.
///
/// What is on its way when the guest has ended is more than over TCP, where the kernel has it:
/// all that fits in the window of the connection. QUIC does not say how much of it has arrived.
const END_RATE: u64 = 16 * 1024;

/// Serves what a client sends on a stream, until it has taken the answer or given it up.
pub async fn serve(
    resolver: RequestResolver<Transport, Bytes>,
    gone: Gone,
    client: Arc<Client>,
    shared: Arc<Shared>,
) {
    let limits = &shared.activity.limits;
    let (request, stream) = match timeout(limits.head_timeout, resolver.resolve_request()).await {
        Ok(Ok(resolved)) => resolved,
        // h3 has answered 431.
        Ok(Err(StreamError::HeaderTooBig { .. })) => {
            return shared.activity.reached(Limit::MaxHead);
        }
        Ok(Err(StreamError::RemoteTerminate { .. })) => return shared.reset(),
        Ok(Err(error)) => return debug!(%error, "no request"),
        Err(_) => return shared.activity.reached(Limit::HeadTimeout),
    };
    // To the last byte that the client takes: until then its connection is not at rest.
    let running = shared.activity.begin();
    let (send, receive) = stream.split();
    let cancelled = Some(Code::H3_REQUEST_CANCELLED);
    let mut answer = Answer { stream: send, sent: 0, unless_complete: cancelled };
    let (head, ()) = request.into_parts();
    let upload = match Upload::begin(&head.headers, receive).await {
        Ok(begun) => begun,
        Err(Malformed) => return answer.unless_complete = Some(Code::H3_MESSAGE_ERROR),
    };
    let request = Request::from_parts(head, upload);
    let mut gone = std::pin::pin!(gone);
    let exchange = async {
        let Ok(response) = service::respond(client, request).await;
        answer.send(response).await
    };
    tokio::select! {
        biased;
        // The guest's work, and the answer, are dropped with `exchange`.
        gave_up = &mut gone => {
            if gave_up {
                shared.reset();
            }
            return;
        }
        sent = exchange => match sent {
            Ok(()) => {}
            Err(Cut::Stream(StreamError::RemoteTerminate { .. })) => return shared.reset(),
            Err(Cut::Stream(error)) => return debug!(%error, "answer cut short"),
            // Said in the log by who cut it.
            Err(Cut::Body) => return,
        },
    }
    // It is not the guest's turn, but the deadline is another one from here on.
    Pace::current().inspect(Pace::waits_for_guest);
    match timeout(limits.write_timeout + answer.end_time(), gone).await {
        Ok(true) => shared.reset(),
        Ok(false) => shared.budget.answered(),
        Err(_) => {
            answer.unless_complete = cancelled;
            shared.activity.reached(Limit::WriteTimeout);
            shared.activity.dismiss();
        }
    }
    drop(running);
}

/// The stream of an answer. It is reset when it is dropped before its end.
struct Answer {
    stream: RequestStream<Writer, Bytes>,
    /// Bytes of its body.
    sent: u64,
    unless_complete: Option<Code>,
}

/// Why an answer is not complete.
enum Cut {
    Body,
    Stream(StreamError),
}

impl Answer {
    async fn send(&mut self, response: Response<Body>) -> Result<(), Cut> {
        let (mut head, mut body) = response.into_parts();
        complete(&mut head.headers, &body);
        self.stream.send_response(Response::from_parts(head, ())).await.map_err(Cut::Stream)?;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                self.unless_complete = Some(Code::H3_INTERNAL_ERROR);
                return Err(Cut::Body);
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.sent += data.len() as u64;
                    self.stream.send_data(data).await.map_err(Cut::Stream)?;
                }
                Err(frame) => {
                    let Ok(trailers) = frame.into_trailers() else { continue };
                    self.stream.send_trailers(trailers).await.map_err(Cut::Stream)?;
                }
            }
        }
        self.stream.finish().await.map_err(Cut::Stream)?;
        self.unless_complete = None;
        Ok(())
    }

    /// How long what is on its way may take.
    fn end_time(&self) -> Duration {
        Duration::from_secs(self.sent.min(SEND_WINDOW) / END_RATE)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(code) = self.unless_complete {
            self.stream.stop_stream(code);
        }
    }
}

/// What hyper adds by itself to answers on HTTP/1 and HTTP/2.
fn complete(headers: &mut HeaderMap, body: &Body) {
    if !headers.contains_key(DATE) {
        let now = httpdate::fmt_http_date(SystemTime::now());
        headers.extend(HeaderValue::try_from(now).ok().map(|now| (DATE, now)));
    }
    if !body.is_end_stream()
        && let Some(length) = body.size_hint().exact()
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}
