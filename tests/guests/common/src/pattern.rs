//! Bodies whose every byte a test can check.

use std::sync::Mutex;

const PERIOD: usize = 251;
const MAX_CHUNK: u64 = 16 << 20;

/// The endless sequence in which byte `i` is `i % 251`, cut into chunks of one size.
pub struct Pattern {
    bytes: Vec<u8>,
    chunk: usize,
}

impl Pattern {
    pub fn in_chunks_of(chunk: u64) -> Pattern {
        let chunk = chunk.clamp(1, MAX_CHUNK) as usize;
        let bytes = (0..chunk + PERIOD)
            .map(|position| (position % PERIOD) as u8)
            .collect();
        Pattern { bytes, chunk }
    }

    /// The chunks that make up the first `length` bytes.
    pub fn first(&self, length: u64) -> impl Iterator<Item = &[u8]> {
        (0..length).step_by(self.chunk).map(move |offset| {
            let start = (offset % PERIOD as u64) as usize;
            let size = (length - offset).min(self.chunk as u64) as usize;
            &self.bytes[start..start + size]
        })
    }
}

/// The first `length` bytes of the pattern, kept from one request to the next so
/// that answering with them costs the guest next to nothing.
pub fn blob(length: u64) -> &'static [u8] {
    static BLOBS: Mutex<Vec<&'static [u8]>> = Mutex::new(Vec::new());
    let mut blobs = BLOBS.lock().unwrap();
    if let Some(known) = blobs.iter().find(|blob| blob.len() as u64 == length) {
        return known;
    }
    let made: &'static [u8] = (0..length)
        .map(|position| (position % PERIOD as u64) as u8)
        .collect::<Vec<_>>()
        .leak();
    blobs.push(made);
    made
}
