//! A pool of one guest, without listeners or manifest.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use tidegate::config::Limits;
use tidegate::guest::cache::Cache;
use tidegate::guest::code::Code;
use tidegate::guest::compile::compile;
use tidegate::guest::component::Digest;
use tidegate::guest::memory::{Bounds, Node, Room};
use tidegate::guest::outbound::{Network, Outbound};
use tidegate::guest::store::Template;
use tidegate::guest::{Account, Component, Engines};
use tidegate::limit::Tally;
use tidegate::pool::{Answer, Blueprint, BodyError, Failure, Pool, Request};
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

/// A compiled guest: once for all tests of a process.
pub fn component(name: &str) -> Arc<Component> {
    static COMPILED: Mutex<Option<HashMap<String, Arc<Component>>>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().unwrap();
    let compiled = compiled.get_or_insert_default();
    if let Some(component) = compiled.get(name) {
        return component.clone();
    }
    let component = Arc::new(Component::compile_here(&engines(), &guest(name)).expect(name));
    compiled.insert(name.into(), component.clone());
    component
}

/// A component whose code is in the cache, or will be.
pub fn cached(cache: &Cache, bytes: &[u8]) -> Arc<Component> {
    let load = || cache.load(&engines(), &Digest::of(bytes));
    let compiled = || {
        let (code, label) = compile(bytes).expect("it compiles");
        let code = cache.keep(Code::in_memory(&code, label).expect("memory"));
        Component::link(&engines(), &code).expect("it links")
    };
    Arc::new(load().unwrap_or_else(compiled))
}

/// Short timeouts, so that tests of them are short.
pub fn limits() -> Limits {
    Limits {
        request_timeout: Duration::from_secs(2),
        stream_idle_timeout: Duration::from_secs(2),
        post_return_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(2),
        queue_timeout: Duration::from_secs(2),
        max_requests_per_instance: NonZeroUsize::new(1000).unwrap(),
        max_concurrent_per_instance: NonZeroUsize::new(16).unwrap(),
        max_instances: NonZeroUsize::new(8).unwrap(),
        memory: 64 << 20,
        ..Limits::default()
    }
}

/// A pool of the guest `name`, and what shutdown would wait for.
pub fn pool(name: &str, limits: Limits) -> (Pool, TaskTracker) {
    let tasks = TaskTracker::new();
    (Pool::new(blueprint(name, component(name), limits, &tasks)), tasks)
}

/// The same on engines of its own, whose CPU it does not share with the loops of other tests.
pub fn pool_apart(name: &str, limits: Limits) -> (Pool, TaskTracker) {
    let engines = Engines::new().expect("engines");
    let component = Component::compile_here(&engines, &guest(name)).expect(name);
    let tasks = TaskTracker::new();
    (Pool::new(blueprint(name, Arc::new(component), limits, &tasks)), tasks)
}

/// What a pool of `component` is made of.
pub fn blueprint(
    name: &str,
    component: Arc<Component>,
    limits: Limits,
    tasks: &TaskTracker,
) -> Blueprint {
    let tally = Tally::new(Some(name.into()));
    let cpu = Account::new(limits.cpu_weight);
    Blueprint {
        component,
        template: Template::new(name, &limits, &tally, outbound(&limits), cpu),
        limits,
        tally,
        memory: Node::new(usize::MAX).account(),
        profiler: None,
        crashes: None,
        dev: false,
        generation: 1,
        tasks: tasks.clone(),
        stats: Default::default(),
        evicting: false.into(),
        roster: Default::default(),
        drain: Default::default(),
    }
}

/// A client that reaches nothing.
pub fn outbound(limits: &Limits) -> Arc<Outbound> {
    Outbound::new(&BTreeSet::new(), limits, Tally::new(None), Network::new())
}

/// Room for one instance, on a node of its own.
pub async fn room(component: &Component) -> Room {
    let bounds = Bounds { instance: 64 << 20, app: usize::MAX };
    let on = (&component.engines, component.kind);
    let room = Room::take(&Node::new(usize::MAX).account(), bounds, &Tally::new(None), 0, on).await;
    room.expect("there is room for one")
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
        permit: None,
        crowded: false,
        trace: None,
    }
}

/// The status and the whole body, as text.
pub async fn text(answer: Result<Answer, Failure>) -> (u16, String) {
    let http = answer.expect("an answer").http;
    let status = http.status().as_u16();
    let body = http.into_body().collect().await.expect("a whole body");
    (status, String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// What a body held before it ended, and whether it ended well.
pub async fn read(answer: Answer) -> (Vec<u8>, Result<(), BodyError>) {
    let mut body = answer.http.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(error) => return (bytes, Err(error)),
        }
    }
    (bytes, Ok(()))
}

/// What the kit's `/inspect` says.
pub async fn inspect(pool: &Pool) -> serde_json::Value {
    let (_, json) = text(pool.handle(get("/inspect")).await).await;
    serde_json::from_str(&json).expect(&json)
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Served {
    pub instance: u64,
    pub status: u16,
    pub text: String,
}

/// Serves in a task of its own, as a connection would: an answer that nobody reads keeps its
/// place in its instance.
pub fn spawn(pool: &Pool, path: &str) -> tokio::task::JoinHandle<Result<Served, Failure>> {
    let (pool, request) = (pool.clone(), get(path));
    tokio::spawn(async move { served(pool.handle(request).await).await })
}

/// Reads an answer to its end.
pub async fn served(answer: Result<Answer, Failure>) -> Result<Served, Failure> {
    let answer = answer?;
    let instance = answer.instance;
    let (status, text) = text(Ok(answer)).await;
    Ok(Served { instance, status, text })
}

/// Waits until something is so; fails when it is not within 20 s.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Lets the pool's idle instances go, and waits until everything that it spawned has ended.
pub async fn finish(pool: Pool, tasks: TaskTracker) {
    pool.evict(true);
    tasks.close();
    tokio::time::timeout(Duration::from_secs(20), async {
        pool.emptied().await;
        tasks.wait().await;
    })
    .await
    .expect("the pool never emptied");
    assert_eq!(pool.live(), 0);
}
