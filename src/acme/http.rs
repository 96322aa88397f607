//! HTTPS to the authority, within bounds of time and size; what it says that is not ACME.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient, Problem};
use rustls::{CertificateError, RootCertStore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::http_client::{self, Fault};

/// From the look-up of the authority's name to the last byte of its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer: a chain of certificates has a few thousand.
const ANSWER_MAX: usize = 256 * 1024;

/// Longer than this nobody is told to wait in earnest.
const WAIT_MAX: Duration = Duration::from_secs(14 * 86_400);

/// Why a request has no answer that ACME knows.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("cannot reach the authority at {authority}: {source}")]
    Connect { authority: String, source: io::Error },
    #[error("no TLS with the authority at {authority}: {source}")]
    Tls { authority: String, source: io::Error },
    #[error("the authority at {authority} did not answer as HTTP: {reason}")]
    Http { authority: String, reason: String },
    #[error("the authority at {authority} took more than {REQUEST_TIMEOUT:?} to answer")]
    Slow { authority: String },
    #[error("the authority at {authority} answers {status}, which is not ACME")]
    Status { authority: String, status: StatusCode, wait: Option<Duration> },
    #[error("{uri} is no URL of an authority")]
    Url { uri: Uri },
    /// A problem that the authority says will be gone after some time.
    #[error("{problem}")]
    Later { problem: Problem, wait: Duration },
}

impl Trouble {
    /// What an operator can do about it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Trouble::Connect { .. } | Trouble::Slow { .. } => {
                Some("look at tls.acme.directory, and at this machine's way to the network")
            }
            Trouble::Tls { source, .. } => match source.get_ref()?.downcast_ref() {
                Some(rustls::Error::InvalidCertificate(
                    CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. },
                )) => Some("look at this machine's clock"),
                Some(rustls::Error::InvalidCertificate(_)) => Some(
                    "for an authority of your own, tls.acme.ca_root must be the root of its certificate; for a public one, leave it out and have the package ca-certificates installed",
                ),
                _ => None,
            },
            Trouble::Status { .. } | Trouble::Url { .. } | Trouble::Http { .. } => {
                Some("look whether tls.acme.directory is the URL of an ACME directory")
            }
            Trouble::Later { .. } => None,
        }
    }

    /// How long the authority says to wait.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Trouble::Status { wait, .. } => *wait,
            _ => None,
        }
    }
}

/// What all requests to one authority share.
pub struct Https(TlsConnector);

impl Https {
    /// Trusts an authority whose certificate leads to one of `roots`.
    ///
    /// # Errors
    /// When TLS cannot be set up at all.
    pub fn new(roots: RootCertStore) -> Result<Https, rustls::Error> {
        http_client::tls(roots).map(Https)
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let tls = self.0.clone();
        Box::pin(async move {
            let authority = request.uri().authority().map_or("", |it| it.as_str()).to_owned();
            let answer = match timeout(REQUEST_TIMEOUT, exchange(tls, request)).await {
                Ok(answer) => answer.and_then(|answer| judge(answer, &authority)),
                Err(_) => Err(Trouble::Slow { authority }),
            };
            let (parts, body) =
                answer.map_err(|trouble| Error::Other(trouble.into()))?.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

async fn exchange(
    tls: TlsConnector,
    request: Request<BodyWrapper<Bytes>>,
) -> Result<Response<Bytes>, Trouble> {
    let uri = request.uri().clone();
    if uri.scheme_str() != Some("https") {
        return Err(Trouble::Url { uri });
    }
    let authority = uri.authority().map_or("", |it| it.as_str()).to_owned();
    let answer = http_client::exchange(request, Some(&tls), ANSWER_MAX).await;
    answer.map_err(|fault| match fault {
        Fault::Url => Trouble::Url { uri },
        Fault::Connect(source) => Trouble::Connect { authority, source },
        Fault::Tls(source) => Trouble::Tls { authority, source },
        Fault::Http(reason) => Trouble::Http { authority, reason },
        large @ Fault::Large(_) => Trouble::Http { authority, reason: large.to_string() },
    })
}

/// Tells answers of ACME from those of a proxy on the way, and problems that the authority says will
/// pass: when, is in a header that nobody sees later.
fn judge(answer: Response<Bytes>, authority: &str) -> Result<Response<Bytes>, Trouble> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let wait = retry_after(answer.headers());
    match (serde_json::from_slice::<Problem>(answer.body()), wait) {
        // A refused nonce is tried again at once, whatever else is said.
        (Ok(_), None) => Ok(answer),
        (Ok(_), Some(_)) if status == StatusCode::BAD_REQUEST => Ok(answer),
        (Ok(problem), Some(wait)) => Err(Trouble::Later { problem, wait }),
        (Err(_), wait) => Err(Trouble::Status { authority: authority.to_owned(), status, wait }),
    }
}

/// What `Retry-After` says, in either of its forms.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            date.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(wait.min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>, body: &str) -> Response<Bytes> {
        let mut answer = Response::builder().status(status);
        if let Some(value) = retry_after {
            answer = answer.header(RETRY_AFTER, value);
        }
        answer.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    const LIMITED: &str =
        r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}"#;

    #[test]
    fn a_rate_limit_says_how_long_to_wait() {
        let wait = |retry_after| match judge(answer(429, Some(retry_after), LIMITED), "ca") {
            Err(Trouble::Later { problem, wait }) => {
                assert_eq!(problem.detail.as_deref(), Some("too many"));
                wait
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(wait("3600"), Duration::from_secs(3600));
        assert_eq!(wait("99999999999"), WAIT_MAX);
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!((98..=100).contains(&wait(&soon).as_secs()));
        assert!(judge(answer(429, None, LIMITED), "ca").is_ok(), "left to the library");
    }

    #[test]
    fn a_page_of_a_proxy_is_no_problem_document() {
        let page = judge(answer(502, Some("7"), "<html>"), "ca");
        let trouble = page.expect_err("not ACME");
        assert_eq!(trouble.wait(), Some(Duration::from_secs(7)));
        assert!(trouble.to_string().contains("502"), "{trouble}");
        assert!(judge(answer(400, Some("7"), LIMITED), "ca").is_ok(), "it may be a nonce");
    }
}
