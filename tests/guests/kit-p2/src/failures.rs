//! The routes that answer, and then go wrong.

use common::Target;
use wasip2::clocks::monotonic_clock;
use wasip2::http::types::ResponseOutparam;

use crate::body::{Writer, answer};
use crate::{sleep_for, wait_forever};

const PAUSE_IN_MILLISECONDS: u64 = 50;

pub fn spin_after_head(target: &Target, out: ResponseOutparam) {
    let writer = begin(out);
    common::spin(target.number("ms", 0), monotonic_clock::now);
    writer.finish(None);
}

pub fn stall(out: ResponseOutparam) {
    let _writer = begin(out);
    wait_forever();
}

pub fn trap_after_head(out: ResponseOutparam) {
    let _writer = begin(out);
    sleep_for(PAUSE_IN_MILLISECONDS);
    core::arch::wasm32::unreachable();
}

pub fn trap_late(out: ResponseOutparam) {
    answer(out, "whole\n");
    sleep_for(PAUSE_IN_MILLISECONDS);
    core::arch::wasm32::unreachable();
}

pub fn exit_after_answer(out: ResponseOutparam) {
    answer(out, "exiting\n");
    std::process::exit(0);
}

/// Sends the head and a first chunk, so that the client has seen both.
fn begin(out: ResponseOutparam) -> Writer {
    let mut writer = Writer::answer(out, 200, &[]);
    // A client that has left already makes no difference to what follows.
    let _ = writer.send(b"partial").and_then(|()| writer.flush());
    writer
}
