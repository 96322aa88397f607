//! From sockets to responses.
//!
//! `listener` accepts, `tls` shakes hands, `connection` speaks HTTP within the
//! limits that `activity` measures, `frames` for floods of HTTP/2 and `stream` for one stream of it, `service` turns one request into one response, `request` judges
//! and prepares what a guest is handed, `body` carries bodies both ways,
//! `sizes` bounds heads and bodies, `response` writes the answers that are not a guest's, `access` the log line. The server knows the
//! generation that serves, and never who changes it.

mod access;
mod activity;
mod body;
mod connection;
mod frames;
mod listener;
mod request;
mod response;
mod service;
mod sizes;
mod stream;
mod tls;

#[cfg(any(fuzzing, test))]
pub(crate) use frames::Frames;
pub use listener::{BindError, Bound, Listeners, Scheme, serve};
