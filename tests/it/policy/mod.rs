//! What the operator asks of handshakes, and of the connections for one host.

mod clients;
mod handshakes;
mod https;
mod reloads;
mod sessions;
mod trust;

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rustls::ClientConfig;
use serde_json::Value;
use time::Duration;

use crate::support::client::{Error, Reply, Version, connect, send, whole};
use crate::support::server::{Server, Site, USUAL};

/// As long as a client's certificate lives, if the test is not about that.
const YEAR: Duration = Duration::days(365);

/// The usual site with more lines below `[hosts]`, and what comes after.
fn site(more: &str) -> Site {
    let site = Site::usual();
    std::fs::create_dir(site.path("certs")).expect("make certs/");
    site.write_manifest(&format!("{USUAL}{more}"));
    site
}

/// Takes another manifest.
fn reload(site: &Site, server: &Server, more: &str) {
    let skipped = server.log().len();
    site.write_manifest(&format!("{USUAL}{more}"));
    server.wait_for_log_after(skipped, "reloaded");
}

/// GET of `https://AUTHORITY/PATH` with these headers, on a connection of its own that is made for `sni`.
async fn get_as(
    server: &Server,
    (version, config): (Version, &Arc<ClientConfig>),
    sni: &str,
    (authority, path): (&str, &str),
    headers: &[(&str, &str)],
) -> Result<Reply, Error> {
    let io = connect(server.https, sni, Arc::clone(config)).await?;
    let mut request = match version {
        Version::H1 => Request::get(path).header("host", authority),
        Version::H2 => Request::get(format!("https://{authority}{path}")),
    };
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    whole(send(io, version, request.body(Full::<Bytes>::default())?).await?).await
}

/// What a guest saw of this header.
fn seen(reply: &Reply, name: &str) -> Vec<String> {
    let seen: Value = serde_json::from_slice(&reply.body).expect("JSON");
    let headers = seen["headers"].as_array().expect("headers");
    let named = headers.iter().filter(|header| header[0] == name);
    named.filter_map(|header| header[1].as_str().map(str::to_owned)).collect()
}
