//! The manifest's shape: its sections, keys, defaults and bounds, read into a [`Config`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::acme::{Acme, Challenge, Dns, DnsEditor, acme};
use super::admin::admin;
use super::app::{App, AppName};
use super::clients::{clients, compile};
use super::hosts::{Hosts, by_pattern};
use super::paths::Paths;
use super::pattern::HostPattern;
use super::problem::{Place, Problem, Problems};
use super::process::{log, server};
use super::read::{Source, Table};
use super::settings::{Settings, named_app, required_path, settings};
use super::syntax::parse;
use super::tls::tls;
use super::traces::{Traces, traces};
use super::{Admin, CertificateFiles, Config, Log, Server, files};

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

impl Admin {
    /// Where the server of the manifest at `path` is asked, whatever is wrong with the rest of it:
    /// who asks may want to know just that.
    pub fn of_manifest(path: &Path) -> Result<Admin, Problems> {
        let unreadable = |error: io::Error| {
            Place::file(path).problem(format!("cannot read the manifest: {error}"))
        };
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        let bytes = read_bounded(&absolute).map_err(unreadable)?;
        let text = String::from_utf8_lossy(&bytes);
        let dir = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let source = Source::new(path, &dir, &text);
        let tree = parse(&source, &text)?;
        let mut root = source.root(tree.get_ref());
        let server = root.section("server", server);
        let admin = root.section("admin", |table| admin(table, &server));
        let is_own = |problem: &Problem| problem.place.key.starts_with("admin");
        let problems: Vec<_> = source.into_problems().into_iter().filter(is_own).collect();
        if problems.is_empty() { Ok(admin) } else { Err(Problems(problems)) }
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
    let admin = root.section("admin", |table| admin(table, &server));
    let traces = root.take("traces", |value| {
        let table = value.as_table("a table", "write [traces]")?;
        table.read(|table| traces(table, &server.proxies))
    });
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
    // What is wrong with the addresses has been told then.
    let https = !server.https.is_empty() || server.http.is_empty();
    let mut hosts = root.section("hosts", |table| Hosts::read(table, &declared, https));
    let (tls, certificates, acme) = root.section("tls", |table| {
        let certificates = table.section("certificates", certificates);
        let acme = table.take("acme", |value| {
            value.as_table("a table", "write [tls.acme]").and_then(|table| table.read(acme))
        });
        (tls(table), certificates, acme)
    });

    let writes = (&log, &admin, traces.as_ref());
    let keys = (&certificates, acme.as_ref());
    let secrets = secrets(&path, &server, writes, &hosts, keys);
    let no_folders = files::check(root, &hosts, &secrets);
    let mut warnings = unused(&apps, &hosts);
    warnings.extend(server.proxies.warnings());
    warnings.extend(admin.warning());
    warnings.extend(traces.as_ref().and_then(Traces::warning));
    warnings.extend(no_folders);
    warnings.extend(hosts.expand(root, &mut apps, |component| defaults.clone().app(component)));

    let mut folders: Vec<_> = hosts.folders.into_iter().map(|folder| folder.path).collect();
    folders.sort();
    folders.dedup();
    let mut config = Config {
        path,
        server,
        clients,
        compile,
        log,
        admin,
        traces: traces.map(Arc::new),
        apps,
        hosts: hosts.paths,
        policies: hosts.policies,
        folders,
        tls,
        certificates,
        acme,
        warnings,
    };
    config.warnings.extend(dev(&config.apps));
    config.warnings.extend(config.acme_warnings());
    config
}

/// What no folder of files for clients may hold or lie in, each with what it is.
fn secrets<'a>(
    manifest: &'a Path,
    server: &'a Server,
    (log, admin, traces): (&'a Log, &'a Admin, Option<&'a Traces>),
    hosts: &'a Hosts,
    (certificates, acme): (&'a BTreeMap<HostPattern, CertificateFiles>, Option<&'a Acme>),
) -> Vec<(&'a Path, &'static str)> {
    let mut secrets = vec![
        (manifest, "the manifest"),
        (server.state_dir.as_path(), "`state_dir`, and private keys with it"),
    ];
    secrets.extend(log.dir.as_deref().map(|dir| (dir, "the log")));
    secrets.extend(admin.secrets());
    let headers = traces.and_then(|traces| traces.headers_file.as_ref());
    secrets.extend(headers.map(|file| (file.value.as_path(), "the headers of [traces]")));
    let keys = certificates.values().map(|files| files.key.value.as_path());
    secrets.extend(keys.map(|key| (key, "a private key")));
    let account = acme.and_then(|acme| acme.external_account.as_ref());
    let account = account.map(|account| account.hmac_key_file.value.as_path());
    secrets.extend(account.map(|key| (key, "the key of an account with the authority")));
    if let Some(Challenge::Dns01(Dns { editor: DnsEditor::Update { key, .. }, .. })) =
        acme.map(|acme| &acme.challenge)
    {
        secrets.push((key.file.value.as_path(), "the key of DNS updates"));
    }
    let duties =
        hosts.paths.values().flat_map(Paths::iter).filter_map(|(_, it)| it.duties.as_ref());
    let users = duties.filter_map(|duties| duties.users_file());
    secrets.extend(users.map(|file| (file.value.as_path(), "users' passwords")));
    secrets
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

/// Apps whose error pages tell their clients what only their developers should know.
fn dev(apps: &BTreeMap<AppName, App>) -> Option<String> {
    let shown = apps.iter().filter(|(_, app)| app.dev).map(|(name, _)| name.as_str());
    let shown: Vec<_> = shown.collect();
    (!shown.is_empty()).then(|| {
        let names = shown.join(", ");
        format!("`dev` is on for {names}: error pages show every client how these fail")
    })
}

/// Apps that no host leads to, and a manifest without hosts: not wrong, and not likely meant.
fn unused(apps: &BTreeMap<AppName, App>, hosts: &Hosts) -> Vec<String> {
    let used: BTreeSet<&AppName> =
        hosts.paths.values().flat_map(Paths::iter).filter_map(|(_, route)| route.app()).collect();
    let unused = apps.keys().filter(|name| !used.contains(name));
    let unused = unused.map(|name| format!("the app {name} has no host, so nothing reaches it"));

    let nothing =
        hosts.paths.is_empty().then(|| "there are no hosts, so nothing is served".to_owned());
    unused.chain(nothing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_hold_the_keys_of_tls_acme_are_refused() {
        let refused = |folder: &str| {
            let text = format!(
                "[tls.acme]\nterms_agreed = true\nchallenge = 'dns-01'\n\
                 external_account = {{ key_id = 'kid-1', hmac_key_file = 'account/eab.key' }}\n\
                 dns = {{ server = '10.0.0.1:53', key_name = 'tidegate', key_file = 'dns/tsig.key' }}\n\
                 [hosts]\n'a.org' = {{ '/' = {{ files = '{folder}' }} }}\n"
            );
            let read = from_text(Path::new("c.toml"), PathBuf::from("/x/c.toml"), &text);
            read.err().map(|problems| problems.to_string()).unwrap_or_default()
        };

        assert_eq!(refused("public"), "");
        let told = refused("account");
        assert!(told.contains("give away the key of an account with the authority"), "{told}");
        let told = refused("dns");
        assert!(told.contains("give away the key of DNS updates"), "{told}");
    }
}
