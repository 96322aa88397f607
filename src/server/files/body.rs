//! The body of an answer from a file: read a chunk at a time, when the one before is on its way.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::disk::Disk;
use super::version::Version;
use crate::server::bounds::Place;

/// Bytes that are read at a time, and that a body holds, however slow its client is.
pub const CHUNK: u64 = 64 << 10;

/// A file that is being sent, and what it was when that began.
pub struct Sent {
    file: File,
    version: Version,
    /// Among the open files, where it is read in several turns: left when the last of them ends,
    /// even where nobody waits for that any more.
    _place: Option<Place>,
}

/// A part of a file that is longer than a chunk.
///
/// It fails when the file changes meanwhile: what was sent would be of two states, or too short.
/// A file that is replaced is another one, and no change of this.
pub struct FileBody {
    sent: Arc<Sent>,
    disk: Disk,
    /// Where that begins which has not been handed out.
    at: u64,
    end: u64,
    /// What begins there, which is read once it is asked for.
    next: Reading,
}

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

impl Sent {
    pub fn new(file: File, version: Version, place: Option<Place>) -> Sent {
        Sent { file, version, _place: place }
    }

    /// Bytes of the file as it was, a chunk at the most. Blocks.
    pub fn read(&self, start: u64, length: u64) -> io::Result<Bytes> {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, start)?;
        let now = Version::of(&self.file.metadata()?);
        match now.has_content_of(&self.version) {
            true => Ok(bytes.into()),
            false => {
                Err(io::Error::new(ErrorKind::InvalidData, "the file changed while it was sent"))
            }
        }
    }
}

/// Whether the file was not what it was any more, or ended before its end.
pub fn is_change(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
}

impl FileBody {
    /// The body of `length` bytes from `start`, the first chunk of which is read here. Blocks.
    pub fn begin(sent: Sent, start: u64, length: u64, disk: Disk) -> io::Result<FileBody> {
        let first = sent.read(start, CHUNK.min(length))?;
        let (at, end) = (start, start + length);
        let next = Box::pin(std::future::ready(Ok(first)));
        Ok(FileBody { sent: Arc::new(sent), disk, at, end, next })
    }

    fn read(&self) -> Reading {
        let (sent, disk) = (Arc::clone(&self.sent), self.disk.clone());
        let (start, length) = (self.at, CHUNK.min(self.end - self.at));
        Box::pin(async move {
            let busy = || io::Error::new(ErrorKind::TimedOut, "the disk is busy with others");
            let turn = disk.turn().await.ok_or_else(busy)?;
            turn.run(move || sent.read(start, length)).await?
        })
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.at == self.end {
            return Poll::Ready(None);
        }
        let read = ready!(self.next.as_mut().poll(cx));
        match &read {
            Ok(chunk) => {
                self.at += chunk.len() as u64;
                self.next = self.read();
            }
            // Nothing comes after an error.
            Err(_) => self.at = self.end,
        }
        Poll::Ready(Some(read.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn body(content: &[u8], disk: &Disk) -> FileBody {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, content).unwrap();
        let version = Version::of(&file.metadata().unwrap());
        let sent = Sent::new(file, version, None);
        FileBody::begin(sent, 1, content.len() as u64 - 1, disk.clone()).unwrap()
    }

    #[tokio::test]
    async fn a_part_is_read_to_its_end_in_chunks() {
        let content: Vec<u8> = (0..2 * CHUNK + 7).map(|at| (at / 1000) as u8).collect();
        let mut body = body(&content, &Disk::new());
        let mut arrived = vec![content[0]];
        while let Some(frame) = body.frame().await {
            assert_eq!(body.size_hint().exact(), Some(body.end - body.at));
            let chunk = frame.unwrap().into_data().unwrap();
            assert!(!chunk.is_empty() && chunk.len() as u64 <= CHUNK);
            arrived.extend_from_slice(&chunk);
        }
        assert!(arrived == content && body.is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_that_waits_for_a_disk_that_hangs() {
        let disk = Disk::new();
        let mut body = body(&vec![7; 3 * CHUNK as usize], &disk);
        assert!(body.frame().await.unwrap().is_ok());

        let mut turns = Vec::new();
        while let Some(turn) = disk.turn().await {
            turns.push(turn);
        }
        assert_eq!(body.frame().await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(body.frame().await.is_none());
    }
}
