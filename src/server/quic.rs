//! QUIC: UDP sockets, the limits of the transport, and who may shake hands. `http3` has what
//! connections carry.
//!
//! A client is let in as over TCP: a place of `caps`, then a handshake within its deadline. An
//! address over UDP is not known to be its sender's, though. So once some handshakes of unproven
//! addresses are under way, others have to prove theirs first (Retry), and cost nothing until then.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use http::HeaderValue;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{
    EndpointConfig, Incoming, Runtime, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::activity::Activity;
use super::bind::Scheme;
use super::caps::{Caps, Place};
use super::connection::{Front, ended_early};
use super::drive::End;
use super::shared::{Datagrams, Shared};
use super::{http3, tls};
use crate::config::{Clients, Host};
use crate::generation::Current;
use crate::handover::Keys;
use crate::limit::Limit;
use crate::shutdown::Shutdown;
use crate::stats::{self, Refused, Tls};

/// Bytes that a client may send ahead of the guest's reading, per stream and connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of all answers of a connection that were not acknowledged yet.
pub const SEND_WINDOW: u64 = 2 * 1024 * 1024;

/// Streams that only the client writes to: HTTP/3 has three, and browsers try others that mean nothing.
const UNI_STREAMS_MAX: u32 = 8;

/// A client of which nothing is heard for so long is gone. It is asked before that.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(40);
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Handshakes under way with addresses that have proved nothing; others are asked to.
const UNPROVEN_MAX: usize = 32;

/// Clients that wait until we look at them, and what they may send meanwhile, each and all.
const INCOMING_MAX: usize = 1024;
const INCOMING_BYTES_MAX: u64 = 16 * 1024;
const ALL_INCOMING_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the kernel is asked to keep of datagrams until we read them: what comes in some milliseconds.
const SOCKET_BUFFER: usize = 2 * 1024 * 1024;

/// How long the last goodbyes may take to leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(100);

/// How long to wait before a socket that failed is tried again.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// For how many seconds a client may rely on HTTP/3 being served.
const ALT_SVC_AGE: u32 = 86_400;

/// What systemd's sockets for it are named.
pub const NAME: &str = "h3";

/// And what takes their packets to another process.
pub const WAY: &str = "h3-way";

/// One UDP socket, and what handshakes on it begin with.
pub struct Endpoint {
    address: SocketAddr,
    socket: Arc<UdpSocket>,
    config: ServerConfig,
    unproven: Arc<Semaphore>,
    shared: Arc<Shared>,
    endpoint: EndpointConfig,
    counts: Arc<stats::Listener>,
}

/// What handshakes begin with, but for the limits of the manifest.
pub fn config(current: Arc<Current>) -> io::Result<ServerConfig> {
    let tls = tls::quic_config(current).map_err(io::Error::other)?;
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        // A phone changes its network, and routers forget: the connection goes on. Limits and
        // logs have the address that it was opened from.
        .migration(true)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(ALL_INCOMING_BYTES_MAX);
    Ok(config)
}

/// The transport as these limits have it.
fn transport(limits: &Clients) -> TransportConfig {
    let streams = u32::try_from(limits.max_streams.get()).unwrap_or(u32::MAX);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(SILENCE_TIMEOUT.try_into().ok())
        .keep_alive_interval(Some(PING_INTERVAL))
        .datagram_receive_buffer_size(None);
    transport
}

/// Binds a UDP socket. One for `[::]` is for IPv4 as well, unless that is `apart`.
pub fn bind(address: SocketAddr, apart: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(apart)?;
    }
    socket.bind(&address.into())?;
    prepare(&socket)?;
    Ok(socket.into())
}

/// Takes a socket that systemd opened.
pub fn adopt(socket: OwnedFd) -> io::Result<(SocketAddr, UdpSocket)> {
    let socket = UdpSocket::from(socket);
    if SockRef::from(&socket).r#type()? != Type::DGRAM {
        return Err(io::Error::other("not a datagram socket"));
    }
    prepare(&SockRef::from(&socket))?;
    // An error for a Unix socket.
    Ok((socket.local_addr()?, socket))
}

fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // As much as the system allows; less is no error.
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)
}

/// What tells a client of HTTP/1 and HTTP/2 that HTTP/3 is served on the UDP port of that number.
pub fn alt_svc(port: u16) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("h3=\":{port}\"; ma={ALT_SVC_AGE}")).ok()
}

impl Endpoint {
    pub fn new(
        address: SocketAddr,
        socket: Arc<UdpSocket>,
        shared: Arc<Shared>,
        (config, keys): (ServerConfig, &Keys),
        counts: Arc<stats::Listener>,
    ) -> io::Result<Endpoint> {
        // Linux reports twice what was asked for, as it counts its own bookkeeping.
        let buffer = SockRef::from(&*socket).recv_buffer_size()? / 2;
        info!(%address, buffer, wanted = SOCKET_BUFFER, "listening for HTTP/3");
        let unproven = Arc::new(Semaphore::new(UNPROVEN_MAX));
        let resets = hmac::Key::new(hmac::HMAC_SHA256, &keys.resets);
        let mut endpoint = EndpointConfig::new(Arc::new(resets));
        let ids = keys.ids;
        endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
        Ok(Endpoint { address, socket, config, unproven, shared, endpoint, counts })
    }

    /// Serves connections until the shutdown begins, and those that are there to their end.
    pub async fn serve(self, front: Arc<Front>, caps: Arc<Caps>, shutdown: Shutdown) {
        let connections = TaskTracker::new();
        loop {
            match self.open() {
                Ok(endpoint) => {
                    self.accept(&endpoint, &connections, &front, &caps, &shutdown).await;
                    if shutdown.has_begun() {
                        connections.close();
                        tokio::select! {
                            () = connections.wait() => {}
                            () = refuse_all(&endpoint) => connections.wait().await,
                        }
                        let _ = timeout(GOODBYE_TIMEOUT, endpoint.wait_idle()).await;
                        return;
                    }
                    error!(address = %self.address, "the socket for HTTP/3 failed, and is tried again");
                }
                Err(error) => error!(address = %self.address, %error, "no HTTP/3 for now"),
            }
            tokio::select! {
                () = shutdown.begun() => return,
                () = sleep(FAILED_PAUSE) => {}
            }
        }
    }

    /// Its driver is a task of quinn's own, which ends with the last connection.
    fn open(&self) -> io::Result<quinn::Endpoint> {
        let (endpoint, config) = (self.endpoint.clone(), Some(self.config.clone()));
        let socket = TokioRuntime.wrap_udp_socket(self.socket.try_clone()?)?;
        let socket = Arc::new(Datagrams::new(socket, Arc::clone(&self.shared)));
        let runtime = Arc::new(TokioRuntime);
        quinn::Endpoint::new_with_abstract_socket(endpoint, config, socket, runtime)
    }

    /// Accepts until the shutdown begins, or the socket fails.
    async fn accept(
        &self,
        endpoint: &quinn::Endpoint,
        connections: &TaskTracker,
        front: &Arc<Front>,
        caps: &Arc<Caps>,
        shutdown: &Shutdown,
    ) {
        // Where another process serves, that passes what had been begun here.
        let stop = shutdown.connection();
        let mut stop = std::pin::pin!(stop.over());
        loop {
            let incoming = tokio::select! {
                biased;
                () = &mut stop => return,
                incoming = endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { return };
            let activity = Arc::new(front.accept(incoming.remote_address().ip().into()));
            if activity.is_announced() {
                // The PROXY protocol is not for QUIC, and whom it would announce is not known.
                activity.reached(Limit::ProxyProtocol);
                self.counts.refuse(Refused::ProxyProtocol);
                incoming.refuse();
                continue;
            }
            let proof = match incoming.remote_address_validated() {
                true => None,
                false => match Arc::clone(&self.unproven).try_acquire_owned() {
                    Ok(unproven) => Some(unproven),
                    Err(_) => {
                        activity.reached(Limit::H3Unvalidated);
                        // One that cannot be asked again has been asked, and was let in above.
                        let _ = incoming.retry();
                        continue;
                    }
                },
            };
            let open = self.counts.accept();
            let place = tokio::select! {
                biased;
                () = &mut stop => return,
                place = caps.admit(&activity) => place,
            };
            let Ok(place) = place else {
                self.counts.refuse(Refused::Address);
                incoming.refuse();
                continue;
            };
            let (front, mut config) = (Arc::clone(front), self.config.clone());
            let counts = Arc::clone(&self.counts);
            config.transport_config(Arc::new(transport(&activity.limits)));
            shutdown.spawn(connections.track_future(async move {
                let ended = connection(&front, incoming, config, proof, &activity, &place, &counts);
                let ended = ended.await;
                ended_early(ended, "h3", &activity);
                // This connection is over: the next may come.
                drop((place, open));
            }));
        }
    }
}

/// Tells who comes now to go elsewhere: to say nothing would let them wait.
async fn refuse_all(endpoint: &quinn::Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        incoming.refuse();
    }
}

/// Shakes hands, and serves the connection to its end.
async fn connection(
    front: &Front,
    incoming: Incoming,
    config: ServerConfig,
    proof: Option<tokio::sync::OwnedSemaphorePermit>,
    activity: &Arc<Activity>,
    place: &Place,
    counts: &Arc<stats::Listener>,
) -> Result<(), End> {
    let Ok(handshake) = place.handshake() else {
        counts.refuse(Refused::Handshakes);
        incoming.refuse();
        return Ok(());
    };
    let begun = counts.shake();
    let connecting = incoming.accept_with(Arc::new(config)).map_err(End::Quic)?;
    let shaken = tokio::select! {
        shaken = timeout(activity.limits.handshake_timeout, connecting) => shaken,
        () = activity.stop().in_a_hurry() => return Ok(()),
    };
    drop((handshake, proof));
    let connection = shaken.map_err(|_| End::HandshakeTimeout)?.map_err(End::Quic)?;
    begun.done();
    counts.protected(Tls::V1_3);
    counts.speaks(stats::Protocol::H3);
    activity.shaken();
    let named = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.server_name)
        .and_then(|name| Host::from_authority(&name));
    let client = front.client(Scheme::Https, (named, None), None, true, activity);
    http3::serve(connection, client).await
}
