//! Everything that runs guest code: engines, components, stores and their profiles.
//!
//! Knows wasmtime, and no hosts, TLS or sockets. What decides which instance
//! takes which request is `pool`.

mod bounds;
pub mod budget;
pub mod cache;
pub mod component;
pub mod engine;
pub mod files;
pub mod inspect;
pub mod interfaces;
mod output;
pub mod pace;
mod parts;
pub mod profile;
pub mod share;
pub mod store;
mod ticker;
mod world;

pub use component::{Component, ComponentError};
pub use engine::Engines;
pub use share::Account;
pub use store::{Outcome, State};
