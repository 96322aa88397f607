//! Bodies on their way: requests to guests, answers to clients.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use tracing::warn;
use wasmtime_wasi_http::{Error, WasiBody};

use super::access::Record;
use super::activity::{Activity, Running};
use super::sizes::{Allowance, Broken, Overflow, TooLarge, capped};
use super::stream::Pace;
use crate::generation::Generation;
use crate::pool;
use crate::request_id::RequestId;

/// The body of an answer. With it goes what must last as long as the answer does.
pub struct Body {
    source: Source,
    id: RequestId,
    /// Written to the access log when the body is dropped.
    record: Option<Box<Record>>,
    /// The connection is not idle before this is dropped.
    running: Running,
    /// Its end is the connection's, as HTTP/1.0 knows no other.
    to_close: bool,
    /// On HTTP/2, whose turn it is.
    pace: Option<Pace>,
    /// The generation is not retired before this is dropped.
    _generation: Arc<Generation>,
}

enum Source {
    Guest(pool::Body, Allowance),
    /// Where an answer has no body, whatever the guest wrote.
    None,
    Page(Option<Bytes>),
}

impl Body {
    pub fn guest(
        body: pool::Body,
        allowance: Allowance,
        id: RequestId,
        record: Option<Box<Record>>,
        running: Running,
        generation: Arc<Generation>,
    ) -> Body {
        Body::new(Source::Guest(body, allowance), id, record, running, generation)
    }

    /// A page of our own.
    pub fn page(
        page: Bytes,
        id: RequestId,
        record: Option<Box<Record>>,
        running: Running,
        generation: Arc<Generation>,
    ) -> Body {
        let page = Some(page).filter(|page| !page.is_empty());
        Body::new(Source::Page(page), id, record, running, generation)
    }

    fn new(
        source: Source,
        id: RequestId,
        record: Option<Box<Record>>,
        running: Running,
        generation: Arc<Generation>,
    ) -> Body {
        // Its client may have closed the stream's window before there was anything to send.
        let pace = Pace::current().inspect(Pace::waits_for_client);
        Body { source, id, record, running, to_close: false, pace, _generation: generation }
    }

    /// Makes it a body that ends with the connection.
    pub fn end_with_connection(&mut self) {
        self.to_close = true;
    }

    /// Makes it the body of an answer that has none. A guest sees its stream closed.
    pub fn leave_out(&mut self) {
        self.source = Source::None;
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        let frame = match &mut this.source {
            Source::Guest(body, allowance) => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => allowance.judge(frame),
                Poll::Pending => {
                    this.pace.as_ref().inspect(|pace| pace.waits_for_guest());
                    return Poll::Pending;
                }
            },
            Source::Page(page) => page.take().map(|page| Ok(Frame::data(page))),
            Source::None => None,
        };
        this.pace.as_ref().inspect(|pace| pace.waits_for_client());
        if let Some(Err(error)) = &frame {
            // hyper closes the connection or resets the stream, and keeps the reason to itself.
            if let Source::Guest(_, allowance) = &this.source
                && allowance.tally.may_warn()
            {
                warn!(request = %this.id, %error, "answer cut short");
            }
            if this.to_close {
                this.running.cut();
            }
        }
        if let Some(record) = &mut this.record {
            record.note(&frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Guest(body, _) => body.is_end_stream(),
            Source::Page(page) => page.is_none(),
            Source::None => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Guest(body, _) => body.size_hint(),
            Source::Page(page) => {
                SizeHint::with_exact(page.as_ref().map_or(0, |page| page.len() as u64))
            }
            Source::None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // hyper does not ask for the end of a body that says it is at it.
        let ended = http_body::Body::is_end_stream(self);
        if let Some(record) = &mut self.record {
            record.finish(ended);
        }
    }
}

/// A request's body on its way to a guest.
pub struct Upload {
    body: Incoming,
    http2: bool,
    ended: bool,
    /// Told when the body is dropped before its end. HTTP/2 resets the one stream instead.
    activity: Option<Arc<Activity>>,
}

impl Upload {
    pub fn new(body: Incoming, http2: bool, activity: &Arc<Activity>) -> Upload {
        let ended = http_body::Body::is_end_stream(&body);
        let activity = (!ended && !http2).then(|| Arc::clone(activity));
        Upload { body, http2, ended, activity }
    }

    /// As guests take it, and what tells when it is larger than `max` bytes; see [`capped`].
    pub fn into_guest(self, max: u64) -> Result<(WasiBody, Option<Arc<Overflow>>), TooLarge> {
        if self.ended {
            return Ok((Empty::new().map_err(|never| match never {}).boxed_unsync(), None));
        }
        capped(self, max)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity
            && !self.ended
            && !http_body::Body::is_end_stream(&self.body)
        {
            activity.leave_unread();
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended = !matches!(frame, Some(Ok(_)));
        match frame {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => Poll::Ready(Some(Err(cause(&error)))),
            // hyper takes a stream that was reset with NO_ERROR for one that has ended: to a guest
            // half an upload would be a whole one.
            None if self.http2 && !self.body.is_end_stream() => {
                Poll::Ready(Some(Err(Error::ConnectionTerminated)))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a guest is told of a broken upload.
fn cause(error: &hyper::Error) -> Error {
    let malformed =
        error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).is_some_and(|cause| {
            matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
        });
    if error.is_timeout() {
        Error::ConnectionReadTimeout
    } else if malformed || error.is_parse() {
        Error::HttpProtocolError
    } else {
        Error::ConnectionTerminated
    }
}
