//! What an app can do to the node and to other apps, and cannot.

mod cpu;
mod cpu_time;
mod memory;
mod queue;
mod traps;
