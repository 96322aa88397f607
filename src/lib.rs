//! skeleton
pub mod certificates;
pub mod config;
pub mod generation;
pub mod guest;
pub mod logging;
pub mod pool;
pub mod request_id;
pub mod server;
pub mod shutdown;
pub mod systemd;
