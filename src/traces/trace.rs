//! The part that one request has in a trace.

use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use http::HeaderMap;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

use super::export::Spans;
use super::parent;
use crate::config::{Traces, TrustParent};
use crate::request_id::RequestId;

/// See the module. Shared by the server, the guest's worker and the guest's outbound calls.
pub struct Trace {
    /// What is told onwards: the request's own span, or the one that it came from where none is recorded.
    pub(super) context: SpanContext,
    pub(super) recorded: Option<Recorded>,
}

/// What is kept of a request whose spans are recorded.
pub(super) struct Recorded {
    pub spans: Spans,
    /// Of the generation that the request is served by.
    pub settings: Arc<Traces>,
    /// Invalid where the request begins the trace.
    pub parent: SpanId,
    pub begun: Instant,
    /// When that was.
    clock: SystemTime,
    pub marks: Marks,
}

/// When a guest had the request, and how far it was; each once.
#[derive(Default)]
pub(super) struct Marks {
    /// It asked for an instance.
    pub asked: OnceLock<Instant>,
    /// There is one, or room for a new one.
    pub taken: OnceLock<Instant>,
    /// The new one is made.
    pub made: OnceLock<Instant>,
    /// The guest's answer has a head.
    pub answered: OnceLock<Instant>,
}

impl Trace {
    /// The part that a request with these `headers` has, if it has one. Most have none.
    ///
    /// A trace that it comes from counts where who says so is believed: it decides whether spans are
    /// recorded. Everyone else's requests are sampled, and begin traces of their own.
    pub fn begin(
        spans: &Spans,
        settings: &Arc<Traces>,
        id: RequestId,
        headers: &HeaderMap,
        is_proxys: bool,
    ) -> Option<Arc<Trace>> {
        let is_believed = match settings.trust_parent {
            TrustParent::Everyone => true,
            TrustParent::Proxies => is_proxys,
            TrustParent::Nobody => false,
        };
        let parent = if is_believed { parent::read(headers) } else { None };
        match parent {
            Some(context) if !context.is_sampled() => {
                Some(Arc::new(Trace { context, recorded: None }))
            }
            None if !is_sampled(id, settings) => None,
            parent => Some(Arc::new(Trace::recorded(spans, settings, parent))),
        }
    }

    fn recorded(spans: &Spans, settings: &Arc<Traces>, parent: Option<SpanContext>) -> Trace {
        let ids = RandomIdGenerator::default();
        let (trace, state) = match &parent {
            Some(parent) => (parent.trace_id(), parent.trace_state().clone()),
            None => (ids.new_trace_id(), TraceState::NONE),
        };
        let context = SpanContext::new(trace, ids.new_span_id(), TraceFlags::SAMPLED, false, state);
        let recorded = Recorded {
            spans: spans.clone(),
            settings: Arc::clone(settings),
            parent: parent.map_or(SpanId::INVALID, |parent| parent.span_id()),
            begun: Instant::now(),
            clock: SystemTime::now(),
            marks: Marks::default(),
        };
        Trace { context, recorded: Some(recorded) }
    }

    /// Whether its spans are recorded.
    pub fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// The id of the trace, where spans are recorded: it is what the operator looks for.
    pub fn id(&self) -> Option<impl std::fmt::Display + use<>> {
        self.is_recorded().then(|| self.context.trace_id())
    }

    /// Says in `headers` which span the request comes from.
    pub fn tell(&self, headers: &mut HeaderMap) {
        parent::write(&self.context, headers);
    }

    /// The request asks for an instance.
    pub fn asked(&self) {
        self.mark(|marks| &marks.asked);
    }

    /// There is an instance for it, or room for one. The first time counts.
    pub fn taken(&self) {
        self.mark(|marks| &marks.taken);
    }

    /// An instance was made for it.
    pub fn made(&self) {
        self.mark(|marks| &marks.made);
    }

    /// There is the head of an answer.
    pub fn answered(&self) {
        self.mark(|marks| &marks.answered);
    }

    fn mark(&self, which: impl FnOnce(&Marks) -> &OnceLock<Instant>) {
        if let Some(recorded) = &self.recorded {
            let _ = which(&recorded.marks).set(Instant::now());
        }
    }
}

impl Recorded {
    /// What the clock showed at `instant`: the spans of one request agree, whatever becomes of the clock.
    pub fn time(&self, instant: Instant) -> SystemTime {
        self.clock + instant.saturating_duration_since(self.begun)
    }
}

/// Ids are spread evenly, so this is all that a request costs that is not traced.
fn is_sampled(id: RequestId, settings: &Traces) -> bool {
    let one_in = u64::try_from(settings.sample.get()).unwrap_or(u64::MAX);
    id.as_u64() <= u64::MAX / one_in
}
