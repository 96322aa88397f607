//! What an app can do to the node and to other apps, and cannot.

mod memory;
mod queue;
