//! Binds the addresses and Unix sockets of the manifest, or takes those of systemd or of the process before.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use http::HeaderValue;
use socket2::{Domain, Protocol, SockAddr, Socket as AnySocket, Type};
use tracing::info;

use super::given::Given;
use super::kept::Origin;
use super::quic;
use crate::config::{ListenAddress, Server};
use crate::systemd::Activated;
use crate::unix::{self, SocketFile};

/// Connections that the kernel keeps for us until we accept them.
const BACKLOG: i32 = 1024;

/// How often to look for a port that is free for TCP and UDP.
const FREE_PORT_TRIES: usize = 16;

/// How a listener's clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// Sockets that listen, before anything is accepted.
#[derive(Debug)]
pub struct Listeners {
    pub(super) sockets: Vec<(Bound, Listening, Origin)>,
    /// For HTTP/3, each at the address of a listener for HTTPS.
    pub(super) datagrams: Vec<Datagrams>,
    /// What the process before this one has, and the manifest does not want any more.
    pub(super) left: Given,
}

/// A UDP socket, where it is, and why.
type Datagrams = (SocketAddr, UdpSocket, Origin);

/// A UDP socket, and where it is.
type Udp = (SocketAddr, UdpSocket);

/// An address that is served, with the port that a configured port 0 became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub scheme: Scheme,
    pub address: ListenAddress,
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listening {
    Tcp(StdListener),
    /// With its file, where we have made that.
    Unix(StdUnixListener, Option<SocketFile>),
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {scheme}://{address}: {}", explain(source))]
    Address { scheme: Scheme, address: ListenAddress, source: io::Error },
    #[error(
        "cannot listen on udp://{address}, for HTTP/3: {}; or write h3 = false below [server]",
        explain(source)
    )]
    Datagrams { address: SocketAddr, source: io::Error },
    #[error("cannot use the socket `{name}` passed by systemd: {source}")]
    Socket { name: String, source: io::Error },
    #[error("systemd passed a socket named `{0}`: set `FileDescriptorName=` to http, https or h3")]
    Name(String),
}

impl Listeners {
    /// Binds what the manifest says, but for what the process before this one has `given`. A scheme
    /// that systemd passed sockets for uses those instead.
    pub fn bind(
        config: &Server,
        activated: Vec<Activated>,
        mut given: Given,
    ) -> Result<Listeners, BindError> {
        let (mut sockets, mut datagrams) = (Vec::new(), Vec::new());
        for Activated { name, socket } in activated {
            let scheme = match name.as_str() {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                quic::NAME => {
                    let (address, socket) =
                        quic::adopt(socket).map_err(|source| BindError::Socket { name, source })?;
                    datagrams.push((address, socket, None));
                    continue;
                }
                _ => return Err(BindError::Name(name)),
            };
            let (address, listening) =
                adopt(socket).map_err(|source| BindError::Socket { name, source })?;
            sockets.push((Bound { scheme, address }, listening, None));
        }

        let from_systemd = !datagrams.is_empty();
        let configured = [(Scheme::Http, &config.http), (Scheme::Https, &config.https)];
        let all: Vec<_> =
            config.http.iter().chain(&config.https).filter_map(ListenAddress::tcp).collect();
        for (scheme, addresses) in configured {
            if sockets.iter().any(|(bound, ..)| bound.scheme == scheme) {
                let configured: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                info!(%scheme, instead_of = ?configured, "listening on sockets from systemd");
                continue;
            }
            for address in addresses {
                let with_h3 = scheme == Scheme::Https && config.h3 && !from_systemd;
                let (bound, listening, socket) = match given.listener(scheme, address) {
                    Some((bound, listening)) => {
                        let socket = match bound.tcp().filter(|_| with_h3) {
                            Some(bound) => Some(datagrams_at(bound, &all, &mut given)?),
                            None => None,
                        };
                        (bound, listening, socket)
                    }
                    None => listen_with_h3(scheme, address, &all, with_h3)?,
                };
                let origin = Some(address.clone());
                sockets.push((Bound { scheme, address: bound }, listening, origin.clone()));
                datagrams.extend(socket.map(|(address, socket)| (address, socket, origin)));
            }
        }
        if !config.h3 {
            datagrams.clear();
        } else if datagrams.is_empty() {
            info!("no HTTP/3: systemd passed a socket for https and none named h3");
        }
        Ok(Listeners { sockets, datagrams, left: given })
    }

    /// What is listened on.
    pub fn addresses(&self) -> impl Iterator<Item = Bound> {
        self.sockets.iter().map(|(bound, ..)| bound.clone())
    }
}

/// Listens on `address`, and on the UDP port of the same number as well if HTTP/3 is served there.
fn listen_with_h3(
    scheme: Scheme,
    address: &ListenAddress,
    all: &[SocketAddr],
    with_h3: bool,
) -> Result<(ListenAddress, Listening, Option<Udp>), BindError> {
    let port = address.tcp().map(|address| address.port());
    let mut tries = if port == Some(0) { FREE_PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let (bound, listening) = listen(address, all).map_err(|source| BindError::Address {
            scheme,
            address: address.clone(),
            source,
        })?;
        let Some(address) = bound.tcp().filter(|_| with_h3) else {
            return Ok((bound, listening, None));
        };
        match quic::bind(address, is_apart(address, all)) {
            Ok(socket) => return Ok((bound, listening, Some((address, socket)))),
            // Free for one and not for the other.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(source) => return Err(BindError::Datagrams { address, source }),
        }
    }
}

/// The UDP socket beside a listener that was given.
fn datagrams_at(
    address: SocketAddr,
    all: &[SocketAddr],
    given: &mut Given,
) -> Result<Udp, BindError> {
    let socket =
        given.datagrams(address).map_or_else(|| quic::bind(address, is_apart(address, all)), Ok);
    Ok((address, socket.map_err(|source| BindError::Datagrams { address, source })?))
}

/// Whether an IPv6 address is for IPv6 alone: `[::]` takes IPv4 clients as well, unless the
/// manifest has a listener of its own for them.
fn is_apart(address: SocketAddr, all: &[SocketAddr]) -> bool {
    all.iter().any(|other| other.is_ipv4() && other.port() == address.port() && other.port() != 0)
}

fn listen(address: &ListenAddress, all: &[SocketAddr]) -> io::Result<(ListenAddress, Listening)> {
    Ok(match address {
        ListenAddress::Tcp(address) => {
            let listener = bind(*address, all)?;
            (ListenAddress::Tcp(listener.local_addr()?), Listening::Tcp(listener))
        }
        ListenAddress::Unix(path) => {
            let (listener, file) = unix::bind(path, unix::FOR_GROUP, BACKLOG)?;
            (address.clone(), Listening::Unix(listener, Some(file)))
        }
    })
}

fn bind(address: SocketAddr, all: &[SocketAddr]) -> io::Result<StdListener> {
    let socket = AnySocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(is_apart(address, all))?;
    }
    // A restarted server need not wait for the old one's last connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(StdListener::from(socket))
}

/// Takes a socket that another process has opened.
pub fn adopt(socket: OwnedFd) -> io::Result<(ListenAddress, Listening)> {
    let socket = AnySocket::from(socket);
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(io::Error::other("not a listening stream socket"));
    }
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    if let Some(address) = address.as_socket() {
        Ok((ListenAddress::Tcp(address), Listening::Tcp(socket.into())))
    } else if let Some(path) = unix_path(&address) {
        // Its file is systemd's.
        Ok((ListenAddress::Unix(path), Listening::Unix(socket.into(), None)))
    } else {
        Err(io::Error::other("a socket of neither TCP nor Unix"))
    }
}

/// The path of a Unix socket; one in the abstract namespace has an `@` before its name, as elsewhere.
fn unix_path(address: &SockAddr) -> Option<PathBuf> {
    let abstract_name = || {
        let name = address.as_abstract_namespace()?;
        Some(PathBuf::from(format!("@{}", String::from_utf8_lossy(name))))
    };
    address.as_pathname().map(Path::to_owned).or_else(abstract_name)
}

/// The system's reason, and what to do about the usual ones.
fn explain(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there (`ss -lntup` names it)",
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

impl Bound {
    /// What answers here say about HTTP/3, which is served on UDP ports `h3`.
    pub(super) fn alt_svc(&self, h3: &[u16]) -> Option<HeaderValue> {
        let port = self.address.tcp()?.port();
        (self.scheme == Scheme::Https && h3.contains(&port)).then(|| quic::alt_svc(port)).flatten()
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
