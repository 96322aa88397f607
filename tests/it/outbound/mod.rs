//! What guests reach outside, and what they do not.

mod reach;

use crate::support::client::{self, Error, Reply};
use crate::support::server::{Server, Site, USUAL};

/// The usual site, where both kits may reach `origins`, with these settings for all apps.
pub fn site(origins: &[&str], settings: &str) -> Site {
    let site = Site::usual();
    site.write_manifest(&manifest(origins, settings));
    site
}

/// The manifest of [`site`].
pub fn manifest(origins: &[&str], settings: &str) -> String {
    USUAL.replace("[defaults]", &format!("[defaults]\noutbound = {origins:?}\n{settings}"))
}

/// What the guest at `host` gets from `url`.
pub async fn fetch(server: &Server, host: &str, url: &str) -> Result<Reply, Error> {
    client::get(server, host, &format!("/fetch?url={}", escaped(url))).await
}

/// The status and the text of [`fetch`]; `000` and the error where there is no whole answer.
pub async fn fetched(server: &Server, host: &str, url: &str) -> String {
    client::answer(server, host, &format!("/fetch?url={}", escaped(url))).await
}

/// `text` as the value of a parameter.
pub fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
