//! What a host asks of the connection that brings a request: to be HTTPS, and a client that was verified for it.

use http::Uri;
use http::header::{HeaderName, HeaderValue};

use super::bind::Scheme;
use super::connection::Client;
use super::forwarded::Sender;
use super::response::Refusal;
use crate::challenges::WELL_KNOWN;
use crate::config::{Host, Policy};
use crate::generation::Generation;

/// Who the client is, for the guest (RFC 9440).
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

/// Whether `host`, which has this policy, takes a request over this connection; and as whose.
pub fn admit(
    policy: Option<&Policy>,
    host: &Host,
    target: &Uri,
    sender: &Sender,
    client: &Client,
    generation: &Generation,
) -> Result<Option<HeaderValue>, Refusal> {
    if sender.scheme == Scheme::Http
        && let Some(port) = client.https_port
        && generation.goes_to_https(host)
        && !target.path().starts_with(WELL_KNOWN)
    {
        return Err(Refusal::Insecure(over_https(host, port, target)?));
    }
    match policy.and_then(|policy| policy.client_auth.as_ref()) {
        None => Ok(None),
        // Over plain HTTP nobody can show a certificate, nor to us where a proxy speaks TLS.
        Some(auth) if client.sender.scheme == Scheme::Http && !auth.required => Ok(None),
        Some(auth) => {
            let verifier = generation.certificates.client_verifier(auth);
            // By the verifier of now, and for this host: another one may ask for other certificates.
            let verified = client.verified.as_ref().zip(verifier).filter(|(verified, verifier)| {
                client.named.as_ref() == Some(host) && verified.is_by(verifier)
            });
            let (verified, _) = verified.ok_or(Refusal::Misdirected)?;
            Ok(verified.identity.clone())
        }
    }
}

fn over_https(host: &Host, port: u16, target: &Uri) -> Result<HeaderValue, Refusal> {
    let rest = target.path_and_query().map_or("/", |rest| rest.as_str());
    let url = match port == Scheme::Https.port() {
        true => format!("https://{host}{rest}"),
        false => format!("https://{host}:{port}{rest}"),
    };
    HeaderValue::try_from(url).map_err(|_| Refusal::Malformed("the target is no URI"))
}
