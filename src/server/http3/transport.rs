//! quinn's connections and streams as h3 drives them.
//!
//! h3-quinn 0.0.10 does the same, but panics when a body is dropped while it is read (h3 issue
//! 330). Here streams pass through [`Frames`] besides, and tell when their clients give up.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::stream::{self, Stream, StreamExt};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::frames::{Frames, Refused};
use super::shared::{Shared, varint};
use crate::limit::Limit;

/// Bytes that are read from a stream at a time.
const CHUNK: usize = 16 * 1024;

type Accepting<T> = Pin<Box<dyn Stream<Item = Result<T, ConnectionError>> + Send>>;
type Opening = Pin<Box<dyn Future<Output = Result<quinn::SendStream, ConnectionError>> + Send>>;

/// A connection.
pub struct Transport {
    requests: Accepting<(quinn::SendStream, quinn::RecvStream)>,
    others: Accepting<quinn::RecvStream>,
    opener: Opener,
    shared: Arc<Shared>,
}

/// Opens streams on which only we write.
pub struct Opener {
    connection: quinn::Connection,
    opening: Option<Opening>,
}

/// A request's stream, both ways.
pub struct Request {
    send: Writer,
    receive: Reader,
}

/// What we send on a stream.
pub struct Writer {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    /// A stream that is dropped before anything was written has no answer, and no end that looks like one.
    has_written: bool,
}

/// What the client sends on a stream.
pub struct Reader {
    stream: quinn::RecvStream,
    frames: Frames,
    /// What was read, and not handed on yet.
    read: Bytes,
    shared: Arc<Shared>,
}

impl Transport {
    pub fn new(connection: quinn::Connection, shared: Arc<Shared>) -> Transport {
        let requests = stream::unfold(connection.clone(), |connection| async move {
            Some((connection.accept_bi().await, connection))
        });
        let others = stream::unfold(connection.clone(), |connection| async move {
            Some((connection.accept_uni().await, connection))
        });
        Transport {
            requests: Box::pin(requests),
            others: Box::pin(others),
            opener: Opener { connection, opening: None },
            shared,
        }
    }
}

impl quic::Connection<Bytes> for Transport {
    type RecvStream = Reader;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Reader, ConnectionErrorIncoming>> {
        let stream = ready!(next(&mut self.others, cx))?;
        if !self.shared.budget.may(Limit::H3Frames) {
            self.shared.refuse(Refused::load(Limit::H3Frames));
        }
        Poll::Ready(Ok(Reader::new(stream, Frames::of_client(), &self.shared)))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Request, ConnectionErrorIncoming>> {
        loop {
            let (mut send, mut receive) = ready!(next(&mut self.requests, cx))?;
            if self.shared.rejects() {
                let _ = send.reset(varint(Code::H3_REQUEST_REJECTED));
                let _ = receive.stop(varint(Code::H3_REQUEST_REJECTED));
                continue;
            }
            let stopped = send.stopped();
            self.shared.accepted(Box::pin(async move { matches!(stopped.await, Ok(Some(_))) }));
            return Poll::Ready(Ok(Request {
                send: Writer::new(send),
                receive: Reader::new(receive, Frames::of_request(), &self.shared),
            }));
        }
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.opener.connection.clone(), opening: None }
    }
}

impl quic::OpenStreams<Bytes> for Transport {
    type BidiStream = Request;
    type SendStream = Writer;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Request, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Writer, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Request;
    type SendStream = Writer;

    /// Only clients begin requests.
    fn poll_open_bidi(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<Request, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("a server makes no requests".into())))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Writer, StreamErrorIncoming>> {
        let connection = &self.connection;
        let opening = self.opening.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        Poll::Ready(opened.map(Writer::new).map_err(of_connection))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(varint(code), reason);
    }
}

impl quic::BidiStream<Bytes> for Request {
    type SendStream = Writer;
    type RecvStream = Reader;

    fn split(self) -> (Writer, Reader) {
        (self.send, self.receive)
    }
}

impl quic::RecvStream for Request {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receive.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.receive.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

impl quic::SendStream<Bytes> for Request {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl Writer {
    fn new(stream: quinn::SendStream) -> Writer {
        Writer { stream, writing: None, has_written: false }
    }
}

impl quic::SendStream<Bytes> for Writer {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let written = Pin::new(&mut self.stream).poll_write(cx, data.chunk());
                data.advance(ready!(written).map_err(of_write)?);
                self.has_written = true;
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        // What is there already would be lost. h3 waits until it is written.
        if self.writing.is_some() {
            let error = "a frame before the last one was written".to_owned();
            return Err(StreamErrorIncoming::ConnectionErrorIncoming {
                connection_error: ConnectionErrorIncoming::InternalError(error),
            });
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        let finished = self.stream.finish();
        Poll::Ready(finished.map_err(|error| StreamErrorIncoming::Unknown(error.into())))
    }

    fn reset(&mut self, code: u64) {
        // Twice is once.
        let _ = self.stream.reset(VarInt::from_u64(code).unwrap_or(VarInt::MAX));
    }

    fn send_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // quinn would finish it, and the client would take that for an answer without a head.
        if !self.has_written {
            let _ = self.stream.reset(varint(Code::H3_REQUEST_CANCELLED));
        }
    }
}

impl Reader {
    fn new(stream: quinn::RecvStream, frames: Frames, shared: &Arc<Shared>) -> Reader {
        Reader { stream, frames, read: Bytes::new(), shared: Arc::clone(shared) }
    }

    fn refused(&self, refused: Refused) -> StreamErrorIncoming {
        self.shared.refuse(refused);
        of_connection(ConnectionError::LocallyClosed)
    }
}

impl quic::RecvStream for Reader {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            let piece = self.frames.next(&mut self.read, &self.shared.budget);
            if let Some(piece) = piece.map_err(|refused| self.refused(refused))? {
                return Poll::Ready(Ok(Some(piece)));
            }
            // A read that finds nothing leaves its waker with the connection.
            let read = pin!(self.stream.read_chunk(CHUNK, true)).poll(cx);
            match ready!(read).map_err(of_read)? {
                Some(chunk) => self.read = chunk.bytes,
                None => {
                    self.frames.end().map_err(|refused| self.refused(refused))?;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        let _ = self.stream.stop(VarInt::from_u64(code).unwrap_or(VarInt::MAX));
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

fn next<T>(
    accepting: &mut Accepting<T>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, ConnectionErrorIncoming>> {
    let accepted = ready!(accepting.poll_next_unpin(cx));
    // It never ends but in errors.
    Poll::Ready(accepted.unwrap_or(Err(ConnectionError::LocallyClosed)).map_err(incoming))
}

fn id(id: quinn::StreamId) -> StreamId {
    u64::from(VarInt::from(id)).try_into().expect("both have 62 bits")
}

fn incoming(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn of_connection(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: incoming(error) }
}

fn of_read(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => {
            StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
        }
        ReadError::ConnectionLost(error) => of_connection(error),
        error => StreamErrorIncoming::Unknown(error.into()),
    }
}

fn of_write(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => {
            StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
        }
        WriteError::ConnectionLost(error) => of_connection(error),
        error => StreamErrorIncoming::Unknown(error.into()),
    }
}
