//! tidegate serves many WebAssembly components over HTTPS from one small box,
//! and takes every change to them without dropping a request.
//!
//! # The map
//!
//! ```text
//! main          arguments to exit code
//! cli           one file per subcommand
//! run           from a valid config to a running server, and back to nothing
//! admin         what operators ask a running server, at an address of their own
//! metrics       what monitoring reads of all that is below
//! control       waits for a hint, reloads, logs the outcome; forever
//! acme          gets certificates from an authority, and renews them
//! ocsp          asks responders about certificates, for handshakes to show
//! server        from sockets to responses
//! generation    everything one manifest produced, and the one that serves
//! certificates  which certificate a host answers with
//! users         who may come to a route, by files of passwords
//! pool          the handler pool: which instance takes which request, for how long
//! crashes       what is kept of guests that failed, in one file each
//! guest         everything that runs guest code: engines, components, stores, profiles
//! stats         what is counted: by app and host, by listener
//! traces        spans of sampled requests, to the operator's collector
//! config        everything about the manifest
//! handover      an upgrade: sockets go from one process to the next
//! available, challenges, http_client, limit, logging, private, request_id, settle, shutdown, small_file, spread,
//! stamp, systemd, unix: leaves
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
//! 1. `server`, `control`, `acme` and `ocsp` never import each other; they meet only at `Current`, at the files
//!    in `state_dir` that a hint tells of, at `Challenges`, and at the `Staples` of the certificates.
//!    `admin` stands above them, and none of them knows it.
//! 2. Only `control`, and the first start, write `Current`; a request reads it once and keeps that `Arc`.
//! 3. The manifest's raw shape never leaves `config`; a `Config` in hand is valid.
//! 4. `pool` and `guest` know no hosts, TLS or sockets, but for those that `guest::outbound` connects
//!    to; `server` knows no wasmtime type but the request and response body.
//! 5. A generation is complete before it is visible and never changes after; what is stapled to its certificates
//!    is not its own.
//! 6. Every spawned task is waited for at shutdown, or ended by the drop of what owns it.
//! 7. An app whose component digest and settings did not change keeps its pool, warm, across a reload.
//! 8. What is inside a guest that failed goes to the log and to crash bundles, and to clients only in an app
//!    in `dev`: else no `Failure` holds any of it.

pub mod acme;
pub mod admin;
pub mod available;
pub mod certificates;
pub mod challenges;
pub mod cli;
pub mod config;
pub mod control;
pub mod crashes;
#[cfg(any(fuzzing, test))]
pub mod fuzz;
pub mod generation;
pub mod guest;
pub mod handover;
pub mod http_client;
pub mod limit;
pub mod logging;
pub mod metrics;
pub mod ocsp;
pub mod pool;
pub mod private;
pub mod request_id;
pub mod run;
pub mod server;
pub mod settle;
pub mod shutdown;
pub mod small_file;
pub mod spread;
pub mod stamp;
pub mod stats;
pub mod systemd;
pub mod traces;
pub mod unix;
pub mod users;

pub use run::{Running, StartError, start};
