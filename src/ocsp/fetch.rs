//! Asks a responder over HTTP, within bounds of time and size.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::time::timeout;

use crate::http_client::{self, Fault};

/// From the look-up of the responder's name to the last byte of its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a response. They have some hundreds, or two thousand with a certificate.
pub const RESPONSE_MAX: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("{0} is no URL of a responder")]
    Url(Uri),
    #[error("the responder cannot be reached: {0}")]
    Connect(io::Error),
    #[error("the responder did not answer as HTTP: {0}")]
    Http(String),
    #[error("the responder answers {0}")]
    Status(StatusCode),
    #[error("the responder's answer is larger than {} KiB", RESPONSE_MAX >> 10)]
    Large,
    #[error("the responder took more than {TIMEOUT:?} to answer")]
    Slow,
}

/// What the responder at `uri` answers. Redirects are not followed.
///
/// # Errors
/// When there is no answer within the bounds.
pub async fn fetch(uri: &Uri, question: Vec<u8>) -> Result<Bytes, Trouble> {
    timeout(TIMEOUT, exchange(uri, question)).await.unwrap_or(Err(Trouble::Slow))
}

async fn exchange(uri: &Uri, question: Vec<u8>) -> Result<Bytes, Trouble> {
    let url = || Trouble::Url(uri.clone());
    let request = Request::post(uri)
        .header(CONTENT_TYPE, "application/ocsp-request")
        .header(ACCEPT, "application/ocsp-response")
        .body(Full::new(Bytes::from(question)))
        .map_err(|_| url())?;
    let answer = http_client::exchange(request, None, RESPONSE_MAX).await;
    let answer = answer.map_err(|fault| match fault {
        // Responders are asked over HTTP only.
        Fault::Url | Fault::Tls(_) => url(),
        Fault::Connect(error) => Trouble::Connect(error),
        Fault::Http(reason) => Trouble::Http(reason),
        Fault::Large(_) => Trouble::Large,
    })?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status => Err(Trouble::Status(status)),
    }
}
