//! Binds the admin address, and serves it on a thread of its own: bounded, and whatever the others do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Admin;
use super::answer::{Body, Failure};
use super::door::{Door, LOGIN, refused};
use super::reserve::{Reserve, is_missing};
use super::router::{REQUEST_TIMEOUT, Router};
use super::routes::routes;
use super::token::Token;
use crate::config::{self, ListenAddress};
use crate::limit::Bucket;
use crate::server::{Given, Kept, Listening};
use crate::shutdown::Shutdown;
use crate::unix::{self, SocketFile};

/// What the process after this one knows the socket by.
const NAME: &str = "admin";

/// Connections at a time. One more takes the place of one that has not shown that it may ask.
const CONNECTIONS_MAX: usize = 32;

/// Connections that the kernel keeps for us until we accept them.
const BACKLOG: i32 = 64;

/// Descriptors kept for connections, where the process has no other left.
const RESERVED: usize = 8;

/// How long a connection may rest, and a head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of HTTP that are read ahead, or wait to be written.
const BUFFER_MAX: usize = 64 << 10;

/// Bytes of a request's body.
const BODY_MAX: usize = 64 << 10;

/// How long to wait when a connection cannot be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// How long answers may take to end once the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Threads for what blocks, such as looking at a file.
const BLOCKING_THREADS: usize = 4;

/// Why there is no admin address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "cannot listen for operators on {address}: {source}; name another as admin.listen, or write listen = false below [admin]"
    )]
    Address { address: ListenAddress, source: io::Error },
    #[error(transparent)]
    Token(#[from] config::Problem),
}

/// A socket that listens, before anything is accepted.
pub struct Listener {
    pub address: ListenAddress,
    /// As the manifest has it: port 0 may have become another.
    configured: ListenAddress,
    socket: Socket,
    door: Door,
}

enum Socket {
    Tcp(StdTcpListener),
    /// The file is dropped first: without a listener it would be taken for one that was left.
    Unix(SocketFile, StdUnixListener),
}

/// The same on the runtime.
enum Accepting {
    Tcp(TcpListener),
    Unix(#[allow(dead_code, reason = "dropping it removes the file")] SocketFile, UnixListener),
}

impl Listener {
    /// Binds what the manifest says. None where it says that there is none, and where it says
    /// nothing and the usual socket cannot be had: the log says why then.
    ///
    /// Reads files: not for async threads.
    ///
    /// # Errors
    /// When the address that the manifest names cannot be had, or its token is none.
    pub fn bind(config: &config::Admin, given: &mut Given) -> Result<Option<Listener>, BindError> {
        match config {
            config::Admin::Off => Ok(None),
            config::Admin::Unix { path, is_given } => {
                let address = ListenAddress::Unix(path.clone());
                if let Some((_, Listening::Unix(listener, Some(file)))) =
                    given.other(NAME, &address)
                {
                    let (socket, configured) = (Socket::Unix(file, listener), address.clone());
                    return Ok(Some(Listener { address, configured, socket, door: Door::Unix }));
                }
                match unix::bind(path, unix::FOR_USER, BACKLOG) {
                    Ok((listener, file)) => {
                        let (socket, configured) = (Socket::Unix(file, listener), address.clone());
                        Ok(Some(Listener { address, configured, socket, door: Door::Unix }))
                    }
                    Err(source) if *is_given => Err(BindError::Address { address, source }),
                    Err(error) => {
                        warn!(%address, %error, "no admin socket: this process cannot be asked for its status");
                        Ok(None)
                    }
                }
            }
            config::Admin::Tcp(tcp) => {
                let token = Arc::new(Token::read(&tcp.token_file)?);
                let failed = |source| BindError::Address {
                    address: ListenAddress::Tcp(tcp.address),
                    source,
                };
                let configured = ListenAddress::Tcp(tcp.address);
                let listener = match given.other(NAME, &configured) {
                    Some((_, Listening::Tcp(listener))) => listener,
                    _ => StdTcpListener::bind(tcp.address).map_err(failed)?,
                };
                listener.set_nonblocking(true).map_err(failed)?;
                let address = ListenAddress::Tcp(listener.local_addr().map_err(failed)?);
                let door = Door::Tcp { token, names: tcp.names.clone(), wrong: Bucket::new() };
                Ok(Some(Listener { address, configured, socket: Socket::Tcp(listener), door }))
            }
        }
    }
}

/// Serves `admin` at `listener` until the shutdown begins, on a thread of its own. Returns at once,
/// with the socket `kept` for the process after this one.
///
/// # Errors
/// When there is no thread, or no runtime for it.
pub fn serve(
    listener: Listener,
    admin: Arc<Admin>,
    kept: &mut Kept,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let (socket, file) = match &listener.socket {
        Socket::Tcp(socket) => (socket.as_fd(), None),
        Socket::Unix(file, socket) => (socket.as_fd(), Some(file)),
    };
    // Closed when it is not accepted from any more.
    let open = Arc::new(socket.try_clone_to_owned()?);
    let same = Arc::downgrade(&open);
    kept.other((NAME, Some(listener.configured.clone())), same, file);
    if let Some(file) = file {
        file.owned().set(true);
    }
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()?;
    let (ended, end) = oneshot::channel::<()>();
    let stop = shutdown.clone();
    thread::Builder::new().name("admin".into()).spawn(move || {
        let address = listener.address.clone();
        info!(%address, "operators can ask");
        if let Err(error) = runtime.block_on(accept_all(listener, open, admin, stop)) {
            error!(%address, %error, "operators cannot ask any more");
        }
        drop(ended);
    })?;
    // The thread is waited for like a task: its end drops the other side.
    shutdown.spawn(async move {
        let _ = end.await;
    });
    Ok(())
}

/// What all connections share.
struct Front {
    admin: Arc<Admin>,
    door: Door,
    router: Router,
    stopping: CancellationToken,
}

async fn accept_all(
    listener: Listener,
    open: Arc<OwnedFd>,
    admin: Arc<Admin>,
    shutdown: Shutdown,
) -> io::Result<()> {
    let accepting = match listener.socket {
        Socket::Tcp(socket) => Accepting::Tcp(TcpListener::from_std(socket)?),
        Socket::Unix(file, socket) => Accepting::Unix(file, UnixListener::from_std(socket)?),
    };
    let (door, stopping) = (listener.door, shutdown.token());
    let front = Arc::new(Front { admin, door, router: routes(), stopping });
    let mut connections = Connections::default();
    let mut reserve = Reserve::new(RESERVED);
    let mut stop = pin!(shutdown.begun());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accepting.accept(&front, &mut connections) => accepted,
        };
        match accepted {
            Ok(()) => reserve.refill(),
            Err(error) if is_missing(&error) && reserve.give_up_one() => {}
            Err(_) => sleep(PAUSE).await,
        }
    }
    drop((accepting, open));
    let _ = timeout(LAST_ANSWERS, connections.ended()).await;
    Ok(())
}

impl Accepting {
    /// Accepts one connection, which is served from then on.
    async fn accept(&self, front: &Arc<Front>, connections: &mut Connections) -> io::Result<()> {
        match self {
            Accepting::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                let _ = socket.set_nodelay(true);
                connections.serve(socket, front);
            }
            Accepting::Unix(_, listener) => {
                let (socket, _) = listener.accept().await?;
                connections.serve(socket, front);
            }
        }
        Ok(())
    }
}

/// The connections that are open.
#[derive(Default)]
struct Connections {
    running: JoinSet<()>,
    /// In the order in which they came, each with whether it has shown that it may ask.
    seats: VecDeque<(AbortHandle, Arc<AtomicBool>)>,
}

impl Connections {
    fn serve<S>(&mut self, socket: S, front: &Arc<Front>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        while self.running.try_join_next().is_some() {}
        self.seats.retain(|(task, _)| !task.is_finished());
        if self.seats.len() >= CONNECTIONS_MAX {
            let strangers = self.seats.iter().position(|(_, is_known)| !is_known.load(Relaxed));
            if let Some((task, _)) = self.seats.remove(strangers.unwrap_or(0)) {
                task.abort();
            }
        }
        let is_known = Arc::new(AtomicBool::new(false));
        let task = self.running.spawn(connection(socket, Arc::clone(front), is_known.clone()));
        self.seats.push_back((task, is_known));
    }

    async fn ended(&mut self) {
        while self.running.join_next().await.is_some() {}
    }
}

async fn connection<S>(socket: S, front: Arc<Front>, is_known: Arc<AtomicBool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = |request| {
        let (front, is_known) = (Arc::clone(&front), Arc::clone(&is_known));
        async move {
            let answered = front.answer(request, &is_known).await;
            Ok::<_, Infallible>(answered.unwrap_or_else(|failure| refused(&failure)))
        }
    };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(socket), service_fn(answer));
    let mut serving = pin!(serving);
    // Whatever ends it, its client knows as much.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = front.stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

impl Front {
    async fn answer(
        &self,
        request: Request<Incoming>,
        is_known: &AtomicBool,
    ) -> Result<Response<Body>, Failure> {
        let (head, body) = request.into_parts();
        self.door.judge_names(&head.headers)?;
        let (method, path) = (&head.method, head.uri.path());
        let is_login = path == LOGIN && method == http::Method::POST;
        if !is_login && !self.router.is_open(method, path) {
            self.door.judge_sender(&head.headers).await?;
            is_known.store(true, Relaxed);
        }
        let body = timeout(REQUEST_TIMEOUT, Limited::new(body, BODY_MAX).collect()).await;
        let body = match body {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                let error = format!("the body is cut, or longer than {BODY_MAX} bytes");
                return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, error));
            }
            Err(_) => {
                return Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "the body took too long"));
            }
        };
        if is_login {
            return self.door.login(&body).await;
        }
        let query = head.uri.query().unwrap_or_default();
        Ok(self.router.answer(&self.admin, method, (path, query)).await)
    }
}
