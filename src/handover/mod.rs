//! An upgrade: a process hands its sockets to one that was started to take its place.
//!
//! The old process starts the program again with one end of a [`Channel`] as its standard input, on
//! which the sockets wait already. The new one takes them, loads everything, and says that it is
//! ready. Until the old one has answered that they are its own, nothing is lost whatever becomes of
//! the new one: the old one serves. From then on the new one does, and the old one finishes what it
//! has begun. No listening socket is closed or opened on the way, so clients are not refused.

mod channel;
mod keys;
mod predecessor;
mod successor;
mod wishes;

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

pub use channel::Channel;
pub use keys::Keys;
pub use predecessor::Predecessor;
pub use successor::{Failure, Program, Successor};
pub use wishes::{Upgraded, Wish, Wishes};

/// Set for a process that is to take over from the one that started it.
const VARIABLE: &str = "TIDEGATE_UPGRADE";

/// What one process hands to the other.
#[derive(Debug, Default)]
pub struct Estate {
    pub sockets: Vec<Passed>,
    pub keys: Option<Keys>,
    /// The apps that their operator has taken out of service.
    pub drained: Vec<String>,
}

/// A socket that one process hands to the other.
#[derive(Debug)]
pub struct Passed {
    pub socket: OwnedFd,
    pub label: Label,
}

/// What a socket is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// What is spoken there, by the name that systemd's sockets have for it: `https`, for instance.
    pub name: String,
    /// Where the manifest wanted it. None where it is the service manager's.
    pub configured: Option<String>,
}

/// What the two processes say to each other.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Message {
    /// The first, of the old one: what the sockets are that come with it.
    Take {
        sockets: Vec<Label>,
        keys: Option<Keys>,
        /// Absent in what an earlier version says.
        #[serde(default)]
        drained: Vec<String>,
    },
    /// Of the new one: everything is loaded.
    Ready,
    /// Of the new one: it ends, and why.
    Failed(String),
    /// Of the old one: the sockets are the new one's now.
    Yours,
    /// Of the old one, which was told to stop: both are meant.
    Stop,
}
