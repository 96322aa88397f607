//! The integration tests: one binary, a module per behaviour.

mod manifests;
mod pools;
mod reload;
mod support;
