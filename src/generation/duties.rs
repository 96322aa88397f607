//! What a route knows of its clients: it outlives reloads that leave the route where it is.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::config::{self, BasicAuth};
use crate::limit::{ClientBuckets, Rate};
use crate::users::{UserFiles, Users};

/// Wrong passwords from one client, or one /64 of IPv6: in the long run, and at once.
const WRONG_PASSWORDS: Rate = {
    const fn count(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).expect("written here, not zero")
    }
    Rate::new(const { count(10) }, Duration::from_secs(60), const { count(10) })
};

/// What a route does besides handing requests to its target, ready to be done.
pub struct Duties {
    pub settings: config::Duties,
    /// The route's host and prefix, for log lines.
    pub at: String,
    pub limiter: Option<Limiter>,
    pub door: Option<Door>,
}

/// How many requests each client may make.
pub struct Limiter {
    pub rate: Rate,
    /// The same in all generations that have the route, whatever its rate.
    pub clients: Arc<ClientBuckets>,
}

/// Who may come in.
pub struct Door {
    pub challenge: HeaderValue,
    pub users: Arc<Users>,
    /// What a client may try.
    pub attempts: Rate,
    /// The same in all generations that have the route.
    pub clients: Arc<ClientBuckets>,
}

impl Duties {
    /// The duties of these settings, which know what those `before` knew of their clients.
    pub(super) fn new(
        settings: &config::Duties,
        at: String,
        users: &UserFiles,
        before: Option<&Duties>,
    ) -> Self {
        let limiter = settings.rate_limit.map(|limit| Limiter {
            rate: Rate::new(limit.requests, limit.per, limit.burst),
            clients: before
                .and_then(|before| before.limiter.as_ref())
                .map(|limiter| limiter.clients.clone())
                .unwrap_or_default(),
        });
        let door = settings.basic_auth.as_ref().map(|auth| {
            let before = before.and_then(|before| before.door.as_ref());
            Door::new(auth, users, before)
        });
        Self { settings: settings.clone(), at, limiter, door }
    }
}

impl Door {
    fn new(auth: &BasicAuth, users: &UserFiles, before: Option<&Door>) -> Self {
        Self {
            challenge: auth.challenge.clone(),
            // Every file that the config names has been read.
            users: users.get(&auth.users_file.value),
            attempts: WRONG_PASSWORDS,
            clients: before.map(|before| before.clients.clone()).unwrap_or_default(),
        }
    }
}
