//! Bodies on their way: the response to the client, the request to the guest.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, WasiBody};

use super::exchange::{Cut, Exchange, look};

/// A response body. It fails, instead of ending, when the guest did not finish it.
pub struct Body(Kind);

enum Kind {
    /// All of it was there when the head was.
    Whole {
        data: Bytes,
        trailers: Option<HeaderMap>,
        /// Under way until the last byte has left.
        _exchange: Arc<Exchange>,
    },
    Stream {
        first: VecDeque<Frame<Bytes>>,
        exchange: Arc<Exchange>,
        ended: bool,
    },
}

/// The frames that are there before the head is sent, so that a small answer
/// leaves in one write and with a length.
#[derive(Default)]
pub struct Gathered {
    frames: VecDeque<Frame<Bytes>>,
    size: usize,
    ended: bool,
    cut: bool,
}

impl Gathered {
    /// Takes what is ready. True when there is nothing left to wait for.
    pub fn gather(&mut self, exchange: &Exchange) -> bool {
        while !self.is_done(exchange) {
            match look(|cx| exchange.poll_frame(cx)) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.size += frame.data_ref().map_or(0, Bytes::len);
                    self.frames.push_back(frame);
                }
                Poll::Ready(Some(Err(Cut))) => self.cut = true,
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => break,
            }
        }
        self.is_done(exchange)
    }

    /// The guest did not finish what it began.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn is_done(&self, exchange: &Exchange) -> bool {
        self.ended || self.cut || self.size >= exchange.gather_max
    }

    /// The body made of these frames and of what is still to come.
    pub fn into_body(self, exchange: Arc<Exchange>) -> Body {
        if !self.ended {
            // A body that is already cut fails when the exchange is asked again.
            return Body(Kind::Stream { first: self.frames, exchange, ended: false });
        }
        let mut chunks = Vec::with_capacity(self.frames.len());
        let mut trailers = None;
        for frame in self.frames {
            match frame.into_data() {
                Ok(data) => chunks.push(data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        let data = match chunks.len() {
            0 => Bytes::new(),
            1 => chunks.swap_remove(0),
            _ => {
                let mut data = BytesMut::with_capacity(self.size);
                chunks.iter().for_each(|chunk| data.extend_from_slice(chunk));
                data.freeze()
            }
        };
        Body(Kind::Whole { data, trailers, _exchange: exchange })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.0 {
            Kind::Whole { data, .. } if !data.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(data)))))
            }
            Kind::Whole { trailers, .. } => {
                Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Kind::Stream { first, exchange, ended } => {
                if let Some(frame) = first.pop_front() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                let frame = std::task::ready!(exchange.poll_frame(cx));
                *ended = frame.is_none();
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole { data, trailers, .. } => data.is_empty() && trailers.is_none(),
            Kind::Stream { ended, .. } => *ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole { data, .. } => SizeHint::with_exact(data.len() as u64),
            Kind::Stream { .. } => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Kind::Stream { exchange, .. } = &self.0 {
            exchange.leave();
        }
    }
}

/// The request's body, telling the exchange of each chunk that the guest takes.
pub fn watched(body: WasiBody, exchange: &Arc<Exchange>) -> WasiBody {
    match http_body::Body::is_end_stream(&body) {
        true => body,
        false => Watched { body, exchange: Arc::downgrade(exchange) }.boxed_unsync(),
    }
}

struct Watched {
    body: WasiBody,
    /// A guest may keep its request for as long as it lives, which is not to count as under way.
    exchange: Weak<Exchange>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(exchange) = self.exchange.upgrade() {
            exchange.progress();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
