use std::time::Duration;

use proptest::prelude::*;
use tokio::time::advance;

use super::*;

const PREFACE_BYTES: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
    let [_, l0, l1, l2] = (length as u32).to_be_bytes();
    let mut bytes = vec![l0, l1, l2, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.resize(HEADER + length, 0xff);
    bytes
}

/// A connection whose preface has passed.
fn begun() -> Frames {
    let mut frames = Frames::new();
    frames.receive(PREFACE_BYTES).unwrap();
    frames
}

/// How many of a frame pass before it is a flood, and which.
fn passed(frames: &mut Frames, frame: &[u8]) -> (usize, Limit) {
    for count in 0..1_000_000 {
        if let Err(limit) = frames.receive(frame) {
            // Its payload was not looked at any more.
            frames.received.skip = 0;
            return (count, limit);
        }
    }
    panic!("without bound");
}

#[tokio::test(start_paused = true)]
async fn each_kind_has_a_budget() {
    for (kind, flags, length, expected) in [
        (RST_STREAM, 0, 4, (200, Limit::H2Resets)),
        (PING, 0, 8, (64, Limit::H2Pings)),
        (PING, ACK, 8, (64, Limit::H2Unknown)),
        (SETTINGS, 0, 6, (32, Limit::H2Settings)),
        (SETTINGS, ACK, 0, (64, Limit::H2Unknown)),
        (PRIORITY, 0, 5, (256, Limit::H2Priorities)),
        (PRIORITY_UPDATE, 0, 9, (256, Limit::H2Priorities)),
        (WINDOW_UPDATE, 0, 4, (1024, Limit::H2WindowUpdates)),
        (DATA, 0, 0, (4096, Limit::H2Data)),
        (DATA, 0, 1, (4096, Limit::H2Data)),
        (DATA, PADDED, 256, (4096, Limit::H2Data)),
        (CONTINUATION, 0, 0, (64, Limit::H2Continuations)),
        (0xb7, 0, 3, (64, Limit::H2Unknown)),
    ] {
        assert_eq!(passed(&mut begun(), &frame(kind, flags, 1, length)), expected, "{kind:#x}");
    }
}

#[tokio::test(start_paused = true)]
async fn time_refills_a_budget_and_never_beyond_its_burst() {
    let mut frames = begun();
    let ping = frame(PING, 0, 0, 8);
    assert_eq!(passed(&mut frames, &ping).0, 64);
    advance(Duration::from_millis(1500)).await;
    assert_eq!(passed(&mut frames, &ping).0, 6);
    advance(Duration::from_secs(3600)).await;
    assert_eq!(passed(&mut frames, &ping).0, 64);
}

#[tokio::test(start_paused = true)]
async fn work_refills_what_rightly_goes_with_it() {
    let mut frames = begun();
    for _ in 0..10_000 {
        frames.receive(&frame(HEADERS, END_STREAM, 1, 50)).unwrap();
        frames.receive(&frame(PRIORITY, 0, 1, 5)).unwrap();
        frames.send(&frame(HEADERS, 0, 1, 50));
        frames.send(&frame(DATA, 0, 1, 16));
        frames.receive(&frame(WINDOW_UPDATE, 0, 0, 4)).unwrap();
        frames.receive(&frame(WINDOW_UPDATE, 0, 1, 4)).unwrap();
        frames.receive(&frame(PING, 0, 0, 8)).unwrap();
        frames.send(&frame(DATA, END_STREAM, 1, 0));
        frames.receive(&frame(RST_STREAM, 0, 1, 4)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn messages_and_last_frames_cost_nothing() {
    let mut frames = begun();
    for _ in 0..100_000 {
        frames.receive(&frame(DATA, 0, 1, TINY)).unwrap();
        frames.receive(&frame(DATA, END_STREAM, 1, 0)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_never_complete_earns_no_resets() {
    let mut frames = begun();
    let mut resets = 0;
    let flood = loop {
        frames.receive(&frame(HEADERS, END_STREAM, 1, 50)).unwrap();
        frames.send(&frame(HEADERS, 0, 1, 50));
        frames.send(&frame(DATA, 0, 1, 50));
        if let Err(limit) = frames.receive(&frame(RST_STREAM, 0, 1, 4)) {
            break limit;
        }
        resets += 1;
    };
    assert_eq!((resets, flood), (200, Limit::H2Resets));
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_names_the_last_stream_and_tears_no_frame() {
    let mut frames = begun();
    frames.receive(&frame(HEADERS, END_STREAM, 7, 3)).unwrap();
    assert_eq!(frames.goodbye(), Some([0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 11]));
    let answer = frame(HEADERS, 0, 7, 3);
    frames.send(&answer[..4]);
    assert_eq!(frames.goodbye(), None);
    frames.send(&answer[4..11]);
    assert_eq!(frames.goodbye(), None);
    frames.send(&answer[11..]);
    assert!(frames.goodbye().is_some());
}

proptest! {
    #[test]
    fn frames_are_told_apart_however_the_bytes_come(
        kinds in prop::collection::vec((0_u8..12, 0_u8..2, 0_usize..600), 1..60),
        cuts in prop::collection::vec(1_usize..300, 1..40),
    ) {
        let mut bytes = PREFACE_BYTES.to_vec();
        for &(kind, flags, length) in &kinds {
            bytes.extend(frame(kind, flags, 5, length));
        }
        let mut walk = Walk::new(PREFACE);
        let mut seen = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (mut piece, after) = rest.split_at((*cut).min(rest.len()));
            while let Some(frame) = walk.next(&mut piece) {
                prop_assert_eq!(frame.stream, 5);
                seen.push((frame.kind, frame.flags, frame.length));
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(seen, kinds);
        prop_assert!(walk.is_between());
    }
}
