//! HTTP/3 on one QUIC connection: its requests, its deadlines, and its end.
//!
//! h3 speaks the protocol. `transport` is quinn as h3 wants it, `frames` what h3 is handed of what a
//! client sends, `budget` how much of it that is, `shared` what the streams of a connection have in common, `request` one request,
//! and `upload` its body.

mod budget;
mod frames;
mod request;
mod shared;
mod transport;
mod upload;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h3::error::ConnectionError;
use h3::server::Connection;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use self::budget::section_max;
use self::shared::Shared;
use self::transport::Transport;
use super::activity::{Activity, CLOSE_TIMEOUT, Due};
use super::connection::Client;
use super::drive::End;
use super::stream::limited;
use crate::shutdown::GIVE_WAY;

/// How long requests that were on their way when the connection began to close may take to come,
/// and the last word about them to arrive: in round trips, and at the most.
const GRACE_ROUND_TRIPS: u32 = 2;
const GRACE_MAX: Duration = Duration::from_secs(1);

/// More requests than a connection can have.
const ALL: usize = usize::MAX;

/// Serves a connection until it ends, is told to, or is at a deadline.
pub async fn serve(connection: quinn::Connection, client: Arc<Client>) -> Result<(), End> {
    let activity = Arc::clone(&client.activity);
    let shared = Arc::new(Shared::new(connection.clone(), Arc::clone(&activity)));
    let transport = Transport::new(connection.clone(), Arc::clone(&shared));
    let mut settings = h3::server::builder();
    settings.send_grease(false).max_field_section_size(section_max(&activity.limits));
    let begun = tokio::select! {
        // A client that has no room for our first streams would keep us here.
        begun = timeout(activity.limits.head_timeout, settings.build(transport)) => begun,
        () = activity.stop().in_a_hurry() => return Ok(()),
    };
    let http3 = begun.map_err(|_| End::Due(Due::Head))?.map_err(End::Http3)?;

    let mut requests = JoinSet::new();
    let ended =
        Driven { http3, connection, client, shared, closing: None }.drive(&mut requests).await;
    // What still runs has no connection any more.
    requests.shutdown().await;
    match activity.flood() {
        Some(limit) => Err(End::Flood(limit)),
        None => ended,
    }
}

struct Driven {
    http3: Connection<Transport, Bytes>,
    connection: quinn::Connection,
    client: Arc<Client>,
    shared: Arc<Shared>,
    closing: Option<Closing>,
}

/// How far the end has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// The client knows, and what it sent before that still comes, until then.
    Grace(Instant),
    /// The client is told which requests were the last. It has had time to hear that then.
    Last(Instant),
}

impl Driven {
    /// Runs requests as they come, each in a task of its own.
    async fn drive(mut self, requests: &mut JoinSet<()>) -> Result<(), End> {
        let activity = Arc::clone(&self.client.activity);
        let mut stop = pin!(activity.stop().cancelled());
        let mut timer = pin!(sleep_until(activity.head_due()));
        loop {
            if let Some(Closing::Last(heard)) = self.closing
                && heard <= Instant::now()
                && requests.is_empty()
            {
                return Ok(());
            }
            if activity.is_dismissed() {
                return Err(End::Dismissed);
            }
            let wake = match self.due(&activity).await? {
                Some(wake) => wake,
                None => continue,
            };
            timer.as_mut().reset(wake);
            tokio::select! {
                biased;
                () = &mut stop, if self.closing.is_none() && self.gives_way_until().is_none() => {
                    if self.gives_way_until().is_none() {
                        self.close().await;
                    }
                }
                Some(_ended) = requests.join_next() => {}
                accepted = self.http3.accept() => match accepted {
                    Ok(Some(resolver)) => {
                        let Some(gone) = self.shared.take_last() else { continue };
                        let (client, shared) = (Arc::clone(&self.client), Arc::clone(&self.shared));
                        let request = request::serve(resolver, gone, client, shared);
                        requests.spawn(limited(request, Arc::clone(&activity)));
                    }
                    Ok(None) => return Ok(()),
                    Err(error) => return ended(error),
                },
                () = &mut timer => {}
            }
        }
    }

    /// Does what is due, or says when to look again.
    async fn due(&mut self, activity: &Activity) -> Result<Option<Instant>, End> {
        let now = Instant::now();
        let mut wake = now + activity.look_again();
        if let Some(until) = self.gives_way_until() {
            wake = wake.min(until);
        }
        match self.closing {
            Some(Closing::Grace(until)) if until <= now => {
                self.end_grace().await;
                return Ok(None);
            }
            Some(Closing::Grace(until) | Closing::Last(until)) if until > now => {
                wake = wake.min(until);
            }
            _ => {}
        }
        match activity.due() {
            Some((at, _)) if at > now => Ok(Some(wake.min(at))),
            Some((_, Due::Age)) => {
                activity.retire();
                self.close().await;
                Ok(None)
            }
            Some((_, Due::Idle)) if self.closing.is_none() => {
                self.close().await;
                Ok(None)
            }
            Some((_, due)) => Err(End::Due(due)),
            None => Ok(Some(wake)),
        }
    }

    /// Takes no more requests but those that are on their way.
    async fn close(&mut self) {
        if self.closing.is_some() {
            return;
        }
        self.client.activity.close();
        if !self.shared.has_accepted() {
            // The first GOAWAY says so then.
            return self.end_grace().await;
        }
        self.closing = Some(Closing::Grace(self.grace_ends()));
        self.say_goodbye(ALL).await;
    }

    async fn end_grace(&mut self) {
        self.closing = Some(Closing::Last(self.grace_ends()));
        self.shared.reject();
        // It names the first that was not accepted, which is one behind the last.
        self.say_goodbye(1).await;
    }

    /// Until when the first request is waited for, as another process serves whoever comes. None
    /// where nothing is waited for.
    fn gives_way_until(&self) -> Option<Instant> {
        let until = self.client.activity.stop().handed_over()? + GIVE_WAY;
        (!self.shared.has_accepted() && Instant::now() < until).then_some(until)
    }

    fn grace_ends(&self) -> Instant {
        let grace = match self.client.activity.stop().handed_over() {
            None => (self.connection.rtt() * GRACE_ROUND_TRIPS).min(GRACE_MAX),
            // A client may be slow to hear of it, and nothing is in a hurry.
            Some(_) => GRACE_MAX,
        };
        Instant::now() + grace
    }

    /// A client may have no room for it, and then learns it from the connection's end.
    async fn say_goodbye(&mut self, requests: usize) {
        let _ = timeout(CLOSE_TIMEOUT, self.http3.shutdown(requests)).await;
    }
}

/// Whether an end was one that clients bring about in good order.
fn ended(error: ConnectionError) -> Result<(), End> {
    match error {
        ConnectionError::Timeout { .. } => Ok(()),
        error if error.is_h3_no_error() => Ok(()),
        error => Err(End::Http3(error)),
    }
}
