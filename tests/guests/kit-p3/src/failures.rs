//! The routes that answer, and then go wrong.

use common::Target;
use wasip3::clocks::monotonic_clock;

use crate::body::{Answer, Reply, Writer};
use crate::{sleep_for, wait_forever};

const PAUSE_IN_MILLISECONDS: u64 = 50;

pub fn spin_after_head(target: &Target, reply: Reply) -> Answer {
    let milliseconds = target.number("ms", 0);
    reply.stream(200, &[], async move |mut writer| {
        begin(&mut writer).await;
        common::spin(milliseconds, monotonic_clock::now);
        writer.finish(None).await;
    })
}

pub fn stall(reply: Reply) -> Answer {
    reply.stream(200, &[], async move |mut writer| {
        begin(&mut writer).await;
        wait_forever().await;
    })
}

pub fn trap_after_head(reply: Reply) -> Answer {
    reply.stream(200, &[], async move |mut writer| {
        begin(&mut writer).await;
        sleep_for(PAUSE_IN_MILLISECONDS).await;
        core::arch::wasm32::unreachable();
    })
}

pub fn trap_late(reply: Reply) -> Answer {
    reply.stream(200, &[], async move |mut writer| {
        let _ = writer.send(b"whole\n").await;
        writer.finish(None).await;
        sleep_for(PAUSE_IN_MILLISECONDS).await;
        core::arch::wasm32::unreachable();
    })
}

pub fn exit_after_answer(reply: Reply) -> Answer {
    reply.stream(200, &[], async move |mut writer| {
        let _ = writer.send(b"exiting\n").await;
        writer.finish(None).await;
        std::process::exit(0);
    })
}

/// Sends a first chunk. Once the host has taken it, it has the head as well.
async fn begin(writer: &mut Writer) {
    // A client that has left already makes no difference to what follows.
    let _ = writer.send(b"partial").await;
}
