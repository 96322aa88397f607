//! The stream of a connection, above TLS where there is that: what passes it is noted, and floods of HTTP/2 frames end there.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::activity::Activity;
use super::frames::Frames;
use super::paced::Paced;
use super::socket::Socket;
use crate::limit::Limit;

/// Bytes thrown away at once.
const SCRAP: usize = 16 * 1024;

/// What can end in a way that its peer takes for an error.
pub trait Reset {
    fn reset(&self);
}

impl Reset for TlsStream<Paced<Socket>> {
    /// TLS has a goodbye, which hyper leaves out after an error.
    fn reset(&self) {}
}

/// A stream whose reads are noted.
#[derive(Debug)]
pub struct Watched<S: Reset> {
    socket: S,
    activity: Arc<Activity>,
    /// On HTTP/2.
    frames: Option<Frames>,
    shut: bool,
    lingers: bool,
}

impl<S: Reset> Watched<S> {
    pub fn new(socket: S, activity: Arc<Activity>, frames: Option<Frames>) -> Watched<S> {
        Watched { socket, activity, frames, shut: false, lingers: false }
    }

    /// Takes note of the frames in what was written of `slices`.
    fn send(&mut self, slices: &[io::IoSlice<'_>], written: &Poll<io::Result<usize>>) {
        let (Some(frames), Poll::Ready(Ok(written))) = (&mut self.frames, written) else { return };
        let mut left = *written;
        for slice in slices {
            let sent = slice.len().min(left);
            frames.send(&slice[..sent]);
            left -= sent;
        }
    }
}

impl<S: Reset> Drop for Watched<S> {
    fn drop(&mut self) {
        if self.activity.is_cut() {
            self.socket.reset();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Reset + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.activity.has_read();
        }
        let Some(frames) = &mut self.frames else { return Poll::Ready(Ok(())) };
        if let Err(limit) = frames.receive(&buffer.filled()[before..]) {
            return Poll::Ready(Err(self.end_flood(cx, limit)));
        }
        let within = frames.is_within_block();
        self.activity.block(within);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Reset + Unpin> Watched<S> {
    /// Tells the client to calm down, if that can be done at once, and no more is read from it.
    fn end_flood(&mut self, cx: &mut Context<'_>, limit: Limit) -> io::Error {
        self.activity.flooded(limit);
        if let Some(goodbye) = self.frames.as_ref().and_then(Frames::goodbye) {
            // One who does not take it has to do without.
            let _ = Pin::new(&mut self.socket).poll_write(cx, &goodbye);
            let _ = Pin::new(&mut self.socket).poll_flush(cx);
        }
        io::Error::other(limit.name())
    }
}

impl<S: AsyncRead + AsyncWrite + Reset + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.send(&[io::IoSlice::new(bytes)], &written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.send(slices, &written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.shut = true;
            self.lingers = self.activity.linger();
        }
        if !self.lingers {
            return Poll::Ready(Ok(()));
        }
        // The client has been told that nothing more comes. What it has on its way is thrown away.
        let mut scrap = [MaybeUninit::uninit(); SCRAP];
        loop {
            let mut scrap = ReadBuf::uninit(&mut scrap);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut scrap))?;
            if scrap.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
