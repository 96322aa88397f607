//! What a client sends on one stream, frame by frame: what h3 is handed of it, and what it is
//! spared.
//!
//! h3 0.0.8 keeps a frame whole until it is complete, whatever length it announces, and reads on
//! while it looks for one; takes an empty DATA frame for the body's end; and panics where a stream
//! ends within one. So frames are told apart before it sees them. It gets each header by itself,
//! no more than one piece of one frame at a time, only kinds that mean something, and none that is
//! too long to keep.

use bytes::Bytes;
use h3::error::Code;

use super::budget::Budget;
use crate::limit::Limit;

/// Less than this in a DATA frame is padding rather than a message.
const TINY: u64 = 8;

/// Frames of little or no use that each stream may have.
const FREE: u8 = 4;

/// Bytes of a client's SETTINGS: some dozens of them.
const SETTINGS_MAX: u64 = 1024;

/// A frame's kind and length are an integer of up to 8 bytes each.
const HEADER_MAX: usize = 16;

const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
const SETTINGS: u64 = 0x4;
const PUSH_PROMISE: u64 = 0x5;
const GOAWAY: u64 = 0x7;
/// PRIORITY, PING, WINDOW_UPDATE and CONTINUATION of HTTP/2.
const OF_HTTP2: [u64; 4] = [0x2, 0x6, 0x8, 0x9];

/// The kind of stream that has frames, of those on which only the client writes.
const CONTROL: u64 = 0x0;

/// Where in a stream the next byte belongs.
#[derive(Debug)]
pub struct Frames {
    part: Part,
    header: [u8; HEADER_MAX],
    /// Bytes of the header that are there.
    filled: usize,
    free: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// What kind of stream it is, which comes first where only the client writes.
    Kind,
    Header,
    /// Of so many more bytes of a frame that is handed on, or is not.
    Payload {
        left: u64,
        handed_on: bool,
    },
    /// A stream without frames.
    Other,
}

/// Why the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: Code,
    /// The limit that was reached, where it was one.
    pub limit: Option<Limit>,
}

impl Frames {
    /// Of a stream for a request.
    pub fn of_request() -> Frames {
        Frames { part: Part::Header, header: [0; HEADER_MAX], filled: 0, free: FREE }
    }

    /// Of a stream on which only the client writes.
    pub fn of_client() -> Frames {
        Frames { part: Part::Kind, ..Frames::of_request() }
    }

    /// The next piece that is handed on, from the front of `bytes`. None once there is nothing left of them.
    pub fn next(&mut self, bytes: &mut Bytes, budget: &Budget) -> Result<Option<Bytes>, Refused> {
        while !bytes.is_empty() {
            match self.part {
                Part::Other => return Ok(Some(std::mem::take(bytes))),
                Part::Payload { left, handed_on } => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let piece = bytes.split_to(length);
                    self.part = match left - length as u64 {
                        0 => Part::Header,
                        left => Part::Payload { left, handed_on },
                    };
                    if handed_on {
                        return Ok(Some(piece));
                    }
                }
                Part::Kind => {
                    self.fill(bytes);
                    if let Some((kind, _)) = integer(&self.header[..self.filled]) {
                        self.part = if kind == CONTROL { Part::Header } else { Part::Other };
                        return Ok(Some(self.take_header()));
                    }
                }
                Part::Header => {
                    self.fill(bytes);
                    let Some((kind, length)) = header(&self.header[..self.filled]) else {
                        continue;
                    };
                    let handed_on = self.judge(kind, length, budget)?;
                    self.part = match length {
                        0 => Part::Header,
                        left => Part::Payload { left, handed_on },
                    };
                    let header = self.take_header();
                    if handed_on {
                        return Ok(Some(header));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The stream has ended, where it may.
    pub fn end(&self) -> Result<(), Refused> {
        match self.part {
            Part::Kind | Part::Other => Ok(()),
            Part::Header if self.filled == 0 => Ok(()),
            Part::Header | Part::Payload { .. } => Err(Refused::error(Code::H3_FRAME_ERROR)),
        }
    }

    /// Whether a frame is handed on.
    fn judge(&mut self, kind: u64, length: u64, budget: &Budget) -> Result<bool, Refused> {
        match kind {
            DATA if length < TINY => {
                self.spend(Limit::H3Data, budget)?;
                Ok(length > 0)
            }
            DATA => Ok(true),
            HEADERS if length > budget.head_max => Err(Refused::load(Limit::MaxHead)),
            HEADERS => Ok(true),
            SETTINGS if length > SETTINGS_MAX => Err(Refused::load(Limit::H3Frames)),
            SETTINGS => Ok(true),
            // An integer.
            GOAWAY if !(1..=8).contains(&length) => Err(Refused::error(Code::H3_FRAME_ERROR)),
            GOAWAY => self.spend(Limit::H3Frames, budget).map(|()| true),
            PUSH_PROMISE => Err(Refused::error(Code::H3_FRAME_UNEXPECTED)),
            kind if OF_HTTP2.contains(&kind) => Err(Refused::error(Code::H3_FRAME_UNEXPECTED)),
            // Priorities, pushes that we never make, and what is there to be ignored.
            _ => self.spend(Limit::H3Frames, budget).map(|()| false),
        }
    }

    fn spend(&mut self, limit: Limit, budget: &Budget) -> Result<(), Refused> {
        if let Some(free) = self.free.checked_sub(1) {
            self.free = free;
            return Ok(());
        }
        match budget.may(limit) {
            true => Ok(()),
            false => Err(Refused::load(limit)),
        }
    }

    fn fill(&mut self, bytes: &mut Bytes) {
        // Never beyond its end: with as many bytes a header is complete.
        if let (Some(next), Some(first)) = (self.header.get_mut(self.filled), bytes.first()) {
            *next = *first;
            self.filled += 1;
        }
        let _ = bytes.split_to(1);
    }

    fn take_header(&mut self) -> Bytes {
        let header = Bytes::copy_from_slice(&self.header[..self.filled]);
        self.filled = 0;
        header
    }
}

impl Refused {
    fn error(code: Code) -> Refused {
        Refused { code, limit: None }
    }

    pub fn load(limit: Limit) -> Refused {
        Refused { code: Code::H3_EXCESSIVE_LOAD, limit: Some(limit) }
    }
}

/// A frame's kind and length, if both are there.
fn header(bytes: &[u8]) -> Option<(u64, u64)> {
    let (kind, length) = integer(bytes)?;
    let (payload, _) = integer(&bytes[length..])?;
    Some((kind, payload))
}

/// An integer as QUIC writes them, and how many bytes it has. None if they are not all there.
fn integer(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let start = u64::from(first & 0x3f);
    Some((rest.iter().fold(start, |value, byte| value << 8 | u64::from(*byte)), length))
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
