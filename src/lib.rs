//! skeleton
pub mod certificates;
pub mod config;
pub mod generation;
pub mod guest;
pub mod pool;
pub mod request_id;
