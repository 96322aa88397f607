//! The exchange by itself: what of a body counts as whole, and its clocks, in paused time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, advance, timeout};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::config::Limits;
use crate::pool::body::{Gathered, watched};
use crate::pool::exchange::{Cut, Exchange};
use crate::pool::{Body, Failure};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_body_that_is_whole_in_the_channel_is_whole_for_the_client_though_its_store_is_gone() {
    let exchange = started();
    let frames = answer(&exchange);
    for _ in 0..300 {
        frames.send(Some(Bytes::from_static(b"x"))).unwrap();
    }
    frames.send(None).unwrap();
    assert!(exchange.settle(fault()));
    drop(frames);
    assert_eq!(rest(&exchange).await, (300, Ok(())));
}

#[tokio::test]
async fn a_body_without_its_end_is_cut_after_what_was_there() {
    let exchange = started();
    let frames = answer(&exchange);
    frames.send(Some(Bytes::from_static(b"some"))).unwrap();
    assert!(!exchange.settle(fault()));
    // What the crate's own bodies do when their store is dropped: they end.
    frames.send(None).ok();
    assert_eq!(rest(&exchange).await, (4, Err(Cut)));
    assert!(!exchange.settle(fault()), "it stays cut");
}

#[test]
fn a_request_that_its_guest_keeps_is_not_under_way_for_that() {
    let exchange = started();
    let body = http_body_util::Full::new(Bytes::from_static(b"unread"));
    let kept = watched(body.map_err(|never| match never {}).boxed_unsync(), &exchange);
    let weak = Arc::downgrade(&exchange);
    drop(exchange);
    assert!(weak.upgrade().is_none(), "its pass would never come back");
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_frame_learns_that_none_will_come() {
    let exchange = started();
    let _frames = answer(&exchange);
    assert!(exchange.take_head().unwrap().is_ok());
    let reading = tokio::spawn({
        let exchange = exchange.clone();
        async move { rest(&exchange).await }
    });
    tokio::task::yield_now().await;
    exchange.settle(fault());
    let read = timeout(SECOND, reading).await.expect("it never learnt");
    assert_eq!(read.unwrap(), (0, Err(Cut)));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_head_learns_why_none_will_come_and_only_the_first_answer_counts() {
    let exchange = started();
    let waiting = tokio::spawn({
        let exchange = exchange.clone();
        async move { std::future::poll_fn(|cx| exchange.poll_head(cx)).await.err() }
    });
    tokio::task::yield_now().await;
    exchange.settle(Failure::TimedOut);
    exchange.answer(Err(fault()));
    let failure = timeout(SECOND, waiting).await.expect("it never learnt");
    assert_eq!(failure.unwrap(), Some(Failure::TimedOut));
}

#[tokio::test]
async fn a_response_made_of_the_request_body_does_not_lock_twice() {
    let exchange = started();
    let (sender, request) = body();
    sender.send(Some(Bytes::from_static(b"mirrored"))).unwrap();
    sender.send(None).unwrap();
    exchange.answer(Ok(http::Response::new(watched(request, &exchange))));
    assert_eq!(rest(&exchange).await, (8, Ok(())));
}

#[tokio::test]
async fn gathering_takes_more_than_tokio_grants_in_one_turn() {
    let exchange = started();
    let frames = answer(&exchange);
    for _ in 0..500 {
        frames.send(Some(Bytes::from_static(b"x"))).unwrap();
    }
    frames.send(None).unwrap();
    let mut gathered = Gathered::default();
    assert!(gathered.gather(&exchange));
    assert_eq!(gathered.into_body(exchange).size_hint().exact(), Some(500));
}

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_own_timeout_from_its_own_start() {
    let exchange = started();
    assert_due(&exchange, 10 * SECOND);
    advance(9 * SECOND).await;
    assert_due(&exchange, SECOND);

    let frames = answer(&exchange);
    assert_due(&exchange, 5 * SECOND);
    advance(4 * SECOND).await;
    frames.send(Some(Bytes::from_static(b"x"))).unwrap();
    assert!(poll(&exchange).is_ready());
    assert_due(&exchange, 5 * SECOND);

    advance(4 * SECOND).await;
    exchange.leave();
    assert_due(&exchange, 2 * SECOND);
    advance(SECOND).await;
    exchange.leave();
    assert_due(&exchange, SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_goes_on_keeps_a_stream_alive_but_no_guest_that_has_not_answered() {
    let exchange = started();
    let (chunks, upload) = body();
    let mut upload = watched(upload, &exchange);
    let mut chunk = || {
        chunks.send(Some(Bytes::from_static(b"x"))).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut upload).poll_frame(&mut cx).is_ready());
    };
    advance(9 * SECOND).await;
    chunk();
    assert_due(&exchange, SECOND);

    let _frames = answer(&exchange);
    advance(4 * SECOND).await;
    chunk();
    assert_due(&exchange, 5 * SECOND);
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_body_and_tells_the_driver() {
    let exchange = started();
    let frames = answer(&exchange);
    let told = Arc::new(Told::default());
    exchange.wake_driver(&told.clone().into());
    drop(Gathered::default().into_body(exchange.clone()));
    assert!(frames.is_closed());
    assert!(told.0.load(std::sync::atomic::Ordering::SeqCst));
    assert!(!exchange.has_client());
}

#[derive(Default)]
struct Told(std::sync::atomic::AtomicBool);

impl std::task::Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

pub fn limits() -> Limits {
    Limits {
        request_timeout: 10 * SECOND,
        stream_idle_timeout: 5 * SECOND,
        post_return_timeout: 2 * SECOND,
        idle_timeout: 20 * SECOND,
        ..Limits::default()
    }
}

pub fn started() -> Arc<Exchange> {
    let exchange = Arc::new(Exchange::new(None, None, 64 << 10));
    exchange.start();
    exchange
}

/// The guest's head, and what sends its body; `None` is the end.
pub fn answer(exchange: &Exchange) -> mpsc::UnboundedSender<Option<Bytes>> {
    let (sender, body) = body();
    exchange.answer(Ok(http::Response::new(body)));
    sender
}

fn body() -> (mpsc::UnboundedSender<Option<Bytes>>, WasiBody) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Frames(receiver).boxed_unsync())
}

/// Under tokio's budget, like the crate's own bodies.
struct Frames(mpsc::UnboundedReceiver<Option<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(cx).map(|frame| frame.flatten().map(|data| Ok(Frame::data(data))))
    }
}

fn fault() -> Failure {
    Failure::Guest("it failed".into())
}

fn poll(exchange: &Exchange) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
    exchange.poll_frame(&mut Context::from_waker(Waker::noop()))
}

/// The size of what a client still gets, and how it ends.
async fn rest(exchange: &Arc<Exchange>) -> (usize, Result<(), Cut>) {
    let mut body: Body = Gathered::default().into_body(exchange.clone());
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => size += frame.data_ref().map_or(0, Bytes::len),
            Err(cut) => return (size, Err(cut)),
        }
    }
    (size, Ok(()))
}

fn assert_due(exchange: &Exchange, left: Duration) {
    assert_eq!(exchange.due(&limits()).at - Instant::now(), left);
}
