//! How large heads and bodies may be, either way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::Notify;
use wasmtime_wasi_http::{Error, WasiBody};

use super::response::Refusal;
use crate::config::Clients;
use crate::limit::{Limit, Tally};
use crate::pool::BodyError;

/// Bytes of a request's line beside its method and target, and of a header beside its name and value.
const LINE: usize = "  HTTP/1.1\r\n".len();
const FIELD: usize = ": \r\n".len();

/// Where hyper ends the reading of a head: far enough above what may be that most heads
/// that are too large get a page and a line in the log. Beyond it they answer 431 themselves.
pub fn head_end(allowed: &Clients) -> usize {
    usize::try_from(allowed.max_head.saturating_mul(2)).unwrap_or(usize::MAX)
}

/// Whether a request's head is as large as heads may be.
pub fn judge_head(parts: &Parts, allowed: &Clients) -> Result<(), (Refusal, Limit)> {
    let path = parts.uri.path_and_query().map_or(1, |path| path.as_str().len());
    // HTTP/2 and HTTP/3 have them apart.
    let before = match parts.version {
        Version::HTTP_2 | Version::HTTP_3 => 0,
        _ => {
            parts.uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len())
                + parts.uri.authority().map_or(0, |authority| authority.as_str().len())
        }
    };
    let target = before + path;
    if target as u64 > allowed.max_uri {
        return Err((Refusal::LongTarget, Limit::MaxUri));
    }
    if parts.headers.len() > allowed.max_headers.get() {
        return Err((Refusal::LargeHead("there are too many headers"), Limit::MaxHeaders));
    }
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        name.as_str().len() + value.len() + FIELD
    };
    let head = target
        + parts.method.as_str().len()
        + LINE
        + parts.headers.iter().map(field).sum::<usize>();
    if head as u64 > allowed.max_head {
        return Err((Refusal::LargeHead("the headers are too large"), Limit::MaxHead));
    }
    Ok(())
}

/// A request's body that may be no larger than `max` bytes, and what tells when more came.
///
/// None where its length is known, which its protocol sees to.
///
/// # Errors
/// When it is known to be too large.
pub fn capped<B>(body: B, max: u64) -> Result<(WasiBody, Option<Arc<Overflow>>), TooLarge>
where
    B: Body<Data = Bytes, Error = Error> + Send + Unpin + 'static,
{
    let length = body.size_hint();
    if length.lower() > max {
        return Err(TooLarge);
    }
    if length.exact().is_some() {
        return Ok((body.boxed_unsync(), None));
    }
    let overflow = Arc::new(Overflow::default());
    let capped = Capped { body, left: max, overflow: Arc::clone(&overflow) };
    Ok((capped.boxed_unsync(), Some(overflow)))
}

/// The body that a request announces is larger than it may be.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Whether more of a request's body came than may.
#[derive(Debug, Default)]
pub struct Overflow {
    is_over: AtomicBool,
    over: Notify,
}

impl Overflow {
    pub fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Resolves when it has happened. For one who waits.
    pub async fn happened(&self) {
        while !self.is_over() {
            self.over.notified().await;
        }
    }
}

struct Capped<B> {
    body: B,
    left: u64,
    overflow: Arc<Overflow>,
}

impl<B> Body for Capped<B>
where
    B: Body<Data = Bytes, Error = Error> + Unpin,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let length = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            Some(Err(_)) | None => 0,
        };
        match self.left.checked_sub(length) {
            Some(left) if !self.overflow.is_over() => {
                self.left = left;
                Poll::Ready(frame)
            }
            _ => {
                self.overflow.is_over.store(true, Relaxed);
                self.overflow.over.notify_one();
                Poll::Ready(Some(Err(Error::HttpRequestBodySize(None))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a guest's response may still bring, and what else would cut it.
pub struct Allowance {
    left: u64,
    upload: Option<Arc<Overflow>>,
    /// The app's.
    pub tally: Arc<Tally>,
}

/// Why a response ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("{0}")]
    Guest(#[from] BodyError),
    #[error("the response is larger than max_response_body")]
    Response,
    #[error("the request is larger than max_request_body")]
    Request,
    /// Of a file that is sent, or of an encoder.
    #[error("{0}")]
    Own(#[from] io::Error),
}

impl Allowance {
    /// For a response of up to `max` bytes, to a request whose body tells `upload` when it is too large.
    pub fn new(max: u64, upload: Option<Arc<Overflow>>, tally: Arc<Tally>) -> Allowance {
        Allowance { left: max, upload, tally }
    }

    /// What becomes of the response's next frame, or of its end.
    pub fn judge(
        &mut self,
        frame: Option<Result<Frame<Bytes>, BodyError>>,
    ) -> Option<Result<Frame<Bytes>, Broken>> {
        if self.upload.as_ref().is_some_and(|upload| upload.is_over()) {
            self.tally.reached(Limit::MaxRequestBody, "a request whose answer had begun");
            return Some(Err(Broken::Request));
        }
        let frame = match frame? {
            Ok(frame) => frame,
            Err(cut) => return Some(Err(Broken::Guest(cut))),
        };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = self.left.checked_sub(length) else {
            self.tally.reached(Limit::MaxResponseBody, "a response that had begun");
            return Some(Err(Broken::Response));
        };
        self.left = left;
        Some(Ok(frame))
    }
}

#[cfg(test)]
#[path = "sizes_tests.rs"]
mod tests;
