//! What a reload has changed, in the words of the manifest.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Difference, DifferenceKind, HostPattern};
use crate::generation::Generation;
use crate::guest::component::Digest;

/// From one generation to the next.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub apps: Vec<AppChange>,
    pub hosts: Vec<Difference>,
    /// Hosts whose certificate is new, another, or gone.
    pub certificates: Vec<Difference>,
    /// Other sections of the manifest, by their names.
    pub sections: Vec<String>,
}

/// One app.
#[derive(Clone, Debug)]
pub struct AppChange {
    pub difference: Difference,
    /// What served before and what serves now, where that is not the same.
    pub digests: Option<(Option<Digest>, Option<Digest>)>,
}

impl Changes {
    pub fn between(old: &Generation, new: &Generation) -> Changes {
        let certificates = certificates(&fingerprints(old), &fingerprints(new));
        Changes {
            apps: apps(old, new),
            hosts: old.config.host_differences(&new.config),
            certificates,
            sections: old.config.section_differences(&new.config),
        }
    }
}

fn apps(old: &Generation, new: &Generation) -> Vec<AppChange> {
    let digest = |generation: &Generation, name: &str| {
        let app = generation.apps.iter().find(|(app, _)| app.as_str() == name)?.1;
        Some(app.component()?.digest)
    };
    let mut settings: BTreeMap<_, _> = old
        .config
        .app_differences(&new.config)
        .into_iter()
        .map(|difference| (difference.name.clone(), difference))
        .collect();
    let names: BTreeSet<_> =
        old.apps.keys().chain(new.apps.keys()).map(ToString::to_string).collect();
    let change = |name: String| {
        let (before, after) = (digest(old, &name), digest(new, &name));
        let digests = (before != after).then_some((before, after));
        let unchanged =
            Difference { name: name.clone(), kind: DifferenceKind::Changed, keys: Vec::new() };
        let difference = match (settings.remove(&name), digests) {
            (Some(difference), _) => difference,
            (None, Some(_)) => unchanged,
            (None, None) => return None,
        };
        Some(AppChange { difference, digests })
    };
    names.into_iter().filter_map(change).collect()
}

/// The certificates that are not from the local CA, each as it is shown.
fn fingerprints(generation: &Generation) -> BTreeMap<&HostPattern, &[u8]> {
    let known = generation.certificates.known();
    known.filter_map(|(host, it)| Some((host, it.end_entity_cert().ok()?.as_ref()))).collect()
}

fn certificates(
    old: &BTreeMap<&HostPattern, &[u8]>,
    new: &BTreeMap<&HostPattern, &[u8]>,
) -> Vec<Difference> {
    let hosts: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let difference = |host: &&HostPattern| {
        let kind = match (old.get(host), new.get(host)) {
            (None, Some(_)) => DifferenceKind::Added,
            (Some(_), None) => DifferenceKind::Removed,
            (Some(old), Some(new)) if old != new => DifferenceKind::Changed,
            _ => return None,
        };
        Some(Difference { name: host.to_string(), kind, keys: Vec::new() })
    };
    hosts.into_iter().filter_map(difference).collect()
}
