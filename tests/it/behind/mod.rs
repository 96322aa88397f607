//! Behind proxies and on Unix sockets: whose connection or request it is, and who is believed about that.

mod activation;
mod announced;
mod forwarded;
mod proxies;
mod real;
mod unix;

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::client::{Error, Version, send, trusting, whole};
use crate::support::server::{PATIENCE, Site, USUAL};

/// Who connects: the system lends us all of 127.0.0.0/8.
const ANYONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER_PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

const HOST: &str = "p2.test";

/// What a guest is told of a request.
#[derive(Debug, PartialEq)]
struct Seen {
    client: String,
    forwarded: String,
    proto: String,
    scheme: String,
}

/// The usual site with `lines` in `[server]`, which has one listener of each kind.
fn site(lines: &str) -> Site {
    let site = Site::usual();
    write(&site, lines, "");
    site
}

/// Writes its manifest, with `more` at the end.
fn write(site: &Site, lines: &str, more: &str) {
    let listeners = match lines.contains("http = ") {
        true => "",
        false => "http = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\n",
    };
    site.write_manifest(&format!("[server]\n{listeners}{lines}\n{USUAL}\n{more}"));
}

/// A connection from an address of this machine.
async fn from(client: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((client, 0).into()).expect("an address of the machine");
    timeout(PATIENCE, socket.connect(server)).await.expect("in time").expect("connect")
}

/// Shakes hands for [`HOST`].
async fn shake_hands<S>(io: S, site: &Site, version: Version) -> Result<TlsStream<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(HOST).expect("a name");
    let connector = TlsConnector::from(trusting(&site.root(), version));
    Ok(timeout(PATIENCE, connector.connect(name, io)).await??)
}

/// Asks a guest, with these headers, what it is told.
async fn inspect<S>(io: S, version: Version, headers: &[(&str, &str)]) -> Result<Seen, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = match version {
        Version::H1 => Request::get("/inspect").header("host", HOST),
        Version::H2 => Request::get(format!("http://{HOST}/inspect")),
    };
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = send(io, version, request.body(Full::<Bytes>::default())?);
    let reply = timeout(PATIENCE, async { whole(answer.await?).await }).await??;
    if reply.status != 200 {
        return Err(format!("{}: {}", reply.status, reply.text()).into());
    }
    Ok(seen(&serde_json::from_slice(&reply.body)?))
}

/// What the guest's answer to `/inspect` says.
fn seen(answer: &Value) -> Seen {
    let header = |name: &str| {
        let entries = answer["headers"].as_array().expect("headers").iter();
        let values: Vec<_> = entries
            .filter(|entry| entry[0] == name)
            .map(|entry| entry[1].as_str().expect("text"))
            .collect();
        values.join(" + ")
    };
    Seen {
        client: header("x-forwarded-for"),
        forwarded: header("forwarded"),
        proto: header("x-forwarded-proto"),
        scheme: answer["scheme"].as_str().expect("a scheme").to_owned(),
    }
}

/// What a guest is to be told of one at `client`.
fn told(client: &str, scheme: &str) -> Seen {
    let node = if client.contains(':') { format!("\"[{client}]\"") } else { client.to_owned() };
    Seen {
        client: client.to_owned(),
        forwarded: format!("for={node};host=\"{HOST}\";proto={scheme}"),
        proto: scheme.to_owned(),
        scheme: scheme.to_owned(),
    }
}
