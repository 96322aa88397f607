//! What operators ask a running tidegate, and who may.

mod client;
mod door;
mod drain;
mod explain;
mod instances;
mod kill;
mod logs;
mod openapi;
mod profiles;
mod reload;
mod schema;
mod status;
mod under_pressure;
mod watch;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use crate::support::client::{Error, Reply, Version, send, whole};
use crate::support::server::{Server, Site, USUAL};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The socket of a site that says nothing about it.
pub fn socket(site: &Site) -> PathBuf {
    site.path("state/admin.sock")
}

/// Sends a request to the admin socket.
pub async fn send_to_socket(site: &Site, request: Request<Full<Bytes>>) -> Result<Reply, Error> {
    let io = UnixStream::connect(socket(site)).await?;
    whole(send(io, Version::H1, request).await?).await
}

/// What the admin socket answers.
pub async fn ask(site: &Site, method: &str, path: &str) -> Result<Reply, Error> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    send_to_socket(site, request.body(Full::default())?).await
}

/// The JSON of a good answer to GET.
pub async fn asked(site: &Site, path: &str) -> Value {
    let reply = ask(site, "GET", path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    serde_json::from_slice(&reply.body).expect("JSON")
}

/// A site whose admin address is one of TCP, with the token in its file.
pub fn tcp_site(more: &str) -> Site {
    let site = Site::usual();
    put_token(&site, TOKEN);
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"admin.token\"\n";
    site.write_manifest(&format!("{admin}{more}{USUAL}"));
    site
}

/// Writes the token, for this user alone.
pub fn put_token(site: &Site, token: &str) {
    let (path, new) = (site.path("admin.token"), site.path("admin.token.new"));
    std::fs::write(&new, token).expect("write the token");
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o600)).expect("set its mode");
    std::fs::rename(new, path).expect("rename it");
}

/// Where a server says that operators can ask.
pub fn tcp_address(server: &Server) -> SocketAddr {
    let line = server.wait_for_log("operators can ask");
    let (_, address) = line.split_once("address=").expect("an address");
    address.trim().parse().expect("an address")
}

/// What the admin address of TCP answers to this request, to which Host is added.
pub async fn ask_tcp(
    address: SocketAddr,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let io = TcpStream::connect(address).await.expect("connect");
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body.to_owned())).expect("a request");
    whole(send(io, Version::H1, request).await.expect("a head")).await.expect("an answer")
}
