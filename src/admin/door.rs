//! Who may come in: whoever can connect to the Unix socket, and over TCP who shows the token.
//!
//! A browser is let in by its cookie, and sends requests also for pages that are not ours: so the
//! names in `Host` and `Origin` have to be ours, and the cookie is for our own pages alone.

use std::num::NonZeroUsize;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN, SET_COOKIE, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use serde::Deserialize;
use tokio::time::sleep;
use tracing::warn;

use super::answer::{Body, Failure, whole};
use super::token::{SESSION, Token};
use crate::config::Host;
use crate::limit::Bucket;
use crate::server::ADMIN_COOKIE;

/// Where a browser shows the token once.
pub const LOGIN: &str = "/login";

/// Who shows a wrong token waits this long, so that trying takes long.
const WRONG_PAUSE: Duration = Duration::from_secs(1);

/// Lines about wrong tokens: a second in the long run, and at once. Who shows them may be many,
/// and push all else out of the log.
const WRONG_RATE: NonZeroUsize = NonZeroUsize::new(1).expect("written here, not zero");
const WRONG_BURST: NonZeroUsize = NonZeroUsize::new(5).expect("written here, not zero");

/// Who may come in, and by which names we are called.
pub enum Door {
    /// Whoever the socket's file lets connect.
    Unix,
    Tcp {
        token: std::sync::Arc<Token>,
        names: Vec<Host>,
        /// How often it may be said that somebody has shown another token.
        wrong: Bucket,
    },
}

impl Door {
    /// Whether the request is meant for us: a page of another site, whose name its owner has let
    /// lead here, is not.
    ///
    /// # Errors
    /// Why it is not.
    pub fn judge_names(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let forbidden = |error: &str| Failure::new(StatusCode::FORBIDDEN, error);
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(name), None) = (hosts.next().and_then(|it| it.to_str().ok()), hosts.next())
        else {
            return Err(forbidden("a request names one host"));
        };
        let is_ours = Host::from_authority(name).is_some_and(|host| self.is_called(&host));
        if !is_ours {
            let failure = forbidden("this is not called by that name");
            return Err(failure
                .with_help("call it localhost or by its address, or add the name to admin.names"));
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let is_same = |origin: &HeaderValue| {
            let authority = origin.to_str().ok().and_then(|it| it.split_once("://"));
            authority.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(name))
        };
        match origins.all(is_same) {
            true => Ok(()),
            false => Err(forbidden("pages of other sites may not ask this")),
        }
    }

    fn is_called(&self, host: &Host) -> bool {
        let names = match self {
            Door::Unix => [].as_slice(),
            Door::Tcp { names, .. } => names,
        };
        host.as_str() == "localhost" || host.address().is_some() || names.contains(host)
    }

    /// Whether the sender may ask what it asks.
    ///
    /// # Errors
    /// When it has not shown the token.
    pub async fn judge_sender(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Door::Tcp { token, wrong, .. } = self else { return Ok(()) };
        refresh(token).await;
        if cookies(headers).any(|cookie| token.is_session(cookie)) {
            return Ok(());
        }
        let bearer = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok()).and_then(|it| {
            let (scheme, shown) = it.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(shown.trim())
        });
        match bearer {
            Some(shown) if token.is(shown) => Ok(()),
            Some(_) => Err(wrong_token(wrong).await),
            None => Err(Failure::new(StatusCode::UNAUTHORIZED, "a token is needed here")
                .with_help("send the header `Authorization: Bearer TOKEN`, with what is in admin.token_file")),
        }
    }

    /// Gives a cookie to a browser that shows the token: `{"token": "..."}`.
    ///
    /// # Errors
    /// When it shows another one, or none.
    pub async fn login(&self, body: &[u8]) -> Result<Response<Body>, Failure> {
        #[derive(Deserialize)]
        struct Shown {
            token: String,
        }
        let mut answer = whole("application/json", "");
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let Door::Tcp { token, wrong, .. } = self else { return Ok(answer) };

        let shown: Shown = serde_json::from_slice(body).map_err(|_| {
            Failure::new(StatusCode::BAD_REQUEST, "expected the token in JSON")
                .with_help("send {\"token\": \"...\"}")
        })?;
        refresh(token).await;
        if !token.is(shown.token.trim()) {
            return Err(wrong_token(wrong).await);
        }
        let cookie = format!(
            "{ADMIN_COOKIE}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
            token.session(),
            SESSION.as_secs()
        );
        let cookie = HeaderValue::try_from(cookie);
        answer.headers_mut().extend(cookie.ok().map(|cookie| (SET_COOKIE, cookie)));
        Ok(answer)
    }
}

/// The failure as an answer; who has not shown the token is told how.
pub fn refused(failure: &Failure) -> Response<Body> {
    let mut answer = failure.answer();
    if failure.status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"tidegate\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    answer
}

async fn wrong_token(wrong: &Bucket) -> Failure {
    if wrong.take(WRONG_RATE, WRONG_BURST) {
        warn!("somebody showed a wrong admin token");
    }
    sleep(WRONG_PAUSE).await;
    Failure::new(StatusCode::UNAUTHORIZED, "this is not the token")
        .with_help("the token is what is in admin.token_file")
}

async fn refresh(token: &std::sync::Arc<Token>) {
    let token = std::sync::Arc::clone(token);
    // A panic in it leaves the token as it is.
    let _ = tokio::task::spawn_blocking(move || token.refresh()).await;
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| name.trim() == ADMIN_COOKIE).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(pairs: &[(http::HeaderName, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().expect("a value"));
        }
        Door::Unix.judge_names(&headers).is_ok()
    }

    #[test]
    fn a_name_that_somebody_else_may_own_is_not_ours() {
        for ours in ["localhost", "localhost:9180", "127.0.0.1:9180", "[::1]:1", "10.0.0.5"] {
            assert!(judged(&[(HOST, ours)]), "{ours}");
        }
        for other in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert!(!judged(&[(HOST, other)]), "{other}");
        }
        assert!(!judged(&[]));
        assert!(!judged(&[(HOST, "localhost"), (HOST, "localhost")]));
    }

    #[test]
    fn a_page_of_another_site_may_not_ask() {
        let host = (HOST, "localhost:9180");
        assert!(judged(&[host.clone(), (ORIGIN, "http://localhost:9180")]));
        for other in [
            "null",
            "http://localhost",
            "http://localhost:8080",
            "https://evil.example",
            "http://127.0.0.1:9180",
        ] {
            assert!(!judged(&[host.clone(), (ORIGIN, other)]), "{other}");
        }
    }
}
