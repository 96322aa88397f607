//! The body of a response on its way to the guest: bounded in size and pauses, and never ended well where it did not end well.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::Error;

use super::Call;
use super::pool::Connection;
use super::upload::Upload;
use crate::limit::Limit;

/// See the module.
pub struct ReplyBody {
    call: Arc<Call>,
    incoming: Incoming,
    held: Held,
    /// Lets go of what is held when the guest's calls are ended: a guest may keep a body and
    /// never ask for more of it.
    _watch: AbortOnDropHandle<()>,
    is_over: bool,
    size: u64,
    /// The longest pause.
    between_bytes: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    /// The origin lets us wait. While the guest asks for nothing, it does not.
    waiting: bool,
}

/// What a response that is not over yet holds.
pub struct Resources {
    pub connection: Connection,
    /// How far the request is.
    pub upload: watch::Receiver<Upload>,
    /// The call's place among those of the app.
    pub place: OwnedSemaphorePermit,
}

/// Until the body has ended, well or not, or the guest's calls were ended.
#[derive(Clone)]
struct Held(Arc<Mutex<Option<Resources>>>);

impl ReplyBody {
    pub fn new(
        call: Arc<Call>,
        resources: Resources,
        incoming: Incoming,
        between_bytes: Duration,
    ) -> Self {
        let held = Held(Arc::new(Mutex::new(Some(resources))));
        let (cancelled, theirs) = (call.cancelled(), held.clone());
        let watch = tokio::spawn(async move {
            cancelled.await;
            drop(theirs.take());
        });
        let mut body = Self {
            call,
            incoming,
            held,
            _watch: AbortOnDropHandle::new(watch),
            is_over: false,
            size: 0,
            between_bytes,
            pause: None,
            waiting: false,
        };
        body.finish_if_over();
        body
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending if self.poll_pause(cx).is_pending() => Poll::Pending,
            Poll::Pending => {
                self.call.waited(self.between_bytes);
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
        if self.size > self.call.max_body() {
            self.call.reached(Limit::MaxOutboundBody);
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
        self.is_over = true;
        let Some(Resources { connection, upload, place }) = self.held.take() else { return };
        if *upload.borrow() == Upload::Sent {
            self.call.keep(connection);
        }
        // Another call may begin.
        drop(place);
    }
}

impl Held {
    fn take(&self) -> Option<Resources> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
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
        if body.is_over {
            return Poll::Ready(None);
        }
        let poll = body.poll_next(cx);
        if let Poll::Ready(Some(Err(_))) = poll {
            // The connection is closed here, and the call over.
            body.is_over = true;
            drop(body.held.take());
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
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
