use proptest::prelude::*;

use super::*;
use crate::config::Clients;

fn budget() -> Budget {
    Budget::new(&Clients::default())
}

/// A frame, with its kind and length in as few bytes as they have.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    assert!(kind < 0x40);
    let length = u16::try_from(payload.len()).unwrap();
    let length = match length {
        0..0x40 => vec![length as u8],
        _ => (length | 0x4000).to_be_bytes().to_vec(),
    };
    [&[kind][..], &length, payload].concat()
}

/// What is handed on of `bytes` that come in chunks of `size`.
fn walk(mut frames: Frames, bytes: &[u8], size: usize) -> Result<Vec<Bytes>, Refused> {
    let budget = budget();
    let mut pieces = Vec::new();
    for chunk in bytes.chunks(size) {
        let mut chunk = Bytes::copy_from_slice(chunk);
        while let Some(piece) = frames.next(&mut chunk, &budget)? {
            pieces.push(piece);
        }
    }
    frames.end()?;
    Ok(pieces)
}

fn refused(bytes: &[u8]) -> Option<Refused> {
    walk(Frames::of_request(), bytes, bytes.len()).err()
}

#[test]
fn each_piece_is_of_one_frame_and_its_header_is_one_by_itself() {
    let head = frame(0x1, &[7; 100]);
    let data = frame(0x0, &[8; 20]);
    let bytes = [&head[..], &data, &data].concat();
    let pieces = walk(Frames::of_request(), &bytes, bytes.len()).unwrap();
    let lengths: Vec<_> = pieces.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [3, 100, 2, 20, 2, 20]);
    assert_eq!(pieces.concat(), bytes);
}

#[test]
fn what_means_nothing_is_not_handed_on() {
    let (head, data) = (frame(0x1, b"head"), frame(0x0, b"something"));
    let (grease, empty, push) = (frame(0x21, &[1; 300]), frame(0x0, b""), frame(0xd, b"\x05"));
    let bytes = [&grease[..], &head, &empty, &data, &push, &empty].concat();
    for size in 1..bytes.len() {
        let pieces = walk(Frames::of_request(), &bytes, size).unwrap();
        assert_eq!(pieces.concat(), [&head[..], &data].concat(), "chunks of {size}");
    }
}

#[test]
fn a_stream_that_ends_within_a_frame_is_refused() {
    let bytes = [frame(0x1, b"head"), frame(0x0, b"something")].concat();
    let whole = [6, bytes.len()];
    for end in 1..bytes.len() {
        let error = refused(&bytes[..end]).map(|refused| refused.code);
        let expected = (!whole.contains(&end)).then_some(Code::H3_FRAME_ERROR);
        assert_eq!(error, expected, "{end} bytes");
    }
    // Discarded or not.
    assert!(refused(&frame(0x21, b"grease")[..5]).is_some());
}

#[test]
fn what_is_too_long_to_keep_is_refused_by_its_header() {
    let max = budget().head_max;
    assert!(max < 1 << 30);
    let long = |kind: u8, length: u64| {
        let length = u32::try_from(length).unwrap() | 0x8000_0000;
        refused(&[&[kind][..], &length.to_be_bytes()].concat()).unwrap()
    };
    assert_eq!(long(0x1, max + 1), Refused::load(Limit::MaxHead));
    assert_eq!(long(0x1, max).code, Code::H3_FRAME_ERROR, "only its end is missing");
    assert_eq!(long(0x4, SETTINGS_MAX + 1), Refused::load(Limit::H3Frames));
    assert_eq!(long(0x7, 9).code, Code::H3_FRAME_ERROR);
    // A body is handed on as it comes, and what is discarded is not kept.
    assert_eq!(long(0x0, 1 << 29).code, Code::H3_FRAME_ERROR);
    assert_eq!(long(0x21, 1 << 29).code, Code::H3_FRAME_ERROR);
}

#[test]
fn frames_of_http_2_and_pushes_are_refused() {
    for kind in [0x2, 0x5, 0x6, 0x8, 0x9] {
        let error = refused(&frame(kind, b"x")).map(|refused| refused.code);
        assert_eq!(error, Some(Code::H3_FRAME_UNEXPECTED), "{kind}");
    }
}

#[test]
fn the_control_stream_has_frames_behind_its_kind_and_others_have_none() {
    let settings = frame(0x4, b"\x06\x40\x80");
    let bytes = [&[0x40, 0x00][..], &settings].concat();
    for size in 1..bytes.len() {
        assert_eq!(walk(Frames::of_client(), &bytes, size).unwrap().concat(), bytes);
    }
    // An encoder's, whose bytes would be a frame that is refused.
    let bytes = [0x2, 0x2, 0x2];
    assert_eq!(walk(Frames::of_client(), &bytes, 1).unwrap().concat(), bytes);
}

#[test]
fn floods_are_refused_and_a_few_frames_for_each_stream_are_none() {
    for (frame, limit, most) in [
        (frame(0x0, b""), Limit::H3Data, 4096),
        (frame(0x0, b"x"), Limit::H3Data, 4096),
        (frame(0x21, b""), Limit::H3Frames, 1024),
        (frame(0xd, b"\x05"), Limit::H3Frames, 1024),
        (frame(0x7, b"\x05"), Limit::H3Frames, 1024),
    ] {
        // A second's worth and some more, as time passes.
        assert_eq!(refused(&frame.repeat(most * 2)), Some(Refused::load(limit)));
        assert_eq!(refused(&frame.repeat(most)), None);

        let budget = budget();
        for _ in 0..most * 2 {
            let mut chunk = Bytes::from(frame.repeat(usize::from(FREE)));
            let mut frames = Frames::of_request();
            while frames.next(&mut chunk, &budget).expect("no flood").is_some() {}
        }
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_told_apart_alike_however_it_comes(
        bytes in proptest::collection::vec(prop_oneof![0_u8..10, any::<u8>()], 0..200),
        size in 1_usize..50,
        of_client: bool,
    ) {
        let frames = || if of_client { Frames::of_client() } else { Frames::of_request() };
        let at_once = walk(frames(), &bytes, bytes.len().max(1)).map(|pieces| pieces.concat());
        let in_chunks = walk(frames(), &bytes, size).map(|pieces| pieces.concat());
        prop_assert_eq!(at_once, in_chunks);
    }
}
