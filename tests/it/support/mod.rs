//! What the tests share.

pub mod pool;
