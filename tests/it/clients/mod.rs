//! Hostile clients: what each of them tries, and what is left of the server for the others.

mod caps;
mod deadlines;
mod floods;
mod parsing;
mod sizes;
mod slow;
mod smuggling;
