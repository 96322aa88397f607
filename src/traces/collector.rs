//! The HTTP client that batches of spans are posted with, within bounds of time and size.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::certificates::authority;
use crate::config::{Traces, trace_header};
use crate::http_client::{self, Fault};
use crate::small_file;

/// For one batch, with all attempts: from the look-up of the collector's name to the last byte of its answer.
pub const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// For one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Before a batch is posted again; each wait is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Bytes of an answer.
const ANSWER_MAX: usize = 64 * 1024;

/// Bytes of a file of headers.
const HEADERS_FILE_MAX: u64 = 16 * 1024;

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));

/// The client of one collector.
pub struct Collector {
    settings: Arc<Traces>,
    /// For https.
    tls: Option<TlsConnector>,
    /// No attempt is made after it.
    stop: CancellationToken,
    /// Why the last batch was not taken; the library keeps that to itself.
    failure: Mutex<Option<String>>,
}

/// Why a batch was not taken.
struct Refused {
    reason: String,
    /// It may be taken later.
    passes: bool,
}

impl Collector {
    /// Reads what TLS needs.
    pub async fn open(settings: Arc<Traces>, stop: CancellationToken) -> Result<Collector, String> {
        let tls = match settings.endpoint.scheme_str() {
            Some("https") => {
                let root = settings.ca_root.clone();
                let roots = tokio::task::spawn_blocking(move || match &root {
                    Some(file) => authority::root(file).map_err(|problem| problem.to_string()),
                    None => Ok(http_client::platform_roots()),
                });
                let roots = roots.await.map_err(|panic| panic.to_string())??;
                Some(http_client::tls(roots).map_err(|error| error.to_string())?)
            }
            _ => None,
        };
        Ok(Collector { settings, tls, stop, failure: Mutex::default() })
    }

    /// Why the last batch was not taken.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Posts a batch until it is taken, refused for good, or there is no time left.
    async fn post(&self, batch: Bytes) -> Result<Response<Bytes>, String> {
        let headers = self.headers().await?;
        let end = Instant::now() + POST_TIMEOUT;
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = timeout(ATTEMPT_TIMEOUT, self.attempt(&headers, batch.clone())).await;
            let refused = match attempt {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(refused)) => refused,
                Err(_) => Refused {
                    reason: format!("it took more than {ATTEMPT_TIMEOUT:?} to answer"),
                    passes: true,
                },
            };
            let is_last = Instant::now() + pause + ATTEMPT_TIMEOUT > end;
            if !refused.passes || is_last || self.stop.is_cancelled() {
                return Err(format!(
                    "the collector at {}: {}",
                    self.settings.endpoint, refused.reason
                ));
            }
            // Once more when it is time to end, and at once.
            self.stop.run_until_cancelled(sleep(pause)).await;
            pause *= 2;
        }
    }

    async fn attempt(&self, headers: &HeaderMap, batch: Bytes) -> Result<Response<Bytes>, Refused> {
        let mut request = Request::new(Full::new(batch));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.settings.endpoint.clone();
        *request.headers_mut() = headers.clone();
        match http_client::exchange(request, self.tls.as_ref(), ANSWER_MAX).await {
            Ok(answer) if answer.status().is_success() => Ok(answer),
            Ok(answer) => Err(Refused {
                reason: format!("it answers {}", answer.status()),
                // As the specification of OTLP has it.
                passes: matches!(
                    answer.status(),
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                ),
            }),
            Err(fault) => Err(Refused {
                passes: matches!(fault, Fault::Connect(_) | Fault::Http(_)),
                reason: fault.to_string(),
            }),
        }
    }

    /// The manifest's, and those of its file as it is now: a token that is replaced there is used at once.
    async fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = self.settings.headers.clone();
        if let Some(file) = &self.settings.headers_file {
            let path = file.value.clone();
            let read = tokio::task::spawn_blocking(move || read_headers(&path));
            headers.extend(read.await.map_err(|panic| panic.to_string())??);
        }
        headers.entry(USER_AGENT).or_insert(AGENT);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        Ok(headers)
    }
}

impl HttpClient for Collector {
    /// The headers of `request` are not looked at: those that the library adds come from the
    /// environment as well, and the manifest is the truth.
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            self.post(request.into_body()).await.map_err(|reason| {
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                *failure = Some(reason.clone());
                reason.into()
            })
        })
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn read_headers(path: &Path) -> Result<HeaderMap, String> {
    let failed = |why: &dyn fmt::Display| format!("traces.headers_file {}: {why}", path.display());
    let (bytes, _) = small_file::read(path, HEADERS_FILE_MAX).map_err(|error| failed(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| failed(&"it is not UTF-8 text"))?;
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            let number = number + 1;
            // Not what the line is: it may be a secret.
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| failed(&format!("line {number} is not `name: value`")))?;
            trace_header(name.trim(), value.trim())
                .map_err(|why| failed(&format!("line {number}: {why}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_headers_has_lines_of_names_and_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("headers");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_headers(&path)
        };
        let headers = read("# for the fleet\nAuthorization: Bearer s3cret\n\nx-scope: a:b\n");
        let headers = headers.expect("headers");
        assert_eq!(headers["authorization"], "Bearer s3cret");
        assert_eq!(headers["x-scope"], "a:b");
        assert!(!format!("{headers:?}").contains("s3cret"));

        for (text, why) in [
            ("s3cret", "line 1 is not `name: value`"),
            ("\nHost: s3cret", "line 2: the header host is tidegate's to set"),
            ("a b: s3cret", "line 1: \"a b\" is no name of a header"),
            ("a: s3cret\u{1}", "line 1: the value of a cannot be sent"),
        ] {
            let told = read(text).expect_err(text);
            assert!(told.ends_with(why) && !told.contains("s3cret"), "{told}");
        }
    }
}
