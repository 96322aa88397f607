//! The secrets of QUIC that two processes with one socket have in common.

use std::io;

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};

/// They are told to nobody but the process that takes over.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// What a process' connection ids are made with: from them it is known whose a packet is.
    pub ids: u64,
    /// What connections are ended with of which nothing is known any more. It stays the same.
    pub resets: [u8; 32],
}

impl Keys {
    /// Those of a process that has taken over from one with the keys `before`.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn after(before: Option<&Keys>) -> io::Result<Keys> {
        let (mut ids, mut resets) = ([0; 8], [0; 32]);
        let filled = rand::fill(&mut ids).and_then(|()| rand::fill(&mut resets));
        filled.map_err(|_| io::Error::other("the system has no random numbers"))?;
        let resets = before.map_or(resets, |before| before.resets);
        Ok(Keys { ids: u64::from_le_bytes(ids), resets })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}
