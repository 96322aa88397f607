//! The body of a response on its way to the guest: bounded in size and pauses, and never ended well where it did not end well.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use wasmtime_wasi_http::Error;

use super::Call;
use super::pool::Connection;
use super::upload::Upload;
use crate::limit::Limit;

/// See the module.
pub struct ReplyBody {
    incoming: Incoming,
    /// Until the body has ended, well or not.
    rest: Option<Rest>,
    size: u64,
    /// The longest pause.
    between_bytes: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    /// The origin lets us wait; a guest that does not ask is no pause of the origin's.
    waiting: bool,
}

/// What a response that is not over yet holds on to.
struct Rest {
    call: Arc<Call>,
    connection: Connection,
    upload: watch::Receiver<Upload>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl ReplyBody {
    pub fn new(
        call: Arc<Call>,
        connection: Connection,
        upload: watch::Receiver<Upload>,
        incoming: Incoming,
        between_bytes: Duration,
    ) -> Self {
        let cancelled = Box::pin(call.cancelled());
        let rest = Some(Rest { call, connection, upload, cancelled });
        let mut body = Self { incoming, rest, size: 0, between_bytes, pause: None, waiting: false };
        body.finish_if_over();
        body
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        if rest.cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending if self.poll_pause(cx).is_pending() => Poll::Pending,
            Poll::Pending => {
                self.reached_timeout();
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(broken(&error)))),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(self.count(frame))),
        }
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let longest = self.between_bytes;
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(longest)));
        if !std::mem::replace(&mut self.waiting, true) {
            pause.as_mut().reset(Instant::now() + longest);
        }
        pause.as_mut().poll(cx)
    }

    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Error> {
        self.waiting = false;
        self.size += frame.data_ref().map_or(0, |data| data.len() as u64);
        if let Some(rest) = &self.rest
            && self.size > rest.call.max_body()
        {
            rest.call.reached(Limit::MaxOutboundBody);
            return Err(Error::HttpResponseBodySize(Some(self.size)));
        }
        self.finish_if_over();
        Ok(frame)
    }

    /// A guest that has read all bytes of a body need not ask once more.
    fn finish_if_over(&mut self) {
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }

    /// The response is whole: its connection may serve another call, once the request is sent too.
    fn finish(&mut self) {
        if let Some(Rest { call, connection, upload, .. }) = self.rest.take()
            && *upload.borrow() == Upload::Sent
        {
            call.keep(connection);
        }
    }

    fn reached_timeout(&self) {
        if let Some(rest) = &self.rest {
            rest.call.waited(self.between_bytes);
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let body = self.get_mut();
        let poll = body.poll_rest(cx);
        if let Poll::Ready(Some(Err(_))) = poll {
            // The connection is closed here, and the call over.
            body.rest = None;
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// What a guest is told about a response that does not go on.
fn broken(error: &hyper::Error) -> Error {
    match error.is_parse_too_large() {
        true => Error::HttpResponseTrailerSectionSize(None),
        false => Error::HttpResponseIncomplete,
    }
}
