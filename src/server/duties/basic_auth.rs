//! Who may come to a route, by name and password.

use std::time::Duration;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};

use super::Caller;
use super::rate_limit::take;
use crate::generation::Door;
use crate::limit::Limit;
use crate::server::response::Refusal;
use crate::users::{Crowded, Login};

/// As clients write it, with or without the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// When to come again where too many passwords wait to be looked at.
const CROWDED_RETRY: Duration = Duration::from_secs(1);

/// Why a password is not looked at.
enum Unseen {
    Crowded,
    TooOften(Duration),
}

impl From<Crowded> for Unseen {
    fn from(Crowded: Crowded) -> Unseen {
        Unseen::Crowded
    }
}

/// The user in whose name the request comes. The password goes no further.
///
/// # Errors
/// When there is none, the password is wrong, or the client has tried too many.
pub async fn check(
    door: &Door,
    caller: &Caller<'_>,
    headers: &mut HeaderMap,
) -> Result<HeaderValue, Refusal> {
    let unauthorized = || Refusal::Unauthorized { challenge: door.challenge.clone() };
    let login = login(headers).ok_or_else(unauthorized)?;
    let name = HeaderValue::from_str(&login.name).map_err(|_| unauthorized())?;
    headers.remove(AUTHORIZATION);
    if door.users.knows(&login) {
        return Ok(name);
    }

    let mut tried = false;
    let mut attempt = || {
        take(&door.clients, door.attempts, Limit::PasswordAttempts, caller)
            .map_err(Unseen::TooOften)?;
        tried = true;
        Ok(())
    };
    // Who has tried too many does not even wait among those who have not.
    let is_right = match door.clients.wait(caller.address(), door.attempts) {
        Some(_) => attempt().map(|()| false),
        None => door.users.check(&login, attempt).await,
    };
    match is_right {
        Ok(true) => {
            // Only wrong ones count.
            if tried {
                door.clients.give_back(caller.address(), door.attempts);
            }
            Ok(name)
        }
        Ok(false) => Err(unauthorized()),
        Err(Unseen::TooOften(retry_after)) => Err(Refusal::TooMany { retry_after }),
        Err(Unseen::Crowded) => {
            caller.tally.reached(Limit::PasswordChecks, caller);
            Err(Refusal::Crowded { retry_after: CROWDED_RETRY })
        }
    }
}

/// What the one Authorization header says, in the form of RFC 7617.
fn login(headers: &HeaderMap) -> Option<Login> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (all.next(), all.next()) else { return None };
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let name = str::from_utf8(&decoded[..colon]).ok()?.to_owned();
    Some(Login { name, password: decoded[colon + 1..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(headers: &[&'static str]) -> Option<(String, Vec<u8>)> {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(AUTHORIZATION, HeaderValue::from_static(header));
        }
        login(&map).map(|login| (login.name, login.password))
    }

    #[test]
    fn a_login_is_read_as_clients_write_it() {
        let alice = Some(("alice".to_owned(), b"a:b".to_vec()));
        for header in ["Basic YWxpY2U6YTpi", "basic YWxpY2U6YTpi", "BASIC  YWxpY2U6YTpi"] {
            assert_eq!(parsed(&[header]), alice, "{header}");
        }
        let empty = Some((String::new(), Vec::new()));
        assert_eq!(parsed(&["Basic Og=="]), empty);
        assert_eq!(parsed(&["Basic Og"]), empty);
    }

    #[test]
    fn what_is_no_login_or_two_is_none() {
        for headers in [
            &["Bearer YWxpY2U6YTpi"][..],
            &["Basic"],
            &["Basic YWxpY2U"],
            &["Basic ***"],
            &["Basic /zo="],
            &["Basic YWxpY2U6YTpi", "Basic YWxpY2U6YTpi"],
            &[],
        ] {
            assert_eq!(parsed(headers), None, "{headers:?}");
        }
    }
}
