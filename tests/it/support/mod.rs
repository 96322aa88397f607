//! What the tests share.

pub mod certificates;
pub mod client;
pub mod connection;
pub mod pool;
pub mod server;
pub mod traffic;
