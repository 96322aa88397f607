//! One HTTP/2 stream: how long its client may take nothing of an answer, or be too slow with an
//! upload, while the connection goes on.
//!
//! On HTTP/1 the socket shows that. Here a client may close one stream's window
//! and keep the connection alive, and would hold the answer, and the generation
//! with it, for as long as it likes.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::{Activity, LATE_TIMEOUT};
use crate::limit::Limit;

tokio::task_local! {
    static CURRENT: Pace;
}

/// Since when a stream waits for its client. Clones are the same.
#[derive(Clone, Default)]
pub struct Pace(Arc<Mutex<Waits>>);

#[derive(Default)]
struct Waits {
    /// The answer waits to be taken.
    answer: Option<Instant>,
    /// The upload failed, as the client was too slow.
    late: Option<Instant>,
    /// The stream's task, where there is an upload that may fail.
    task: Option<Waker>,
    uploads: bool,
}

/// Why a stream is dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Answer,
    Late,
}

impl Pace {
    /// That of the stream whose task this is; none on HTTP/1.
    pub fn current() -> Option<Pace> {
        CURRENT.try_with(Pace::clone).ok()
    }

    /// It is the client's turn, from now.
    pub fn waits_for_client(&self) {
        self.waits().answer = Some(Instant::now());
    }

    /// It is the guest's turn, which has limits of its own.
    pub fn waits_for_guest(&self) {
        self.waits().answer = None;
    }

    /// There is an upload, which may end in [`Pace::end_late`].
    pub fn uploads(&self) {
        self.waits().uploads = true;
    }

    /// The client was too slow with its upload: the stream is dropped once the guest has had time to say so.
    pub fn end_late(&self) {
        let mut waits = self.waits();
        waits.late = Some(Instant::now());
        if let Some(task) = waits.task.take() {
            task.wake();
        }
    }

    fn due(&self, activity: &Activity, cx: &mut Context<'_>) -> Option<(Instant, Due)> {
        let mut waits = self.waits();
        if waits.uploads && waits.task.is_none() {
            // The task of a stream is the same for all its life, so once will do.
            waits.task = Some(cx.waker().clone());
        }
        let answer = waits.answer.map(|since| (since + activity.limits.write_timeout, Due::Answer));
        let late = waits.late.map(|since| (since + LATE_TIMEOUT, Due::Late));
        [answer, late].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drives `stream` to its end, or drops it when its client is too slow: that resets it.
///
/// A connection with such a client is not kept for other requests than those that run.
pub async fn limited(stream: impl Future<Output = ()>, activity: Arc<Activity>) {
    let pace = Pace::default();
    let mut stream = std::pin::pin!(CURRENT.scope(pace.clone(), stream));
    // Made only for streams that have to wait.
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|cx: &mut Context<'_>| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while let Some((at, due)) = pace.due(&activity, cx) {
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if at <= Instant::now() {
                if due == Due::Answer {
                    activity.reached(Limit::WriteTimeout);
                }
                activity.dismiss();
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::server::activity::tests::activity;

    const SECOND: Duration = Duration::from_secs(1);

    fn write_timeout() -> Duration {
        activity().limits.write_timeout
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_client_takes_nothing_ends() {
        let begun = Instant::now();
        let activity = activity();
        let stream = async {
            Pace::current().unwrap().waits_for_client();
            pending().await
        };
        limited(stream, Arc::clone(&activity)).await;
        let took = begun.elapsed();
        assert!(took >= write_timeout() && took < write_timeout() + SECOND, "{took:?}");
        assert!(activity.is_dismissed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_moves_slowly_does_not_end() {
        let mut chunks = 0;
        let activity = activity();
        let stream = async {
            let pace = Pace::current().unwrap();
            for _ in 0..10 {
                pace.waits_for_client();
                sleep(write_timeout() - SECOND).await;
                chunks += 1;
            }
        };
        limited(stream, Arc::clone(&activity)).await;
        assert_eq!(chunks, 10);
        assert!(!activity.is_dismissed());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_guest_is_no_stall() {
        let mut answered = false;
        let stream = async {
            let pace = Pace::current().unwrap();
            pace.waits_for_client();
            pace.waits_for_guest();
            sleep(write_timeout() * 10).await;
            answered = true;
        };
        limited(stream, activity()).await;
        assert!(answered);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_upload_was_too_slow_ends_soon() {
        let (told, pace) = tokio::sync::oneshot::channel();
        let stream = async {
            let pace = Pace::current().unwrap();
            pace.uploads();
            let _ = told.send(pace);
            pending().await
        };
        let stream = tokio::spawn(limited(stream, activity()));
        let pace = pace.await.unwrap();
        sleep(SECOND * 100).await;
        let late = Instant::now();

        // By another task, such as the guest's.
        pace.end_late();
        stream.await.unwrap();

        let took = late.elapsed();
        assert!(took >= LATE_TIMEOUT && took < LATE_TIMEOUT + SECOND, "{took:?}");
    }
}
