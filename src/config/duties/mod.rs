//! What a route does besides handing requests to its target: plain data, a file for each duty.

mod basic_auth;
mod compress;
mod cors;
mod headers;
mod rate_limit;

use std::path::PathBuf;

pub use basic_auth::BasicAuth;
pub use compress::Coding;
pub use cors::{Cors, CorsOrigins};
pub use headers::HeaderRules;
pub(super) use headers::header_value;
pub use rate_limit::RateLimit;

use super::problem::Located;
use super::read::Table;
use super::route::Target;

/// What a route does besides, in the order in which it is done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Duties {
    pub rate_limit: Option<RateLimit>,
    pub basic_auth: Option<BasicAuth>,
    pub cors: Option<Cors>,
    /// Of requests, as apps are handed them.
    pub request_headers: HeaderRules,
    /// Of the target's answers.
    pub response_headers: HeaderRules,
    /// What answers are compressed with, as the client likes it; nothing where it is empty.
    pub compress: Vec<Coding>,
}

impl Duties {
    /// The keys of those that there are, in the order in which they are done.
    pub fn names(&self) -> Vec<String> {
        let Duties { rate_limit, basic_auth, cors, request_headers, response_headers, compress } =
            self;
        let none = HeaderRules::default();
        let all = [
            ("rate_limit", rate_limit.is_some()),
            ("cors", cors.is_some()),
            ("basic_auth", basic_auth.is_some()),
            ("request_headers", *request_headers != none),
            ("response_headers", *response_headers != none),
            ("compress", !compress.is_empty()),
        ];
        all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name.to_owned()).collect()
    }

    /// The file that names who may come here.
    pub fn users_file(&self) -> Option<&Located<PathBuf>> {
        self.basic_auth.as_ref().map(|auth| &auth.users_file)
    }
}

/// Reads the duties of a route to `target`; none where it has no keys of any.
pub(super) fn duties(table: &mut Table<'_>, target: Option<&Target>) -> Option<Box<Duties>> {
    let rate_limit = table.take("rate_limit", rate_limit::rate_limit);
    let basic_auth = table.take("basic_auth", basic_auth::basic_auth);
    let cors = table.take("cors", cors::cors);
    let request_headers = table.take("request_headers", |value| {
        if target.is_some_and(|target| !matches!(target, Target::App(_))) {
            return value.reject(
                "only apps are handed the request's headers, and none answers here",
                "leave it out, or name an app",
            );
        }
        headers::request_headers(value)
    });
    let response_headers = table.take("response_headers", headers::response_headers);
    let compress = table.take("compress", compress::compress);

    let duties = Duties {
        rate_limit,
        basic_auth,
        cors,
        request_headers: request_headers.unwrap_or_default(),
        response_headers: response_headers.unwrap_or_default(),
        compress: compress.unwrap_or_default(),
    };
    (duties != Duties::default()).then(|| Box::new(duties))
}
