//! One HTTP/2 stream: how long its client may take nothing of an answer while the connection goes on.
//!
//! On HTTP/1 the socket shows that. Here a client may close one stream's window
//! and keep the connection alive, and would hold the answer, and the generation
//! with it, for as long as it likes.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::STALL_TIMEOUT;

tokio::task_local! {
    static CURRENT: Pace;
}

/// Since when an answer waits for its client. Clones are the same.
#[derive(Clone, Default)]
pub struct Pace(Arc<Mutex<Option<Instant>>>);

impl Pace {
    /// That of the stream whose task this is; none on HTTP/1.
    pub fn current() -> Option<Pace> {
        CURRENT.try_with(Pace::clone).ok()
    }

    /// It is the client's turn, from now.
    pub fn waits_for_client(&self) {
        self.set(Some(Instant::now()));
    }

    /// It is the guest's turn, which has limits of its own.
    pub fn waits_for_guest(&self) {
        self.set(None);
    }

    fn due(&self) -> Option<Instant> {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(since? + STALL_TIMEOUT)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// Drives `stream` to its end, or drops it when its client takes nothing: that resets it.
pub async fn limited(stream: impl Future<Output = ()>) {
    let pace = Pace::default();
    let mut stream = std::pin::pin!(CURRENT.scope(pace.clone(), stream));
    // Made only for answers that have to wait.
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|cx: &mut Context<'_>| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while let Some(due) = pace.due() {
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if due <= Instant::now() {
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

    use super::{Pace, STALL_TIMEOUT, limited};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_client_takes_nothing_ends() {
        let begun = Instant::now();
        limited(async {
            Pace::current().unwrap().waits_for_client();
            pending().await
        })
        .await;
        let took = begun.elapsed();
        assert!(took >= STALL_TIMEOUT && took < STALL_TIMEOUT + SECOND, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_moves_slowly_does_not_end() {
        let mut chunks = 0;
        limited(async {
            let pace = Pace::current().unwrap();
            for _ in 0..10 {
                pace.waits_for_client();
                sleep(STALL_TIMEOUT - SECOND).await;
                chunks += 1;
            }
        })
        .await;
        assert_eq!(chunks, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_guest_is_no_stall() {
        let mut answered = false;
        limited(async {
            let pace = Pace::current().unwrap();
            pace.waits_for_client();
            pace.waits_for_guest();
            sleep(STALL_TIMEOUT * 10).await;
            answered = true;
        })
        .await;
        assert!(answered);
    }
}
