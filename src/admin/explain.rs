//! Who would answer a URL, and why.

use http::{StatusCode, Uri};

use super::Admin;
use super::answer::{Failure, Outcome, json};
use super::router::Call;
use super::shapes::{Explained, ExplainedApp, ExplainedHost, ExplainedPolicy, ExplainedRoute};
use super::status::{certificate_of, listener_of};
use crate::challenges::WELL_KNOWN;
use crate::config::{Duties, Host, HostPattern, Paths, Target};
use crate::generation::Generation;
use crate::server::{Bound, Scheme};

/// Hosts that are told where there is no such host.
const NEAR_MAX: usize = 3;

/// What is said of a client's certificate where there is no answer without one.
const REQUIRED: &str = "required";

pub async fn explain(call: Call) -> Outcome {
    let asked = Asked::parse(&call.admin, call.required("url")?)?;
    json(&asked.explained(&call.admin, &call.admin.current.load()))
}

/// What a client would ask for.
struct Asked {
    scheme: Scheme,
    host: Host,
    port: u16,
    /// Without a query.
    path: String,
}

impl Asked {
    /// Reads a URL; one without a scheme is of HTTPS, where that is served.
    fn parse(admin: &Admin, url: &str) -> Result<Asked, Failure> {
        let bad = |why: String| {
            Failure::new(StatusCode::BAD_REQUEST, why)
                .with_help("write a URL such as https://shop.example.com/api/orders")
        };
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((scheme, _)) => return Err(bad(format!("{scheme} is neither http nor https"))),
            None if admin.listeners.iter().any(|it| it.scheme == Scheme::Https) => {
                (Scheme::Https, url)
            }
            None => (Scheme::Http, url),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                (name, Some(port.parse().map_err(|_| bad(format!("{port:?} is no port")))?))
            }
            _ => (authority, None),
        };
        // As a browser does it: a name in any script is asked for in punycode.
        let host = match HostPattern::parse(name) {
            Ok(HostPattern::Exact(host)) => host,
            Ok(_) => return Err(bad(format!("{name:?} is a pattern, and no host"))),
            Err(error) => return Err(bad(format!("{name:?}: {error}"))),
        };
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let uri: Uri = target.parse().map_err(|error| bad(format!("{target:?}: {error}")))?;
        let port = port.unwrap_or(scheme.port());
        Ok(Asked { scheme, host, port, path: uri.path().to_owned() })
    }

    fn explained(&self, admin: &Admin, generation: &Generation) -> Explained {
        let config = &generation.config;
        let pattern = self.host.patterns().find(|pattern| config.hosts.contains_key(pattern));
        let paths = pattern.as_ref().and_then(|pattern| config.hosts.get(pattern));
        let route = paths.and_then(|paths| self.route(paths));
        let app = route.as_ref().and_then(|route| route.app.as_deref());
        let app = app.and_then(|name| app_of(generation, name));
        let policy = self.policy(admin, generation);
        Explained {
            url: format!("{}://{}:{}{}", self.scheme, self.host, self.port, self.path),
            generation: generation.number,
            answer: self.answer(admin, paths, (route.as_ref(), app.as_ref()), &policy),
            listeners: self.listeners(admin).map(listener_of).collect(),
            certificate: generation.certificates.of_host(&self.host).map(certificate_of),
            host: self.host_of(generation, pattern.as_ref()),
            policy,
            route,
            app,
        }
    }

    /// Where a connection for it would come in.
    fn listeners<'a>(&self, admin: &'a Admin) -> impl Iterator<Item = &'a Bound> {
        let (scheme, port) = (self.scheme, self.port);
        let is_there = move |bound: &&Bound| {
            bound.scheme == scheme && bound.address.tcp().is_some_and(|it| it.port() == port)
        };
        admin.listeners.iter().filter(is_there)
    }

    /// In one line, the first thing that decides, in the order of the server's `policy::admit`.
    fn answer(
        &self,
        admin: &Admin,
        paths: Option<&Paths>,
        (route, app): (Option<&ExplainedRoute>, Option<&ExplainedApp>),
        policy: &ExplainedPolicy,
    ) -> String {
        let unheard = self.listeners(admin).next().is_none();
        let decided = match (paths, route) {
            (None, _) => "404: there is no such host".to_owned(),
            _ if self.is_sent_to_https(policy) => "308: plain HTTP is sent to HTTPS".to_owned(),
            _ if policy.client_certificate.as_deref() == Some(REQUIRED) && self.is_plain() => {
                "421: clients must show a certificate, which they cannot over plain HTTP".to_owned()
            }
            (Some(_), None) => "404: no path prefix of the host leads there".to_owned(),
            (Some(_), Some(route)) => match (app, &route.app) {
                (Some(app), _) if app.drained => {
                    format!("503: the app {} is drained by its operator", app.name)
                }
                (Some(app), _) if app.digest.is_none() => {
                    let why = app.fault.as_deref().unwrap_or("its component is being compiled");
                    format!("503: the app {} cannot be served: {why}", app.name)
                }
                (Some(app), _) => format!("the app {}", app.name),
                (None, Some(name)) => format!("503: the app {name} is not there"),
                (None, None) => format!("tidegate itself, by `{}`", route.target),
            },
        };
        match unheard {
            true => format!(
                "{decided}, if something brings it here: nothing listens on port {} for {}",
                self.port, self.scheme
            ),
            false => decided,
        }
    }

    fn is_sent_to_https(&self, policy: &ExplainedPolicy) -> bool {
        self.is_plain() && policy.redirect_to_https && !self.path.starts_with(WELL_KNOWN)
    }

    fn is_plain(&self) -> bool {
        self.scheme == Scheme::Http
    }

    fn host_of(&self, generation: &Generation, pattern: Option<&HostPattern>) -> ExplainedHost {
        let host = &self.host;
        let no_exact = format!("{host} is not in [hosts]");
        let why = match pattern {
            Some(HostPattern::Exact(_)) => format!("{host} is in [hosts]"),
            Some(wildcard @ HostPattern::Wildcard(_)) => {
                format!("{no_exact}, and {wildcard} covers it")
            }
            Some(HostPattern::Any) => match host.parent() {
                Some(parent) => {
                    format!("neither {host} nor *.{parent} is in [hosts], and \"*\" is")
                }
                None => format!("{no_exact}, and \"*\" is"),
            },
            None => match host.parent() {
                Some(parent) => format!("neither {host}, *.{parent} nor \"*\" is in [hosts]"),
                None => format!("neither {host} nor \"*\" is in [hosts]"),
            },
        };
        ExplainedHost {
            name: host.to_string(),
            pattern: pattern.map(ToString::to_string),
            why,
            near: match pattern {
                Some(HostPattern::Exact(_) | HostPattern::Wildcard(_)) => Vec::new(),
                Some(HostPattern::Any) | None => generation.config.hosts_like(host, NEAR_MAX),
            },
        }
    }

    fn route(&self, paths: &Paths) -> Option<ExplainedRoute> {
        let route = paths.find(&self.path)?;
        let (prefix, _) = paths.iter().find(|(_, other)| std::ptr::eq(*other, route))?;
        let others = paths
            .iter()
            .filter(|(other, _)| *other != prefix && Paths::prefix_matches(other, &self.path));
        let others: Vec<_> = others.map(|(other, _)| other).collect();
        let why = match (prefix, others.as_slice()) {
            ("/", _) => "no longer prefix matches, and \"/\" matches everything".to_owned(),
            (_, []) => "it is the only prefix that matches".to_owned(),
            (_, others) => format!("it is longer than {}", others.join(" and ")),
        };
        let (target, app) = match &route.target {
            Target::App(app) => ("app", Some(app.to_string())),
            Target::Redirect(_) => ("redirect", None),
            Target::Respond(_) => ("respond", None),
            Target::Files(_) => ("files", None),
        };
        Some(ExplainedRoute {
            prefix: prefix.to_owned(),
            why,
            target: target.to_owned(),
            app,
            duties: route.duties.as_deref().map(Duties::names).unwrap_or_default(),
        })
    }

    fn policy(&self, admin: &Admin, generation: &Generation) -> ExplainedPolicy {
        let policy = generation.config.policy(&self.host);
        let auth = policy.and_then(|policy| policy.client_auth.as_ref());
        let hsts = policy.and_then(|policy| policy.hsts.as_ref());
        // Without a port for HTTPS there is nowhere to send clients.
        let is_https =
            |bound: &Bound| bound.scheme == Scheme::Https && bound.address.tcp().is_some();
        let has_https = admin.listeners.iter().any(is_https);
        ExplainedPolicy {
            redirect_to_https: has_https && generation.goes_to_https(&self.host),
            client_certificate: auth.map(|auth| {
                if auth.required { REQUIRED.to_owned() } else { "optional".to_owned() }
            }),
            hsts: hsts.and_then(|value| value.to_str().ok()).map(str::to_owned),
        }
    }
}

fn app_of(generation: &Generation, name: &str) -> Option<ExplainedApp> {
    let app = generation.apps.values().find(|app| app.name.as_str() == name)?;
    let settings = generation.config.apps.get(&app.name)?;
    Some(ExplainedApp {
        name: name.to_owned(),
        component: settings.component.value.display().to_string(),
        digest: app.component().map(|component| component.digest.to_string()),
        fault: app.fault().map(ToString::to_string),
        drained: app.drain.is_on(),
    })
}
