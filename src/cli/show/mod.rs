//! How commands show what they were told: in colour where that is read, in columns, in units that people use.

pub mod human;
pub mod paint;
pub mod screen;
pub mod table;
