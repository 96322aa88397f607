//! What a file is taken for, and what is said of one that cannot be served.

use std::num::NonZeroUsize;
use std::process::Output;
use std::time::{Duration, Instant};

use tidegate::config::{Profile, When};
use tidegate::guest::component::{Component, Digest};
use tidegate::guest::engine::Kind;
use tidegate::guest::profile::Profiler;
use tidegate::guest::store::Template;
use tidegate::guest::{Account, ComponentError, State};
use tidegate::limit::Tally;
use tidegate::pool::Pool;
use tokio_util::task::TaskTracker;
use wasmparser::{Parser, Payload, ValidPayload, Validator};
use wasmtime::error::Context as _;

use crate::support::pool::{
    blueprint, component, engines, get, guest, limits, outbound, room, text as body,
};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Section numbers of the binary format.
const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;
const NESTED: u8 = 4;
const INSTANCE: u8 = 5;
const TYPE: u8 = 7;
const CANONICAL: u8 = 8;
const IMPORT: u8 = 10;

fn load(bytes: &[u8]) -> Result<Component, ComponentError> {
    Component::compile_here(&engines(), bytes)
}

/// Why `bytes` are refused.
fn refusal(bytes: &[u8]) -> String {
    match load(bytes) {
        Ok(component) => panic!("served as {:?}", component.kind),
        Err(error) => error.to_string(),
    }
}

/// Instantiates it once, as the proof before a swap does.
pub async fn start(component: &Component) -> wasmtime::Result<()> {
    let (limits, tally) = (limits(), Tally::new(None));
    let cpu = Account::new(limits.cpu_weight);
    let template = Template::new("test", &limits, &tally, outbound(&limits), cpu);
    let room = room(component).await;
    let mut store = State::store(component, &template, 1, 1, None, room.limiter());
    component.instantiate(&mut store).await.map(drop).context("it does not start")
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = vec![];
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        match number {
            0 => break bytes.push(low),
            _ => bytes.push(low | 0x80),
        }
    }
    bytes
}

/// `head` and one more section.
fn with(head: &[u8], section: u8, content: &[u8]) -> Vec<u8> {
    [head, &[section], &leb(content.len()), content].concat()
}

fn text(string: &str) -> Vec<u8> {
    [&leb(string.len()), string.as_bytes()].concat()
}

/// The declarations `(type (func)) (export NAME (func 0))`.
fn a_function(name: &str) -> Vec<u8> {
    [&[2, 1, 0x40, 0, 1, 0, 4, 0][..], &text(name), &[1, 0]].concat()
}

/// The declarations `(type u8) (export "t" (type (eq 0)))`.
const ONLY_TYPES: &[u8] = &[2, 1, 0x7d, 4, 0, 1, b't', 3, 0, 0];

/// `component` with an import of `name`, an instance type with these declarations.
fn with_import(component: &[u8], name: &str, declarations: &[u8]) -> Vec<u8> {
    let mut validator = Validator::new();
    let mut types = 0;
    for payload in Parser::new(0).parse_all(component) {
        if let ValidPayload::End(all) = validator.payload(&payload.unwrap()).unwrap() {
            types = all.as_ref().component_type_count();
        }
    }
    let component = with(component, TYPE, &[&[1, 0x42], declarations].concat());
    let import = [&[1, 0][..], &text(name), &[5], &leb(types as usize)].concat();
    with(&component, IMPORT, &import)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_guest_is_taken_for_what_it_is() {
    for (name, kind) in [
        ("hello", Kind::Plain),
        ("api", Kind::Concurrent),
        ("kit-p2", Kind::Plain),
        ("mixed-p2", Kind::Concurrent),
        ("hello-p3", Kind::Concurrent),
        ("kit-p3", Kind::Concurrent),
    ] {
        let component = load(&guest(name)).expect(name);
        assert_eq!(component.kind, kind, "{name}");
        assert_eq!(component.digest, Digest::of(&guest(name)));
        start(&component).await.expect(name);
    }
}

#[test]
fn what_is_no_component_for_http_is_refused_by_what_it_is() {
    for (name, words) in [
        ("core-module", "it is a core module, not a component; build it for `wasm32-wasip2`"),
        ("command", "it is a command component (it exports wasi:cli/run), not a server"),
        ("rc-world", "rebuild it against wasi:http 0.3.0"),
    ] {
        let refusal = refusal(&guest(name));
        assert!(refusal.contains(words), "{name}: {refusal}");
    }
    for (bytes, words) in [
        (&b""[..], "the file is empty"),
        (b"#!/bin/sh\n", "not a WebAssembly file: it does not start with"),
        (b"\0as", "not a WebAssembly file"),
        (b"\0asm", "damaged or cut short"),
        (b"\0asm\x0d\0\x07\0", "damaged or cut short"),
        (COMPONENT, "a component that exports nothing; it may be cut short"),
        (MODULE, "a core module"),
    ] {
        let refusal = refusal(bytes);
        assert!(refusal.contains(words), "{bytes:?}: {refusal}");
    }
}

#[test]
fn missing_imports_are_named_with_the_nearest_that_there_is() {
    let missing = refusal(&guest("missing-import"));
    assert!(missing.starts_with("it imports what tidegate does not have: "), "{missing}");
    let function = a_function("f");
    let hello = guest("hello");
    for (import, said) in [
        ("acme:thing/store@1.0.0", "`acme:thing/store@1.0.0`"),
        (
            "wasi:http/types@0.3.0-rc-1",
            "`wasi:http/types@0.3.0-rc-1` (nearest: `wasi:http/types@0.3.0`)",
        ),
        ("wasi:cli/stdin@0.4.0", "`wasi:cli/stdin@0.4.0` (nearest: `wasi:cli/stdin@0.2.12`)"),
    ] {
        let refusal = refusal(&with_import(&hello, import, &function));
        assert_eq!(refusal, format!("it imports what tidegate does not have: {said}"));
    }
    let lacks_a_function =
        refusal(&with_import(&hello, "wasi:random/insecure@0.2.3+abc", &function));
    assert!(lacks_a_function.starts_with("it does not link: "), "{lacks_a_function}");
    assert!(lacks_a_function.contains("`f`"), "{lacks_a_function}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_only_names_types_needs_nothing_from_the_host() {
    let component = load(&with_import(&guest("hello"), "acme:thing/kinds@1.0.0", ONLY_TYPES));
    start(&component.expect("it links")).await.expect("it starts");

    // `export "r" (type (sub resource))` does.
    let resource = [&[1, 4, 0][..], &text("r"), &[3, 1]].concat();
    let refusal = refusal(&with_import(&guest("hello"), "acme:thing/kinds@1.0.0", &resource));
    assert!(refusal.contains("acme:thing/kinds@1.0.0"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_p2_component_that_is_async_inside_runs_with_concurrency() {
    let hello = guest("hello");
    for (what, section, content) in [
        ("task.return", CANONICAL, &[1, 0x09, 1, 0, 0][..]),
        ("waitable-set.new", CANONICAL, &[1, 0x1f]),
        ("backpressure.inc", CANONICAL, &[1, 0x24]),
        ("a stream", TYPE, &[1, 0x66, 0]),
        ("a future", TYPE, &[1, 0x65, 0]),
        ("an async function", TYPE, &[1, 0x43, 0, 1, 0]),
    ] {
        let component = load(&with(&hello, section, content));
        let component = component.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(component.kind, Kind::Concurrent, "{what}");
        start(&component).await.expect(what);
    }
    let refusal = refusal(&with(&hello, TYPE, &[1, 0x64]));
    assert!(refusal.contains("does not compile") && refusal.contains("error"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_at_the_start_is_told() {
    let component = load(&guest("trap-at-start")).expect("it links");
    let error = format!("{:#}", start(&component).await.expect_err("it traps"));
    assert!(error.contains("unreachable"), "{error}");
}

#[test]
fn a_file_cut_short_anywhere_is_refused_in_words_or_whole_in_effect() {
    for name in ["hello", "hello-p3", "missing-import", "rc-world"] {
        let bytes = guest(name);
        let mut ends = vec![];
        for payload in Parser::new(0).parse_all(&bytes) {
            if let Some((_, range)) = payload.unwrap().as_section() {
                ends.extend([range.start.saturating_sub(1), range.start, range.end - 1, range.end]);
            }
        }
        // Where the exports end, what follows are names for tools only.
        let whole = Parser::new(0)
            .parse_all(&bytes)
            .filter_map(|payload| match payload.unwrap() {
                Payload::ComponentExportSection(section) => Some(section.range().end),
                _ => None,
            })
            .max()
            .unwrap();
        for end in ends.into_iter().filter(|end| *end < whole) {
            let refusal = refusal(&bytes[..end]);
            let told = ["cut short", "it is empty", "not a WebAssembly file", "imports what"];
            assert!(told.iter().any(|words| refusal.contains(words)), "{name} at {end}: {refusal}");
        }
    }
}

#[test]
fn a_file_of_an_absurd_make_is_refused_at_once() {
    // From the inside out; a length that is right at every level.
    let mut sizes = vec![COMPONENT.len()];
    for level in 1..50_000 {
        let inner: usize = sizes[level - 1];
        sizes.push(COMPONENT.len() + 1 + leb(inner).len() + inner);
    }
    let mut nested = vec![];
    for size in sizes.iter().rev().skip(1) {
        nested.extend_from_slice(COMPONENT);
        nested.push(NESTED);
        nested.extend(leb(*size));
    }
    nested.extend_from_slice(COMPONENT);

    let mut many = COMPONENT.to_vec();
    for _ in 0..50_000 {
        many.extend([CORE_MODULE, 8]);
        many.extend_from_slice(MODULE);
    }

    // Ten instances of a component with ten instances, and so on for twenty levels.
    let mut instances = COMPONENT.to_vec();
    for _ in 0..20 {
        let ten = [&[10][..], &[0, 0, 0].repeat(10)].concat();
        instances = with(&with(COMPONENT, NESTED, &instances), INSTANCE, &ten);
    }

    let mut types = vec![1];
    for _ in 0..1_000_000 {
        types.extend([0x42, 1, 1]);
    }
    types.extend([0x42, 0]);

    for (what, bytes, words) in [
        ("nested components", nested, "nested in it more than 100 levels"),
        ("many modules", many, "more than 1000 modules and components"),
        ("many instances", instances, "is made of more than 1000 instances"),
        ("nested types", with(COMPONENT, TYPE, &types), "types are nested in it more than 100"),
    ] {
        let started = Instant::now();
        let refusal = refusal(&bytes);
        assert!(refusal.contains(words), "{what}: {refusal}");
        assert!(started.elapsed() < Duration::from_secs(2), "{what}: {:?}", started.elapsed());
    }
}

#[test]
fn a_large_file_that_is_no_component_is_refused_by_what_it_is() {
    let zeros = vec![0; 64 << 20];
    assert!(refusal(&zeros).contains("not a WebAssembly file"));
    let padded = with(COMPONENT, CUSTOM, &[&text("padding"), &zeros[..]].concat());
    assert!(refusal(&padded).contains("exports nothing"));
}

#[test]
fn names_that_would_write_on_a_terminal_are_refused() {
    let export = [&[1, 0][..], &text("\u{1b}[2J"), &[1, 0, 0]].concat();
    let refusal = refusal(&with(COMPONENT, 11, &export));
    assert!(refusal.contains("damaged") && !refusal.contains('\u{1b}'), "{refusal}");
}

fn inspect(file: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["inspect", file])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("tidegate runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn inspect_says_what_a_file_is_and_what_it_lacks() {
    let (code, stdout, stderr) = inspect("tests/guests/missing-import.wasm");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(
        stdout,
        "tests/guests/missing-import.wasm
  world         p2: handles HTTP by wasi:http/incoming-handler@0.2.0
  size          2 KiB
  core modules  1
  memories      0
  exports       1
    wasi:http/incoming-handler@0.2.0
  imports       3
    wasi:http/types@0.2.0
    acme:thing/store@1.0.0  MISSING here
    wasi:keyvalue/store@0.2.0-draft  MISSING here
"
    );

    let (code, stdout, _) = inspect("tests/guests/core-module.wasm");
    assert_eq!(code, Some(0));
    assert_eq!(
        stdout,
        "tests/guests/core-module.wasm
  world         neither p2 nor p3: a core module, not a component; build it for `wasm32-wasip2`, or wrap it with `wasm-tools component new`
  size          1 KiB
  core modules  0
  memories      0
  exports       0
  imports       0
"
    );

    let (_, stdout, _) = inspect("tests/guests/hello-p3.wasm");
    assert!(
        stdout.contains("  world         p3: handles HTTP by wasi:http/handler@0.3.0\n"),
        "{stdout}"
    );
    assert!(!stdout.contains("MISSING"), "{stdout}");
}

#[test]
fn inspect_names_the_nearest_version_and_marks_no_types() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("near.wasm");
    let component = with_import(&guest("hello"), "wasi:cli/stdin@0.4.0", &a_function("f"));
    let component = with_import(&component, "acme:thing/kinds@1.0.0", ONLY_TYPES);
    std::fs::write(&file, component).unwrap();
    let (code, stdout, _) = inspect(file.to_str().unwrap());
    assert_eq!(code, Some(0));
    let missing: Vec<_> = stdout.lines().filter(|line| line.contains("MISSING")).collect();
    assert_eq!(
        missing,
        ["    wasi:cli/stdin@0.4.0  MISSING here; the nearest is wasi:cli/stdin@0.2.12"]
    );
    assert!(stdout.contains("\n    acme:thing/kinds@1.0.0\n"), "{stdout}");
}

#[test]
fn inspect_exits_with_1_where_there_is_nothing_to_say() {
    for (file, words) in [
        ("tests/guests/no-such.wasm", "cannot read tests/guests/no-such.wasm: No such file"),
        ("README-or-not.md/..", "cannot read"),
        ("tests/guests", "it is not a file"),
        ("/dev/zero", "it is not a file"),
        ("tests/guests/build.sh", "not a WebAssembly file"),
    ] {
        let (code, stdout, stderr) = inspect(file);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{file}");
        assert!(stderr.starts_with("tidegate: ") && stderr.contains(words), "{file}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_hold_samples_of_p2_and_of_p3_guests() {
    for kit in ["kit-p2", "kit-p3"] {
        let dir = tempfile::tempdir().unwrap();
        let tasks = TaskTracker::new();
        let settings = Profile {
            interval: Duration::from_millis(1),
            sample: NonZeroUsize::MIN,
            when: When::Always,
            dir: dir.path().join("profiles"),
            max_files: NonZeroUsize::MIN,
            max_total_size: 64 << 20,
        };
        let profiler = Profiler::new(settings, kit, 7, tasks.clone(), Tally::new(None));
        let mut blueprint = blueprint(kit, component(kit), limits(), &tasks);
        blueprint.generation = 7;
        blueprint.profiler = Some(profiler);
        let pool = Pool::new(blueprint);
        let (status, _) = body(pool.handle(get("/spin?ms=500")).await).await;
        assert_eq!(status, 200, "{kit}");

        // Ends the idle instance, and with it the profile.
        pool.evict(true);
        drop(pool);
        tasks.close();
        tasks.wait().await;
        let path = dir.path().join(format!("profiles/{kit}-7-1.json"));
        let json = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let profile: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let samples = profile["threads"][0]["samples"]["length"].as_u64();
        // Far fewer than there are milliseconds: the machine may be busy.
        assert!(samples.is_some_and(|samples| samples >= 10), "{kit}: {samples:?}");
    }
}
