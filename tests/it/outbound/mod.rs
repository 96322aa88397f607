//! What guests reach outside, and what they do not.

mod connections;
mod crossing;
mod limits;
mod network;
mod reach;
mod requests;
mod spellings;

use std::time::{Duration, Instant};

use crate::support::client::{answer, get};
use crate::support::pool::guest;
use crate::support::server::{PATIENCE, Server, Site};

/// The hosts of the guests that send what they are told to, p2 and p3.
pub const SENDERS: [&str; 2] = ["f2.test", "f3.test"];

/// What the origin answers where nothing else is asked of it.
pub const HELLO: &str = "200 hello from the origin";

/// A site whose guests reach `origins`, under these settings for all apps: the kits, at
/// `p2.test` and `p3.test`, and [`SENDERS`].
pub fn site(origins: &[&str], settings: &str) -> Site {
    let site = Site::new(&manifest(origins, settings));
    for name in ["kit-p2", "kit-p3", "fetch-p2", "fetch-p3"] {
        site.put(&format!("apps/{name}.wasm"), &guest(name));
    }
    site
}

/// The manifest of [`site`].
pub fn manifest(origins: &[&str], settings: &str) -> String {
    format!(
        r#"
[defaults]
outbound = {origins:?}
{settings}

[apps]
p2 = {{ component = "apps/kit-p2.wasm" }}
p3 = {{ component = "apps/kit-p3.wasm" }}
f2 = {{ component = "apps/fetch-p2.wasm" }}
f3 = {{ component = "apps/fetch-p3.wasm" }}

[hosts]
"p2.test" = "p2"
"p3.test" = "p3"
"f2.test" = "f2"
"f3.test" = "f3"
"#
    )
}

/// The status and the text of what the kit at `host` gets from `url`; `000` and the error where
/// there is no whole answer.
pub async fn fetched(server: &Server, host: &str, url: &str) -> String {
    answer(server, host, &format!("/fetch?url={}", escaped(url))).await
}

/// What the guest at `host`, one of [`SENDERS`], tells of the request that `parameters` describe.
pub async fn sent(server: &Server, host: &str, parameters: &[(&str, &str)]) -> String {
    let query: Vec<_> =
        parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    match get(server, host, &format!("/send?{}", query.join("&"))).await {
        Ok(reply) => reply.text().to_owned(),
        Err(error) => format!("no answer: {error}"),
    }
}

/// `text` as the value of a parameter.
pub fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
