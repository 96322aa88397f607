//! `/metrics`: what monitoring scrapes.

use std::sync::Arc;

use super::answer::{Failure, Outcome, whole};
use super::router::Call;
use crate::metrics::CONTENT_TYPE;

pub async fn metrics(call: Call) -> Outcome {
    let metrics = Arc::clone(&call.admin.metrics);
    let text = tokio::task::spawn_blocking(move || metrics.text()).await;
    let failed = |error: String| Failure::internal(format!("cannot write the metrics: {error}"));
    let text = text.map_err(|error| failed(error.to_string()))?;
    Ok(whole(CONTENT_TYPE, text.map_err(|error| failed(error.to_string()))?))
}
