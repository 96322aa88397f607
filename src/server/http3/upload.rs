//! The body of a request as it arrives on its stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};
use h3::server::RequestStream;
use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use wasmtime_wasi_http::Error;

use super::transport::Reader;
use crate::server::body::Arriving;

/// A body that is no longer than its head says, and no shorter.
pub struct Upload {
    stream: RequestStream<Reader, Bytes>,
    part: Part,
    /// What was there with the head.
    first: Option<Result<Frame<Bytes>, Error>>,
    /// Bytes that the head announces, and that came.
    announced: Option<u64>,
    received: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Data,
    Trailers,
    /// All has come, or never will.
    Over,
}

/// A head that no request may have over HTTP/3.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

impl Upload {
    /// The body of a request with these headers.
    ///
    /// # Errors
    /// When the headers give it no length, or more than one, or are about a connection.
    pub async fn begin(
        headers: &HeaderMap,
        mut stream: RequestStream<Reader, Bytes>,
    ) -> Result<Upload, Malformed> {
        let announced = match judge(headers) {
            Ok(announced) => announced,
            Err(malformed) => {
                stream.stop_sending(Code::H3_MESSAGE_ERROR);
                return Err(malformed);
            }
        };
        let part = Part::Data;
        let mut upload = Upload { stream, part, first: None, announced, received: 0 };
        // Whether there is a body at all shows only once its end is asked for. It is there already,
        // as a rule, where there is none.
        upload.first = poll_fn(|cx| match upload.poll(cx) {
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => Poll::Ready(None),
        })
        .await;
        Ok(upload)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let next = match ready!(self.poll_stream(cx)) {
            Ok(Some(frame)) => {
                self.received += frame.data_ref().map_or(0, Bytes::len) as u64;
                Ok(Some(frame))
            }
            Ok(None) => {
                self.part = Part::Over;
                Ok(None)
            }
            Err(error) => Err(self.broken(&error)),
        };
        let ends = self.part == Part::Over;
        let wrong = self.announced.is_some_and(|announced| match ends {
            true => self.received != announced,
            false => self.received > announced,
        });
        if next.is_ok() && wrong {
            self.stop(Code::H3_MESSAGE_ERROR);
            return Poll::Ready(Some(Err(Error::HttpProtocolError)));
        }
        Poll::Ready(next.transpose())
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, StreamError>> {
        if self.part == Part::Data {
            if let Some(mut data) = ready!(self.stream.poll_recv_data(cx))? {
                return Poll::Ready(Ok(Some(Frame::data(data.copy_to_bytes(data.remaining())))));
            }
            self.part = Part::Trailers;
        }
        if self.part == Part::Trailers {
            let trailers = ready!(self.stream.poll_recv_trailers(cx))?;
            self.part = Part::Over;
            return Poll::Ready(Ok(trailers.map(Frame::trailers)));
        }
        Poll::Ready(Ok(None))
    }

    /// What a guest is told of a stream that failed.
    fn broken(&mut self, error: &StreamError) -> Error {
        match error {
            StreamError::HeaderTooBig { .. } => {
                self.stop(Code::H3_EXCESSIVE_LOAD);
                Error::HttpRequestTrailerSectionSize(None)
            }
            StreamError::StreamError { .. } => {
                self.part = Part::Over;
                Error::HttpProtocolError
            }
            _ => {
                self.part = Part::Over;
                Error::ConnectionTerminated
            }
        }
    }

    fn stop(&mut self, code: Code) {
        self.part = Part::Over;
        self.stream.stop_sending(code);
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // The rest is not wanted, and the answer is no worse for that.
        if self.part != Part::Over {
            self.stream.stop_sending(Code::H3_NO_ERROR);
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
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.part == Part::Over && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.announced {
            Some(announced) => {
                let first = self.first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref());
                let taken = self.received - first.map_or(0, Bytes::len) as u64;
                SizeHint::with_exact(announced.saturating_sub(taken))
            }
            None => SizeHint::default(),
        }
    }
}

impl Arriving for Upload {
    fn cause(error: Error) -> Error {
        error
    }
}

/// The length that the headers give the body. None where they give none.
fn judge(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        if headers.contains_key(name) {
            return Err(Malformed);
        }
    }
    for name in ["keep-alive", "proxy-connection"] {
        if headers.contains_key(name) {
            return Err(Malformed);
        }
    }
    if headers.get_all(TE).iter().any(|te| te != "trailers") {
        return Err(Malformed);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(length);
    let Some(first) = lengths.next() else { return Ok(None) };
    let first = first.ok_or(Malformed)?;
    match lengths.all(|other| other == Some(first)) {
        true => Ok(Some(first)),
        false => Err(Malformed),
    }
}

fn length(value: &HeaderValue) -> Option<u64> {
    let digits = value.to_str().ok()?;
    // `parse` would take a sign as well.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (name.parse().unwrap(), HeaderValue::from_static(value))
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            let name: http::HeaderName = name;
            map.append(name, value);
        }
        map
    }

    #[test]
    fn a_body_has_one_length_or_none() {
        for (fields, length) in [
            (&[][..], Ok(None)),
            (&[("content-length", "12")], Ok(Some(12))),
            (&[("content-length", "12"), ("content-length", "12")], Ok(Some(12))),
            (&[("content-length", "12"), ("content-length", "13")], Err(Malformed)),
            (&[("content-length", "+12")], Err(Malformed)),
            (&[("content-length", "12, 12")], Err(Malformed)),
            (&[("content-length", "")], Err(Malformed)),
            (&[("content-length", "99999999999999999999")], Err(Malformed)),
        ] {
            assert_eq!(judge(&headers(fields)), length, "{fields:?}");
        }
    }

    #[test]
    fn headers_of_a_connection_are_malformed() {
        for (name, value, good) in [
            ("connection", "close", false),
            ("transfer-encoding", "chunked", false),
            ("upgrade", "websocket", false),
            ("keep-alive", "5", false),
            ("proxy-connection", "close", false),
            ("te", "gzip", false),
            ("te", "trailers", true),
            ("x-connection", "close", true),
        ] {
            assert_eq!(judge(&headers(&[(name, value)])).is_ok(), good, "{name}: {value}");
        }
    }
}
