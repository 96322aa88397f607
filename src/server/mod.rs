//! From sockets to responses.
//!
//! `listener` accepts as many as `caps` lets in, `tls` shakes hands, `preface` tells the protocol,
//! and `connection` speaks HTTP, which `drive` ends at the deadlines that `activity` keeps of what
//! `watched` sees on the socket: `frames` counts floods there. `stream` has the deadlines of one
//! stream of HTTP/2, and `arrival` those of an upload. `service` turns one request into one
//! response, `request` judges and prepares what a guest is handed, `sizes` bounds heads and bodies,
//! `body` carries bodies both ways, `response` writes the answers that are not a guest's, `access`
//! the log line. The server knows the generation that serves, and never who changes it.

mod access;
mod activity;
mod arrival;
mod body;
mod caps;
mod connection;
mod drive;
mod frames;
mod listener;
mod paced;
mod preface;
mod request;
mod response;
mod service;
mod sizes;
mod stream;
mod tls;
mod watched;

#[cfg(any(fuzzing, test))]
pub(crate) use frames::Frames;
pub use listener::{BindError, Bound, Listeners, Scheme, serve};
