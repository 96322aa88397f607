//! The integration tests: one binary, a module per behaviour.

mod bodies;
mod changes;
mod components;
mod connections;
mod faults;
mod http;
mod logs;
mod manifests;
mod model;
mod outbound;
mod pools;
mod process;
mod profiles;
mod reload;
mod renewal;
mod routing;
mod samples;
mod soak;
mod support;
mod systemd;
mod tls;
mod wit;
