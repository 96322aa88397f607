//! What an app can do to the node and to other apps, and cannot.

mod cpu;
mod memory;
mod queue;
