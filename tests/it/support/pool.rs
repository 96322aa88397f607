//! A pool of one guest, without listeners or manifest.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use tidegate::config::Limits;
use tidegate::guest::store::Template;
use tidegate::guest::{Component, Engines};
use tidegate::pool::{Answer, Blueprint, Failure, Pool, Request};
use tidegate::request_id::RequestId;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::WasiBody;

/// The engines reserve much address space, so all tests share them.
pub fn engines() -> Arc<Engines> {
    static ENGINES: OnceLock<Arc<Engines>> = OnceLock::new();
    ENGINES.get_or_init(|| Engines::new().expect("engines")).clone()
}

/// The bytes of a guest, such as `kit-p2`. A missing one fails the test.
pub fn guest(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = match name {
        "hello" | "api" => root.join(format!("apps/{name}.wasm")),
        _ => root.join(format!("tests/guests/{name}.wasm")),
    };
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Short timeouts, so that tests of them are short.
pub fn limits() -> Limits {
    Limits {
        request_timeout: Duration::from_secs(2),
        stream_idle_timeout: Duration::from_secs(2),
        post_return_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(2),
        max_requests_per_instance: NonZeroUsize::new(1000).unwrap(),
        max_concurrent_per_instance: NonZeroUsize::new(16).unwrap(),
        max_instances: NonZeroUsize::new(8).unwrap(),
        memory: 64 << 20,
    }
}

/// A pool of the guest `name`, and what shutdown would wait for.
pub fn pool(name: &str, limits: Limits) -> (Pool, TaskTracker) {
    let component = Component::load(&engines(), None, &guest(name)).expect(name);
    let tasks = TaskTracker::new();
    (Pool::new(blueprint(name, component, limits, &tasks)), tasks)
}

/// What a pool of `component` is made of.
pub fn blueprint(
    name: &str,
    component: Component,
    limits: Limits,
    tasks: &TaskTracker,
) -> Blueprint {
    Blueprint {
        component: Arc::new(component),
        template: Template {
            app: name.into(),
            env: vec![],
            args: vec![],
            memory: usize::try_from(limits.memory).unwrap(),
        },
        limits,
        profiler: None,
        generation: 1,
        tasks: tasks.clone(),
        count: 0.into(),
    }
}

/// A request for `path` without a body.
pub fn get(path: &str) -> Request {
    request(http::Method::GET, path, Empty::new().map_err(|e| match e {}).boxed_unsync())
}

/// A request with a body that is there in full.
pub fn post(path: &str, body: impl Into<Bytes>) -> Request {
    let body = Full::new(body.into()).map_err(|e| match e {}).boxed_unsync();
    request(http::Method::POST, path, body)
}

pub fn request(method: http::Method, path: &str, body: WasiBody) -> Request {
    Request {
        id: RequestId::next(),
        http: http::Request::builder()
            .method(method)
            .uri(format!("https://test.localhost{path}"))
            .body(body)
            .unwrap(),
    }
}

/// The status and the whole body, as text.
pub async fn text(answer: Result<Answer, Failure>) -> (u16, String) {
    let http = answer.expect("an answer").http;
    let status = http.status().as_u16();
    let body = http.into_body().collect().await.expect("a whole body");
    (status, String::from_utf8_lossy(&body.to_bytes()).into_owned())
}
