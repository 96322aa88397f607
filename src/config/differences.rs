//! What differs between two manifests, by the names of keys: values may be secrets, and are not told.

use std::collections::{BTreeMap, BTreeSet};

use super::{App, Config, HostPattern, Limits, Paths, Policy};

/// Something of a manifest that was not there before, is not there any more, or is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The name of an app, or a host.
    pub name: String,
    pub kind: DifferenceKind,
    /// The keys that differ, where it was there before and is still.
    pub keys: Vec<String>,
}

/// How something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    Added,
    Removed,
    Changed,
}

impl Config {
    /// The apps that differ in `new`.
    pub fn app_differences(&self, new: &Config) -> Vec<Difference> {
        differences(&self.apps, &new.apps, App::differing_keys)
    }

    /// The hosts that differ in `new`: each with its prefixes, and its keys of policy, that do.
    pub fn host_differences(&self, new: &Config) -> Vec<Difference> {
        let of = |config: &Config| -> BTreeMap<HostPattern, (Paths, Policy)> {
            let policy = |host| config.policies.get(host).cloned().unwrap_or_default();
            config
                .hosts
                .iter()
                .map(|(host, it)| (host.clone(), (it.clone(), policy(host))))
                .collect()
        };
        differences(&of(self), &of(new), |(paths, policy), (new_paths, new_policy)| {
            let prefixes = paths.iter().chain(new_paths.iter()).map(|(prefix, _)| prefix);
            let prefixes: BTreeSet<_> =
                prefixes.filter(|prefix| paths.get(prefix) != new_paths.get(prefix)).collect();
            let keys = prefixes.into_iter().map(str::to_owned);
            keys.chain(policy.differing_keys(new_policy)).collect()
        })
    }

    /// The sections, but for those of apps and hosts, that differ in `new`.
    pub fn section_differences(&self, new: &Config) -> Vec<String> {
        let sections = [
            ("server", self.server != new.server),
            ("clients", self.clients != new.clients),
            ("compile", self.compile != new.compile),
            ("log", self.log != new.log),
            ("admin", self.admin != new.admin),
            ("tls", self.tls != new.tls),
            ("tls.certificates", self.certificates != new.certificates),
            ("tls.acme", self.acme != new.acme),
        ];
        named(sections)
    }
}

fn differences<K: Ord + ToString, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    keys: impl Fn(&V, &V) -> Vec<String>,
) -> Vec<Difference> {
    let names: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    let difference = |name: &K| {
        let (kind, keys) = match (old.get(name), new.get(name)) {
            (None, Some(_)) => (DifferenceKind::Added, Vec::new()),
            (Some(_), None) => (DifferenceKind::Removed, Vec::new()),
            (Some(old), Some(new)) if old != new => (DifferenceKind::Changed, keys(old, new)),
            _ => return None,
        };
        Some(Difference { name: name.to_string(), kind, keys })
    };
    names.into_iter().filter_map(difference).collect()
}

impl App {
    fn differing_keys(&self, new: &App) -> Vec<String> {
        // Taken apart, so that no key is forgotten.
        let App { component, env, args, limits, outbound, profile, dev } = self;
        let mut keys = named([
            ("component", *component != new.component),
            ("args", *args != new.args),
            ("outbound", *outbound != new.outbound),
            ("profile", *profile != new.profile),
            ("dev", *dev != new.dev),
        ]);
        let variables: BTreeSet<_> = env.keys().chain(new.env.keys()).collect();
        let variables = variables.into_iter().filter(|name| env.get(*name) != new.env.get(*name));
        keys.extend(variables.map(|name| format!("env.{name}")));
        keys.extend(limits.differing_keys(&new.limits));
        keys
    }
}

impl Policy {
    fn differing_keys(&self, new: &Policy) -> Vec<String> {
        let Policy { client_auth, hsts, redirect_to_https } = self;
        named([
            ("client_auth", *client_auth != new.client_auth),
            ("hsts", *hsts != new.hsts),
            ("redirect_to_https", *redirect_to_https != new.redirect_to_https),
        ])
    }
}

impl Limits {
    fn differing_keys(&self, new: &Limits) -> Vec<String> {
        /// Compares each of these fields, which have to be all that there are.
        macro_rules! differing {
            ($($field:ident,)+) => {{
                let Limits { $($field,)+ } = self;
                named([$((stringify!($field), *$field != new.$field),)+])
            }};
        }
        differing!(
            request_timeout,
            stream_idle_timeout,
            post_return_timeout,
            idle_timeout,
            cpu_weight,
            cpu_time,
            max_requests_per_instance,
            max_concurrent_per_instance,
            max_instances,
            memory,
            app_memory,
            max_in_flight,
            queue,
            queue_timeout,
            max_request_body,
            max_response_body,
            log_rate,
            log_burst,
            max_outbound,
            outbound_timeout,
            max_outbound_body,
        )
    }
}

/// The names of what differs.
fn named<const N: usize>(all: [(&str, bool); N]) -> Vec<String> {
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn config(text: &str) -> Config {
        let path = PathBuf::from("/site/config.toml");
        super::super::manifest_from_text(Path::new("config.toml"), path, text).expect("a manifest")
    }

    #[test]
    fn apps_and_hosts_are_told_with_the_keys_that_differ_and_without_a_value() {
        let old = config(
            "[apps]\na = { component = 'a.wasm', env = { KEY = 'old-secret', SAME = '1' } }\nb = { component = 'b.wasm' }\n\
             [hosts]\n'a.test' = { '/' = 'a', '/x' = 'b' }\n'b.test' = 'b'\n'c.test' = 'b'\n",
        );
        let new = config(
            "clients.max_streams = 5\n[apps]\na = { component = 'a.wasm', env = { KEY = 'new-secret', SAME = '1' }, memory = '64MiB' }\nc = { component = 'b.wasm' }\n\
             [hosts]\n'a.test' = { '/' = 'a', '/x' = 'c', '/y' = 'a', hsts = '1d' }\n'c.test' = 'c'\n'd.test' = 'c'\n",
        );
        let told = |differences: Vec<Difference>| {
            let told = differences
                .iter()
                .map(|it| format!("{:?} {} {}", it.kind, it.name, it.keys.join(" ")));
            told.collect::<Vec<_>>()
        };
        let apps = told(old.app_differences(&new));
        assert_eq!(apps, ["Changed a env.KEY memory", "Removed b ", "Added c "]);
        assert!(!apps.concat().contains("secret"));
        assert_eq!(
            told(old.host_differences(&new)),
            ["Changed a.test /x /y hsts", "Removed b.test ", "Changed c.test /", "Added d.test "]
        );
        assert_eq!(old.section_differences(&new), ["clients"]);
        assert_eq!(told(old.app_differences(&old)), Vec::<String>::new());
    }
}
