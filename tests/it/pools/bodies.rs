//! What arrives of a response: all of it, or an error.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use tidegate::config::Limits;
use tidegate::pool::{BodyError, Failure};
use wasmtime_wasi_http::Error;

use crate::support::pool::{finish, get, limits, pool, pool_apart, post, read, request, text};

for_both_kits! {
    a_small_answer_is_whole_before_its_head_leaves,
    many_answers_in_one_turn_of_a_task_are_all_whole,
    an_answer_of_more_chunks_than_tokio_grants_in_one_turn_is_whole,
    a_large_body_arrives_byte_for_byte,
    a_body_that_a_trap_ends_is_an_error,
    a_body_whose_host_side_panics_is_an_error,
    work_that_fails_after_the_last_byte_spoils_nothing,
    a_request_body_reaches_the_guest_and_comes_back,
    a_broken_request_body_does_not_look_whole,
}

async fn a_small_answer_is_whole_before_its_head_leaves(kit: &str) {
    let (pool, tasks) = pool_apart(kit, limits());
    for path in ["/hello", "/blob?bytes=1000", "/blob?bytes=60000"] {
        let mut whole = 0;
        for _ in 0..100 {
            let answer = pool.handle(get(path)).await.unwrap();
            let length = answer.http.body().size_hint().exact();
            let (body, end) = read(answer).await;
            assert_eq!(end, Ok(()));
            assert!(length.is_none_or(|length| length == body.len() as u64), "{path}");
            whole += usize::from(length.is_some());
        }
        // Frames are never waited for, and now and then a tick interrupts a guest for long.
        assert!(whole >= 97, "{path}: {whole} of 100");
    }
    finish(pool, tasks).await;
}

/// Tokio lets a task's channels answer `Pending` when it has not waited for long.
async fn many_answers_in_one_turn_of_a_task_are_all_whole(kit: &str) {
    let kit = kit.to_owned();
    let all_on_one_thread = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (pool, tasks) = pool_apart(&kit, limits());
            for round in 0..200 {
                let answer = pool.handle(get("/hello")).await.unwrap();
                assert_eq!(answer.http.body().size_hint().exact(), Some(12), "round {round}");
                let answer = pool.handle(get("/stream?bytes=1000&chunk=100")).await;
                assert_eq!(read(answer.unwrap()).await, (pattern(1000), Ok(())), "round {round}");
            }
            finish(pool, tasks).await;
        });
    };
    tokio::task::spawn_blocking(all_on_one_thread).await.unwrap();
}

async fn an_answer_of_more_chunks_than_tokio_grants_in_one_turn_is_whole(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    for chunks in 90..139 {
        let answer = pool.handle(get(&format!("/stream?bytes={}&chunk=100", chunks * 100))).await;
        let (body, end) = read(answer.unwrap()).await;
        assert_eq!((body, end), (pattern(chunks * 100), Ok(())), "{chunks} chunks");
    }
    finish(pool, tasks).await;
}

async fn a_large_body_arrives_byte_for_byte(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    for path in ["/stream?bytes=5000000&chunk=70000", "/blob?bytes=5000000"] {
        let (body, end) = read(pool.handle(get(path)).await.unwrap()).await;
        assert!(body == pattern(5_000_000) && end == Ok(()), "{path}: {} {end:?}", body.len());
    }
    finish(pool, tasks).await;
}

async fn a_body_that_a_trap_ends_is_an_error(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    for _ in 0..10 {
        let answer = pool.handle(get("/trap-after-head")).await.expect("a head");
        assert_eq!(answer.http.body().size_hint().exact(), None);
        assert_eq!(read(answer).await, (b"partial".to_vec(), Err(BodyError)));
    }
    finish(pool, tasks).await;
}

async fn a_body_whose_host_side_panics_is_an_error(kit: &str) {
    let (pool, tasks) = pool(kit, one_instance());
    for _ in 0..10 {
        let body = Broken { sound: 3, panics: true };
        match pool.handle(request(http::Method::POST, "/echo", body.boxed_unsync())).await {
            Ok(answer) => assert_eq!(read(answer).await.1, Err(BodyError)),
            Err(failure) => assert!(matches!(failure, Failure::Guest(_)), "{failure:?}"),
        }
        assert_eq!(text(pool.handle(get("/hello")).await).await.1, "hello world\n");
    }
    finish(pool, tasks).await;
}

async fn work_that_fails_after_the_last_byte_spoils_nothing(kit: &str) {
    let (pool, tasks) = pool(kit, one_instance());
    for _ in 0..5 {
        let answer = pool.handle(get("/trap-late")).await.unwrap();
        assert_eq!(read(answer).await, (b"whole\n".to_vec(), Ok(())));
    }
    finish(pool, tasks).await;
}

async fn a_request_body_reaches_the_guest_and_comes_back(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    let sent = pattern(1_000_000);
    let answer = pool.handle(post("/echo", sent.clone())).await.unwrap();
    let (body, end) = read(answer).await;
    assert!(body == sent && end == Ok(()), "{} {end:?}", body.len());
    finish(pool, tasks).await;
}

async fn a_broken_request_body_does_not_look_whole(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    let body = Broken { sound: 3, panics: false };
    match pool.handle(request(http::Method::POST, "/echo", body.boxed_unsync())).await {
        Ok(answer) => assert_eq!(read(answer).await.1, Err(BodyError)),
        Err(failure) => assert!(matches!(failure, Failure::Guest(_)), "{failure:?}"),
    }
    assert_eq!(text(pool.handle(get("/hello")).await).await.1, "hello world\n");
    finish(pool, tasks).await;
}

/// A request body of some good chunks, and then none.
struct Broken {
    sound: usize,
    panics: bool,
}

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // Slow enough that the guest has sent the first ones on.
        if self.sound % 2 == 1 {
            self.sound -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.sound.checked_sub(1) {
            Some(left) => {
                self.sound = left;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; 100_000])))))
            }
            None if self.panics => panic!("a defect of the host, for a test"),
            None => Poll::Ready(Some(Err(Error::HttpProtocolError))),
        }
    }
}

fn one_instance() -> Limits {
    Limits { max_instances: NonZeroUsize::MIN, ..limits() }
}

/// What `/stream` and `/blob` send.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|position| (position % 251) as u8).collect()
}
