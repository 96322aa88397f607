use std::io::Read;
use std::task::Waker;

use futures_util::stream;
use http_body_util::StreamBody;
use proptest::prelude::*;

use super::*;
use crate::config::Peer;
use crate::server::bounds::Places;

/// What a body does next.
#[derive(Clone, Debug)]
enum Step {
    Data(Vec<u8>),
    Wait,
    Fail,
    Trailers,
}

/// What arrives of an encoded body, in order.
#[derive(Default)]
struct Arrived {
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    failed: bool,
    /// How many steps the body had taken when each chunk came.
    waits: Vec<usize>,
}

fn place() -> Place {
    Places::new(1).take(Peer::Unix).unwrap()
}

/// Polls the encoded body of these steps to its end.
fn encode(coding: Coding, length: Option<u64>, steps: &[Step]) -> Arrived {
    let mut arrived = Arrived::default();
    let mut steps = steps.iter().cloned();
    let mut waited = 0;
    let waits = std::cell::Cell::new(0);
    let body = StreamBody::new(stream::poll_fn(|_| match steps.next() {
        Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(data))))),
        Some(Step::Wait) => {
            waits.set(waits.get() + 1);
            Poll::Pending
        }
        Some(Step::Fail) => Poll::Ready(Some(Err(io::Error::other("broken")))),
        Some(Step::Trailers) => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "1".parse().unwrap());
            Poll::Ready(Some(Ok(Frame::trailers(trailers))))
        }
        None => Poll::Ready(None),
    }));
    let mut encoded = std::pin::pin!(Encoded::new(body, coding, length, place()));
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match encoded.as_mut().poll_frame(&mut cx) {
            Poll::Pending => waited += 1,
            Poll::Ready(None) => break,
            Poll::Ready(Some(Err(_))) => {
                arrived.failed = true;
                break;
            }
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    assert!(!data.is_empty());
                    arrived.chunks.push(data);
                    arrived.waits.push(waits.get());
                }
                Err(frame) => arrived.trailers = frame.into_trailers().ok(),
            },
        }
        assert!(waited < 100_000, "it waits for ever");
    }
    assert!(encoded.is_end_stream());
    arrived
}

/// As much of a stream as can be read, and whether it is whole.
fn decode(coding: Coding, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut plain = Vec::new();
    if bytes.is_empty() {
        // To the decoder of zstd that is no frame, and no error.
        return (plain, false);
    }
    let read = match coding {
        Coding::Zstd => {
            zstd::stream::read::Decoder::new(bytes).unwrap().single_frame().read_to_end(&mut plain)
        }
        Coding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
        Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
    };
    (plain, read.is_ok())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let data = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        (any::<u8>(), 0..60_000_usize).prop_map(|(byte, count)| vec![byte; count]),
        ("[a-e ]{1,40}", 1..2000_usize).prop_map(|(text, count)| text.repeat(count).into_bytes()),
    ];
    proptest::collection::vec(
        prop_oneof![4 => data.prop_map(Step::Data), 1 => Just(Step::Wait)],
        0..12,
    )
}

fn sent(steps: &[Step]) -> Vec<u8> {
    let data = |step: &Step| match step {
        Step::Data(data) => data.clone(),
        _ => Vec::new(),
    };
    steps.iter().flat_map(data).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_arrives_is_what_was_sent(steps in steps(), known in any::<bool>()) {
        let sent = sent(&steps);
        for coding in Coding::ALL {
            let arrived = encode(coding, known.then_some(sent.len() as u64), &steps);
            prop_assert!(!arrived.failed);
            let (plain, whole) = decode(coding, &arrived.chunks.concat());
            prop_assert!(whole, "{coding:?}");
            prop_assert!(plain == sent, "{coding:?}");
        }
    }

    #[test]
    fn a_broken_body_never_looks_whole(steps in steps()) {
        let mut steps = steps;
        steps.push(Step::Fail);
        for coding in Coding::ALL {
            let arrived = encode(coding, None, &steps);
            prop_assert!(arrived.failed);
            let (plain, whole) = decode(coding, &arrived.chunks.concat());
            prop_assert!(!whole, "{coding:?}");
            prop_assert!(sent(&steps).starts_with(&plain), "{coding:?}");
        }
    }
}

#[test]
fn all_there_is_can_be_read_before_a_wait() {
    for coding in Coding::ALL {
        let events: Vec<_> = (0..20).map(|n| format!("data: event {n}\n\n").into_bytes()).collect();
        let steps: Vec<_> =
            events.iter().flat_map(|event| [Step::Data(event.clone()), Step::Wait]).collect();
        let arrived = encode(coding, None, &steps);
        for (number, event) in events.iter().enumerate() {
            // What came until the body had waited for the event after this one.
            let upto = arrived.waits.iter().filter(|waits| **waits <= number + 1).count();
            let (plain, _) = decode(coding, &arrived.chunks[..upto].concat());
            assert!(plain.ends_with(event), "{coding:?} {number}");
        }
    }
}

#[test]
fn trailers_follow_the_last_byte() {
    for coding in Coding::ALL {
        let arrived =
            encode(coding, None, &[Step::Data(b"some".to_vec()), Step::Wait, Step::Trailers]);
        assert_eq!(decode(coding, &arrived.chunks.concat()), (b"some".to_vec(), true));
        assert_eq!(arrived.trailers.unwrap()["x-sum"], "1");
    }
}

#[test]
fn others_have_their_turn_while_a_large_body_is_compressed() {
    let mut cx = Context::from_waker(Waker::noop());
    let data = Bytes::from(vec![b'a'; 4 << 20]);
    let once = stream::once(async move { Ok::<_, io::Error>(Frame::data(data)) });
    let body = StreamBody::new(Box::pin(once));
    let mut encoded = std::pin::pin!(Encoded::new(body, Coding::Gzip, None, place()));
    let mut turns = 0;
    loop {
        match encoded.as_mut().poll_frame(&mut cx) {
            Poll::Pending => turns += 1,
            Poll::Ready(Some(frame)) => drop(frame.unwrap()),
            Poll::Ready(None) => break,
        }
    }
    assert_eq!(turns, (4 << 20) / TURN - 1);
}
