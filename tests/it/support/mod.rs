//! What the tests share.

pub mod certificates;
pub mod cgroup;
pub mod chromium;
pub mod client;
pub mod collector;
pub mod connection;
pub mod cores;
pub mod disk;
pub mod holds;
// The same clocks and cores as the benches have.
#[allow(dead_code, reason = "the benches use the rest")]
#[path = "../../../benches/support/machine.rs"]
pub mod machine;
pub mod nginx;
pub mod origin;
pub mod peer;
pub mod pool;
pub mod precompiled;
pub mod python;
pub mod server;
pub mod traffic;
pub mod world;
