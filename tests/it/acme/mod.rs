//! Certificates by themselves, from a real authority.

mod dns;
mod failures;
mod issue;
mod knot;
pub mod pebble;
mod renew;
