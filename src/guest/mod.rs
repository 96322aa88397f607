//! Everything that runs guest code: engines, components, stores and their profiles.
//!
//! Knows wasmtime, and no hosts, TLS or sockets but those of `outbound`. What
//! decides which instance takes which request is `pool`.

mod bounds;
pub mod budget;
pub mod cache;
mod client;
pub mod code;
pub mod compile;
pub mod component;
pub mod engine;
pub mod files;
pub mod head;
mod heap;
mod holdings;
pub mod inspect;
pub mod interfaces;
pub mod last_lines;
mod lingering;
pub mod memory;
pub mod outbound;
pub mod output;
pub mod pace;
mod parts;
pub mod profile;
pub mod share;
pub mod source;
pub mod store;
mod ticker;
pub mod trace;
pub mod trapped;
mod world;

pub use compile::Compiler;
pub use component::{Component, ComponentError};
pub use engine::{Engines, PerfMap};
pub use share::Account;
pub use store::{Outcome, State};
