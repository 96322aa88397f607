//! One connection: handshake and protocol, with the limits of the manifest that served when it came.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::activity::{Activity, Due};
use super::caps::Place;
use super::drive::{End, drive};
use super::frames::Frames;
use super::listener::Scheme;
use super::paced::Paced;
use super::preface::is_http2;
use super::sizes::head_end;
use super::stream::limited;
use super::watched::{Reset, Watched};
use super::{service, tls};
use crate::config::{Clients, Host};
use crate::generation::Current;
use crate::limit::Tally;
use crate::shutdown::Shutdown;

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
    acceptor: TlsAcceptor,
    tally: Arc<Tally>,
    shutdown: Shutdown,
}

/// Who is at the other end, for each of its requests.
pub struct Client {
    pub current: Arc<Current>,
    pub scheme: Scheme,
    /// The client's IP address.
    pub address: HeaderValue,
    /// The host that the handshake was for.
    pub named: Option<Host>,
    pub activity: Arc<Activity>,
    /// On HTTP/2, for how many of its requests guests may work, those included that it has given up.
    pub room: Option<Arc<Semaphore>>,
}

impl Client {
    /// Whether so many answers are under way on the connection that each may hold only little.
    pub fn is_crowded(&self) -> bool {
        let most = self.activity.limits.max_streams.get();
        let room = self.room.as_ref();
        room.is_some_and(|room| most.saturating_sub(room.available_permits()) > WIDE_STREAMS)
    }
}

impl Front {
    pub fn new(current: Arc<Current>, tally: Arc<Tally>, shutdown: Shutdown) -> io::Result<Front> {
        let tls = tls::configure(Arc::clone(&current)).map_err(io::Error::other)?;
        Ok(Front { current, acceptor: TlsAcceptor::from(tls), tally, shutdown })
    }

    /// The limits of a connection that comes now are those of the manifest that serves now.
    pub fn accept(&self, client: IpAddr) -> Activity {
        let limits = self.current.load().config.clients.clone();
        Activity::new(limits, client, Arc::clone(&self.tally), self.shutdown.token())
    }

    /// Serves a connection to its end.
    pub async fn serve(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        scheme: Scheme,
        activity: &Arc<Activity>,
        place: &Place,
    ) {
        let ended = match scheme {
            Scheme::Http => self.serve_plain(stream, activity).await,
            Scheme::Https => self.serve_tls(stream, activity, place).await,
        };
        if let Err(reason) = ended {
            if let Some(limit) = reason.limit() {
                activity.reached(limit);
            }
            // The client's doing or its network's, and no news on a public address.
            debug!(%client, %scheme, %reason, "connection ended early");
        }
    }

    async fn serve_plain(&self, stream: TcpStream, activity: &Arc<Activity>) -> Result<(), End> {
        let told = tokio::select! {
            told = timeout_at(activity.head_due(), is_http2(&stream)) => told,
            () = activity.stop().cancelled() => return Ok(()),
        };
        let http2 = told.map_err(|_| End::Due(Due::Head))?.map_err(End::Lost)?;
        let stream = Paced::new(stream, Arc::clone(activity));
        self.speak(stream, Scheme::Http, http2, None, activity).await
    }

    async fn serve_tls(
        &self,
        stream: TcpStream,
        activity: &Arc<Activity>,
        place: &Place,
    ) -> Result<(), End> {
        // Counted by whom it could not be told apart from.
        let Ok(handshake) = place.handshake() else { return Ok(()) };
        let stream = Paced::new(stream, Arc::clone(activity));
        let shaken = tokio::select! {
            shaken = timeout(activity.limits.handshake_timeout, self.acceptor.accept(stream)) => shaken,
            () = activity.stop().cancelled() => return Ok(()),
        };
        drop(handshake);
        let stream = shaken.map_err(|_| End::HandshakeTimeout)?.map_err(End::Handshake)?;
        activity.shaken();
        let (_, session) = stream.get_ref();
        let http2 = session.alpn_protocol() == Some(tls::H2);
        let named = session.server_name().and_then(Host::from_authority);
        self.speak(stream, Scheme::Https, http2, named, activity).await
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
        scheme: Scheme,
        http2: bool,
        named: Option<Host>,
        activity: &Arc<Activity>,
    ) -> Result<(), End> {
        let frames = http2.then(Frames::new);
        let io = TokioIo::new(Watched::new(stream, Arc::clone(activity), frames));
        let client = Arc::new(Client {
            current: Arc::clone(&self.current),
            scheme,
            address: HeaderValue::try_from(activity.client().to_string())
                .map_err(|_| End::Address)?,
            named,
            activity: Arc::clone(activity),
            room: http2.then(|| Arc::new(Semaphore::new(activity.limits.max_streams.get()))),
        });
        let respond = service_fn(move |request: http::Request<Incoming>| {
            service::respond(Arc::clone(&client), request)
        });
        if http2 {
            let spawn = Spawn { shutdown: self.shutdown.clone(), activity: Arc::clone(activity) };
            drive(http2_with(&activity.limits, spawn).serve_connection(io, respond), activity).await
        } else {
            activity.reads_are_heads();
            drive(http1_with(&activity.limits).serve_connection(io, respond), activity).await
        }
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

/// Spawns the streams of HTTP/2 connections as tasks that the shutdown waits for.
#[derive(Clone)]
pub struct Spawn {
    shutdown: Shutdown,
    activity: Arc<Activity>,
}

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        drop(self.shutdown.spawn(limited(stream, Arc::clone(&self.activity))));
    }
}
