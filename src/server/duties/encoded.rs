//! A body that is compressed on its way to the client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::encoder::Encoder;
use crate::config::Coding;
use crate::server::bounds::Place;

/// Bytes that are compressed at a time: a fraction of a millisecond.
const SLICE: usize = 16 << 10;

/// Bytes that are compressed before other tasks have their turn, while there is no wait anyway.
const TURN: usize = 128 << 10;

/// What the encoder makes of a body.
///
/// Whenever the body has to be waited for, all that there was of it is sent: events and slow
/// answers arrive one by one. An error ends it as it would end the body, without the end that
/// would make it look whole; trailers follow the last compressed byte.
pub struct Encoded<B> {
    body: B,
    coding: Coding,
    length: Option<u64>,
    /// Made with the first bytes, as an answer to HEAD has none.
    encoder: Option<Encoder>,
    /// What the encoder has not taken yet.
    input: Bytes,
    /// Whether the encoder holds bytes that the client cannot read yet.
    unflushed: bool,
    ended: bool,
    trailers: Option<HeaderMap>,
    /// Bytes compressed since the last wait.
    without_wait: usize,
    _place: Place,
}

impl<B> Encoded<B> {
    /// A body of `length` bytes, where that is known, in its `place` among those that are compressed.
    pub fn new(body: B, coding: Coding, length: Option<u64>, place: Place) -> Encoded<B> {
        Encoded {
            body,
            coding,
            length,
            encoder: None,
            input: Bytes::new(),
            unflushed: false,
            ended: false,
            trailers: None,
            without_wait: 0,
            _place: place,
        }
    }

    /// The body as it is.
    pub fn inner(&self) -> &B {
        &self.body
    }

    fn encoder(&mut self) -> io::Result<&mut Encoder> {
        match &mut self.encoder {
            Some(encoder) => Ok(encoder),
            none => Ok(none.insert(Encoder::new(self.coding, self.length)?)),
        }
    }

    /// Compresses the next bytes of the input.
    fn encode(&mut self) -> io::Result<Bytes> {
        let slice = self.input.split_to(SLICE.min(self.input.len()));
        self.without_wait += slice.len();
        self.unflushed = true;
        self.encoder()?.encode(&slice)
    }

    fn flush(&mut self) -> io::Result<Bytes> {
        self.unflushed = false;
        self.encoder()?.flush()
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> io::Result<Bytes> {
        (self.ended, self.trailers) = (true, trailers);
        // An empty body has an end as well.
        self.encoder()?;
        self.encoder.take().map_or(Ok(Bytes::new()), Encoder::finish)
    }
}

impl<B> Body for Encoded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: From<io::Error>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        loop {
            let output = if !this.input.is_empty() {
                if this.without_wait >= TURN {
                    this.without_wait = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                this.encode()
            } else if this.ended {
                return Poll::Ready(this.trailers.take().map(|it| Ok(Frame::trailers(it))));
            } else {
                match Pin::new(&mut this.body).poll_frame(cx) {
                    Poll::Pending => {
                        this.without_wait = 0;
                        if !this.unflushed {
                            return Poll::Pending;
                        }
                        this.flush()
                    }
                    Poll::Ready(None) => this.finish(None),
                    Poll::Ready(Some(Err(error))) => {
                        (this.ended, this.encoder) = (true, None);
                        return Poll::Ready(Some(Err(error)));
                    }
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            this.input = data;
                            continue;
                        }
                        Err(frame) => this.finish(frame.into_trailers().ok()),
                    },
                }
            };
            match output {
                Ok(output) if output.is_empty() => {}
                Ok(output) => return Poll::Ready(Some(Ok(Frame::data(output)))),
                Err(error) => {
                    (this.ended, this.encoder, this.input) = (true, None, Bytes::new());
                    this.trailers = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
#[path = "encoded_tests.rs"]
mod tests;
