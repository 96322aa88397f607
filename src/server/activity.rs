//! What a connection is doing, and since when: from this its time limits follow.
//!
//! hyper has a timer of its own for request heads, which it makes and drops
//! with each request, and which counts the idle time before a head as part of
//! it. Here a connection has one timer, set again only when it fires or when a
//! head comes in pieces.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::frames::Frames;
use crate::limit;

/// From the first byte of a request's head, or from the connection's start, to its last.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Between the end of a response and the next request.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client may take nothing of what is written to it.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection that is being closed may take for it, once no request runs.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an upload that nobody reads is taken in after its answer.
///
/// A socket closed with unread bytes in it is reset, and a client that is reset
/// while it sends may never see the answer that tells it to stop.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes thrown away at once.
const SCRAP: usize = 16 * 1024;

const NEVER: u64 = u64::MAX;

/// Shared by a connection, its socket and the bodies of its responses. Times are in milliseconds from its start.
#[derive(Debug)]
pub struct Activity {
    start: Instant,
    /// Whether what is read while no request runs is a head: on HTTP/2 it may be anything.
    reads_are_heads: bool,
    /// Requests whose response is not complete.
    requests: AtomicUsize,
    head_since: AtomicU64,
    idle_since: AtomicU64,
    stalled_since: AtomicU64,
    /// The last request's body was not read to its end.
    unread: AtomicBool,
    lingers_since: AtomicU64,
    /// An answer whose end is the connection's was cut.
    cut: AtomicBool,
    /// What its client sent too much of.
    flood: OnceLock<limit::Limit>,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Head,
    Idle,
    Stall,
    Linger,
}

/// A request that runs. Dropping it says that its response is complete.
#[derive(Debug)]
pub struct Running(Arc<Activity>);

impl Activity {
    pub fn new(reads_are_heads: bool) -> Activity {
        Activity {
            start: Instant::now(),
            reads_are_heads,
            requests: AtomicUsize::new(0),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            stalled_since: AtomicU64::new(NEVER),
            unread: AtomicBool::new(false),
            lingers_since: AtomicU64::new(NEVER),
            cut: AtomicBool::new(false),
            flood: OnceLock::new(),
        }
    }

    /// What its client sent too much of, if it was ended for that.
    pub fn flood(&self) -> Option<limit::Limit> {
        self.flood.get().copied()
    }

    /// A request's head is complete.
    pub fn begin(self: &Arc<Self>) -> Running {
        self.requests.fetch_add(1, Relaxed);
        self.head_since.store(NEVER, Relaxed);
        self.unread.store(false, Relaxed);
        Running(Arc::clone(self))
    }

    /// The request's body is dropped before its end.
    pub fn leave_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// When the connection is to be closed if nothing happens until then, and why. None while a request runs.
    pub fn due(&self) -> Option<(Instant, Limit)> {
        let at = |since: &AtomicU64, limit: Duration| match since.load(Relaxed) {
            NEVER => None,
            since => Some(self.start + Duration::from_millis(since) + limit),
        };
        if let Some(lingers) = at(&self.lingers_since, LINGER_TIMEOUT) {
            return Some((lingers, Limit::Linger));
        }
        let stall = at(&self.stalled_since, STALL_TIMEOUT).map(|at| (at, Limit::Stall));
        if self.requests.load(Relaxed) > 0 {
            return stall;
        }
        let head = at(&self.head_since, HEAD_TIMEOUT).map(|at| (at, Limit::Head));
        let waits = head.or_else(|| at(&self.idle_since, IDLE_TIMEOUT).map(|at| (at, Limit::Idle)));
        [stall, waits].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }

    fn has_read(&self) {
        if self.reads_are_heads
            && self.requests.load(Relaxed) == 0
            && self.head_since.load(Relaxed) == NEVER
        {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    fn has_written(&self, progress: bool) {
        let stalled = self.stalled_since.load(Relaxed) != NEVER;
        if progress == stalled {
            self.stalled_since.store(if progress { NEVER } else { self.now() }, Relaxed);
        }
    }
}

impl Running {
    /// The answer is cut, and only a connection that is reset says so: to HTTP/1.0 its end is the answer's.
    pub fn cut(&self) {
        self.0.cut.store(true, Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Before the count, so that nobody sees an idle connection with an old time.
        self.0.idle_since.store(self.0.now(), Relaxed);
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// What can end in a way that its peer takes for an error.
pub trait Reset {
    fn reset(&self);
}

impl Reset for TcpStream {
    fn reset(&self) {
        // When it fails the connection is lost already.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Reset for TlsStream<TcpStream> {
    /// TLS has a goodbye, which hyper leaves out after an error.
    fn reset(&self) {}
}

/// A socket whose reads and writes are noted.
#[derive(Debug)]
pub struct Watched<S: Reset> {
    socket: S,
    activity: Arc<Activity>,
    /// On HTTP/2.
    frames: Option<Frames>,
    shut: bool,
}

impl<S: Reset> Watched<S> {
    pub fn new(socket: S, activity: Arc<Activity>, frames: Option<Frames>) -> Watched<S> {
        Watched { socket, activity, frames, shut: false }
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

    fn note<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.activity.has_written(written.is_ready());
        written
    }
}

impl<S: Reset> Drop for Watched<S> {
    fn drop(&mut self) {
        if self.activity.cut.load(Relaxed) {
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
        match self.frames.as_mut().map(|frames| frames.receive(&buffer.filled()[before..])) {
            Some(Err(limit)) => Poll::Ready(Err(self.end_flood(cx, limit))),
            Some(Ok(())) | None => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncWrite + Reset + Unpin> Watched<S> {
    /// Tells the client to calm down, if that can be done at once, and no more is read from it.
    fn end_flood(&mut self, cx: &mut Context<'_>, limit: limit::Limit) -> io::Error {
        let _ = self.activity.flood.set(limit);
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
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.send(slices, &written);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            let shut = Pin::new(&mut self.socket).poll_shutdown(cx);
            ready!(self.note(shut))?;
            self.shut = true;
            if self.activity.unread.load(Relaxed) {
                self.activity.lingers_since.store(self.activity.now(), Relaxed);
            }
        }
        if self.activity.lingers_since.load(Relaxed) == NEVER {
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

#[cfg(test)]
#[path = "activity_tests.rs"]
mod tests;
