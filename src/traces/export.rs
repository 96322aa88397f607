//! From spans to the collector: a queue that no request waits for, and the task that empties it.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::collector::{Collector, POST_TIMEOUT};
use crate::config::Traces;
use crate::limit::{Limit, Tally};

/// Spans that wait to be sent. What they hold is cut to size, so this bounds their memory too.
const QUEUE_MAX: usize = 4096;

/// Spans that are sent together.
const BATCH_MAX: usize = 512;

/// How long a span waits for others to be sent with.
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// How long it is only counted that spans are lost, after it was said.
const QUIET: Duration = Duration::from_secs(1);

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A span, and where it is to be sent.
type Item = (Arc<Traces>, SpanData);

/// Where spans are handed in. Clones are the same queue.
#[derive(Clone)]
pub struct Spans(Arc<Shared>);

struct Shared {
    queue: mpsc::Sender<Item>,
    tally: Arc<Tally>,
    /// The queue is half full, which is no time to wait for more.
    hurry: Notify,
    sent: AtomicU64,
    lost: AtomicU64,
}

/// The task that sends spans.
pub struct Exporting {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

/// Starts the task. Full queues are counted in `tally`.
pub fn start(tally: Arc<Tally>) -> (Spans, Exporting) {
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    let spans = Spans(Arc::new(Shared {
        queue,
        tally,
        hurry: Notify::new(),
        sent: AtomicU64::new(0),
        lost: AtomicU64::new(0),
    }));
    let stop = CancellationToken::new();
    let exporter = Exporter {
        waiting,
        shared: Arc::clone(&spans.0),
        stop: stop.clone(),
        outlet: None,
        untold: 0,
        told: None,
    };
    (spans, Exporting { task: tokio::spawn(exporter.run()), stop })
}

impl Spans {
    /// Hands a span on, or counts it as lost where too many wait.
    pub(super) fn send(&self, settings: &Arc<Traces>, span: SpanData) {
        let Spans(shared) = self;
        if shared.queue.try_send((Arc::clone(settings), span)).is_err() {
            shared.lost.fetch_add(1, Relaxed);
            shared.tally.reached(Limit::TracesQueue, "a span");
        }
        if shared.queue.capacity() < QUEUE_MAX / 2 {
            shared.hurry.notify_one();
        }
    }

    /// Spans that the collector has taken.
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Relaxed)
    }

    /// Spans that were lost: the queue was full, or the collector did not take them.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Relaxed)
    }
}

impl Exporting {
    /// Sends the spans that wait, for no longer than `limit`, and ends.
    pub async fn stop(&mut self, limit: Duration) {
        self.stop.cancel();
        if timeout(limit, &mut self.task).await.is_err() {
            warn!(?limit, "the collector did not take the last spans in time");
            self.task.abort();
        }
    }
}

/// What the task has.
struct Exporter {
    waiting: mpsc::Receiver<Item>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    outlet: Option<Outlet>,
    /// Spans that were lost since that was said, and when it was.
    untold: u64,
    told: Option<Instant>,
}

/// The exporter to one collector.
struct Outlet {
    settings: Arc<Traces>,
    exporter: SpanExporter,
    collector: Arc<Collector>,
}

impl Exporter {
    async fn run(mut self) {
        while let Some((settings, first)) = self.first().await {
            let mut batch = (settings, vec![first]);
            // What came meanwhile; of what comes now each begins a wait of its own.
            for _ in 0..self.waiting.len() {
                let Ok((settings, span)) = self.waiting.try_recv() else { break };
                // A reload may have changed where spans go.
                if batch.1.len() == BATCH_MAX || batch.0 != settings {
                    let full = mem::replace(&mut batch, (settings, Vec::new()));
                    self.send(full.0, full.1).await;
                }
                batch.1.push(span);
            }
            self.send(batch.0, batch.1).await;
        }
        self.tell_lost("the collector did not take them");
    }

    /// The first of some spans, once there was time for others to come. None: it is time to end.
    async fn first(&mut self) -> Option<Item> {
        let Exporter { waiting, stop, shared, .. } = self;
        let first = tokio::select! {
            biased;
            first = waiting.recv() => first?,
            () = stop.cancelled() => return waiting.try_recv().ok(),
        };
        tokio::select! {
            () = sleep(BATCH_WAIT) => {}
            () = shared.hurry.notified() => {}
            () = stop.cancelled() => {}
        }
        Some(first)
    }

    async fn send(&mut self, settings: Arc<Traces>, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        match self.try_send(settings, batch).await {
            Ok(()) => {
                self.shared.sent.fetch_add(count, Relaxed);
            }
            Err(reason) => {
                self.shared.lost.fetch_add(count, Relaxed);
                self.untold += count;
                if self.told.is_none_or(|told| told.elapsed() >= QUIET) {
                    self.tell_lost(&reason);
                }
            }
        }
    }

    async fn try_send(
        &mut self,
        settings: Arc<Traces>,
        batch: Vec<SpanData>,
    ) -> Result<(), String> {
        let outlet = match self.outlet.take() {
            Some(outlet) if outlet.settings == settings => outlet,
            _ => Outlet::open(settings, self.stop.clone()).await?,
        };
        let result = outlet.exporter.export(batch).await;
        let result =
            result.map_err(|error| outlet.collector.failure().unwrap_or_else(|| error.to_string()));
        self.outlet = Some(outlet);
        result
    }

    fn tell_lost(&mut self, reason: &str) {
        if self.untold > 0 {
            warn!(spans = self.untold, reason, "spans are lost");
            self.untold = 0;
            self.told = Some(Instant::now());
        }
    }
}

impl Outlet {
    async fn open(settings: Arc<Traces>, stop: CancellationToken) -> Result<Outlet, String> {
        let collector = Arc::new(Collector::open(Arc::clone(&settings), stop).await?);
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(settings.endpoint.to_string())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(POST_TIMEOUT)
            .with_shared_http_client(Arc::clone(&collector) as Arc<_>)
            // The library's own blocks the thread; the collector's client has its own.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .map_err(|error| error.to_string())?;
        let version = KeyValue::new("service.version", VERSION);
        exporter.set_resource(
            &Resource::builder_empty()
                .with_service_name(settings.service_name.clone())
                .with_attribute(version)
                .build(),
        );
        Ok(Outlet { settings, exporter, collector })
    }
}

/// Who makes the spans.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(NAME).with_version(VERSION).build()
}
