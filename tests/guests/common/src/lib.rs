//! What the two kits share: everything that needs no WASI. Each kit keeps only
//! the HTTP of its own WASI version.

mod census;
mod json;
mod misbehave;
mod pattern;
mod query;
mod version;

pub use census::{Census, Visit, enter};
pub use json::{Inspection, array, object, pairs, string};
pub use misbehave::{consume_stack, leak_mebibytes, slow_lookup, spin, spin_forever, work};
pub use pattern::{Pattern, blob};
pub use query::Target;
pub use version::version;
