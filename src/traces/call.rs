//! The span of a guest's outbound call.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::{HeaderMap, Method, StatusCode, Uri};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;

use super::parent::{self, TRACEPARENT};
use super::served::{child, cut, known, span};
use super::trace::Trace;

/// A call whose span is recorded. Dropping it ends the span.
pub struct Call {
    trace: Arc<Trace>,
    context: SpanContext,
    begun: Instant,
    method: Method,
    target: Uri,
    /// Of what it came to, the first counts.
    outcome: OnceLock<Result<StatusCode, String>>,
}

impl Trace {
    /// A guest that serves this request asks `target`. In the headers of what it sends stands which span
    /// that comes from; where the guest has said so itself, it stays as it is.
    pub fn call(
        self: &Arc<Self>,
        method: &Method,
        target: &Uri,
        headers: &mut HeaderMap,
    ) -> Option<Arc<Call>> {
        let call = self.is_recorded().then(|| {
            // What other vendors say goes along with it.
            let own = child(&self.context);
            let state = self.context.trace_state().clone();
            let context =
                SpanContext::new(own.trace_id(), own.span_id(), own.trace_flags(), false, state);
            Arc::new(Call {
                trace: Arc::clone(self),
                context,
                begun: Instant::now(),
                method: method.clone(),
                target: target.clone(),
                outcome: OnceLock::new(),
            })
        });
        if !headers.contains_key(TRACEPARENT) {
            let context = call.as_ref().map_or(&self.context, |call| &call.context);
            parent::write(context, headers);
        }
        call
    }
}

impl Call {
    /// The origin's answer has this status.
    pub fn answered(&self, status: StatusCode) {
        let _ = self.outcome.set(Ok(status));
    }

    /// There is no answer, for a reason of this name.
    pub fn failed(&self, reason: String) {
        let _ = self.outcome.set(Err(reason));
    }

    /// Of the URL only the origin is told: there are origins whose paths are secrets.
    fn attributes(&self) -> Vec<KeyValue> {
        let text = |name, value: &str| KeyValue::new(name, cut(value).to_owned());
        let scheme = self.target.scheme_str().unwrap_or_default();
        let port = self.target.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let mut all = vec![
            text("http.request.method", known(&self.method).unwrap_or("_OTHER")),
            text("server.address", self.target.host().unwrap_or_default()),
            KeyValue::new("server.port", i64::from(port)),
            text("url.scheme", scheme),
        ];
        match self.outcome.get() {
            Some(Ok(status)) => {
                let code = i64::from(status.as_u16());
                all.push(KeyValue::new("http.response.status_code", code));
                if is_error(*status) {
                    all.push(text("error.type", status.as_str()));
                }
            }
            Some(Err(reason)) => all.push(text("error.type", reason)),
            None => all.push(KeyValue::new("error.type", "cancelled")),
        }
        all
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Some(recorded) = &self.trace.recorded else { return };
        let method = known(&self.method).unwrap_or("HTTP").to_owned();
        let is_error = !matches!(self.outcome.get(), Some(Ok(status)) if !is_error(*status));
        recorded.send(SpanData {
            parent_span_id: self.trace.context.span_id(),
            start_time: recorded.time(self.begun),
            end_time: recorded.time(Instant::now()),
            attributes: self.attributes(),
            status: if is_error { Status::error("") } else { Status::Unset },
            ..span(&self.context, SpanKind::Client, method.into())
        });
    }
}

/// As the conventions have it for clients: it asked for what it does not get.
fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}
