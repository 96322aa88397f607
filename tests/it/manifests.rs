//! Manifests that load, and those that do not, each with everything it is told.
//!
//! `UPDATE_GOLDEN=1 cargo test` writes the `.err` files anew; read the difference.

use std::fs;
use std::path::{Path, PathBuf};

use tidegate::config::{AppName, Config, Host, HostPattern, Route};

#[test]
fn every_valid_manifest_loads() {
    for manifest in manifests("tests/manifests/valid") {
        if let Err(problems) = Config::load(&manifest) {
            panic!("{} is valid, yet:\n{problems}", manifest.display());
        }
    }
}

#[test]
fn every_invalid_manifest_is_told_everything_that_is_wrong() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut different = Vec::new();

    for manifest in manifests("tests/manifests/invalid") {
        let golden = manifest.with_extension("err");
        let found = match Config::load(&manifest) {
            Ok(_) => panic!("{} is invalid, yet it loads", manifest.display()),
            Err(problems) => format!("{problems}\n"),
        };
        if update {
            fs::write(&golden, &found).expect("write the golden file");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            different.push(format!("{}: expected\n{expected}found\n{found}", golden.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn the_example_loads_as_it_is_and_with_every_setting_uncommented() {
    let example = fs::read_to_string("config.example.toml").expect("read the example");
    // In it `#key = ...` is a setting and `# Text` is prose.
    let setting = |line: &str| {
        line.strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c != ' '))
            .map(str::to_owned)
    };
    let complete: Vec<_> =
        example.lines().map(|line| setting(line).unwrap_or(line.to_owned())).collect();
    let folder = tempfile::tempdir().expect("make a folder");
    let path = folder.path().join("config.toml");

    fs::write(&path, &example).expect("write the example");
    let plain = Config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    fs::write(&path, complete.join("\n")).expect("write the complete example");
    let complete = Config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));

    assert_eq!(plain.log.dir, None);
    assert_eq!(complete.log.dir, Some(folder.path().join("logs")));
    assert_eq!(complete.certificates.len(), 1);
    let stated = |config: &Config| config.apps[&app("hello")].limits.clone();
    assert_eq!(stated(&complete), stated(&plain), "the example states the defaults");
}

#[test]
fn an_app_overrides_the_defaults_key_by_key() {
    let config = load("tests/manifests/valid/overrides.toml");
    let hello = &config.apps[&app("hello")];

    assert_eq!(hello.limits.memory, 64 << 20);
    assert_eq!(hello.limits.max_instances.get(), 8, "from [defaults]");
    assert_eq!(hello.limits.idle_timeout.as_secs(), 60, "built in");
    assert_eq!(hello.env["GREETING"], "hi");
    assert_eq!(hello.env["REGION"], "north");
    let profile = hello.profile.as_ref().expect("a profile from [defaults]");
    assert_eq!((profile.sample.get(), profile.max_files.get()), (10, 5));
    assert_eq!(config.apps[&app("quiet")].profile, None);
}

#[test]
fn hosts_are_compared_in_their_normal_form() {
    let config = load("tests/manifests/valid/hosts.toml");
    let app_of = |authority: &str, path: &str| {
        let host = Host::from_authority(authority).expect(authority);
        let (_, paths) =
            config.hosts.iter().find(|(pattern, _)| pattern.matches(&host)).expect(authority);
        paths.find(path).and_then(Route::app).map(ToString::to_string)
    };

    assert_eq!(app_of("HELLO.example.com:8443", "/").as_deref(), Some("hello"));
    assert_eq!(app_of("xn--bcher-kva.example", "/").as_deref(), Some("hello"));
    assert_eq!(app_of("[::1]:8443", "/").as_deref(), Some("hello"));
    assert_eq!(app_of("shop.example.com", "/api/x").as_deref(), Some("api"));
    assert_eq!(app_of("shop.example.com", "/apix").as_deref(), Some("shop"));
    assert_eq!(app_of("other.example.com", "/").as_deref(), Some("wild"));
    assert_eq!(app_of("a.other.example.com", "/").as_deref(), Some("any"));
}

#[test]
fn a_component_in_a_folder_is_an_app_with_a_host_of_its_own() {
    let folder = tempfile::tempdir().expect("make a folder");
    let apps = folder.path().join("apps");
    let manifest = folder.path().join("config.toml");
    let text = "defaults.max_instances = 3\napps.own.component = 'own.wasm'\n[hosts]\n'*.apps.localhost' = { folder = 'apps' }\n'taken.apps.localhost' = 'own'\n'*' = 'own'\n";
    fs::write(&manifest, text).expect("write the manifest");

    let before = Config::load(&manifest).expect("a missing folder is an empty one");
    assert_eq!(before.warnings, ["apps: no such folder yet, so no hosts come from it"]);

    fs::create_dir(&apps).expect("make the folder");
    for name in ["hello", "taken", "Not A Host"] {
        fs::write(apps.join(format!("{name}.wasm")), "").expect("drop a component");
    }
    let after = Config::load(&manifest).expect("load");

    let hello = &after.apps[&app("hello.apps.localhost")];
    assert_eq!(hello.component.value, apps.join("hello.wasm"));
    assert_eq!(hello.limits.max_instances.get(), 3);
    let app_at = |host| {
        let route = after.hosts[&HostPattern::parse(host).expect(host)].find("/");
        route.and_then(Route::app).map(AppName::as_str)
    };
    assert_eq!(app_at("hello.apps.localhost"), Some("hello.apps.localhost"));
    assert_eq!(app_at("taken.apps.localhost"), Some("own"), "an explicit host wins");
    assert_eq!(app_at("*.apps.localhost"), None, "other names below are not `*`");
    assert_eq!(after.folders, [apps]);
    assert_eq!(after.warnings.len(), 1, "{:?}", after.warnings);
    assert_ne!(before, after);
}

#[test]
fn what_only_moves_in_the_file_is_no_change() {
    let folder = tempfile::tempdir().expect("make a folder");
    let path = folder.path().join("config.toml");
    fs::write(&path, "apps.a.component = 'a.wasm'\nhosts.'*' = 'a'\n").expect("write");
    let before = Config::load(&path).expect("load");
    fs::write(
        &path,
        "# new\nserver.drain_timeout = '1m'\napps.a.component = './a.wasm'\nhosts.'*' = 'a'\n",
    )
    .expect("write");
    let mut after = Config::load(&path).expect("load");

    assert_ne!(before, after);
    assert!(
        before.changes_needing_restart(&after).is_empty(),
        "the drain timeout is read when it is needed"
    );
    after.server.drain_timeout = before.server.drain_timeout;
    assert_eq!(before, after);
}

#[test]
fn what_needs_a_restart_is_named() {
    let old = load("tests/manifests/valid/empty.toml");
    let new = load("tests/manifests/valid/everything.toml");
    let named = old.changes_needing_restart(&new);
    assert_eq!(
        named,
        [
            "server.http",
            "server.https",
            "server.h3",
            "server.state_dir",
            "log.dir",
            "log.format",
            "log.keep",
            "admin"
        ]
    );
}

#[test]
fn a_manifest_that_is_not_there_is_named() {
    let problems = Config::load(Path::new("no/such.toml")).expect_err("it is not there");
    assert!(
        problems.to_string().starts_with("no/such.toml: cannot read the manifest: "),
        "{problems}"
    );
}

fn load(path: &str) -> Config {
    Config::load(Path::new(path)).unwrap_or_else(|problems| panic!("{problems}"))
}

fn app(name: &str) -> AppName {
    AppName::parse(name).expect(name)
}

fn manifests(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect(folder).map(|entry| entry.expect(folder).path());
    let mut manifests: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    manifests.sort();
    assert!(!manifests.is_empty(), "no manifests in {folder}");
    manifests
}
