//! What a client may send on one connection that costs it little: more is a flood.

use std::num::NonZeroUsize;

use crate::config::Clients;
use crate::limit::{Bucket, Limit};

/// How many a second, and at once.
type Rate = (NonZeroUsize, NonZeroUsize);

/// Frames that mean nothing, or come at the start and hardly ever after, and streams that are no requests.
const FRAMES: Rate = (count(64), count(1024));

/// Someone who types, or a slow sensor: more a second than `min_body_rate` asks for by default.
const TINY_DATA: Rate = (count(1024), count(4096));

/// A page that is left cancels what it still loads. Who takes many answers may give up as many.
const RESETS: Rate = (count(20), count(200));

/// As RFC 9114 counts a section of fields, each has so many bytes beside its name and value.
const FIELD: u64 = 32;

const fn count(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).expect("written here, not zero")
}

/// See the module.
#[derive(Debug)]
pub struct Budget {
    /// Bytes of a frame that holds a head.
    pub head_max: u64,
    frames: Bucket,
    tiny_data: Bucket,
    resets: Bucket,
}

impl Budget {
    pub fn new(limits: &Clients) -> Budget {
        Budget {
            // Where h3 ends the reading of a head is below that, and it has an answer there.
            head_max: section_max(limits).saturating_mul(2),
            frames: Bucket::new(),
            tiny_data: Bucket::new(),
            resets: Bucket::new(),
        }
    }

    /// Whether the client may send one more of what `limit` is about.
    pub fn may(&self, limit: Limit) -> bool {
        let (bucket, (rate, burst)) = match limit {
            Limit::H3Data => (&self.tiny_data, TINY_DATA),
            Limit::H3Resets => (&self.resets, RESETS),
            _ => (&self.frames, FRAMES),
        };
        bucket.take(rate, burst)
    }

    /// The client has taken a whole answer.
    pub fn answered(&self) {
        self.resets.give(RESETS.0);
    }
}

/// How large a head h3 reads, as RFC 9114 counts it: no less than what these limits allow.
pub fn section_max(limits: &Clients) -> u64 {
    limits.max_head.saturating_add(limits.max_headers.get() as u64 * FIELD)
}
