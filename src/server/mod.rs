//! From sockets to responses.
//!
//! `bind` opens TCP, UDP and Unix sockets, `listener` accepts as many connections as `caps` lets in. At an upgrade `given` has the
//! sockets of the process before this one, and `kept` those for the one after it. `proxied` reads
//! whose connection a proxy announces, `tls` shakes hands, `challenge` answers an authority that
//! checks a host, `preface` tells the protocol,
//! and `connection` speaks HTTP, which `drive` ends at the deadlines that `activity` keeps of what
//! `watched` sees on the socket: `frames` counts floods there. `quic` is both for UDP, on sockets that are
//! `shared` with another process at an upgrade, and `http3` speaks HTTP on its connections. `stream` has the deadlines of one
//! stream of HTTP/2 or HTTP/3, and `arrival` those of an upload. `service` turns one request into one
//! response, `forwarded` reads whom a trusted proxy says that it is from, `policy` what its host asks
//! of the connection, `request` judges and prepares what a guest is handed, `sizes` bounds heads and
//! bodies, `duties` does what a route does besides, and answers where no app does, `files` from a
//! folder; `bounds` is what those two may take of the node. `body` carries bodies both ways,
//! `response` writes the pages that say why there is no answer, with what `insight` shows developers;
//! `observed` is what is counted of a request, `access` its line in the log. The server
//! knows the generation that serves, and never who changes it.

mod access;
mod activity;
mod arrival;
mod bind;
mod body;
mod bounds;
mod caps;
mod challenge;
mod connection;
mod drive;
mod duties;
mod files;
mod forwarded;
mod frames;
mod given;
mod http3;
mod insight;
mod kept;
mod listener;
mod observed;
mod paced;
mod policy;
mod preface;
mod proxied;
mod quic;
mod request;
mod response;
mod service;
mod shared;
mod sizes;
mod socket;
mod stream;
mod tls;
mod watched;

pub use bind::{BindError, Bound, Listeners, Listening, Scheme};
#[cfg(any(fuzzing, test))]
pub(crate) use forwarded::try_out as try_forwarded;
#[cfg(any(fuzzing, test))]
pub(crate) use frames::Frames;
pub use given::Given;
pub use kept::Kept;
pub use listener::serve;
pub use request::ADMIN_COOKIE;
