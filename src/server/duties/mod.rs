//! What a route does besides handing requests to an app, and what answers in an app's stead.
//!
//! A file for each. This is the order, and it is always the same: the rate limit; a CORS
//! preflight, which is answered here and needs no password, as browsers send none with it; the
//! password; the changes to the request's headers; the target; the changes to the headers of its
//! answer; what CORS adds to that; and last compression. A page that says why there is no answer has what CORS adds, so
//! that a script may read it, and no changes: what is meant for answers, such as a lifetime in
//! caches, is wrong for those.

mod basic_auth;
pub mod coding;
mod compress;
mod cors;
mod encoded;
mod encoder;
mod headers;
mod rate_limit;
mod redirect;
mod respond;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Response};

pub use compress::Compression;
pub use encoded::Encoded;
pub use redirect::redirect;
pub use respond::respond;

use super::response::Refusal;
use crate::config::Peer;
use crate::generation::Duties;
use crate::limit::Tally;

/// Whom an app is told of; what a client says in it never reaches one.
const FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");

/// All that come over a Unix socket are counted as one client, where no trusted proxy tells them
/// apart. No client of a network has this address.
const UNIX: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// What comes after the duties before a target.
pub enum Next {
    /// Nothing: this is the whole answer.
    Answer(Response<Bytes>),
    /// The target, which the request may reach in the name of this user, if there are any.
    Target(Option<HeaderValue>),
}

/// Whose request it is, for what is counted by client.
struct Caller<'a> {
    peer: Peer,
    /// The route's host and prefix.
    at: &'a str,
    tally: &'a Tally,
}

/// What is done before the target is asked.
pub async fn before(
    duties: &Duties,
    peer: Peer,
    tally: &Tally,
    head: &mut Parts,
) -> Result<Next, Refusal> {
    let caller = Caller { peer, at: &duties.at, tally };
    if let Some(limiter) = &duties.limiter {
        rate_limit::check(limiter, &caller)?;
    }
    let cors = duties.settings.cors.as_ref();
    if let Some(preflight) = cors.and_then(|cors| cors::preflight(cors, head)) {
        return Ok(Next::Answer(preflight));
    }
    let user = match &duties.door {
        Some(door) => Some(basic_auth::check(door, &caller, &mut head.headers).await?),
        None => None,
    };
    Ok(Next::Target(user))
}

impl Caller<'_> {
    /// As whom it is counted.
    fn address(&self) -> IpAddr {
        match self.peer {
            Peer::Ip(ip) => ip,
            Peer::Unix => UNIX,
        }
    }
}

impl fmt::Display for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.peer, self.at)
    }
}

/// What is done to the headers that an app is handed.
pub fn hand_over(duties: &Duties, user: Option<HeaderValue>, headers: &mut HeaderMap) {
    if let Some(user) = user {
        headers.insert(FORWARDED_USER, user);
    }
    headers::apply_to_request(&duties.settings.request_headers, headers);
}

/// What is done to an answer, and what has to be known of its request for that.
pub struct After<'a> {
    duties: &'a Duties,
    origin: Option<HeaderValue>,
    /// Last of all, and so by who has the whole answer; none where it is not done.
    pub compression: Option<Compression>,
}

impl<'a> After<'a> {
    pub fn new(duties: &'a Duties, request: &HeaderMap) -> Self {
        let origin = duties.settings.cors.as_ref().and_then(|_| request.get(ORIGIN).cloned());
        let compression = Compression::of(request, &duties.settings.compress);
        Self { duties, origin, compression }
    }

    /// To an answer of the target, or of a duty.
    pub fn answered(&self, headers: &mut HeaderMap) {
        headers::apply(&self.duties.settings.response_headers, headers);
        self.refused(headers);
    }

    /// To a page that says why there is no answer.
    pub fn refused(&self, headers: &mut HeaderMap) {
        if let Some(cors) = &self.duties.settings.cors {
            cors::share(cors, self.origin.as_ref(), headers);
        }
    }
}
