//! Requests by app and host.

use super::families::{Families, Labels};
use crate::config::{AppName, HostPattern};
use crate::stats::{Class, Key, Stats, Sum};

/// Adds what clients have asked.
pub fn add(stats: &Stats, families: &mut Families) {
    let mut all: Vec<(Labels, Sum)> =
        stats.routed().into_iter().map(|(key, sum)| (labels(&key), sum)).collect();
    all.push((named("", String::new()), stats.unrouted.sum()));

    let requests = families.counter(
        "tidegate_requests",
        "Requests that are through, by the class of their status. The host is the manifest's; it is empty where no route answers, the app is empty where tidegate answers by itself. A client that left first counts as 4xx",
    );
    for (labels, sum) in &all {
        for class in Class::ALL {
            let code = [labels.as_slice(), &[("code", class.name().to_owned())]].concat();
            requests.count(code, sum.classes[class as usize]);
        }
    }
    let mut counter = |name, help, of: fn(&Sum) -> u64| {
        let family = families.counter(name, help);
        for (labels, sum) in &all {
            family.count(labels.clone(), of(sum));
        }
    };
    counter(
        "tidegate_requests_abandoned",
        "Requests whose client left before there was an answer; 499 in the access log",
        |sum| sum.left,
    );
    counter(
        "tidegate_responses_cut",
        "Answers that broke off after their head, though their client had not left",
        |sum| sum.cut,
    );
    counter("tidegate_request_body_bytes", "Bytes of request bodies that were read", |sum| {
        sum.received
    });
    counter(
        "tidegate_response_body_bytes",
        "Bytes of the bodies of answers, as they were sent",
        |sum| sum.sent,
    );

    let in_flight =
        families.gauge("tidegate_requests_in_flight", "Requests that are being served now");
    for (labels, sum) in &all {
        in_flight.value(labels.clone(), sum.in_flight as f64);
    }

    let to_head = families.durations(
        "tidegate_request_to_head_seconds",
        "From the head of a request to the head of its answer",
    );
    for (labels, sum) in &all {
        to_head.took(labels.clone(), sum.to_head.clone());
    }
    let total = families.durations(
        "tidegate_request_duration_seconds",
        "From the head of a request to the last byte of its answer",
    );
    for (labels, sum) in all {
        total.took(labels, sum.total);
    }
}

fn labels(Key { app, host }: &Key) -> Labels {
    named(app.as_ref().map_or("", AppName::as_str), HostPattern::to_string(host))
}

fn named(app: &str, host: String) -> Labels {
    vec![("app", app.to_owned()), ("host", host)]
}
