//! One connection: handshake, protocol, limits, and its end.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::HeaderValue;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::activity::{Activity, Due, Reset, Watched};
use super::body::Body;
use super::caps::Place;
use super::listener::Scheme;
use super::preface::is_http2;
use super::stream::limited;
use super::{service, tls};
use crate::config::{Clients, Host};
use crate::generation::Current;
use crate::limit::{Limit, Tally};
use crate::shutdown::Shutdown;

/// Bytes of a request's line and headers, and of a chunked body's trailers.
const HEAD_MAX: usize = 32 * 1024;

/// Bytes of HTTP/1 that are read ahead, or wait to be written. The number of
/// headers is bounded by hyper at 100: to set that would cost an allocation per request.
const BUFFER_MAX: usize = 256 * 1024;

/// Bytes that a client may send ahead of the guest's reading, per stream and connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of a stream's answer that wait to be written.
const STREAM_BUFFER_MAX: usize = 64 * 1024;

/// Bytes of an HTTP/2 frame that a client may send.
const FRAME_MAX: u32 = 16 * 1024;

/// Bytes of the table of header fields that a client may refer to.
const HEADER_TABLE_MAX: u32 = 4 * 1024;

/// Streams that a client has reset and nobody has looked at yet; more is an attack (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;

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
}

impl Front {
    pub fn new(
        current: Arc<Current>,
        tally: Arc<Tally>,
        shutdown: Shutdown,
    ) -> io::Result<Front> {
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
        let io = TokioIo::new(Watched::new(stream, Arc::clone(activity)));
        let client = Arc::new(Client {
            current: Arc::clone(&self.current),
            scheme,
            // An IPv4 client of a listener for both kinds has an IPv6 form that nobody wants to see.
            address: HeaderValue::try_from(activity.client().to_canonical().to_string())
                .map_err(|_| End::Address)?,
            named,
            activity: Arc::clone(activity),
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
fn http1_with(_limits: &Clients) -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        // `Activity` has the limit on heads, and on the idle time before them.
        .header_read_timeout(None)
        .max_header_size(HEAD_MAX)
        .max_buf_size(BUFFER_MAX);
    http1
}

/// HTTP/2 as these limits have it.
fn http2_with(limits: &Clients, spawn: Spawn) -> http2::Builder<Spawn> {
    let mut http2 = http2::Builder::new(spawn);
    http2
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_MAX as u32)
        .header_table_size(HEADER_TABLE_MAX)
        .max_frame_size(FRAME_MAX)
        .max_concurrent_streams(u32::try_from(limits.max_streams.get()).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_BUFFER_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    http2
}

/// Runs a connection until it ends, is told to, or is at a deadline.
async fn drive<C: Connection>(connection: C, activity: &Activity) -> Result<(), End> {
    let mut stop = pin!(activity.stop().cancelled());
    let mut connection = pin!(connection);
    let mut timer = pin!(sleep_until(activity.head_due()));
    poll_fn(|cx| {
        loop {
            if !activity.is_closing() && stop.as_mut().poll(cx).is_ready() {
                activity.close();
                connection.as_mut().close();
            }
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended.map_err(End::Http));
            }
            if activity.is_dismissed() {
                connection.as_mut().close();
                // It says so if that can be done at once. Dropping it closes the socket.
                let _ = connection.as_mut().poll(cx);
                return Poll::Ready(Err(End::Dismissed));
            }

            let now = Instant::now();
            let mut look_again = now + activity.look_again();
            if let Some((at, due)) = activity.due() {
                if at > now {
                    look_again = look_again.min(at);
                } else {
                    match due {
                        Due::Age if C::CLOSES_IN_ITS_OWN_TIME => {
                            activity.retire();
                            activity.close();
                            connection.as_mut().close();
                        }
                        Due::Age => activity.retire(),
                        Due::Idle if !activity.is_closing() => {
                            activity.close();
                            connection.as_mut().close();
                        }
                        // Dropping it closes the socket.
                        due => return Poll::Ready(Err(End::Due(due))),
                    }
                    continue;
                }
            }
            if look_again < timer.deadline() {
                timer.as_mut().reset(look_again);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // It was set for something that is past.
            timer.as_mut().reset(look_again);
        }
    })
    .await
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Lost(io::Error),
    #[error("handshake failed: {0}")]
    Handshake(io::Error),
    #[error("handshake took too long")]
    HandshakeTimeout,
    #[error("{0}")]
    Http(hyper::Error),
    #[error("deadline: {0:?}")]
    Due(Due),
    #[error("its place was wanted, or its client was too slow")]
    Dismissed,
    #[error("its address cannot be written")]
    Address,
}

impl End {
    /// The limit that was reached, where nobody has counted it yet.
    fn limit(&self) -> Option<Limit> {
        match self {
            End::HandshakeTimeout => Some(Limit::HandshakeTimeout),
            End::Due(Due::Head) => Some(Limit::HeadTimeout),
            End::Due(Due::Stall) => Some(Limit::WriteTimeout),
            // An upload counts its own end, and the others are the usual ends of connections.
            End::Due(Due::Idle | Due::Linger | Due::Late | Due::Age) => None,
            End::Lost(_) | End::Handshake(_) | End::Http(_) | End::Dismissed | End::Address => None,
        }
    }
}

/// What hyper's two kinds of connection have in common.
trait Connection: Future<Output = hyper::Result<()>> {
    /// Whether a close tells the client, and still takes what it had sent before it knew.
    ///
    /// HTTP/1 has no words for it but an answer's.
    const CLOSES_IN_ITS_OWN_TIME: bool;

    /// Takes no more requests, and ends when those that run have their answers.
    fn close(self: Pin<&mut Self>);
}

impl<I, S> Connection for http1::Connection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const CLOSES_IN_ITS_OWN_TIME: bool = false;

    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Connection for http2::Connection<I, S, Spawn>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const CLOSES_IN_ITS_OWN_TIME: bool = true;

    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Spawns the streams of HTTP/2 connections as tasks that the shutdown waits for.
#[derive(Clone)]
struct Spawn {
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
