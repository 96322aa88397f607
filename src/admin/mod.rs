//! Where operators ask a running tidegate, over a Unix socket or an address with a token: HTTP and JSON.
//!
//! `listener` binds and accepts, on a thread and a runtime of its own, so that it answers whatever
//! guests and clients do to those that serve; `reserve` keeps descriptors for it. `door` judges who may
//! come in, by `token`. `router` finds what answers a request, of the table in `routes`, and `answer`
//! is how it does. `shapes` is what answers look like, which `openapi.json` tells others. `status` and
//! those beside it answer: one file per group of routes. `dashboard` is a page for people.
//!
//! It stands above `server` and `control`, which know nothing of it.

mod answer;
mod apps;
mod dashboard;
mod door;
mod explain;
mod figures;
mod hosts;
mod instances;
mod listener;
mod logs;
mod metrics;
mod openapi;
mod profiles;
mod reload;
mod reserve;
mod router;
mod routes;
pub mod shapes;
mod status;
mod token;
mod upgrade;

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::runtime::Handle;

pub use listener::{BindError, Listener, serve};
pub use routes::names as route_names;
pub use token::Token;
pub use upgrade::TIMEOUT as TIMEOUT_OF_UPGRADES;

use crate::control::{Asked, History};
use crate::generation::Current;
use crate::handover::Wishes;
use crate::metrics::Metrics;
use crate::server::Bound;

/// What operators are told of, and may do. Made at the start, for as long as the process serves.
pub struct Admin {
    pub started: OffsetDateTime,
    /// What is listened on for clients.
    pub listeners: Vec<Bound>,
    pub current: Arc<Current>,
    pub metrics: Arc<Metrics>,
    /// The runtime that serves: what touches instances happens there.
    pub serving: Handle,
    /// What became of the changes to the files so far.
    pub history: Arc<History>,
    /// Asks for a look at the files.
    pub reload: Box<dyn Fn() -> Asked + Send + Sync>,
    /// Asks for another process to take over.
    pub upgrades: Arc<Wishes>,
}
