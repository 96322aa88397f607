//! Why there is no certificate, in words for an operator: what the authority said, and what to do.

use std::time::Duration;

use instant_acme::{Error, Problem, Subproblem};

use super::http::Trouble;

/// How the types of an authority's problems begin.
const TYPES: &str = "urn:ietf:params:acme:error:";

/// Characters of what an authority, a hook or a name server said that are logged.
const SAID_MAX: usize = 500;

/// One attempt came to nothing.
#[derive(Debug)]
pub struct Failure {
    pub of: Of,
    /// What was attempted, and what came of it.
    pub reason: String,
    /// What an operator can do about it, where that is known.
    pub help: Option<String>,
    /// How long the authority says to wait at the least.
    pub wait: Option<Duration>,
}

/// Whom a failure concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// One host: the others may do better.
    Host,
    /// The authority does not know our account any more.
    Account,
    /// The authority cannot be talked to: no host would do better.
    Authority,
}

impl Failure {
    /// A failure of one host.
    pub fn of_host(reason: impl Into<String>) -> Failure {
        Failure { of: Of::Host, reason: shortened(&reason.into()), help: None, wait: None }
    }

    /// The same with what to do about it.
    pub fn with_help(self, help: impl Into<String>) -> Failure {
        Failure { help: Some(help.into()), ..self }
    }

    /// What the authority says about an order, or about the check of a host.
    pub fn of_problem(problem: &Problem, wait: Option<Duration>) -> Failure {
        let kind = kind(problem.r#type.as_deref());
        let of = match kind {
            "accountDoesNotExist" => Of::Account,
            // A new one each time, and an authority that takes none at the moment: no fault of the host's.
            "badNonce" => Of::Authority,
            _ => Of::Host,
        };
        Failure {
            of,
            reason: shortened(&format!("the authority says: {}", words(problem))),
            help: help(kind).map(str::to_owned),
            wait,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Api(problem) => Failure::of_problem(&problem, None),
            Error::Other(other) => match other.downcast::<Trouble>() {
                Ok(trouble) => match *trouble {
                    Trouble::Later { problem, wait } => Failure::of_problem(&problem, Some(wait)),
                    trouble => Failure {
                        of: Of::Authority,
                        reason: shortened(&trouble.to_string()),
                        help: trouble.help().map(str::to_owned),
                        wait: trouble.wait(),
                    },
                },
                Err(other) => {
                    Failure::of_host(format!("the exchange with the authority failed: {other}"))
                }
            },
            Error::Timeout(_) => Failure::of_host("the authority took too long to decide"),
            Error::Json(error) => {
                Failure::of_host(format!("the authority's answer is not ACME: {error}"))
                    .with_help("look whether tls.acme.directory is the URL of an ACME directory")
            }
            error => Failure::of_host(format!("the exchange with the authority failed: {error}")),
        }
    }
}

/// A problem's type without what all types have in common.
pub fn kind(text: Option<&str>) -> &str {
    text.map_or("", |text| text.strip_prefix(TYPES).unwrap_or(text))
}

fn words(problem: &Problem) -> String {
    let said = |detail: &Option<String>, r#type: &Option<String>| {
        let kind = kind(r#type.as_deref()).to_owned();
        match detail {
            Some(detail) if kind.is_empty() => detail.clone(),
            Some(detail) => format!("{detail} ({kind})"),
            None => kind,
        }
    };
    let parts =
        problem.subproblems.iter().map(|Subproblem { detail, r#type, .. }| said(detail, r#type));
    let parts: Vec<_> =
        std::iter::once(said(&problem.detail, &problem.r#type)).chain(parts).collect();
    parts.join("; ")
}

fn help(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "dns" => "look at the host's A, AAAA and CNAME records",
        "connection" | "unauthorized" | "tls" | "incorrectResponse" => {
            "the authority must reach this machine under the host's name: look at its DNS records, the firewall, and what else answers there"
        }
        "caa" => "the CAA record of the host, or of a domain above it, must name this authority",
        "rejectedIdentifier" => {
            "this authority does not issue for the name: give it a certificate in [tls.certificates]"
        }
        "rateLimited" => "too much was asked for: wait, nothing else helps",
        "externalAccountRequired" => {
            "this authority wants an account of its own: add [tls.acme.external_account] with the key it gives you"
        }
        "invalidContact" | "unsupportedContact" => "look at tls.acme.email",
        "userActionRequired" => "the authority's terms have changed: read them on its pages",
        _ => return None,
    })
}

/// On one line, and not longer than a log line should be.
pub fn shortened(text: &str) -> String {
    let line: String =
        text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(SAID_MAX + 1).collect();
    match line.char_indices().nth(SAID_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.trim().to_owned(),
    }
}
