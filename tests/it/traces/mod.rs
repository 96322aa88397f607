//! Traces: what a collector is told of requests, and whom guests and origins are told they come from.

mod collector;
mod context;
mod spans;

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use tokio::net::TcpSocket;

use crate::outbound;
use crate::support::client::{Reply, Version, send, whole};
use crate::support::collector::Collector;
use crate::support::precompiled;
use crate::support::server::{Server, Site};

const ANYONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// A proxy that every [`site`] trusts.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const NEVER: &str = "1/1000000000";

/// The site of the outbound tests, whose guests reach `origins`, with `traces` below `[traces]`.
fn site(origins: &[&str], traces: &str) -> Site {
    let site = outbound::site(origins, "");
    site.write_manifest(&manifest(origins, traces));
    precompiled::put(&site.path("state"));
    site
}

fn manifest(origins: &[&str], traces: &str) -> String {
    let listeners = "http = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]";
    format!(
        "[server]\n{listeners}\ntrusted_proxies = [\"{PROXY}\"]\n\n[traces]\n{traces}\n{}",
        outbound::manifest(origins, "")
    )
}

/// What sends one request in so many to this collector.
fn to(collector: &Collector, sample: &str) -> String {
    format!("endpoint = \"http://{}\"\nsample = \"{sample}\"", collector.address)
}

/// GET of `http://HOST/PATH` from an address of this machine, with these headers.
async fn get_from(
    client: Ipv4Addr,
    server: &Server,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Reply {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((client, 0))).expect("an address of the machine");
    let io = socket.connect(server.http).await.expect("connect");
    let mut request = Request::get(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<Bytes>::default()).expect("a request");
    let answer = send(io, Version::H1, request).await.expect("an answer");
    whole(answer).await.expect("a whole answer")
}

/// The values of a header that the kit's `/inspect` was asked with.
fn inspected(reply: &Reply, name: &str) -> Vec<String> {
    let seen: Value = serde_json::from_slice(&reply.body).expect("JSON");
    let headers = seen["headers"].as_array().expect("headers").iter();
    let values = headers.filter(|header| header[0] == name);
    values.map(|header| header[1].as_str().expect("text").to_owned()).collect()
}

fn is_server(span: &Value) -> bool {
    span["kind"] == "SPAN_KIND_SERVER"
}

fn is_client(span: &Value) -> bool {
    span["kind"] == "SPAN_KIND_CLIENT"
}
