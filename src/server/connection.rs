//! One connection: handshake and protocol, with the limits of the manifest that served when it came.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::activity::{Activity, Due};
use super::bind::Scheme;
use super::bounds::Bounds;
use super::caps::Place;
use super::drive::{End, drive};
use super::forwarded::{self, Sender};
use super::frames::Frames;
use super::listener::Entrance;
use super::paced::Paced;
use super::preface::is_http2;
use super::proxied::{Fault, read_header};
use super::service;
use super::sizes::head_end;
use super::socket::Socket;
use super::stream::limited;
use super::tls::{self, H2, Verified};
use super::watched::{Reset, Watched};
use crate::challenges::Challenges;
use crate::config::{Clients, Host, Peer, Proxies};
use crate::generation::Current;
use crate::limit::{Limit, Tally};
use crate::shutdown::Shutdown;
use crate::stats::{Protocol, Refused, Tls};
use crate::traces::Spans;

/// Bytes of HTTP/1 that are read ahead, or wait to be written.
const BUFFER_MAX: usize = 256 * 1024;

/// As many headers hyper takes by itself. To set another number costs an allocation per request.
const HYPER_HEADERS_MAX: usize = 100;

/// Bytes that a client may send ahead of the guest's reading, per stream and connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Answers at a time on an HTTP/2 connection that may hold as much memory as one on HTTP/1.
const WIDE_STREAMS: usize = 4;

/// Bytes of a stream's answer that wait to be written.
const STREAM_BUFFER_MAX: usize = 12 * 1024;

/// Bytes of an HTTP/2 frame that a client may send.
const FRAME_MAX: u32 = 16 * 1024;

/// Bytes of the table of header fields that a client may refer to.
const HEADER_TABLE_MAX: u32 = 4 * 1024;

/// Streams that we reset for a client's errors; more is an attack as well (CVE-2025-8671).
const LOCAL_RESETS_MAX: usize = 100;

/// An HTTP/2 client that answers no ping is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What all connections share.
pub struct Front {
    current: Arc<Current>,
    challenges: Arc<Challenges>,
    tls: tls::Tls,
    /// Where plain HTTP is sent, if HTTPS is served.
    https_port: Option<u16>,
    tally: Arc<Tally>,
    shutdown: Shutdown,
    bounds: Arc<Bounds>,
    spans: Spans,
}

/// Who is at the other end, for each of its requests.
pub struct Client {
    pub current: Arc<Current>,
    pub challenges: Arc<Challenges>,
    /// Whom its requests are from, where no trusted proxy says that of each.
    pub sender: Sender,
    /// The host that the handshake was for.
    pub named: Option<Host>,
    /// What is known of the client, if that host asks for its certificate.
    pub verified: Option<Verified>,
    pub https_port: Option<u16>,
    pub activity: Arc<Activity>,
    /// What tells the client that HTTP/3 is served as well, where it may not know that yet.
    pub alt_svc: Option<HeaderValue>,
    /// On HTTP/2 and HTTP/3, for how many of its requests guests may work, those included that it has given up.
    pub room: Option<Arc<Semaphore>>,
    /// What files and compression may take.
    pub bounds: Arc<Bounds>,
    /// Where the spans of its requests go.
    pub spans: Spans,
}

impl Client {
    /// Whom a request is from, where its connection is of a proxy that is trusted to say so.
    ///
    /// Asked for each request: who is trusted no more must not go on for as long as they stay.
    pub fn forwarded(&self, headers: &HeaderMap, proxies: &Proxies) -> Option<Sender> {
        let is_trusted = proxies.trusted.contains(self.sender.peer);
        is_trusted.then(|| forwarded::sender(headers, &self.sender, proxies))
    }

    /// Whether so many answers are under way on the connection that each may hold only little.
    pub fn is_crowded(&self) -> bool {
        let most = self.activity.limits.max_streams.get();
        let room = self.room.as_ref();
        room.is_some_and(|room| most.saturating_sub(room.available_permits()) > WIDE_STREAMS)
    }
}

impl Front {
    pub fn new(
        current: Arc<Current>,
        challenges: Arc<Challenges>,
        https_port: Option<u16>,
        tally: Arc<Tally>,
        spans: Spans,
        shutdown: Shutdown,
    ) -> io::Result<Front> {
        let tls = tls::Tls::new(Arc::clone(&current), Arc::clone(&challenges));
        let tls = tls.map_err(io::Error::other)?;
        let bounds = Arc::new(Bounds::new());
        Ok(Front { current, challenges, tls, https_port, tally, shutdown, bounds, spans })
    }

    /// The limits of a connection that comes now are those of the manifest that serves now.
    pub fn accept(&self, peer: Peer) -> Activity {
        let generation = self.current.load();
        let (limits, proxies) =
            (generation.config.clients.clone(), Arc::clone(&generation.config.server.proxies));
        Activity::new(limits, proxies, peer, Arc::clone(&self.tally), self.shutdown.connection())
    }

    /// Serves a connection to its end.
    pub async fn serve(
        &self,
        mut socket: Socket,
        entrance: &Entrance,
        activity: &Arc<Activity>,
        place: &Place,
    ) {
        let known = match activity.is_announced() {
            true => Box::pin(meet(&mut socket, entrance, activity, place)).await,
            false => Ok(true),
        };
        let ended = match (known, entrance.scheme) {
            (Err(reason), _) => Err(reason),
            (Ok(false), _) => Ok(()),
            (Ok(true), Scheme::Http) => self.serve_plain(socket, entrance, activity).await,
            (Ok(true), Scheme::Https) => self.serve_tls(socket, entrance, activity, place).await,
        };
        ended_early(ended, entrance.scheme.as_str(), activity);
    }

    /// Who is at the other end of a connection, which has `streams` or is HTTP/1.
    pub fn client(
        &self,
        scheme: Scheme,
        (named, verified): (Option<Host>, Option<Verified>),
        alt_svc: Option<HeaderValue>,
        streams: bool,
        activity: &Arc<Activity>,
    ) -> Arc<Client> {
        let room = || Arc::new(Semaphore::new(activity.limits.max_streams.get()));
        Arc::new(Client {
            current: Arc::clone(&self.current),
            challenges: Arc::clone(&self.challenges),
            sender: Sender::new(activity.client(), scheme),
            named,
            verified,
            https_port: self.https_port,
            activity: Arc::clone(activity),
            alt_svc,
            room: streams.then(room),
            bounds: Arc::clone(&self.bounds),
            spans: self.spans.clone(),
        })
    }

    async fn serve_plain(
        &self,
        socket: Socket,
        entrance: &Entrance,
        activity: &Arc<Activity>,
    ) -> Result<(), End> {
        let told = tokio::select! {
            told = timeout_at(activity.head_due(), is_http2(&socket)) => told,
            () = activity.stop().over() => return Ok(()),
        };
        let http2 = told.map_err(|_| End::Due(Due::Head))?.map_err(End::Lost)?;
        let stream = Paced::new(socket, Arc::clone(activity));
        let client = self.client(Scheme::Http, (None, None), None, http2, activity);
        entrance.counts.speaks(if http2 { Protocol::H2 } else { Protocol::H1 });
        self.speak(stream, http2, client).await
    }

    async fn serve_tls(
        &self,
        socket: Socket,
        entrance: &Entrance,
        activity: &Arc<Activity>,
        place: &Place,
    ) -> Result<(), End> {
        // Counted by whom it could not be told apart from.
        let counts = &entrance.counts;
        let Ok(handshake) = place.handshake() else {
            counts.refuse(Refused::Handshakes);
            return Ok(());
        };
        let begun = counts.shake();
        let stream = Paced::new(socket, Arc::clone(activity));
        let shaken = tokio::select! {
            shaken = timeout(activity.limits.handshake_timeout, self.tls.accept(stream)) => shaken,
            () = activity.stop().in_a_hurry() => return Ok(()),
        };
        drop(handshake);
        let shaken = shaken.map_err(|_| End::HandshakeTimeout)?.map_err(End::Handshake)?;
        begun.done();
        // The handshake may be all that an authority wanted.
        let Some((stream, verified)) = shaken else { return Ok(()) };
        activity.shaken();
        let (_, session) = stream.get_ref();
        let http2 = session.alpn_protocol() == Some(H2);
        let named = session.server_name().and_then(Host::from_authority);
        let tls13 = session.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        counts.protected(if tls13 { Tls::V1_3 } else { Tls::V1_2 });
        counts.speaks(if http2 { Protocol::H2 } else { Protocol::H1 });
        // Behind a proxy our port is not the one that clients know.
        let alt_svc = entrance.alt_svc.clone().filter(|_| !activity.is_announced());
        let alt_svc = alt_svc.filter(|_| verified.is_none());
        let client = self.client(Scheme::Https, (named, verified), alt_svc, http2, activity);
        self.speak(stream, http2, client).await
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
        http2: bool,
        client: Arc<Client>,
    ) -> Result<(), End> {
        let activity = &Arc::clone(&client.activity);
        let frames = http2.then(Frames::new);
        let io = TokioIo::new(Watched::new(stream, Arc::clone(activity), frames));
        let respond = service_fn(move |request: http::Request<Incoming>| {
            service::respond(Arc::clone(&client), request)
        });
        if http2 {
            let tasks = self.shutdown.tasks().clone();
            let spawn = Spawn(Arc::new(Streams { tasks, activity: Arc::clone(activity) }));
            drive(http2_with(&activity.limits, spawn).serve_connection(io, respond), activity).await
        } else {
            activity.reads_are_heads();
            drive(http1_with(&activity.limits).serve_connection(io, respond), activity).await
        }
    }
}

/// Learns from a PROXY header whose connection it is, and counts it as theirs. False where it is to end.
async fn meet(
    socket: &mut Socket,
    entrance: &Entrance,
    activity: &Arc<Activity>,
    place: &Place,
) -> Result<bool, End> {
    let header = tokio::select! {
        header = timeout_at(activity.head_due(), read_header(socket)) => header,
        () = activity.stop().over() => return Ok(false),
    };
    let client = match header.map_err(|_| End::Due(Due::Head))? {
        Ok(client) => client,
        Err(Fault::Lost(error)) => return Err(End::Lost(error)),
        Err(fault) => {
            // The operator has listed a proxy that does something else, and would not find it otherwise.
            let by = format_args!("{}, which sent {fault}", activity.client());
            activity.tally().reached(Limit::ProxyProtocol, by);
            entrance.counts.refuse(Refused::ProxyProtocol);
            return Err(End::Proxied(fault));
        }
    };
    if let Some(client) = client {
        activity.announce(client);
        if place.recount(activity).is_err() {
            entrance.counts.refuse(Refused::Address);
            // As one that is refused before it says anything.
            socket.reset();
            return Ok(false);
        }
    }
    Ok(true)
}

/// Counts the limit that ended a connection, if one did.
pub fn ended_early(ended: Result<(), End>, scheme: &'static str, activity: &Activity) {
    if let Err(reason) = ended {
        if let Some(limit) = reason.limit() {
            activity.reached(limit);
        }
        // The client's doing or its network's, and no news on a public address.
        debug!(client = %activity.client(), scheme, %reason, "connection ended early");
    }
}

/// HTTP/1 as these limits have it.
fn http1_with(limits: &Clients) -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        // `Activity` has the limit on heads, and on the idle time before them.
        .header_read_timeout(None)
        .max_header_size(head_end(limits))
        .max_buf_size(BUFFER_MAX.max(head_end(limits)));
    if limits.max_headers.get() > HYPER_HEADERS_MAX {
        http1.max_headers(limits.max_headers.get());
    }
    http1
}

/// HTTP/2 as these limits have it.
fn http2_with(limits: &Clients, spawn: Spawn) -> http2::Builder<Spawn> {
    let streams = limits.max_streams.get();
    let mut http2 = http2::Builder::new(spawn);
    http2
        .timer(TokioTimer::new())
        // Not `head_end`: h2 answers 431 up to a multiple of it, and only then ends a bomb.
        .max_header_list_size(u32::try_from(limits.max_head).unwrap_or(u32::MAX))
        .header_table_size(HEADER_TABLE_MAX)
        .max_frame_size(FRAME_MAX)
        .max_concurrent_streams(u32::try_from(streams).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_BUFFER_MAX)
        // Reset before anyone looked at them (CVE-2023-44487). As many as it may have, as a browser
        // whose page is left resets what it has just begun; `frames` bounds them over time.
        .max_pending_accept_reset_streams(streams)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    http2
}

/// Spawns the streams of an HTTP/2 connection as tasks that the shutdown waits for.
///
/// hyper makes a copy for each stream: of one reference, and not of what all connections share.
#[derive(Clone)]
pub struct Spawn(Arc<Streams>);

struct Streams {
    tasks: TaskTracker,
    activity: Arc<Activity>,
}

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Streams { tasks, activity } = &*self.0;
        drop(tasks.spawn(limited(stream, Arc::clone(activity))));
    }
}
