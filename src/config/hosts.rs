//! `[hosts]` and `[tls.certificates]`: which routes, and which certificate, are whose.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use super::app::{App, AppName};
use super::folder;
use super::host::Host;
use super::paths::{Paths, normalise};
use super::pattern::HostPattern;
use super::policy::{Policy, policy};
use super::problem::{Located, Place};
use super::read::{Table, Value, quoted};
use super::route::{Route, route};

/// Prefixes of one host at the most: they are searched for every request.
const MAX_PATHS_PER_HOST: usize = 256;

const TARGET: &str = "an app's name, { folder = \"apps\" } or a table of path prefixes";

/// Everything `[hosts]` says.
pub(super) struct Hosts {
    pub paths: BTreeMap<HostPattern, Paths>,
    /// Of those that ask for anything.
    pub policies: BTreeMap<HostPattern, Policy>,
    /// In the order of the file.
    pub folders: Vec<Folder>,
}

/// A folder whose components are hosts below `domain`.
pub(super) struct Folder {
    domain: Host,
    pub path: PathBuf,
    /// As the manifest writes it.
    shown: String,
    place: Place,
}

enum Target {
    Paths(Paths),
    Folder { path: PathBuf, shown: String },
}

impl Hosts {
    /// Reads the hosts, whose apps are to be among the `declared`. `https`: whether there is an address for it.
    pub fn read(table: &mut Table<'_>, declared: &[&str], https: bool) -> Hosts {
        let mut hosts =
            Hosts { paths: BTreeMap::new(), policies: BTreeMap::new(), folders: Vec::new() };

        for (pattern, (target, policy, place)) in by_pattern(table, |pattern, value| {
            let (target, policy) = target(value, pattern, declared, https)?;
            Some((target, policy, value.place.clone()))
        }) {
            if policy != Policy::default() {
                hosts.policies.insert(pattern.clone(), policy);
            }
            match (target, &pattern) {
                (Target::Paths(paths), _) => {
                    hosts.paths.insert(pattern, paths);
                }
                (Target::Folder { path, shown }, HostPattern::Wildcard(domain)) => {
                    hosts.folders.push(Folder { domain: domain.clone(), path, shown, place });
                    hosts.paths.insert(pattern, Paths::none());
                }
                (Target::Folder { .. }, _) => unreachable!("a folder is read for a wildcard only"),
            }
        }
        hosts.folders.sort_by_key(|folder| folder.place.line);
        hosts
    }

    /// Adds an app, made by `app`, and a host for every component in the folders; returns the warnings.
    pub fn expand(
        &mut self,
        root: &Table<'_>,
        apps: &mut BTreeMap<AppName, App>,
        app: impl Fn(Located<PathBuf>) -> App,
    ) -> Vec<String> {
        let mut warnings = Vec::new();

        for Folder { domain, path, shown, place } in &self.folders {
            let contents = match folder::list(path, shown) {
                Ok(contents) => contents,
                Err(error) => {
                    root.source.report(
                        place.problem(format!("cannot list the folder {}: {error}", quoted(shown))),
                    );
                    continue;
                }
            };
            warnings.extend(contents.warnings);

            for name in contents.names {
                let Some(host) = Host::from_authority(&format!("{name}.{domain}")) else {
                    warnings.push(format!(
                        "{shown}/{name}.wasm is not served: {name}.{domain} is too long for a host"
                    ));
                    continue;
                };
                // A host that `[hosts]` gives to another app was meant to be the exception.
                let Entry::Vacant(route) = self.paths.entry(HostPattern::Exact(host.clone()))
                else {
                    continue;
                };
                let Some(app_name) =
                    AppName::parse(host.as_str()).filter(|name| !apps.contains_key(name))
                else {
                    warnings.push(format!(
                        "{shown}/{name}.wasm is not served: no app can be named {host}"
                    ));
                    continue;
                };

                let component =
                    Located { value: path.join(format!("{name}.wasm")), place: place.clone() };
                apps.insert(app_name.clone(), app(component));
                route.insert(Paths::all(Route::to_app(app_name)));
                if let Some(policy) = self.policies.get(&HostPattern::Wildcard(domain.clone())) {
                    self.policies.insert(HostPattern::Exact(host), policy.clone());
                }
            }
        }
        warnings
    }
}

/// What `read` makes of each entry, by its host; reports hosts that are none and those given twice.
pub(super) fn by_pattern<'a, T>(
    table: &mut Table<'a>,
    read: impl Fn(&HostPattern, &Value<'a>) -> Option<T>,
) -> BTreeMap<HostPattern, T> {
    let mut first: BTreeMap<HostPattern, (&str, usize)> = BTreeMap::new();
    let mut found = BTreeMap::new();

    for (text, value) in table.entries() {
        let pattern = match HostPattern::parse(text) {
            Ok(pattern) => pattern,
            Err(error) => {
                let mut problem = value.place.problem(error.to_string());
                problem.help = error.help().map(str::to_owned);
                value.source.report(problem);
                continue;
            }
        };

        let entry = read(&pattern, &value);
        match first.entry(pattern.clone()) {
            Entry::Occupied(first) => {
                let (other, line) = first.get();
                let message = format!("the same host as {} on line {line}", quoted(other));
                value.reject::<()>(message, "leave one of them out");
            }
            Entry::Vacant(first) => {
                first.insert((text, value.place.line));
                found.extend(entry.map(|entry| (pattern, entry)));
            }
        }
    }
    found
}

fn target(
    value: &Value<'_>,
    pattern: &HostPattern,
    declared: &[&str],
    https: bool,
) -> Option<(Target, Policy)> {
    if value.text().is_some() {
        let route = route(value, declared)?;
        return Some((Target::Paths(Paths::all(route)), Policy::default()));
    }

    let mut table = value.as_table(TARGET, "write the name of an app")?;
    let policy = policy(&mut table, pattern, https);
    let target = match table.first() {
        Some(first) if first.starts_with('/') => paths(table, declared).map(Target::Paths),
        Some(_) => folder(table, value, pattern),
        None => value
            .reject("nothing is served here", "add the path prefix \"/\" with the name of an app"),
    };
    Some((target?, policy))
}

fn folder(table: Table<'_>, value: &Value<'_>, pattern: &HostPattern) -> Option<Target> {
    let found = table.read(|table| {
        table.take("folder", |value| Some((value.path("apps")?, value.string("apps")?.to_owned())))
    });
    let (path, shown) = found?;

    let example = match pattern {
        HostPattern::Wildcard(_) => return Some(Target::Folder { path, shown }),
        HostPattern::Exact(host) => format!("*.{host}"),
        HostPattern::Any => "*.apps.localhost".to_owned(),
    };
    value.reject(
        "a folder needs a wildcard for the names of its files",
        format!("write \"{example}\" as the host"),
    )
}

fn paths(mut table: Table<'_>, declared: &[&str]) -> Option<Paths> {
    let entries = table.entries();
    if entries.len() > MAX_PATHS_PER_HOST {
        let message =
            format!("expected at most {MAX_PATHS_PER_HOST} path prefixes, found {}", entries.len());
        table.source.report(table.place.problem(message));
        return None;
    }

    let mut prefixes: Vec<(String, Route)> = Vec::new();
    let mut complete = true;
    for (text, value) in entries {
        let route = route(&value, declared);
        let prefix = match normalise(text) {
            Ok(prefix) if prefixes.iter().any(|(other, _)| *other == prefix) => value.reject(
                format!("the prefix `{prefix}` is given twice"),
                "leave one of them out: `/a/` is `/a`",
            ),
            Ok(prefix) => Some(prefix),
            Err((message, help)) => value.reject(message, help),
        };
        match prefix.zip(route) {
            Some(entry) => prefixes.push(entry),
            None => complete = false,
        }
    }
    complete.then(|| Paths::new(prefixes))
}
