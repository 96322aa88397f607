//! The pool's promises, each by name, for p2 and for p3.

mod bodies;
mod census;
mod failures;
mod lifetimes;
mod permits;
mod queue;
mod stress;
mod timeouts;
