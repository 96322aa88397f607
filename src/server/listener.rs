//! Binds the addresses, or takes systemd's sockets, and accepts connections: bounded, and whatever happens.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::connection::Front;
use crate::config::Server;
use crate::generation::Current;
use crate::shutdown::Shutdown;
use crate::systemd::Activated;

/// Connections open at once at the most, over all listeners.
const CONNECTIONS_MAX: usize = 8192;

/// One descriptor in this many may be a connection: guests and files need some as well.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;

/// Connections that the kernel keeps for us until we accept them.
const BACKLOG: i32 = 1024;

/// How long to wait when there is no descriptor or memory for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How a listener's clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// Sockets that listen, before anything is accepted.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<(Bound, StdListener)>,
}

/// An address that is served, with the port that a configured port 0 became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub scheme: Scheme,
    pub address: SocketAddr,
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {scheme}://{address}: {}", explain(source))]
    Address { scheme: Scheme, address: SocketAddr, source: io::Error },
    #[error("cannot use the socket `{name}` passed by systemd: {source}")]
    Socket { name: String, source: io::Error },
    #[error("systemd passed a socket named `{0}`: set `FileDescriptorName=` to http or https")]
    Name(String),
}

impl Listeners {
    /// Binds what the manifest says. A scheme that systemd passed sockets for uses those instead.
    pub fn bind(config: &Server, activated: Vec<Activated>) -> Result<Listeners, BindError> {
        let mut sockets = Vec::new();
        for Activated { name, socket } in activated {
            let scheme = match name.as_str() {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                _ => return Err(BindError::Name(name)),
            };
            let (address, listener) =
                adopt(socket).map_err(|source| BindError::Socket { name, source })?;
            sockets.push((Bound { scheme, address }, listener));
        }

        let configured = [(Scheme::Http, &config.http), (Scheme::Https, &config.https)];
        let all: Vec<_> = config.http.iter().chain(&config.https).copied().collect();
        for (scheme, addresses) in configured {
            if sockets.iter().any(|(bound, _)| bound.scheme == scheme) {
                info!(%scheme, instead_of = ?addresses, "listening on sockets from systemd");
                continue;
            }
            for &address in addresses {
                let (address, listener) = bind(address, &all)
                    .map_err(|source| BindError::Address { scheme, address, source })?;
                sockets.push((Bound { scheme, address }, listener));
            }
        }
        Ok(Listeners { sockets })
    }

    /// What is listened on.
    pub fn addresses(&self) -> impl Iterator<Item = Bound> {
        self.sockets.iter().map(|(bound, _)| *bound)
    }
}

/// Serves what `current` holds on all listeners, until the shutdown begins. Returns at once.
///
/// Connections end on their own after that; `shutdown` knows when the last one has.
pub fn serve(listeners: Listeners, current: Arc<Current>, shutdown: &Shutdown) -> io::Result<()> {
    let max = connections_max();
    let front = Arc::new(Front::new(current, shutdown.clone())?);
    let room = Arc::new(Semaphore::new(max));
    for (bound, listener) in listeners.sockets {
        let listener = TcpListener::from_std(listener)?;
        info!(address = %bound, connections_max = max, "listening");
        shutdown.spawn(accept(
            listener,
            bound.scheme,
            Arc::clone(&front),
            Arc::clone(&room),
            shutdown.clone(),
        ));
    }
    Ok(())
}

/// Accepts until the shutdown begins, and closes the socket then: no error ends it.
async fn accept(
    listener: TcpListener,
    scheme: Scheme,
    front: Arc<Front>,
    room: Arc<Semaphore>,
    shutdown: Shutdown,
) {
    let mut stop = std::pin::pin!(shutdown.begun());
    let mut exhausted = false;
    loop {
        let accepted = async {
            // Room first: a connection that is accepted and then left waiting is worse off than one in the backlog.
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = &mut stop => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                exhausted = false;
                prepare(&stream);
                let front = Arc::clone(&front);
                shutdown.spawn(async move {
                    front.serve(stream, client, scheme).await;
                    // This connection is over: the next may come.
                    drop(permit);
                });
            }
            // The client was gone before it was accepted, or its network was: the next one is not.
            Err(error) if is_of_client(&error) => {
                debug!(%error, "a connection was lost before it was accepted");
            }
            // No descriptor or memory is left, or worse: trying again at once would spin.
            Err(error) => {
                // Said once until it works again, as this comes twenty times a second.
                if !exhausted {
                    error!(%error, "cannot accept connections for now");
                }
                exhausted = true;
                sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream) {
    // Small answers are one write each: waiting to fill a packet gains nothing.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
}

/// Whether an error is of the one connection that was to be accepted, as accept(2) lists them.
fn is_of_client(error: &io::Error) -> bool {
    use libc::{
        ECONNABORTED, EHOSTDOWN, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ENONET, ENOPROTOOPT,
        EOPNOTSUPP, EPERM, EPROTO,
    };
    matches!(
        error.raw_os_error(),
        Some(
            ECONNABORTED
                | EHOSTDOWN
                | EHOSTUNREACH
                | EINTR
                | ENETDOWN
                | ENETUNREACH
                | ENONET
                | ENOPROTOOPT
                | EOPNOTSUPP
                | EPERM
                | EPROTO
        )
    )
}

fn bind(address: SocketAddr, all: &[SocketAddr]) -> io::Result<(SocketAddr, StdListener)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 clients as well, unless the manifest has a listener of its own for them.
        let apart = all
            .iter()
            .any(|other| other.is_ipv4() && other.port() == address.port() && other.port() != 0);
        socket.set_only_v6(apart)?;
    }
    // A restarted server need not wait for the old one's last connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = StdListener::from(socket);
    Ok((listener.local_addr()?, listener))
}

fn adopt(socket: OwnedFd) -> io::Result<(SocketAddr, StdListener)> {
    let listener = StdListener::from(socket);
    let socket = SockRef::from(&listener);
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(io::Error::other("not a listening stream socket"));
    }
    socket.set_nonblocking(true)?;
    // An error for a Unix socket, as clients have no addresses there.
    let address = listener.local_addr()?;
    Ok((address, listener))
}

/// As many connections as there are descriptors for, having asked for as many as we may have.
fn connections_max() -> usize {
    let descriptors = raise_descriptors();
    let max = usize::try_from(descriptors / DESCRIPTORS_PER_CONNECTION).unwrap_or(usize::MAX);
    if max < CONNECTIONS_MAX {
        warn!(
            connections_max = max,
            descriptors, "few descriptors: raise the limit of open files (LimitNOFILE=)"
        );
    }
    max.clamp(1, CONNECTIONS_MAX)
}

/// Raises the soft limit of descriptors to the hard one: the soft one is kept low for `select`, which we do not use.
fn raise_descriptors() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a valid `rlimit` and keep no pointer to it.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 1024;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) == 0 {
            raised.rlim_cur
        } else {
            limit.rlim_cur
        }
    }
}

/// The system's reason, and what to do about the usual ones.
fn explain(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there (`ss -ltnp` names it)",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE: run under systemd/tidegate.service, or use a higher port"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    };
    format!("{error}{advice}")
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port that an authority without one means.
    pub fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.address)
    }
}
