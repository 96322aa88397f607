//! The integration tests: one binary, a module per behaviour.

mod connections;
mod http;
mod logs;
mod manifests;
mod pools;
mod reload;
mod routing;
mod support;
mod tls;
