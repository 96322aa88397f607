//! The manifest's shape: its sections, keys, defaults and bounds, read into a [`Config`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::app::{App, AppName};
use super::clients::{clients, compile};
use super::hosts::{Hosts, by_pattern};
use super::paths::Paths;
use super::pattern::HostPattern;
use super::problem::{Place, Problems};
use super::process::{log, server};
use super::read::{Source, Table};
use super::settings::{Settings, named_app, required_path, settings};
use super::syntax::parse;
use super::{CertificateFiles, Config};

/// A manifest larger than this is some other file.
const MAX_MANIFEST: u64 = 4 << 20;

impl Config {
    /// Reads the manifest at `path` and the folders it names, and reports all that is wrong.
    ///
    /// Components and certificates are not opened: only their paths are here.
    pub fn load(path: &Path) -> Result<Config, Problems> {
        let unreadable = |error: io::Error| {
            Place::file(path).problem(format!("cannot read the manifest: {error}"))
        };
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        let bytes = read_bounded(&absolute).map_err(unreadable)?;

        let text = str::from_utf8(&bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            let place = Place { line, ..Place::file(path) };
            place.problem("a manifest is UTF-8 text, and this is not")
        })?;
        from_text(path, absolute, text)
    }
}

/// Reads the `text` of a manifest that the user calls `path`.
pub(crate) fn from_text(path: &Path, absolute: PathBuf, text: &str) -> Result<Config, Problems> {
    let dir = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    let source = Source::new(path, &dir, text);
    let tree = parse(&source, text)?;

    let config = source.root(tree.get_ref()).read(|root| config(root, absolute));
    match source.into_problems() {
        problems if problems.is_empty() => Ok(config),
        problems => Err(Problems(problems)),
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_MANIFEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(io::Error::other("it is larger than 4MiB"));
    }
    Ok(bytes)
}

fn config(root: &mut Table<'_>, path: PathBuf) -> Config {
    let server = root.section("server", server);
    let clients = root.section("clients", clients);
    let compile = root.section("compile", compile);
    let log = root.section("log", log);
    let defaults = root.section("defaults", |table| {
        table.take("component", |value| {
            value.reject::<()>(
                "a component is no default: it makes an app",
                "write it below [apps.NAME]",
            )
        });
        settings(table, &Settings::default())
    });
    let (mut apps, declared) = root.section("apps", |table| {
        let entries = table.entries();
        let declared: Vec<_> = entries.iter().map(|(name, _)| *name).collect();
        let apps =
            entries.iter().filter_map(|(name, value)| named_app(name, value, &defaults)).collect();
        (apps, declared)
    });
    let mut hosts = root.section("hosts", |table| Hosts::read(table, &declared));
    let certificates = root.section("tls", |table| table.section("certificates", certificates));

    let mut warnings = unused(&apps, &hosts);
    warnings.extend(hosts.expand(root, &mut apps, |component| defaults.clone().app(component)));

    let mut folders: Vec<_> = hosts.folders.into_iter().map(|folder| folder.path).collect();
    folders.sort();
    folders.dedup();
    Config {
        path,
        server,
        clients,
        compile,
        log,
        apps,
        hosts: hosts.paths,
        folders,
        certificates,
        warnings,
    }
}

fn certificates(table: &mut Table<'_>) -> BTreeMap<HostPattern, CertificateFiles> {
    let example = "{ cert = \"certs/example.pem\", key = \"certs/example.key\" }";
    by_pattern(table, |_, value| {
        let table =
            value.as_table("a table with a `cert` and a `key`", &format!("write {example}"))?;
        let (cert, key) = table.read(|table| {
            let cert = required_path(table, "cert", "certs/example.pem");
            (cert, required_path(table, "key", "certs/example.key"))
        });
        Some(CertificateFiles { cert: cert?, key: key? })
    })
}

/// Apps that no host leads to, and a manifest without hosts: not wrong, and not likely meant.
fn unused(apps: &BTreeMap<AppName, App>, hosts: &Hosts) -> Vec<String> {
    let used: BTreeSet<&AppName> =
        hosts.paths.values().flat_map(Paths::iter).map(|(_, app)| app).collect();
    let unused = apps.keys().filter(|name| !used.contains(name));
    let unused = unused.map(|name| format!("the app {name} has no host, so nothing reaches it"));

    let nothing =
        hosts.paths.is_empty().then(|| "there are no hosts, so nothing is served".to_owned());
    unused.chain(nothing).collect()
}
