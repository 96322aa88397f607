//! How long a request's body may take to arrive: the time that a guest waits for the client.
//!
//! Time in which the guest does not read is not the client's. So the clock runs
//! from a read that finds nothing to the moment when there is something, however
//! late the guest looks at it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;
use super::stream::Pace;
use crate::config::Peer;
use crate::limit::Limit;

/// The clock of one request's body.
pub struct Arrival {
    activity: Arc<Activity>,
    /// Whose body it is.
    sender: Peer,
    /// The stream's, on HTTP/2.
    pace: Option<Pace>,
    /// Bytes.
    received: u64,
    /// What all waits took that are over.
    waited: Duration,
    /// Made by the first read that finds nothing: many bodies are there with their heads.
    wait: Option<Wait>,
}

/// The client was too slow. It has been counted, and the connection or stream will end.
#[derive(Debug, PartialEq, Eq)]
pub struct Late;

struct Wait {
    /// None while the guest does not wait.
    since: Option<Instant>,
    /// Set again only when it fires, as what is due never moves forward.
    timer: Pin<Box<Sleep>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Wakes the guest, and notes when there was something to wake it for.
#[derive(Default)]
struct Bell(Mutex<Rung>);

#[derive(Default)]
struct Rung {
    at: Option<Instant>,
    guest: Option<Waker>,
}

impl Arrival {
    /// The clock of a body that is not complete yet. Called by the task of the request.
    pub fn new(activity: Arc<Activity>, sender: Peer) -> Arrival {
        let pace = Pace::current().inspect(Pace::uploads);
        Arrival { activity, sender, pace, received: 0, waited: Duration::ZERO, wait: None }
    }

    /// So many bytes have arrived.
    pub fn note(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// Asks `body` for what comes next, for as long as its client is given.
    pub fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut body: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Late>> {
        let wait = match &mut self.wait {
            Some(wait) => wait,
            none => {
                if let Poll::Ready(next) = body(cx) {
                    return Poll::Ready(Ok(next));
                }
                none.insert(Wait::new(Instant::now() + self.activity.limits.body_timeout))
            }
        };
        let rung = wait.bell.listen(cx.waker());
        if let Poll::Ready(next) = body(&mut Context::from_waker(&wait.waker)) {
            if let Some(since) = wait.since.take() {
                let until = rung.unwrap_or_else(Instant::now);
                self.waited += until.saturating_duration_since(since);
            }
            return Poll::Ready(Ok(next));
        }
        let since = *wait.since.get_or_insert_with(Instant::now);
        let (left, limit) = left(&self.activity, self.received, self.waited);
        let due = since + left;
        while wait.timer.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                self.end(limit);
                return Poll::Ready(Err(Late));
            }
            wait.timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    fn end(&self, limit: Limit) {
        self.activity.tally().reached(limit, self.sender);
        match &self.pace {
            Some(pace) => {
                pace.end_late();
                self.activity.dismiss();
            }
            None => self.activity.end_late(),
        }
    }
}

/// How much longer a wait may be, after waits that took `waited` together, and the limit that this is.
fn left(activity: &Activity, received: u64, waited: Duration) -> (Duration, Limit) {
    let rest = activity.limits.body_timeout;
    let rate = activity.limits.min_body_rate;
    if rate == 0 {
        return (rest, Limit::BodyTimeout);
    }
    let enough_until = Duration::from_millis(received.saturating_mul(1000) / rate).max(rest);
    let slow = enough_until.saturating_sub(waited);
    if slow < rest { (slow, Limit::MinBodyRate) } else { (rest, Limit::BodyTimeout) }
}

impl Wait {
    fn new(due: Instant) -> Wait {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        Wait { since: None, timer: Box::pin(sleep_until(due)), bell, waker }
    }
}

impl Bell {
    /// Who is to be woken next. Returns when the last one was.
    fn listen(&self, guest: &Waker) -> Option<Instant> {
        let mut rung = self.rung();
        match &mut rung.guest {
            Some(known) => known.clone_from(guest),
            none => *none = Some(guest.clone()),
        }
        rung.at.take()
    }

    fn rung(&self) -> MutexGuard<'_, Rung> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut rung = self.rung();
        rung.at.get_or_insert_with(Instant::now);
        let guest = rung.guest.take();
        drop(rung);
        if let Some(guest) = guest {
            guest.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::mpsc;
    use tokio::time::{advance, sleep, timeout};

    use super::*;
    use crate::server::activity::tests::activity;

    const SECOND: Duration = Duration::from_secs(1);

    /// A body whose chunks are numbers of bytes, and its clock.
    struct Upload {
        arrival: Arrival,
        chunks: mpsc::UnboundedReceiver<usize>,
    }

    fn upload() -> (mpsc::UnboundedSender<usize>, Upload, Arc<Activity>) {
        let (client, chunks) = mpsc::unbounded_channel();
        let activity = activity();
        (
            client,
            Upload { arrival: Arrival::new(Arc::clone(&activity), activity.client()), chunks },
            activity,
        )
    }

    impl Upload {
        async fn next(&mut self) -> Result<Option<usize>, Late> {
            let chunk = poll_fn(|cx| self.arrival.poll(cx, |cx| self.chunks.poll_recv(cx))).await?;
            self.arrival.note(chunk.unwrap_or_default());
            Ok(chunk)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_rests_is_late() {
        let (client, mut upload, activity) = upload();
        client.send(1 << 20).unwrap();
        assert_eq!(upload.next().await, Ok(Some(1 << 20)));
        let begun = Instant::now();

        assert_eq!(upload.next().await, Err(Late));

        assert_eq!(begun.elapsed().as_secs(), activity.limits.body_timeout.as_secs());
        assert!(activity.stop().is_cancelled(), "its connection ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_late_after_the_time_for_a_rest() {
        let (client, mut upload, activity) = upload();
        let begun = Instant::now();
        tokio::spawn(async move {
            while client.send(1).is_ok() {
                sleep(SECOND).await;
            }
        });

        while upload.next().await.is_ok() {}

        assert_eq!(begun.elapsed().as_secs(), activity.limits.body_timeout.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_as_fast_as_it_has_to_be_is_never_late() {
        let (client, mut upload, activity) = upload();
        let rate = usize::try_from(activity.limits.min_body_rate).unwrap();
        tokio::spawn(async move {
            for _ in 0..1000 {
                // A little more, as timers count in milliseconds.
                client.send(rate * 2 + 2).unwrap();
                sleep(SECOND * 2).await;
            }
        });

        while let Some(_chunk) = upload.next().await.unwrap() {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_does_not_read_is_not_its_clients_fault() {
        let (client, mut upload, activity) = upload();
        for _ in 0..20 {
            // It asks for more, and turns to something else before it comes.
            assert!(timeout(SECOND, upload.next()).await.is_err());
            client.send(600).unwrap();
            advance(activity.limits.body_timeout * 2).await;
            assert_eq!(upload.next().await, Ok(Some(600)));
        }
    }
}
