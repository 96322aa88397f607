//! What `GET /metrics` tells, in the text format of Prometheus: everything is read at the scrape.
//!
//! `families` is what is told, before it is text. Each other file adds those of one kind: `requests`,
//! `apps`, `listeners`, `process`. Labels hold names of the manifest and of ours, and nothing that
//! clients send, so that there are never more series than the manifest has room for.

mod apps;
mod families;
mod listeners;
mod process;
mod requests;

use std::sync::Arc;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;

use crate::generation::{Builder, Current};
use crate::traces::Spans;
use families::Families;

/// The media type of the text.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Where everything is read.
pub struct Metrics {
    pub current: Arc<Current>,
    pub builder: Arc<Builder>,
    pub spans: Spans,
}

impl Metrics {
    /// The text of one scrape. Reads files: not for async threads.
    ///
    /// # Errors
    /// When it cannot be written, which has not been seen.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut families = Families::default();
        let stats = self.builder.stats();
        requests::add(stats, &mut families);
        apps::add(self, &mut families);
        listeners::add(stats, &mut families);
        process::add(self, &mut families);

        let mut registry = Registry::default();
        registry.register_collector(Box::new(families));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }
}
