//! Hostile clients: what each of them tries, and what is left of the server for the others.

mod floods;
mod parsing;
mod sizes;
mod smuggling;
