//! What can be asked, for programs: OpenAPI 3.1, written by hand and held against the code by tests.

use super::answer::{Outcome, whole};
use super::router::Call;

const DOCUMENT: &str = include_str!("openapi.json");

pub async fn openapi(_: Call) -> Outcome {
    Ok(whole("application/json", DOCUMENT))
}
