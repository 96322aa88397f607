//! What a route does besides handing requests to an app, a module for each duty.

mod basic_auth;
mod compress;
mod cors;
mod escapes;
mod files;
mod headers;
mod rate_limit;
mod redirect;
mod respond;
mod sending;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::client::{Error, Reply, Version, send, whole};
use crate::support::pool::guest;
use crate::support::precompiled;
use crate::support::server::{PATIENCE, Server, Site};

/// A site with the app `hello`, and `hosts` as its `[hosts]`.
fn site(hosts: &str) -> Site {
    let site = Site::new(&manifest(hosts));
    for name in ["hello", "kit-p2"] {
        site.put(&format!("apps/{name}.wasm"), &guest(name));
    }
    precompiled::put(&site.path("state"));
    site
}

fn manifest(hosts: &str) -> String {
    format!(
        "[apps.hello]\ncomponent = \"apps/hello.wasm\"\n[apps.kit]\ncomponent = \"apps/kit-p2.wasm\"\n[hosts]\n\"kit.test\" = \"kit\"\n{hosts}\n"
    )
}

/// The value of a header in an answer written out, each of them where there are several.
fn values<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// A GET of `path` at `host` with these headers.
fn request(host: &str, path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::get(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).expect("a request")
}

/// The answer to a request that comes from `client`, an address of this machine.
async fn from(client: Ipv4Addr, server: &Server, request: Request<Full<Bytes>>) -> Reply {
    from_at(client, server.http, request).await
}

/// The same, of the server at `address`.
async fn from_at(client: Ipv4Addr, address: SocketAddr, request: Request<Full<Bytes>>) -> Reply {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((client, 0).into()).expect("bind");
    let io = socket.connect(address).await.expect("connect");
    whole(send(io, Version::H1, request).await.expect("an answer")).await.expect("whole")
}

/// The values of a header as the kit's `/inspect` has seen it.
fn seen(reply: &Reply, name: &str) -> Vec<String> {
    let seen: Value = serde_json::from_slice(&reply.body).expect("JSON");
    let fields = seen["headers"].as_array().expect("headers").iter();
    let of_name = fields.filter(|field| field[0] == name);
    of_name.map(|field| field[1].as_str().expect("text").to_owned()).collect()
}

/// The answer to a request with these headers, on a connection of its own.
async fn fetch(
    server: &Server,
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Reply, Error> {
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let io = TcpStream::connect(server.http).await?;
    whole(send(io, Version::H1, request.body(Full::<Bytes>::default())?).await?).await
}

/// A site with these files below `public`, and a route to them at `files.test`.
fn folder(settings: &str, files: &[(&str, &str)]) -> Site {
    let site = site(&format!("\"files.test\" = {{ \"/\" = {{ {settings} }} }}"));
    for (name, content) in files {
        put(&site, &format!("public/{name}"), content.as_bytes());
    }
    site
}

/// An answer whose entity tag is strong: a file's is weak for a while after it was written.
async fn settled(server: &Server, path: &str, headers: &[(&str, &str)]) -> Reply {
    let end = Instant::now() + PATIENCE;
    loop {
        let reply = fetch(server, "GET", "files.test", path, headers).await.expect("an answer");
        if reply.headers.get("etag").is_some_and(|tag| !tag.as_bytes().starts_with(b"W/")) {
            return reply;
        }
        assert!(Instant::now() < end, "its tag stays weak");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes a file, with the folders that it is in, by rename.
fn put(site: &Site, name: &str, content: &[u8]) {
    let path = site.path(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
    site.put(name, content);
}

/// Sends a GET and reads the head of the answer, and no byte more.
async fn get_head(io: &mut TcpStream, host: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    io.write_all(request.as_bytes()).await.expect("send");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.expect("a head"));
    }
    String::from_utf8_lossy(&head).into_owned()
}
