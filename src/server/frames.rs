//! The frames of an HTTP/2 connection: how many of each kind a client may send before it is a flood.
//!
//! h2 bounds what a client makes it keep, and leaves open what a client makes it
//! do: it takes any number of frames that cost a client next to nothing and have
//! it write, wake a guest or look something up. Here the frames' headers are
//! read as the bytes pass, and each kind has a budget that refills with time,
//! and with the requests and answers that such frames rightly go with.

use tokio::time::Instant;

use crate::limit::Limit;

/// Bytes that a client sends before its first frame.
const PREFACE: usize = 24;

/// Bytes of a frame's header.
const HEADER: usize = 9;

/// Less than this in a DATA frame that is not its stream's last is padding rather than
/// a message: gRPC's own prefix has 5 bytes, and comes with something behind it.
const TINY: usize = 8;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const PRIORITY_UPDATE: u8 = 0x10;

/// On DATA and HEADERS: the stream's last.
const END_STREAM: u8 = 0x1;

/// On HEADERS and CONTINUATION: the block's last.
const END_HEADERS: u8 = 0x4;

/// On DATA: padding follows, up to 255 bytes and their number.
const PADDED: u8 = 0x8;
const PADDING: usize = 256;

/// On SETTINGS and PING: the answer to ours.
const ACK: u8 = 0x1;

/// GOAWAY with ENHANCE_YOUR_CALM, but for the last stream's number.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];

/// What may be sent of one kind: so many at once, and so many more with each second,
/// each request, each DATA frame that we send and each answer that we complete.
struct Allowance {
    limit: Limit,
    burst: u32,
    per_second: u32,
    per_request: u32,
    per_data: u32,
    per_answer: u32,
}

const NOTHING: Allowance = Allowance {
    limit: Limit::H2Unknown,
    burst: 0,
    per_second: 0,
    per_request: 0,
    per_data: 0,
    per_answer: 0,
};

/// The kinds that cost. Requests are not among them: streams have a limit of their own.
#[derive(Clone, Copy)]
enum Kind {
    Reset,
    Ping,
    Settings,
    Priority,
    WindowUpdate,
    TinyData,
    Continuation,
    Unknown,
}

const KINDS: usize = 8;

/// In the order of [`Kind`].
const ALLOWANCES: [Allowance; KINDS] = [
    // A page that is left cancels what it still loads, a hundred requests at once; who
    // takes many answers may give up as many.
    Allowance { limit: Limit::H2Resets, burst: 200, per_second: 20, per_answer: 1, ..NOTHING },
    // Each has us write one. gRPC measures its round trip with one for data that arrived.
    Allowance { limit: Limit::H2Pings, burst: 64, per_second: 4, per_data: 1, ..NOTHING },
    // Each has us write one, and may touch every stream. They come at the start, and hardly ever after.
    Allowance { limit: Limit::H2Settings, burst: 32, per_second: 1, ..NOTHING },
    // Browsers send some at the start and some with each request; all are ignored.
    Allowance { limit: Limit::H2Priorities, burst: 256, per_second: 8, per_request: 4, ..NOTHING },
    // Two for each DATA frame, its stream's and the connection's, is what plain clients send.
    Allowance {
        limit: Limit::H2WindowUpdates,
        burst: 1024,
        per_second: 64,
        per_request: 2,
        per_data: 4,
        ..NOTHING
    },
    // Someone who types, or a slow sensor: more a second than `min_body_rate` asks for by default.
    Allowance { limit: Limit::H2Data, burst: 4096, per_second: 1024, ..NOTHING },
    // A head that fits its limit needs none, or a few.
    Allowance {
        limit: Limit::H2Continuations,
        burst: 64,
        per_second: 4,
        per_request: 1,
        ..NOTHING
    },
    // Browsers send one of a made-up type now and then, to see that it is ignored.
    Allowance { limit: Limit::H2Unknown, burst: 64, per_second: 4, per_request: 1, ..NOTHING },
];

/// Both directions of a connection, and what its client may still send.
#[derive(Debug)]
pub struct Frames {
    received: Walk,
    sent: Walk,
    budgets: [Budget; KINDS],
    /// The last stream that the client began.
    last_stream: u32,
    /// Whether a frame has begun that only its end is worth anything to: all but DATA.
    whole: bool,
    /// Whether a block of headers has begun, which CONTINUATION ends.
    block: bool,
}

/// Where in the stream of frames the next byte belongs.
#[derive(Debug)]
struct Walk {
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    filled: usize,
    /// Bytes that come before the next header.
    skip: usize,
}

#[derive(Debug)]
struct Budget {
    left: u32,
    /// When it was last refilled with time.
    since: Instant,
}

struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frames {
    pub fn new() -> Frames {
        let since = Instant::now();
        Frames {
            received: Walk::new(PREFACE),
            sent: Walk::new(0),
            budgets: ALLOWANCES.each_ref().map(|of| Budget { left: of.burst, since }),
            last_stream: 0,
            whole: false,
            block: false,
        }
    }

    /// Takes note of bytes that the client sent.
    ///
    /// # Errors
    /// What it has sent too much of.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<(), Limit> {
        while let Some(frame) = self.received.next(&mut bytes) {
            self.whole = frame.kind != DATA;
            if matches!(frame.kind, HEADERS | CONTINUATION) {
                self.block = frame.flags & END_HEADERS == 0;
            }
            let spent = match frame.kind {
                DATA if frame.is_tiny() => Kind::TinyData,
                DATA => continue,
                HEADERS => {
                    self.last_stream = self.last_stream.max(frame.stream);
                    self.earn(|of| of.per_request);
                    continue;
                }
                PRIORITY | PRIORITY_UPDATE => Kind::Priority,
                RST_STREAM => Kind::Reset,
                // It was us who asked.
                SETTINGS | PING if frame.flags & ACK != 0 => Kind::Unknown,
                SETTINGS => Kind::Settings,
                PING => Kind::Ping,
                WINDOW_UPDATE => Kind::WindowUpdate,
                CONTINUATION => Kind::Continuation,
                _ => Kind::Unknown,
            };
            self.spend(spent)?;
        }
        Ok(())
    }

    /// Whether the client owes the rest of a block of headers, or of another frame than DATA.
    pub fn is_within_block(&self) -> bool {
        self.block || (self.whole && self.received.skip > 0)
    }

    /// Takes note of bytes that were sent to the client.
    pub fn send(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.sent.next(&mut bytes) {
            if frame.kind == DATA {
                self.earn(|of| of.per_data);
            }
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
                self.earn(|of| of.per_answer);
            }
        }
    }

    /// A last frame that tells the client why, unless one is half sent.
    pub fn goodbye(&self) -> Option<[u8; GOAWAY.len()]> {
        let mut goodbye = GOAWAY;
        goodbye[HEADER..HEADER + 4].copy_from_slice(&self.last_stream.to_be_bytes());
        self.sent.is_between().then_some(goodbye)
    }

    fn spend(&mut self, kind: Kind) -> Result<(), Limit> {
        let (budget, of) = (&mut self.budgets[kind as usize], &ALLOWANCES[kind as usize]);
        if budget.left == 0 {
            // Only now, so that the clock is not read with each frame.
            budget.refill(of);
        }
        budget.left = budget.left.checked_sub(1).ok_or(of.limit)?;
        Ok(())
    }

    fn earn(&mut self, share: fn(&Allowance) -> u32) {
        for (budget, of) in self.budgets.iter_mut().zip(&ALLOWANCES) {
            budget.left = (budget.left + share(of)).min(of.burst);
        }
    }
}

impl Frame {
    /// A DATA frame with hardly any data in it. Each stream may end in one.
    fn is_tiny(&self) -> bool {
        let padding = if self.flags & PADDED != 0 { PADDING } else { 0 };
        self.length < TINY + padding && self.flags & END_STREAM == 0
    }
}

impl Budget {
    fn refill(&mut self, of: &Allowance) {
        let elapsed = self.since.elapsed();
        let gained = elapsed.as_millis() * u128::from(of.per_second) / 1000;
        let gained = u32::try_from(gained).unwrap_or(u32::MAX).min(of.burst);
        if gained > 0 {
            self.left = gained;
            self.since += elapsed;
        }
    }
}

impl Walk {
    fn new(skip: usize) -> Walk {
        Walk { header: [0; HEADER], filled: 0, skip }
    }

    /// The next frame whose header ends within `bytes`, which are left behind it.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let skipped = self.skip.min(bytes.len());
        *bytes = &bytes[skipped..];
        self.skip -= skipped;

        let taken = (HEADER - self.filled).min(bytes.len());
        let (header, rest) = bytes.split_at(taken);
        self.header[self.filled..self.filled + taken].copy_from_slice(header);
        self.filled += taken;
        *bytes = rest;
        if self.filled < HEADER {
            return None;
        }

        self.filled = 0;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.header;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        self.skip = length;
        // Its first bit means nothing.
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1);
        Some(Frame { length, kind, flags, stream })
    }

    fn is_between(&self) -> bool {
        self.filled == 0 && self.skip == 0
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
