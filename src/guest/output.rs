//! A guest's standard output and error, as log lines: so many a second, of such a length, and the rest counted.

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::last_lines::{LastLines, Line};
use crate::limit::{Limit, Tally};
use crate::request_id::RequestId;

/// A longer line is cut here and goes on in the next one.
const MAX_LINE: usize = 8 << 10;

/// What the guest may hand over in one write.
const MAX_WRITE: usize = 64 << 10;

/// No request, or more than one, runs in the instance.
const NO_REQUEST: u64 = 0;

/// An app as the source of lines; the same for all of its instances.
pub struct Source {
    pub app: Arc<str>,
    /// Lines a second, in the long run.
    pub rate: NonZeroUsize,
    /// Lines at once.
    pub burst: NonZeroUsize,
    /// Where the app's lines are counted, whatever pools it has.
    pub tally: Arc<Tally>,
}

/// An instance's output: whose lines they are.
pub struct GuestOutput {
    source: Arc<Source>,
    generation: u64,
    instance: u64,
    request: AtomicU64,
    last: Mutex<LastLines>,
}

impl GuestOutput {
    pub fn new(source: &Arc<Source>, generation: u64, instance: u64) -> Arc<Self> {
        Arc::new(Self {
            source: source.clone(),
            generation,
            instance,
            request: AtomicU64::new(NO_REQUEST),
            last: Mutex::default(),
        })
    }

    /// Says whose the lines from now on are; `None` while it cannot be known.
    pub fn set_request(&self, request: Option<RequestId>) {
        let id = request.map_or(NO_REQUEST, |id| id.as_u64());
        self.request.store(id, Ordering::Relaxed);
    }

    /// The last lines that the guest has written, in the log or not.
    pub fn last_lines(&self) -> Vec<Line> {
        self.lock_last().lines()
    }

    fn lock_last(&self) -> MutexGuard<'_, LastLines> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a line, if the app may write one now.
    fn log(&self, name: &'static str, line: &[u8]) -> bool {
        let source = &self.source;
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches('\r');
        self.lock_last().push(name, text);
        if !source.tally.may_write(source.rate, source.burst) {
            return false;
        }
        let (app, generation, instance) = (&*source.app, self.generation, self.instance);
        match self.request.load(Ordering::Relaxed) {
            NO_REQUEST => {
                tracing::info!(target: "guest", app, generation, instance, stream = name, "{text}")
            }
            id => {
                let request = format_args!("{id:016x}");
                tracing::info!(target: "guest", app, generation, instance, %request, stream = name, "{text}")
            }
        }
        true
    }

    fn dropped(&self, name: &'static str, lines: u64) {
        self.source.tally.reached_often(Limit::LogRate, lines, name);
    }
}

/// One of the two streams; clones write to the same lines.
#[derive(Clone)]
pub struct Stream {
    output: Arc<GuestOutput>,
    name: &'static str,
    partial: Arc<Mutex<Vec<u8>>>,
}

impl Stream {
    pub fn stdout(output: &Arc<GuestOutput>) -> Self {
        Self::new(output, "stdout")
    }

    pub fn stderr(output: &Arc<GuestOutput>) -> Self {
        Self::new(output, "stderr")
    }

    fn new(output: &Arc<GuestOutput>, name: &'static str) -> Self {
        Self { output: output.clone(), name, partial: Arc::default() }
    }

    fn take(&self, mut bytes: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dropped = 0;
        while !bytes.is_empty() {
            let room = MAX_LINE - partial.len();
            let newline = bytes.iter().take(room + 1).position(|b| *b == b'\n');
            let end = newline.unwrap_or(bytes.len().min(room));
            partial.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + usize::from(newline.is_some())..];
            // A full one may still find its newline in the next write.
            if newline.is_some() || !bytes.is_empty() {
                // What one write brings after a line too many is too many as well, and is only
                // counted: a guest that writes nothing but newlines would keep the host busy.
                if dropped > 0 || !self.output.log(self.name, &partial) {
                    dropped += 1;
                }
                partial.clear();
            }
        }
        if dropped > 0 {
            self.output.dropped(self.name, dropped);
        }
    }
}

impl Drop for Stream {
    /// The last stream of an instance gives out what had no newline yet.
    fn drop(&mut self) {
        if let Some(partial) = Arc::get_mut(&mut self.partial) {
            let partial = partial.get_mut().unwrap_or_else(PoisonError::into_inner);
            if !partial.is_empty() && !self.output.log(self.name, partial) {
                self.output.dropped(self.name, 1);
            }
        }
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = buf.len().min(MAX_WRITE);
        self.take(&buf[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
