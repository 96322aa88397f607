//! Connections, by listener.

use super::families::{Families, Labels};
use crate::stats::{Seen, Stats};

/// Adds what there is of each listener.
pub fn add(stats: &Stats, families: &mut Families) {
    let all: Vec<(String, Seen)> =
        stats.listeners().iter().map(|it| (it.address.clone(), it.seen())).collect();

    families
        .gauge("tidegate_connections_open", "Connections that are open")
        .value_of(&all, |seen| seen.open);
    families
        .counter("tidegate_connections_accepted", "Connections that clients have opened")
        .counts_of(&all, "", |seen| vec![("", seen.accepted)]);
    families
        .counter(
            "tidegate_connections_refused",
            "Connections that were ended before they said anything, by why",
        )
        .counts_of(&all, "reason", |seen| seen.refused.clone());
    families
        .counter("tidegate_handshakes", "TLS handshakes that are over, by their result")
        .counts_of(&all, "result", |seen| {
            vec![("done", seen.handshakes_done), ("failed", seen.handshakes_failed)]
        });
    families.counter("tidegate_tls_connections", "Connections by their version of TLS").counts_of(
        &all,
        "version",
        |seen| seen.tls.clone(),
    );
    families.counter("tidegate_protocol_connections", "Connections by what they speak").counts_of(
        &all,
        "protocol",
        |seen| seen.protocols.clone(),
    );
}

impl super::families::Family {
    fn value_of(&mut self, all: &[(String, Seen)], of: fn(&Seen) -> u64) {
        for (listener, seen) in all {
            self.value(at(listener), of(seen) as f64);
        }
    }

    /// Samples told apart by `label`, where it has a name.
    fn counts_of(
        &mut self,
        all: &[(String, Seen)],
        label: &'static str,
        of: fn(&Seen) -> Vec<(&'static str, u64)>,
    ) {
        for (listener, seen) in all {
            for (value, count) in of(seen) {
                let mut labels = at(listener);
                if !label.is_empty() {
                    labels.push((label, value.to_owned()));
                }
                self.count(labels, count);
            }
        }
    }
}

fn at(listener: &str) -> Labels {
    vec![("listener", listener.to_owned())]
}
