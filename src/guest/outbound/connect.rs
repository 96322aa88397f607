//! A connection to an origin: its name is resolved, the addresses checked, and one of those connected to.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use wasmtime_wasi_http::Error;

use super::Outbound;
use crate::config::{Host, Origin, OriginScheme};
use crate::limit::Limit;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// How long one address may take before the next is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// What is spoken over.
pub type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Connects to `origin`, one of those that `app` may reach.
///
/// What is connected to is an address that was checked: the name is not looked up again, so an
/// answer that changes in between changes nothing.
pub async fn connect(app: &Outbound, origin: &Origin) -> Result<Stream, Error> {
    let addresses = permitted(app, origin, resolve(app, origin).await?)?;
    let stream = first(addresses).await?;
    // Requests are written whole: waiting to fill a packet gains nothing.
    let _ = stream.set_nodelay(true);
    match origin.scheme {
        OriginScheme::Http => Ok(Either::Left(stream)),
        OriginScheme::Https => {
            let tls = app.tls.get_or_init(|| app.network.tls()).await;
            let connector = TlsConnector::from(Arc::clone(tls));
            let name = server_name(&origin.host)?;
            connector.connect(name, stream).await.map(Either::Right).map_err(tls_error)
        }
    }
}

/// The addresses of an origin, as it names them or the system's resolver does.
async fn resolve(app: &Outbound, origin: &Origin) -> Result<Vec<SocketAddr>, Error> {
    if let Some(address) = origin.host.address() {
        return Ok(vec![SocketAddr::new(address, origin.port)]);
    }
    let closed = |_| Error::InternalError(None);
    let own = app.lookups.clone().acquire_owned().await.map_err(closed)?;
    let all = app.network.lookups.clone().acquire_owned().await.map_err(closed)?;
    let (name, port) = (origin.host.to_string(), origin.port);
    let lookup = tokio::task::spawn_blocking(move || {
        // Nothing ends a lookup, so it counts for as long as it lasts, wanted or not.
        let _counted = (own, all);
        (name.as_str(), port).to_socket_addrs().map(Vec::from_iter)
    });
    match lookup.await {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Err(error)) => Err(Error::DnsError { rcode: Some(error.to_string()), info_code: None }),
        Ok(Ok(_)) | Err(_) => Err(Error::DnsError { rcode: None, info_code: None }),
    }
}

/// Those of `addresses` that the app may connect to.
fn permitted(
    app: &Outbound,
    origin: &Origin,
    addresses: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, Error> {
    let mut permitted = Vec::new();
    let mut refused = None;
    for address in addresses {
        let permits = match app.network.forbids(address) {
            true => Err("where operators ask"),
            false => app.allowed.permits(address),
        };
        match permits {
            Ok(()) if permitted.contains(&address) => {}
            Ok(()) => permitted.push(address),
            Err(what) => refused = Some((address.ip(), what)),
        }
    }
    permitted.truncate(MAX_ADDRESSES);
    match refused {
        Some((address, what)) if permitted.is_empty() => {
            app.reached(Limit::Outbound, format_args!("{origin}: {address} is {what}"));
            Err(Error::DestinationIpProhibited)
        }
        _ => Ok(permitted),
    }
}

/// The first connection that one of `addresses` accepts: each is tried when the one before has
/// failed or is slow.
async fn first(addresses: Vec<SocketAddr>) -> Result<TcpStream, Error> {
    let mut left = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = Error::DestinationUnavailable;
    loop {
        let next = left.next();
        let more = left.len() > 0;
        match next {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        tokio::select! {
            Some(attempt) = attempts.next() => match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = tcp_error(&error),
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
}

fn tcp_error(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Error::DestinationIpUnroutable
        }
        _ => Error::DestinationUnavailable,
    }
}

fn server_name(host: &Host) -> Result<ServerName<'static>, Error> {
    match host.address() {
        Some(address) => Ok(ServerName::from(address)),
        None => ServerName::try_from(host.to_string()).map_err(|_| Error::HttpRequestUriInvalid),
    }
}

fn tls_error(error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn the_first_address_that_answers_is_taken_and_a_silent_one_holds_up_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let good = listener.local_addr().expect("its address");
        let refusing = SocketAddr::from(([127, 0, 0, 1], 1));
        let began = Instant::now();
        let stream = first(vec![refusing, good]).await.expect("a connection");
        assert_eq!(stream.peer_addr().expect("a peer"), good);

        // A full backlog answers nothing.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let full = full.expect("a socket");
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind");
        full.listen(0).expect("listen");
        let silent = full.local_addr().expect("its address").as_socket().expect("IPv4");
        let wait = Duration::from_millis(50);
        let _waiting: Vec<_> = (0..8)
            .filter_map(|_| std::net::TcpStream::connect_timeout(&silent, wait).ok())
            .collect();
        let stream = first(vec![silent, good]).await.expect("a connection");
        assert_eq!(stream.peer_addr().expect("a peer"), good);
        assert!(began.elapsed() < Duration::from_secs(5));

        assert!(matches!(first(vec![refusing]).await, Err(Error::ConnectionRefused)));
        assert!(matches!(first(vec![]).await, Err(Error::DestinationUnavailable)));
    }
}
