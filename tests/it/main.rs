//! The integration tests: one binary, a module per behaviour.

mod components;
mod manifests;
mod pools;
<<<<<<< HEAD
mod reload;
=======
mod samples;
>>>>>>> guest
mod support;
mod wit;
