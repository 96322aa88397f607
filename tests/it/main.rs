//! The integration tests: one binary, a module per behaviour.

mod changes;
mod manifests;
mod pools;
mod reload;
mod renewal;
mod support;
