//! tidegate serves many WebAssembly components over HTTPS from one small box,
//! and takes every change to them without dropping a request.
//!
//! # The map
//!
//! ```text
//! main          arguments to exit code
//! cli           one file per subcommand: run, check, inspect
//! run           from a valid config to a running server, and back to nothing
//! control       waits for a hint, reloads, logs the outcome; forever
//! server        from sockets to responses
//! generation    everything one manifest produced, and the one that serves
//! certificates  which certificate a host answers with
//! pool          the handler pool: which instance takes which request, for how long
//! guest         everything that runs guest code: engines, components, stores, profiles
//! config        everything about the manifest
//! available, limit, logging, shutdown, settle, systemd, request_id: leaves
//! ```
//!
//! Imports go downwards only. A request: the listener accepts, the connection
//! shakes hands and speaks HTTP, the service loads `Current`, finds the app and
//! asks its pool. A change: the watch gives a hint, control reads, compares,
//! builds what changed, and swaps `Current`. A retired pool drains while its
//! last requests hold it.
//!
//! # Invariants
//!
//! 1. `server` and `control` never import each other; they meet only at `Current`.
//! 2. Only `control`, and the first start, write `Current`; a request reads it once and keeps that `Arc`.
//! 3. The manifest's raw shape never leaves `config`; a `Config` in hand is valid.
//! 4. `pool` and `guest` know no hosts, TLS or sockets, but for those that `guest::outbound` connects
//!    to; `server` knows no wasmtime type but the request and response body.
//! 5. A generation is complete before it is visible and never changes after.
//! 6. Every spawned task is waited for at shutdown, or ended by the drop of what owns it.
//! 7. An app whose component digest and settings did not change keeps its pool, warm, across a reload.

pub mod available;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod control;
#[cfg(any(fuzzing, test))]
pub mod fuzz;
pub mod generation;
pub mod guest;
pub mod limit;
pub mod logging;
pub mod pool;
pub mod request_id;
pub mod run;
pub mod server;
pub mod settle;
pub mod shutdown;
pub mod systemd;

pub use run::{Running, StartError, start};
