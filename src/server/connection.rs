//! One connection: handshake, protocol, limits, and its end.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
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
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::activity::{Activity, CLOSE_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, Limit, Reset, Watched};
use super::body::Body;
use super::frames::Frames;
use super::listener::Scheme;
use super::sizes::head_end;
use super::stream::limited;
use super::{service, tls};
use crate::config::Host;
use crate::generation::Current;
use crate::limit::{self, Tally};
use crate::shutdown::Shutdown;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of HTTP/1 that are read ahead, or wait to be written.
const BUFFER_MAX: usize = 256 * 1024;

/// As many headers hyper takes by itself. To set another number costs an allocation per request.
const HYPER_HEADERS_MAX: usize = 100;

/// Requests that run at once on an HTTP/2 connection.
const STREAMS_MAX: u32 = 128;

/// Bytes that a client may send ahead of the guest's reading, per stream and connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of a stream's answer that wait to be written.
const STREAM_BUFFER_MAX: usize = 12 * 1024;

/// Bytes of an HTTP/2 frame that a client may send.
const FRAME_MAX: u32 = 16 * 1024;

/// Bytes of the table of header fields that a client may refer to.
const HEADER_TABLE_MAX: u32 = 4 * 1024;

/// Streams that a client has reset before anyone looked at them (CVE-2023-44487). As many as it
/// may have, as a browser whose page is left resets what it has just begun; `frames` bounds them over time.
const PENDING_RESETS_MAX: usize = STREAMS_MAX as usize;

/// Streams that we reset for a client's errors; more is an attack as well (CVE-2025-8671).
const LOCAL_RESETS_MAX: usize = 100;

/// Why h2 ends a connection when its own limits are reached.
const CALM: h2::Reason = h2::Reason::ENHANCE_YOUR_CALM;

/// An HTTP/2 client that answers no ping is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// As much of it as tells it from every HTTP/1 request.
const PREFACE_TOLD: usize = 4;

/// How long to wait for the rest of a preface's first bytes.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);

/// What all connections share.
pub struct Front {
    current: Arc<Current>,
    acceptor: TlsAcceptor,
    http1: http1::Builder,
    http2: http2::Builder<Spawn>,
    shutdown: Shutdown,
    tally: Arc<Tally>,
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
    pub tally: Arc<Tally>,
}

impl Client {
    /// Counts in `tally` that this client has reached a limit.
    pub fn reached(&self, tally: &Tally, limit: limit::Limit) {
        tally.reached(limit, self.address.to_str().unwrap_or_default());
    }
}

impl Front {
    pub fn new(current: Arc<Current>, shutdown: Shutdown) -> io::Result<Front> {
        let tls = tls::configure(Arc::clone(&current)).map_err(io::Error::other)?;

        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // `Activity` has the limit on heads, and on the idle time before them.
            .header_read_timeout(None);

        let mut http2 = http2::Builder::new(Spawn(shutdown.clone()));
        http2
            .timer(TokioTimer::new())
            .header_table_size(HEADER_TABLE_MAX)
            .max_frame_size(FRAME_MAX)
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(STREAM_BUFFER_MAX)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_local_error_reset_streams(LOCAL_RESETS_MAX)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);

        Ok(Front {
            current,
            acceptor: TlsAcceptor::from(tls),
            http1,
            http2,
            shutdown,
            tally: Tally::new(None),
        })
    }

    /// Serves a connection to its end.
    pub async fn serve(&self, stream: TcpStream, client: SocketAddr, scheme: Scheme) {
        let stop = self.shutdown.token();
        let ended = match scheme {
            Scheme::Http => {
                let told = tokio::select! {
                    told = timeout(HEAD_TIMEOUT, is_http2(&stream)) => told,
                    () = stop.cancelled() => return,
                };
                match told {
                    Ok(Ok(http2)) => self.speak(stream, client, scheme, http2, None).await,
                    Ok(Err(error)) => Err(End::Lost(error)),
                    Err(_) => Err(End::Limit(Limit::Head)),
                }
            }
            Scheme::Https => {
                let shaken = tokio::select! {
                    shaken = timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)) => shaken,
                    () = stop.cancelled() => return,
                };
                match shaken {
                    Ok(Ok(stream)) => {
                        let (_, session) = stream.get_ref();
                        let http2 = session.alpn_protocol() == Some(tls::H2);
                        let named = session.server_name().and_then(Host::from_authority);
                        self.speak(stream, client, scheme, http2, named).await
                    }
                    Ok(Err(error)) => Err(End::Handshake(error)),
                    Err(_) => Err(End::HandshakeTimeout),
                }
            }
        };
        if let Err(reason) = ended {
            if let Some(limit) = reason.limit() {
                self.tally.reached(limit, client);
            }
            // The client's doing or its network's, and no news on a public address.
            debug!(%client, %scheme, %reason, "connection ended early");
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
        client: SocketAddr,
        scheme: Scheme,
        http2: bool,
        named: Option<Host>,
    ) -> Result<(), End> {
        let activity = Arc::new(Activity::new(!http2));
        let frames = http2.then(Frames::new);
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity), frames));
        let client = Arc::new(Client {
            current: Arc::clone(&self.current),
            scheme,
            // An IPv4 client of a listener for both kinds has an IPv6 form that nobody wants to see.
            address: HeaderValue::try_from(client.ip().to_canonical().to_string())
                .map_err(|_| End::Address)?,
            named,
            activity: Arc::clone(&activity),
            room: http2.then(|| Arc::new(Semaphore::new(STREAMS_MAX as usize))),
            tally: Arc::clone(&self.tally),
        });
        let respond = service_fn(move |request: http::Request<Incoming>| {
            service::respond(Arc::clone(&client), request)
        });
        let allowed = &self.current.load().config.clients;
        let head_end = head_end(allowed);
        if http2 {
            let mut http2 = self.http2.clone();
            // Not twice as much: h2 answers 431 up to a multiple of it, and only then ends a bomb.
            http2.max_header_list_size(u32::try_from(allowed.max_head).unwrap_or(u32::MAX));
            let ended = self.drive(http2.serve_connection(io, respond), &activity).await;
            // hyper is told of an error of the socket, and keeps no more of it than its text.
            activity.flood().map_or(ended, |limit| Err(End::Flood(limit)))
        } else {
            let mut http1 = self.http1.clone();
            http1.max_header_size(head_end).max_buf_size(BUFFER_MAX.max(head_end));
            if allowed.max_headers.get() > HYPER_HEADERS_MAX {
                http1.max_headers(allowed.max_headers.get());
            }
            self.drive(http1.serve_connection(io, respond), &activity).await
        }
    }

    /// Runs a connection until it ends, is told to by the shutdown, or is at a limit.
    async fn drive(&self, connection: impl Connection, activity: &Activity) -> Result<(), End> {
        let stop = self.shutdown.token();
        let mut stop = pin!(stop.cancelled());
        let mut connection = pin!(connection);
        let mut timer = pin!(sleep_until(Instant::now() + HEAD_TIMEOUT));
        let mut closing_since = None;
        poll_fn(|cx| {
            loop {
                if closing_since.is_none() && stop.as_mut().poll(cx).is_ready() {
                    closing_since = Some(Instant::now());
                    connection.as_mut().close();
                }
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    return Poll::Ready(ended.map_err(End::Http));
                }

                let due = match (activity.due(), closing_since) {
                    // Nothing is awaited any more but the other end's goodbye.
                    (Some((due, Limit::Idle | Limit::Head)), Some(since)) => {
                        let idle_since = due - IDLE_TIMEOUT;
                        Some((idle_since.max(since) + CLOSE_TIMEOUT, Limit::Idle))
                    }
                    (due, _) => due,
                };
                let now = Instant::now();
                match due {
                    Some((at, limit)) if at <= now => {
                        if limit != Limit::Idle || closing_since.is_some() {
                            // Dropping it closes the socket.
                            return Poll::Ready(Err(End::Limit(limit)));
                        }
                        closing_since = Some(now);
                        connection.as_mut().close();
                        continue;
                    }
                    Some((at, _)) if at < timer.deadline() => timer.as_mut().reset(at),
                    Some(_) | None => {}
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                // It was set for something that is past. A request that runs is looked at again after a while:
                // on HTTP/2 it may end without this task being woken.
                timer.as_mut().reset(due.map_or(now + IDLE_TIMEOUT, |(at, _)| at));
            }
        })
        .await
    }
}

/// Looks at the first bytes of a connection without TLS, and leaves them there.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE_TOLD];
    loop {
        let count = stream.peek(&mut seen).await?;
        let begun = count > 0 && PREFACE.starts_with(&seen[..count]);
        if !begun || count == PREFACE_TOLD {
            return Ok(begun);
        }
        // What was peeked at is still there, so waiting for the socket would not wait.
        sleep(PREFACE_PAUSE).await;
    }
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
    #[error("time limit: {0:?}")]
    Limit(Limit),
    #[error("flood: {}", .0.name())]
    Flood(limit::Limit),
    #[error("its address cannot be written")]
    Address,
}

impl End {
    /// What the client overdid, whether we noticed, or hyper or h2.
    fn limit(&self) -> Option<limit::Limit> {
        match self {
            End::Flood(limit) => Some(*limit),
            End::Http(error) if error.is_parse_too_large() => Some(limit::Limit::MaxHead),
            End::Http(error) => error
                .source()
                .and_then(|cause| cause.downcast_ref::<h2::Error>())
                .is_some_and(|cause| cause.is_library() && cause.reason() == Some(CALM))
                .then_some(limit::Limit::H2Errors),
            _ => None,
        }
    }
}

/// What hyper's two kinds of connection have in common.
trait Connection: Future<Output = hyper::Result<()>> {
    /// Takes no more requests, and ends when those that run have their answers.
    fn close(self: Pin<&mut Self>);
}

impl<I, S> Connection for http1::Connection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
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
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Spawns the streams of HTTP/2 connections as tasks that the shutdown waits for.
#[derive(Clone)]
struct Spawn(Shutdown);

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        drop(self.0.spawn(limited(stream)));
    }
}
