//! Traces: the spans of sampled requests, and whose span guests and the origins they ask are told of.
//!
//! `parent` reads and writes the headers of W3C Trace Context, `trace` is the part that one request has
//! in a trace, `served` and `call` are its spans, and `export` sends them to the operator's collector by
//! way of `collector`. A span that finds the queue full, or no collector, is counted and lost: no request
//! waits for one.

mod call;
mod collector;
mod export;
mod parent;
mod served;
mod trace;

pub use call::Call;
pub use export::{Exporting, Spans, start};
pub use parent::{TRACEPARENT, TRACESTATE};
pub use served::Served;
pub use trace::Trace;
