//! What a connection is doing, and since when: from this its deadlines follow.
//!
//! hyper has a timer of its own for request heads, which it makes and drops
//! with each request, and which counts the idle time before a head as part of
//! it. Here a connection has one timer, set again only when it fires or when a
//! head comes in pieces.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Clients, Peer, Proxies};
use crate::limit::{Limit, Tally};
use crate::shutdown::{GIVE_WAY, Stop};

/// How long a connection that is being closed may take for it, once no request runs.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an upload that nobody reads is taken in after its answer.
///
/// A socket closed with unread bytes in it is reset, and a client that is reset
/// while it sends may never see the answer that tells it to stop.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a guest may take to answer for an upload that failed because its client was too slow.
pub const LATE_TIMEOUT: Duration = Duration::from_secs(2);

/// How soon a connection that was dismissed is looked at again while a request runs.
const DISMISSED_LOOK: Duration = Duration::from_secs(1);

const NEVER: u64 = u64::MAX;

/// Shared by a connection, its socket and its requests. Times are in milliseconds from its start.
#[derive(Debug)]
pub struct Activity {
    /// What the client may do, from the generation that served when it came.
    pub limits: Clients,
    /// The proxies in front of us, from the same generation.
    proxies: Arc<Proxies>,
    peer: Peer,
    /// Whose connection it is, where a proxy has announced that.
    announced: OnceLock<Peer>,
    tally: Arc<Tally>,
    /// Asks for its end, as the process' stop does.
    stop: Stop,
    start: Instant,
    /// Whether what is read while no request runs is a head: on HTTP/2 it may be anything.
    reads_are_heads: AtomicBool,
    /// Requests whose response is not complete.
    requests: AtomicUsize,
    head_since: AtomicU64,
    idle_since: AtomicU64,
    /// A block of headers, or another frame, is there in part.
    block_since: AtomicU64,
    stalled_since: AtomicU64,
    closing_since: AtomicU64,
    /// Another process serves whoever comes.
    gives_way_since: AtomicU64,
    /// The upload of a request on HTTP/1 failed, as its client was too slow.
    late_since: AtomicU64,
    /// The last request's body was not read to its end.
    unread: AtomicBool,
    lingers_since: AtomicU64,
    /// When its age is reached, and NEVER once that has been seen.
    age_due: AtomicU64,
    /// It takes no more requests than that which is answered next.
    old: AtomicBool,
    dismissed: AtomicBool,
    /// An answer whose end is the connection's was cut.
    cut: AtomicBool,
    /// Its client takes nothing, and what waits for it is thrown away.
    abandoned: AtomicBool,
    /// What its client sent too much of.
    flood: OnceLock<Limit>,
}

/// What is done about a connection, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A head, or the first one, is not complete.
    Head,
    /// No request came.
    Idle,
    /// The client takes nothing.
    Stall,
    /// An upload that nobody reads has been taken in for long enough.
    Linger,
    /// The client was too slow with an upload, and there has been time to tell it.
    Late,
    /// It has been open for long.
    Age,
}

/// A request that runs. Dropping it says that its response is complete.
#[derive(Debug)]
pub struct Running(Arc<Activity>);

impl Activity {
    /// Of a connection that was accepted now.
    pub fn new(
        limits: Clients,
        proxies: Arc<Proxies>,
        peer: Peer,
        tally: Arc<Tally>,
        stop: Stop,
    ) -> Activity {
        Activity {
            age_due: AtomicU64::new(millis(jittered(limits.max_age))),
            limits,
            proxies,
            peer,
            announced: OnceLock::new(),
            tally,
            stop,
            start: Instant::now(),
            reads_are_heads: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            block_since: AtomicU64::new(NEVER),
            stalled_since: AtomicU64::new(NEVER),
            closing_since: AtomicU64::new(NEVER),
            gives_way_since: AtomicU64::new(NEVER),
            late_since: AtomicU64::new(NEVER),
            unread: AtomicBool::new(false),
            lingers_since: AtomicU64::new(NEVER),
            old: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            flood: OnceLock::new(),
        }
    }

    /// Whose connection it is: of whoever is at the other end, or of the client that a proxy announced.
    pub fn client(&self) -> Peer {
        *self.announced.get().unwrap_or(&self.peer)
    }

    /// Whether it begins with a PROXY header.
    pub fn is_announced(&self) -> bool {
        self.proxies.announcing.contains(self.peer)
    }

    /// A PROXY header says whose connection it is.
    pub fn announce(&self, client: IpAddr) {
        let _ = self.announced.set(client.into());
    }

    /// As whose it is counted among the connections of one address. As nobody's where it is a
    /// proxy's, which has those of many clients, or where there is no address.
    pub fn counted_as(&self) -> Option<IpAddr> {
        let client = self.client();
        let is_proxy = self.proxies.trusted.contains(client)
            || self.announced.get().is_none() && self.is_announced();
        match client {
            Peer::Ip(ip) if !is_proxy => Some(ip),
            Peer::Ip(_) | Peer::Unix => None,
        }
    }

    /// Cancelled when the connection is to end.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// When the first head has to be complete, for as long as nothing else is known.
    pub fn head_due(&self) -> Instant {
        self.start + self.limits.head_timeout
    }

    /// The handshake is over: what it took is not the first head's.
    pub fn shaken(&self) {
        let now = self.now();
        self.head_since.store(now, Relaxed);
        self.idle_since.store(now, Relaxed);
    }

    /// The protocol is HTTP/1: all that comes while no request runs is a head.
    pub fn reads_are_heads(&self) {
        self.reads_are_heads.store(true, Relaxed);
    }

    /// A request's head is complete.
    pub fn begin(self: &Arc<Self>) -> Running {
        self.requests.fetch_add(1, Relaxed);
        self.head_since.store(NEVER, Relaxed);
        self.unread.store(false, Relaxed);
        Running(Arc::clone(self))
    }

    /// On HTTP/2, a block of headers or a frame has begun that is not complete, or is.
    ///
    /// Nothing else can come before its end, whatever runs.
    pub fn block(&self, open: bool) {
        let was_open = self.block_since.load(Relaxed) != NEVER;
        if open != was_open {
            self.block_since.store(if open { self.now() } else { NEVER }, Relaxed);
        }
    }

    /// The request's body is dropped before its end.
    pub fn leave_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// On HTTP/1, the client of the request that runs was too slow with its body.
    pub fn end_late(&self) {
        self.late_since.store(self.now(), Relaxed);
        self.stop.cancel();
    }

    /// The connection is to go once no request runs, and nobody waits for its goodbye.
    pub fn dismiss(&self) {
        self.dismissed.store(true, Relaxed);
    }

    /// Whether it was dismissed, and no request runs.
    pub fn is_dismissed(&self) -> bool {
        self.dismissed.load(Relaxed) && self.requests.load(Relaxed) == 0
    }

    /// Since when no request runs. None while one does.
    pub fn rests_since(&self) -> Option<Instant> {
        let rests = self.requests.load(Relaxed) == 0;
        rests.then(|| self.start + Duration::from_millis(self.idle_since.load(Relaxed)))
    }

    /// The connection is told to take no more requests.
    pub fn close(&self) {
        self.closing_since.store(self.now(), Relaxed);
    }

    /// Whether it was told to take no more requests.
    pub fn is_closing(&self) -> bool {
        self.closing_since.load(Relaxed) != NEVER
    }

    /// On HTTP/1, whether it was told to end because another process serves whoever comes. Its
    /// next answer is then the last, and says so; it is closed when none was asked for in a while.
    pub fn gives_way(&self) -> bool {
        if self.stop.handed_over().is_none() || self.dismissed.load(Relaxed) {
            return false;
        }
        if self.gives_way_since.load(Relaxed) == NEVER {
            self.gives_way_since.store(self.now(), Relaxed);
            self.retire();
        }
        true
    }

    /// The connection's age is reached: on HTTP/1 the next answer says so.
    pub fn retire(&self) {
        self.age_due.store(NEVER, Relaxed);
        self.old.store(true, Relaxed);
    }

    /// Whether its age is reached.
    pub fn is_old(&self) -> bool {
        self.old.load(Relaxed)
    }

    /// Its client sent too much of something: it is ended for that.
    pub fn flooded(&self, limit: Limit) {
        let _ = self.flood.set(limit);
    }

    /// What its client sent too much of, if it was ended for that.
    pub fn flood(&self) -> Option<Limit> {
        self.flood.get().copied()
    }

    /// Where limits are counted that clients reach.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Counts a limit that this client has reached.
    pub fn reached(&self, limit: Limit) {
        self.tally.reached(limit, self.client());
    }

    /// What is to be done if nothing happens until then.
    pub fn due(&self) -> Option<(Instant, Due)> {
        let lingers = after(&self.lingers_since, LINGER_TIMEOUT);
        let (at, due) = if lingers != NEVER {
            (lingers, Due::Linger)
        } else {
            let limits = &self.limits;
            let rest = match self.requests.load(Relaxed) {
                0 => self.rest_due(),
                _ => (NEVER, Due::Idle),
            };
            let stall = (after(&self.stalled_since, limits.write_timeout), Due::Stall);
            let block = (after(&self.block_since, limits.head_timeout), Due::Head);
            let late = (after(&self.late_since, LATE_TIMEOUT), Due::Late);
            let age = (self.age_due.load(Relaxed), Due::Age);
            let least = |a: (u64, Due), b: (u64, Due)| if b.0 < a.0 { b } else { a };
            [stall, block, late, age].into_iter().fold(rest, least)
        };
        (at != NEVER).then(|| (self.start + Duration::from_millis(at), due))
    }

    /// What is due of a connection on which no request runs.
    fn rest_due(&self) -> (u64, Due) {
        let closing = self.closing_since.load(Relaxed);
        if closing != NEVER {
            // Nothing is awaited any more but the other end's goodbye.
            let since = closing.max(self.idle_since.load(Relaxed));
            return (since.saturating_add(millis(CLOSE_TIMEOUT)), Due::Idle);
        }
        let gives_way = self.gives_way_since.load(Relaxed);
        if gives_way != NEVER {
            let since = gives_way.max(self.idle_since.load(Relaxed));
            return (since.saturating_add(millis(GIVE_WAY)), Due::Idle);
        }
        match after(&self.head_since, self.limits.head_timeout) {
            NEVER => (after(&self.idle_since, self.limits.keep_alive_timeout), Due::Idle),
            head => (head, Due::Head),
        }
    }

    /// After how long to look again at a connection of which nothing is due before.
    ///
    /// On HTTP/2 a request may end without the connection's task being woken.
    pub fn look_again(&self) -> Duration {
        match self.dismissed.load(Relaxed) {
            true => DISMISSED_LOOK,
            false => self.limits.keep_alive_timeout,
        }
    }

    /// No more is written to the client. Whether what it still sends is to be taken in for a while.
    pub fn linger(&self) -> bool {
        let unread = self.unread.load(Relaxed);
        if unread {
            self.lingers_since.store(self.now(), Relaxed);
        }
        unread
    }

    /// The connection ends, and what its client has not taken is thrown away.
    pub fn abandon(&self) {
        self.abandoned.store(true, Relaxed);
    }

    /// Whether what its client has not taken is thrown away.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Relaxed)
    }

    /// Whether the connection has to end in a way that its peer takes for an error.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed()).min(NEVER - 1)
    }

    /// Something came from the client.
    pub fn has_read(&self) {
        if self.requests.load(Relaxed) == 0
            && self.head_since.load(Relaxed) == NEVER
            && self.reads_are_heads.load(Relaxed)
        {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// Whether the client takes nothing of what is written to it.
    pub fn is_stalled(&self) -> bool {
        self.stalled_since.load(Relaxed) != NEVER
    }

    /// The client takes what is written to it, or not now.
    pub fn has_written(&self, progress: bool) {
        if progress == self.is_stalled() {
            self.stalled_since.store(if progress { NEVER } else { self.now() }, Relaxed);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER)
}

/// `limit` later than `since`, which may be never.
fn after(since: &AtomicU64, limit: Duration) -> u64 {
    since.load(Relaxed).saturating_add(millis(limit))
}

/// A tenth more or less, so that connections that came together do not go together.
fn jittered(age: Duration) -> Duration {
    // Its keys are random, and differ each time.
    let random = RandomState::new().hash_one(0_u8);
    let part = (random % 2001) as f64 / 10_000.0;
    age.mul_f64(0.9 + part)
}

impl Running {
    /// Where limits are counted that its client reaches.
    pub fn tally(&self) -> &Tally {
        self.0.tally()
    }

    /// The answer is cut, and only a connection that is reset says so: to HTTP/1.0 its end is the answer's.
    pub fn cut(&self) {
        self.0.cut.store(true, Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Before the count, so that nobody sees an idle connection with an old time.
        self.0.idle_since.store(self.0.now(), Relaxed);
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
#[path = "activity_tests.rs"]
pub mod tests;
