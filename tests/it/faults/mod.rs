//! What the system can do to a server: full disks, failing calls, kills, lost events, clocks that jump.

pub mod clock;
mod disk;
mod injected;
mod killed;
mod strace;
mod watching;

/// Said where a fault cannot be had on this machine. The rest of the tests still counts.
pub fn not_tested(what: &str, reason: impl std::fmt::Display) {
    eprintln!("\n!!! NOT TESTED: {what}: {reason}\n");
}
