//! The scheduler by itself: its clocks in paused time, its hand-overs under a model checker.

mod exchange;
mod ledger;
mod model;
mod schedule;
mod slots;
