//! What an app can do to the node and to other apps, and cannot.

mod bombs;
mod cpu;
mod cpu_time;
mod isolation;
mod memory;
mod queue;
mod small_box;
mod traps;
