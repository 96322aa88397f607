//! `[hosts]` and `[tls.certificates]`: which app, and which certificate, is whose.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use super::app::{App, AppName};
use super::folder;
use super::host::Host;
use super::paths::{Paths, normalise};
use super::pattern::HostPattern;
use super::problem::{Located, Place};
use super::read::{Table, Value, quoted};
use super::suggest::closest;

/// Prefixes of one host at the most: they are searched for every request.
const MAX_PATHS_PER_HOST: usize = 256;

const TARGET: &str = "an app's name, { folder = \"apps\" } or a table of path prefixes";

/// Everything `[hosts]` says.
pub(super) struct Hosts {
    pub paths: BTreeMap<HostPattern, Paths>,
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
    /// Reads the hosts, whose apps are to be among the `declared`.
    pub fn read(table: &mut Table<'_>, declared: &[&str]) -> Hosts {
        let mut hosts = Hosts { paths: BTreeMap::new(), folders: Vec::new() };

        for (pattern, (target, place)) in by_pattern(table, |pattern, value| {
            let target = target(value, pattern, declared)?;
            Some((target, value.place.clone()))
        }) {
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
                route.insert(Paths::all(app_name));
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

fn target(value: &Value<'_>, pattern: &HostPattern, declared: &[&str]) -> Option<Target> {
    if value.text().is_some() {
        return app(value, declared).map(|app| Target::Paths(Paths::all(app)));
    }

    let table = value.as_table(TARGET, "write the name of an app")?;
    match table.first() {
        Some(first) if first.starts_with('/') => paths(table, declared).map(Target::Paths),
        Some(_) => folder(table, value, pattern),
        None => value.expected(TARGET, "write the name of an app"),
    }
}

fn app(value: &Value<'_>, declared: &[&str]) -> Option<AppName> {
    let Some(name) = value.text() else {
        return value.expected("the name of an app", "write the name of an app below [apps]");
    };
    if declared.contains(&name) {
        // A name that is declared but not valid has been reported where it is declared.
        return AppName::parse(name);
    }

    let help = match closest(name, declared.iter().copied()) {
        Some(known) => format!("did you mean {}?", quoted(known)),
        None if AppName::parse(name).is_some() => {
            format!("add [apps.{name}] with its component, or name another app")
        }
        None => "write the name of an app below [apps]".to_owned(),
    };
    value.reject(format!("no app is named {}", quoted(name)), help)
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

    let mut prefixes: Vec<(String, AppName)> = Vec::new();
    let mut complete = true;
    for (text, value) in entries {
        let app = app(&value, declared);
        let prefix = match normalise(text) {
            Ok(prefix) if prefixes.iter().any(|(other, _)| *other == prefix) => value.reject(
                format!("the prefix `{prefix}` is given twice"),
                "leave one of them out: `/a/` is `/a`",
            ),
            Ok(prefix) => Some(prefix),
            Err((message, help)) => value.reject(message, help),
        };
        match prefix.zip(app) {
            Some(entry) => prefixes.push(entry),
            None => complete = false,
        }
    }
    complete.then(|| Paths::new(prefixes))
}
