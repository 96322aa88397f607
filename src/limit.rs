//! Limits that were reached: each is counted, and said in the log by its name in the manifest.
//!
//! A hostile tenant or client reaches its limits as often as it likes, so a
//! limit is logged at once and then at most once a second, with how often it
//! was reached meanwhile: the log tells all and cannot be flooded.

mod bucket;
mod clients;
mod network;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tracing::warn;

pub(crate) use bucket::Bucket;
pub use clients::{ClientBuckets, Rate, Taken};
pub use network::Network;

/// How long a limit that was logged is only counted.
const QUIET: Duration = Duration::from_secs(1);

/// Warnings about one app's failures in the log: a second in the long run, and at once.
const WARNINGS_RATE: NonZeroUsize = NonZeroUsize::new(10).expect("written here, not zero");
const WARNINGS_BURST: NonZeroUsize = NonZeroUsize::new(100).expect("written here, not zero");

/// Declares the limits with the names that logs and metrics give them.
macro_rules! limits {
    ($($variant:ident => $name:literal,)+) => {
        /// What was reached. Its name is the manifest's key, where it has one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Limit {
            $($variant,)+
        }

        impl Limit {
            /// Every limit, in the order of [`Tally`]'s rows.
            pub const ALL: &[Limit] = &[$(Limit::$variant,)+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Limit::$variant => $name,)+
                }
            }
        }
    };
}

limits! {
    // An app's.
    CpuTime => "cpu_time",
    Memory => "memory",
    AppMemory => "app_memory",
    MaxInFlight => "max_in_flight",
    Queue => "queue",
    QueueTimeout => "queue_timeout",
    MaxRequestBody => "max_request_body",
    MaxResponseBody => "max_response_body",
    LogRate => "log_rate",
    Warnings => "warnings",
    Outbound => "outbound",
    MaxOutbound => "max_outbound",
    OutboundTimeout => "outbound_timeout",
    MaxOutboundBody => "max_outbound_body",
    OutboundConnections => "outbound_connections",
    KeptProfiles => "profile.kept",
    // The node's.
    ServerMemory => "server.memory",
    Instances => "instances",
    // Of the node as well: a constant in `traces::export`.
    TracesQueue => "traces.queue",
    // Clients'.
    MaxConnections => "clients.max_connections",
    MaxConnectionsPerAddress => "clients.max_connections_per_address",
    MaxHandshakes => "clients.max_handshakes",
    HandshakeTimeout => "clients.handshake_timeout",
    HeadTimeout => "clients.head_timeout",
    BodyTimeout => "clients.body_timeout",
    MinBodyRate => "clients.min_body_rate",
    WriteTimeout => "clients.write_timeout",
    MaxHead => "clients.max_head",
    MaxHeaders => "clients.max_headers",
    MaxUri => "clients.max_uri",
    // What is refused of proxies.
    ProxyProtocol => "server.proxy_protocol",
    // Of a route's clients.
    RateLimit => "rate_limit",
    PasswordAttempts => "basic_auth.attempts",
    PasswordChecks => "basic_auth.checks",
    RememberedClients => "remembered_clients",
    // Of all clients together; they are constants in `server::bounds` and `server::files::disk`.
    FileReads => "files.reads",
    OpenFiles => "files.open",
    CompressedStreams => "compress.streams",
    // Of one HTTP/2 connection; they are constants in `server::frames` and `server::connection`.
    H2Resets => "h2.resets",
    H2Pings => "h2.pings",
    H2Settings => "h2.settings",
    H2Priorities => "h2.priorities",
    H2WindowUpdates => "h2.window_updates",
    H2Data => "h2.data",
    H2Continuations => "h2.continuations",
    H2Unknown => "h2.unknown",
    H2Errors => "h2.errors",
    H2Abandoned => "h2.abandoned",
    // Of HTTP/3 and its connections; they are constants in `server::quic` and `server::http3`.
    H3Unvalidated => "h3.unvalidated",
    H3Frames => "h3.frames",
    H3Data => "h3.data",
    H3Resets => "h3.resets",
    // A compilation's.
    CompileCpuTime => "compile.cpu_time",
    CompileTimeout => "compile.timeout",
    CompileMemory => "compile.memory",
}

/// How often each limit of one app, or of all clients, was reached.
#[derive(Debug)]
pub struct Tally {
    app: Option<Arc<str>>,
    rows: [Row; Limit::ALL.len()],
    /// What the app may write into the log, and what may be written there about it.
    lines: Bucket,
    warnings: Bucket,
    profiles_lost: AtomicU64,
    /// For the task that says later what was only counted.
    me: Weak<Tally>,
}

#[derive(Debug, Default)]
struct Row {
    reached: AtomicU64,
    /// Of those, how many the log has told.
    told: AtomicU64,
    /// When it was told last, which is at most [`QUIET`] after it was reached. Seconds since 1970.
    last: AtomicU64,
    quiet: AtomicBool,
}

impl Tally {
    /// Nothing was reached yet; `app` stands in the log lines.
    pub fn new(app: Option<Arc<str>>) -> Arc<Tally> {
        Arc::new_cyclic(|me| Tally {
            app,
            rows: std::array::from_fn(|_| Row::default()),
            lines: Bucket::new(),
            warnings: Bucket::new(),
            profiles_lost: AtomicU64::new(0),
            me: me.clone(),
        })
    }

    /// Whether the app may write another line into the log. Who is refused counts it as reached.
    pub fn may_write(&self, rate: NonZeroUsize, burst: NonZeroUsize) -> bool {
        self.lines.take(rate, burst)
    }

    /// Whether another failure of the app may be logged by itself. A line about each of
    /// 10,000 traps a second would push out what is said of other apps; those left out are counted.
    pub fn may_warn(&self) -> bool {
        let may = self.warnings.take(WARNINGS_RATE, WARNINGS_BURST);
        if !may {
            self.reached(Limit::Warnings, "its failures");
        }
        may
    }

    /// A profile of the app could not be written: the disk's limit, and none of the manifest's.
    pub fn lose_profile(&self) {
        self.profiles_lost.fetch_add(1, Relaxed);
    }

    /// How many were lost.
    pub fn profiles_lost(&self) -> u64 {
        self.profiles_lost.load(Relaxed)
    }

    /// `limit` was reached. `by` says in the log line who or what reached it.
    pub fn reached(&self, limit: Limit, by: impl fmt::Display) {
        self.reached_often(limit, 1, by);
    }

    /// As [`Tally::reached`], for what was reached several times at once.
    pub fn reached_often(&self, limit: Limit, times: u64, by: impl fmt::Display) {
        let row = &self.rows[limit as usize];
        row.reached.fetch_add(times, SeqCst);
        if row.quiet.swap(true, SeqCst) {
            return;
        }
        self.tell(limit, &by);
        match (Handle::try_current(), self.me.upgrade()) {
            (Ok(runtime), Some(tally)) => drop(runtime.spawn(tally.pause(limit))),
            // Nothing could say later what is only counted now.
            (Err(_), _) | (_, None) => row.quiet.store(false, SeqCst),
        }
    }

    /// How often `limit` was reached.
    pub fn times(&self, limit: Limit) -> u64 {
        self.rows[limit as usize].reached.load(Relaxed)
    }

    /// The limits that were reached: how often, and when for the last time, to the second.
    pub fn reached_so_far(&self) -> impl Iterator<Item = (Limit, u64, SystemTime)> {
        let rows = Limit::ALL.iter().zip(&self.rows);
        rows.filter_map(|(limit, row)| {
            let times = row.reached.load(Relaxed);
            let last = UNIX_EPOCH + Duration::from_secs(row.last.load(Relaxed));
            (times > 0).then_some((*limit, times, last))
        })
    }

    /// Says after a while how often the limit was reached meanwhile, for as long as it is.
    ///
    /// It ends within [`QUIET`] of the last time, and is no work to wait for.
    async fn pause(self: Arc<Self>, limit: Limit) {
        let row = &self.rows[limit as usize];
        loop {
            tokio::time::sleep(QUIET).await;
            if row.is_told() {
                row.quiet.store(false, SeqCst);
                // Who came in between saw that it was quiet, and left it to us.
                if row.is_told() || row.quiet.swap(true, SeqCst) {
                    return;
                }
            }
            self.tell(limit, &"meanwhile");
        }
    }

    fn tell(&self, limit: Limit, by: &dyn fmt::Display) {
        let row = &self.rows[limit as usize];
        let reached = row.reached.load(SeqCst);
        let times = reached.saturating_sub(row.told.swap(reached, SeqCst));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        row.last.store(now.as_secs(), Relaxed);
        warn!(app = self.app.as_deref(), limit = limit.name(), times, %by, "a limit was reached");
    }
}

impl Row {
    fn is_told(&self) -> bool {
        self.reached.load(SeqCst) == self.told.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_counted_each_time_and_told_in_the_end() {
        let tally = Tally::new(Some("app".into()));
        for _ in 0..1000 {
            tally.reached(Limit::CpuTime, "a request");
        }
        let row = &tally.rows[Limit::CpuTime as usize];
        assert_eq!((tally.times(Limit::CpuTime), row.told.load(Relaxed)), (1000, 1));

        tokio::time::sleep(QUIET * 3).await;
        assert_eq!(row.told.load(Relaxed), 1000);
        assert!(!tally.rows[Limit::CpuTime as usize].quiet.load(Relaxed));
        assert_eq!(tally.times(Limit::Memory), 0);
    }

    #[test]
    fn outside_of_a_runtime_each_time_is_told() {
        let tally = Tally::new(None);
        tally.reached(Limit::Memory, "a test");
        tally.reached(Limit::Memory, "a test");
        assert_eq!(tally.rows[Limit::Memory as usize].told.load(Relaxed), 2);
    }

    #[test]
    fn an_app_that_always_fails_is_warned_about_now_and_then() {
        let tally = Tally::new(Some("app".into()));
        let warned = (0..10_000).filter(|_| tally.may_warn()).count();
        assert!((100..200).contains(&warned), "{warned}");
        assert_eq!(tally.times(Limit::Warnings), 10_000 - warned as u64);
    }

    #[test]
    fn each_limit_has_a_row_of_its_own_name() {
        let mut names: Vec<_> = Limit::ALL.iter().map(|limit| limit.name()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Limit::ALL.len());
        assert!(Limit::ALL.iter().enumerate().all(|(row, limit)| *limit as usize == row));
    }
}
