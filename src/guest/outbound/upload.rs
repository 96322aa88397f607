//! The body of a guest's request on its way out: counted, and never ended well where it did not end well.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use tokio::sync::watch;
use wasmtime_wasi_http::{Error, WasiBody};

use super::Call;
use crate::limit::Limit;

/// How far a request's body is. Its channel closes when nothing sends it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    Sending,
    Sent,
    Failed(Fault),
}

/// Why a request's body was cut, and its connection with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the body is larger than max_outbound_body")]
    TooLarge(u64),
    #[error("the body is not as long as its content-length")]
    Length(u64),
    #[error("the guest did not finish the body")]
    Unfinished,
}

/// See the module.
pub struct UploadBody {
    call: Arc<Call>,
    body: WasiBody,
    /// A frame that was asked for before it could be sent.
    first: Option<Frame<Bytes>>,
    /// What the head says.
    length: Option<u64>,
    sent: u64,
    progress: watch::Sender<Upload>,
}

impl UploadBody {
    /// `body`, of `length` bytes where its head says so, and how far it is.
    pub fn new(
        call: &Arc<Call>,
        body: WasiBody,
        length: Option<u64>,
    ) -> (Self, watch::Receiver<Upload>) {
        let (progress, watched) = watch::channel(Upload::Sending);
        let upload = Self { call: call.clone(), body, first: None, length, sent: 0, progress };
        if upload.is_end_stream() {
            upload.progress.send_replace(Upload::Sent);
        }
        (upload, watched)
    }

    /// No body at all.
    pub fn empty(call: &Arc<Call>) -> (Self, watch::Receiver<Upload>) {
        let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
        Self::new(call, nothing, None)
    }

    /// Waits for the body's first frame; false where it has none, and so is empty.
    ///
    /// # Errors
    /// Why the body failed before it began.
    pub async fn begins(&mut self) -> Result<bool, Fault> {
        if self.is_end_stream() {
            return Ok(false);
        }
        match poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await {
            Some(Ok(frame)) => {
                self.first = Some(frame);
                Ok(true)
            }
            Some(Err(fault)) => Err(fault),
            None => Ok(false),
        }
    }

    fn judge(
        &mut self,
        frame: Option<Result<Frame<Bytes>, Error>>,
    ) -> Option<Result<Frame<Bytes>, Fault>> {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(Error::HttpRequestBodySize(size))) => {
                return self.fail(Fault::Length(size.unwrap_or(self.sent)));
            }
            Some(Err(_)) => return self.fail(Fault::Unfinished),
            None if self.call.is_cancelled() => return self.fail(Fault::Unfinished),
            None if self.length.is_some_and(|length| length != self.sent) => {
                return self.fail(Fault::Length(self.sent));
            }
            None => {
                self.progress.send_replace(Upload::Sent);
                return None;
            }
        };
        self.sent = self.sent.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
        if self.length.is_some_and(|length| length < self.sent) {
            return self.fail(Fault::Length(self.sent));
        }
        if self.sent > self.call.max_body() {
            self.call.reached(Limit::MaxOutboundBody);
            return self.fail(Fault::TooLarge(self.sent));
        }
        // Nothing more is asked for after either.
        let last = frame.is_trailers() || self.length == Some(self.sent);
        self.progress.send_replace(if last { Upload::Sent } else { Upload::Sending });
        Some(Ok(frame))
    }

    fn fail(&mut self, fault: Fault) -> Option<Result<Frame<Bytes>, Fault>> {
        self.progress.send_replace(Upload::Failed(fault));
        Some(Err(fault))
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(self.judge(frame))
    }

    /// Only what is sure: a body that its head announced is not over before it was sent.
    fn is_end_stream(&self) -> bool {
        self.first.is_none()
            && match self.length {
                Some(length) => self.sent == length,
                None => self.body.is_end_stream() && !self.call.is_cancelled(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.sent)),
            None => SizeHint::default(),
        }
    }
}

impl Fault {
    /// What the guest is told.
    pub fn error(self) -> Error {
        match self {
            Fault::TooLarge(size) | Fault::Length(size) => Error::HttpRequestBodySize(Some(size)),
            Fault::Unfinished => Error::HttpProtocolError,
        }
    }
}
