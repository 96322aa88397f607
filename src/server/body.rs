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

use super::activity::{Activity, Running};
use super::arrival::{Arrival, Late};
use super::bounds::Place;
use super::duties::Encoded;
use super::files::{Content, FileBody};
use super::observed::Observed;
use super::sizes::{Allowance, Broken, Overflow, TooLarge, capped};
use super::stream::Pace;
use crate::config::{Coding, Peer};
use crate::generation::Generation;
use crate::limit::Tally;
use crate::pool;
use crate::request_id::RequestId;
use crate::stats::Received;

/// Bytes of an answer that are handed out at a time on HTTP/2 and HTTP/3.
///
/// hyper gives h2 whatever it has got as soon as there is room for one byte. So this, and no other
/// limit, is what a stream holds beyond its buffer; and how much a client has to take within
/// `write_timeout`.
const SLICE: usize = 12 * 1024;

/// The body of an answer. With it goes what must last as long as the answer does.
pub struct Body {
    source: Sliced<Source>,
    id: RequestId,
    /// Counted, and written to the access log, when the body is dropped.
    observed: Observed,
    /// The connection is not idle before this is dropped.
    running: Running,
    /// Its end is the connection's, as HTTP/1.0 knows no other.
    to_close: bool,
    /// On HTTP/2 and HTTP/3, whose turn it is.
    pace: Option<Pace>,
    /// The generation is not retired before this is dropped.
    _generation: Arc<Generation>,
}

enum Source {
    Guest(pool::Body, Allowance),
    /// Where an answer has no body, whatever the guest wrote.
    None,
    Page(Option<Bytes>),
    File(FileBody),
    /// Any other one, compressed.
    Encoded(Box<Encoded<Source>>),
}

impl Body {
    pub fn guest(
        body: pool::Body,
        allowance: Allowance,
        id: RequestId,
        observed: Observed,
        running: Running,
        generation: Arc<Generation>,
    ) -> Body {
        Body::new(Source::Guest(body, allowance), id, observed, running, generation)
    }

    /// A body of our own, all of which is there.
    pub fn page(
        page: Bytes,
        id: RequestId,
        observed: Observed,
        running: Running,
        generation: Arc<Generation>,
    ) -> Body {
        let page = Some(page).filter(|page| !page.is_empty());
        Body::new(Source::Page(page), id, observed, running, generation)
    }

    /// A body from a folder of files.
    pub fn content(
        content: Content,
        id: RequestId,
        observed: Observed,
        running: Running,
        generation: Arc<Generation>,
    ) -> Body {
        match content {
            Content::Whole(bytes) => Body::page(bytes, id, observed, running, generation),
            Content::File(file) => Body::new(Source::File(file), id, observed, running, generation),
        }
    }

    fn new(
        source: Source,
        id: RequestId,
        observed: Observed,
        running: Running,
        generation: Arc<Generation>,
    ) -> Body {
        // Its client may have closed the stream's window before there was anything to send.
        let pace = Pace::current().inspect(Pace::waits_for_client);
        // On HTTP/1 the socket takes what it can of a chunk, and the rest is waited for.
        let source = Sliced::new(source, if pace.is_some() { SLICE } else { usize::MAX });
        Body { source, id, observed, running, to_close: false, pace, _generation: generation }
    }

    /// Makes it a body that ends with the connection.
    pub fn end_with_connection(&mut self) {
        self.to_close = true;
    }

    /// Compresses it. `length` is how long it is before that, where it is known.
    pub fn compress(&mut self, coding: Coding, length: Option<u64>, place: Place) {
        let source = std::mem::replace(&mut self.source.body, Source::None);
        self.source.body = Source::Encoded(Box::new(Encoded::new(source, coding, length, place)));
        if let Some(record) = &mut self.observed.record {
            record.forget_length();
        }
    }

    /// Makes it the body of an answer that has none. A guest sees its stream closed.
    pub fn leave_out(&mut self) {
        self.source.body = Source::None;
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
        let Poll::Ready(frame) = Pin::new(&mut this.source).poll_frame(cx) else {
            this.pace.as_ref().inspect(|pace| pace.waits_for_guest());
            return Poll::Pending;
        };
        this.pace.as_ref().inspect(|pace| pace.waits_for_client());
        if let Some(Err(error)) = &frame {
            // hyper closes the connection or resets the stream, and keeps the reason to itself.
            if this.source.body.tally().unwrap_or(this.running.tally()).may_warn() {
                warn!(request = %this.id, %error, "answer cut short");
            }
            if this.to_close {
                this.running.cut();
            }
        }
        this.observed.note(&frame);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl Source {
    /// The app's whose answer it is.
    fn tally(&self) -> Option<&Tally> {
        match self {
            Source::Guest(_, allowance) => Some(allowance.tally.as_ref()),
            Source::Encoded(encoded) => encoded.inner().tally(),
            Source::None | Source::Page(_) | Source::File(_) => None,
        }
    }
}

impl http_body::Body for Source {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Poll::Ready(match &mut *self {
            Source::Guest(body, allowance) => {
                allowance.judge(ready!(Pin::new(body).poll_frame(cx)))
            }
            Source::Page(page) => page.take().map(|page| Ok(Frame::data(page))),
            Source::File(file) => {
                ready!(Pin::new(file).poll_frame(cx)).map(|frame| frame.map_err(Broken::Own))
            }
            Source::Encoded(encoded) => ready!(Pin::new(encoded).poll_frame(cx)),
            Source::None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Source::Guest(body, _) => body.is_end_stream(),
            Source::Page(page) => page.is_none(),
            Source::File(file) => file.is_end_stream(),
            Source::Encoded(encoded) => encoded.is_end_stream(),
            Source::None => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Source::Guest(body, _) => body.size_hint(),
            Source::Page(page) => {
                SizeHint::with_exact(page.as_ref().map_or(0, |page| page.len() as u64))
            }
            Source::File(file) => file.size_hint(),
            Source::Encoded(encoded) => encoded.size_hint(),
            Source::None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // hyper does not ask for the end of a body that says it is at it.
        let ended = http_body::Body::is_end_stream(self);
        if let Some(record) = &mut self.observed.record {
            record.finish(ended);
        }
    }
}

/// A body whose longer chunks are handed out in slices.
struct Sliced<B> {
    body: B,
    /// What of the last chunk is still here.
    rest: Bytes,
    /// Bytes of a slice, at the most.
    most: usize,
}

impl<B> Sliced<B> {
    fn new(body: B, most: usize) -> Sliced<B> {
        Sliced { body, rest: Bytes::new(), most }
    }

    fn slice(&mut self) -> Frame<Bytes> {
        Frame::data(self.rest.split_to(self.most.min(self.rest.len())))
    }
}

impl<B> http_body::Body for Sliced<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.slice())));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            Ok(match frame?.into_data() {
                Ok(data) => {
                    this.rest = data;
                    this.slice()
                }
                Err(other) => other,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(body.lower().saturating_add(rest));
        hint
    }
}

/// The body of a request as its protocol brings it: hyper's, or that of HTTP/3.
pub trait Arriving: http_body::Body<Data = Bytes> + Send + Unpin + 'static {
    /// What a guest is told of a body that broke.
    fn cause(error: Self::Error) -> Error;
}

/// A request's body on its way to a guest.
pub struct Upload<B: Arriving> {
    body: B,
    streams: bool,
    ended: bool,
    /// How long its client may take, where it is not there at once.
    arrival: Option<Arrival>,
    /// Told when the body is dropped before its end. A stream is reset by itself instead.
    activity: Option<Arc<Activity>>,
    /// Counts what comes, once it is known whose it is.
    received: Option<Received>,
}

impl<B: Arriving> Upload<B> {
    pub fn new(body: B, streams: bool, activity: &Arc<Activity>, sender: Peer) -> Upload<B> {
        let ended = http_body::Body::is_end_stream(&body);
        let arrival = (!ended).then(|| Arrival::new(Arc::clone(activity), sender));
        let activity = (!ended && !streams).then(|| Arc::clone(activity));
        Upload { body, streams, ended, arrival, activity, received: None }
    }

    /// Counts what comes from now on.
    pub fn count(&mut self, received: impl FnOnce() -> Option<Received>) {
        if !self.ended {
            self.received = received();
        }
    }

    /// As guests take it, and what tells when it is larger than `max` bytes; see [`capped`].
    pub fn into_guest(self, max: u64) -> Result<(WasiBody, Option<Arc<Overflow>>), TooLarge> {
        if self.ended {
            return Ok((Empty::new().map_err(|never| match never {}).boxed_unsync(), None));
        }
        capped(self, max)
    }
}

impl<B: Arriving> Drop for Upload<B> {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity
            && !self.ended
            && !http_body::Body::is_end_stream(&self.body)
        {
            activity.leave_unread();
        }
    }
}

impl<B: Arriving> http_body::Body for Upload<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Upload { body, arrival, .. } = &mut *self;
        let mut next = |cx: &mut Context<'_>| Pin::new(&mut *body).poll_frame(cx);
        let frame = match arrival {
            Some(arrival) => match ready!(arrival.poll(cx, next)) {
                Ok(frame) => frame,
                Err(Late) => {
                    self.arrival = None;
                    return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
                }
            },
            None => ready!(next(cx)),
        };
        self.ended = !matches!(frame, Some(Ok(_)));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if let Some(arrival) = &mut self.arrival {
                arrival.note(bytes);
            }
            if let Some(received) = &self.received {
                received.add(bytes);
            }
        }
        match frame {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => Poll::Ready(Some(Err(B::cause(error)))),
            // hyper takes a stream that was reset with NO_ERROR for one that has ended: to a guest
            // half an upload would be a whole one.
            None if self.streams && !self.body.is_end_stream() => {
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

impl Arriving for Incoming {
    fn cause(error: hyper::Error) -> Error {
        let malformed = error
            .source()
            .and_then(|cause| cause.downcast_ref::<io::Error>())
            .is_some_and(|cause| {
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
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http::HeaderMap;
    use http_body::Body as _;
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn chunk(length: usize) -> Bytes {
        (0..length).map(|at| (at / 100) as u8).collect()
    }

    #[tokio::test]
    async fn a_long_chunk_is_handed_out_in_slices() {
        let chunk = chunk(2 * SLICE + 7);
        let mut body = Sliced::new(Full::new(chunk.clone()), SLICE);

        let (mut arrived, mut lengths) = (Vec::new(), Vec::new());
        while let Some(frame) = body.frame().await {
            let slice = frame.unwrap().into_data().unwrap();
            lengths.push(slice.len());
            arrived.extend_from_slice(&slice);
            let left = chunk.len() - arrived.len();
            assert_eq!(body.size_hint().exact(), Some(left as u64));
            assert_eq!(body.is_end_stream(), left == 0);
        }

        assert_eq!(lengths, [SLICE, SLICE, 7]);
        assert!(arrived == chunk);
    }

    #[tokio::test]
    async fn slices_keep_the_order_of_what_comes() {
        let frames = [
            Frame::data(chunk(SLICE + 1)),
            Frame::data(chunk(5)),
            Frame::trailers(HeaderMap::new()),
        ];
        let frames = frames.map(Ok::<_, Infallible>);
        let mut body = Sliced::new(StreamBody::new(stream::iter(frames)), SLICE);

        let mut lengths = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            lengths.push(frame.data_ref().map(Bytes::len));
        }

        assert_eq!(lengths, [Some(SLICE), Some(1), Some(5), None]);
    }
}
