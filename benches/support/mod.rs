//! What the benches share.

pub mod contestant;
pub mod figures;
pub mod front;
pub mod guests;
pub mod load;
pub mod machine;
pub mod parse;
pub mod process;
pub mod reference;
pub mod rounds;
pub mod streams;
pub mod table;
