//! The integration tests: one binary, a module per behaviour.

mod components;
mod manifests;
mod pools;
mod samples;
mod support;
mod wit;
