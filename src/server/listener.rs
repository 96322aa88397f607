//! Accepts connections: bounded, and whatever happens.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::sleep;
use tracing::{debug, error, info};

use super::bind::{Bound, Listeners, Listening, Scheme};
use super::caps::Caps;
use super::connection::Front;
use super::kept::Kept;
use super::quic;
use super::shared::Shared;
use super::socket::Socket;
use super::watched::Reset;
use crate::challenges::Challenges;
use crate::config::Peer;
use crate::generation::Current;
use crate::handover::Keys;
use crate::shutdown::Shutdown;
use crate::stats::{self, Refused, Stats};
use crate::traces::Spans;
use crate::unix::SocketFile;

/// How long to wait when there is no descriptor or memory for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Where clients come in.
pub struct Entrance {
    pub scheme: Scheme,
    /// What tells them that HTTP/3 is served as well.
    pub alt_svc: Option<HeaderValue>,
    pub counts: Arc<stats::Listener>,
}

/// A socket that listens, once it is served.
#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Serves what `current` holds on all listeners, until the shutdown begins. Returns at once.
///
/// Connections end on their own after that; `shutdown` knows when the last one has. `stats`
/// counts them, and the limits that clients reach. An authority that checks a host finds its proof in `challenges`.
/// What another process can take over is returned.
pub fn serve(
    listeners: Listeners,
    current: Arc<Current>,
    challenges: Arc<Challenges>,
    stats: &Stats,
    spans: Spans,
    shutdown: &Shutdown,
) -> io::Result<Kept> {
    let caps = Arc::new(Caps::new());
    let max = caps.connections_max(&current.load().config.clients);
    let https_port = https_port(listeners.addresses());
    let mut left = listeners.left;
    let keys = Keys::after(left.keys())?;
    let mut kept = Kept::new(keys.clone());
    let quic = match listeners.datagrams.is_empty() {
        true => None,
        false => Some(quic::config(Arc::clone(&current))?),
    };
    let tally = Arc::clone(&stats.clients);
    let front = Front::new(current, challenges, https_port, tally, spans, shutdown.clone())?;
    let front = Arc::new(front);
    let h3_ports: Vec<_> = listeners.datagrams.iter().map(|(address, ..)| address.port()).collect();
    for (bound, listening, origin) in listeners.sockets {
        let (listener, file) = Listener::new(listening)?;
        let listener = Arc::new(listener);
        kept.listener(bound.scheme, origin, &listener, file.as_ref());
        info!(address = %bound, connections_max = max, "listening");
        let entrance = Entrance {
            scheme: bound.scheme,
            alt_svc: bound.alt_svc(&h3_ports),
            counts: stats.listener(bound.to_string()),
        };
        shutdown.spawn(accept(
            (listener, file),
            Arc::new(entrance),
            Arc::clone(&front),
            Arc::clone(&caps),
            shutdown.clone(),
        ));
    }
    for ((address, socket, origin), quic) in
        listeners.datagrams.into_iter().zip(quic.iter().cycle())
    {
        let before = left.keys().cloned().zip(left.way(address));
        let (socket, shared) = (Arc::new(socket), Arc::new(Shared::new(before)));
        kept.datagrams((address, &socket), origin, &shared);
        let counts = stats.listener(format!("h3://{address}"));
        let config = (quic.clone(), &keys);
        let endpoint = quic::Endpoint::new(address, socket, shared, config, counts)?;
        shutdown.spawn(endpoint.serve(Arc::clone(&front), Arc::clone(&caps), shutdown.clone()));
    }
    // Whoever listened there before us leaves these files to us.
    drop(shutdown.tasks().spawn_blocking(|| left.close()));
    kept.own_files(true);
    Ok(kept)
}

/// Where clients of plain HTTP are sent: to the port that URLs need not name, or to the first there is.
fn https_port(addresses: impl Iterator<Item = Bound>) -> Option<u16> {
    let bound = addresses.filter(|bound| bound.scheme == Scheme::Https);
    let mut ports = bound.filter_map(|bound| Some(bound.address.tcp()?.port()));
    let first = ports.next()?;
    Some(ports.find(|port| *port == Scheme::Https.port()).unwrap_or(first))
}

/// Accepts until the shutdown begins, and closes the socket then: no error ends it.
async fn accept(
    (listener, file): (Arc<Listener>, Option<SocketFile>),
    entrance: Arc<Entrance>,
    front: Arc<Front>,
    caps: Arc<Caps>,
    shutdown: Shutdown,
) {
    let mut stop = std::pin::pin!(shutdown.begun());
    let mut exhausted = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return close(listener, file).await,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                exhausted = false;
                let open = entrance.counts.accept();
                let activity = Arc::new(front.accept(peer));
                // One at a time waits for room here, and the others in the backlog.
                let place = tokio::select! {
                    biased;
                    () = activity.stop().over() => return close(listener, file).await,
                    place = caps.admit(&activity) => place,
                };
                let Ok(place) = place else {
                    entrance.counts.refuse(Refused::Address);
                    // Without a goodbye, which would leave the kernel something to remember.
                    socket.reset();
                    continue;
                };
                socket.prepare();
                let (front, entrance) = (Arc::clone(&front), Arc::clone(&entrance));
                shutdown.spawn(async move {
                    front.serve(socket, &entrance, &activity, &place).await;
                    // This connection is over: the next may come.
                    drop((place, open));
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

impl Listener {
    /// With the file that we have made for it.
    fn new(listening: Listening) -> io::Result<(Listener, Option<SocketFile>)> {
        Ok(match listening {
            Listening::Tcp(listener) => (Listener::Tcp(TcpListener::from_std(listener)?), None),
            Listening::Unix(listener, file) => {
                (Listener::Unix(UnixListener::from_std(listener)?), file)
            }
        })
    }

    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (stream, client) = listener.accept().await?;
                (Socket::Tcp(stream), client.ip().into())
            }
            Listener::Unix(listener) => (Socket::Unix(listener.accept().await?.0), Peer::Unix),
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

async fn close(listener: Arc<Listener>, file: Option<SocketFile>) {
    if let Some(file) = file {
        // While it listens the file is ours, and nobody takes it for one that was left.
        let _ = tokio::task::spawn_blocking(move || drop(file)).await;
    }
    drop(listener);
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
