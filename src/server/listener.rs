//! Binds the addresses, or takes systemd's sockets, and accepts connections: bounded, and whatever happens.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, error, info};

use super::caps::Caps;
use super::connection::Front;
use super::watched::Reset;
use crate::config::Server;
use crate::generation::Current;
use crate::limit::Tally;
use crate::shutdown::Shutdown;
use crate::systemd::Activated;

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
/// Connections end on their own after that; `shutdown` knows when the last one has. `tally`
/// counts the limits that clients reach.
pub fn serve(
    listeners: Listeners,
    current: Arc<Current>,
    tally: Arc<Tally>,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let caps = Arc::new(Caps::new(Arc::clone(&tally)));
    let max = caps.connections_max(&current.load().config.clients);
    let front = Arc::new(Front::new(current, tally, shutdown.clone())?);
    for (bound, listener) in listeners.sockets {
        let listener = TcpListener::from_std(listener)?;
        info!(address = %bound, connections_max = max, "listening");
        shutdown.spawn(accept(
            listener,
            bound.scheme,
            Arc::clone(&front),
            Arc::clone(&caps),
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
    caps: Arc<Caps>,
    shutdown: Shutdown,
) {
    let mut stop = std::pin::pin!(shutdown.begun());
    let mut exhausted = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                exhausted = false;
                let activity = Arc::new(front.accept(client.ip()));
                // One at a time waits for room here, and the others in the backlog.
                let place = tokio::select! {
                    biased;
                    () = &mut stop => return,
                    place = caps.admit(client.ip(), &activity) => place,
                };
                let Ok(place) = place else {
                    // Without a goodbye, which would leave the kernel something to remember.
                    stream.reset();
                    continue;
                };
                prepare(&stream);
                let front = Arc::clone(&front);
                shutdown.spawn(async move {
                    front.serve(stream, client, scheme, &activity, &place).await;
                    // This connection is over: the next may come.
                    drop(place);
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
