//! What the tests share.

pub mod client;
pub mod pool;
pub mod server;
