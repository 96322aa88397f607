//! The bare socket of a connection, below TLS: whether its client takes what is written to it.
//!
//! Above TLS that cannot be seen: what is written there is taken into TLS's own buffer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::watched::Reset;

/// A socket whose writes are noted.
#[derive(Debug)]
pub struct Paced<S: Reset> {
    socket: S,
    activity: Arc<Activity>,
}

impl<S: Reset> Paced<S> {
    pub fn new(socket: S, activity: Arc<Activity>) -> Paced<S> {
        Paced { socket, activity }
    }

    fn note<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.activity.has_written(written.is_ready());
        written
    }
}

impl<S: Reset> Drop for Paced<S> {
    fn drop(&mut self) {
        // The system would keep what its client does not take, megabytes of it, for minutes.
        if self.activity.is_abandoned() {
            self.socket.reset();
        }
    }
}

impl<S: Reset> Reset for Paced<S> {
    fn reset(&self) {
        self.socket.reset();
    }
}

impl<S: AsyncRead + Reset + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Reset + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
