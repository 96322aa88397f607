//! Metrics with their samples, and how they become text.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::stats::Durations;

/// Everything that one scrape tells.
#[derive(Debug, Default)]
pub struct Families(Vec<Family>);

/// A metric and its samples.
#[derive(Debug)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<(Labels, Value)>,
}

/// What tells samples of one metric apart.
pub type Labels = Vec<(&'static str, String)>;

/// One sample.
#[derive(Debug)]
pub enum Value {
    Count(u64),
    /// A count with fractions, such as one of seconds.
    Sum(f64),
    Gauge(f64),
    Durations(Durations),
}

impl Families {
    /// A counter; `_total` is added to its name.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.add(name, help, MetricType::Counter)
    }

    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.add(name, help, MetricType::Gauge)
    }

    /// A histogram of seconds.
    pub fn durations(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.add(name, help, MetricType::Histogram)
    }

    fn add(&mut self, name: &'static str, help: &'static str, kind: MetricType) -> &mut Family {
        self.0.push(Family { name, help, kind, samples: Vec::new() });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }
}

impl Family {
    pub fn count(&mut self, labels: Labels, count: u64) -> &mut Family {
        self.sample(labels, Value::Count(count))
    }

    pub fn sum(&mut self, labels: Labels, sum: f64) -> &mut Family {
        self.sample(labels, Value::Sum(sum))
    }

    pub fn value(&mut self, labels: Labels, value: f64) -> &mut Family {
        self.sample(labels, Value::Gauge(value))
    }

    /// Nothing where there are none: most hosts of many are asked seldom, and each series costs.
    pub fn took(&mut self, labels: Labels, durations: Durations) -> &mut Family {
        match durations.count() {
            0 => self,
            _ => self.sample(labels, Value::Durations(durations)),
        }
    }

    fn sample(&mut self, labels: Labels, value: Value) -> &mut Family {
        self.samples.push((labels, value));
        self
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, kind, samples } in &self.0 {
            let mut metric = encoder.encode_descriptor(name, help, None, *kind)?;
            for (labels, value) in samples {
                match labels.is_empty() {
                    true => value.encode(&mut metric)?,
                    false => value.encode(&mut metric.encode_family(labels)?)?,
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Value::Count(count) => metric.encode_counter::<NoLabelSet, _, u64>(count, None),
            Value::Sum(sum) => metric.encode_counter::<NoLabelSet, _, f64>(sum, None),
            Value::Gauge(value) => metric.encode_gauge(value),
            Value::Durations(durations) => metric.encode_histogram::<NoLabelSet>(
                durations.seconds(),
                durations.count(),
                &durations.buckets(),
                None,
            ),
        }
    }
}
