//! From sockets to responses.
//!
//! `listener` accepts as many as `caps` lets in, `tls` shakes hands, `preface` tells the protocol,
//! and `connection` speaks HTTP within the deadlines that `activity` keeps, `stream` for one
//! stream of HTTP/2 and `arrival` for an upload. `service` turns one request into one response,
//! `request` judges and prepares what a guest is handed, `body` carries bodies both ways,
//! `response` writes the answers that are not a guest's, `access` the log line. The server knows
//! the generation that serves, and never who changes it.

mod access;
mod activity;
mod arrival;
mod body;
mod caps;
mod connection;
mod listener;
mod preface;
mod request;
mod response;
mod service;
mod stream;
mod tls;

pub use listener::{BindError, Bound, Listeners, Scheme, serve};
