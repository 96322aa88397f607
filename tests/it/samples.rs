//! Components made with other languages' usual tools are served as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tidegate::config::Limits;
use tidegate::guest::cache::Cache;
use tidegate::guest::component::Digest;
use tidegate::pool::Pool;
use tokio_util::task::TaskTracker;

use crate::support::pool::{blueprint, cached, get, limits, text};

/// How the script says that npm or PyPI could not give the tools.
const NO_TOOLS: i32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn components_in_javascript_and_python_are_served() {
    let Some(folder) = built() else { return };
    // Their compiled code is kept too: either takes ten seconds to compile.
    let cache = Cache::open(&folder).expect("a cache");
    for (name, greeting) in [("hello-js", "JavaScript"), ("hello-py", "Python")] {
        let bytes = fs::read(folder.join(name).with_extension("wasm")).expect(name);
        let component = cached(&cache, &bytes);
        let limits =
            Limits { request_timeout: Duration::from_secs(30), memory: 256 << 20, ..limits() };
        let pool = Pool::new(blueprint(name, component, limits, &TaskTracker::new()));
        let (status, body) = text(pool.handle(get("/")).await).await;
        assert_eq!(status, 200, "{name}: {body}");
        assert!(body.contains(greeting), "{name}: {body}");
    }
}

/// The folder with the built samples, kept for as long as what they are built from.
fn built() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("tests/guests/build-samples.sh");
    let mut sources = fs::read(&script).expect("the script");
    add(&root.join("apps/samples"), &mut sources);
    let kept =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("samples-{}", Digest::of(&sources)));
    if kept.exists() {
        return Some(kept);
    }

    let fresh = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let built = Command::new(&script).arg(fresh.path()).output().expect("the script runs");
    let said = String::from_utf8_lossy(&built.stderr);
    match built.status.code() {
        Some(0) => {}
        Some(NO_TOOLS) => {
            eprintln!("=== NOT TESTED: the samples in JavaScript and Python ===\n{said}");
            return None;
        }
        code => panic!("the samples do not build ({code:?}): {said}"),
    }
    fs::rename(fresh.keep(), &kept).expect("the samples are kept");
    Some(kept)
}

/// Adds the content of each file under `folder`, in the order of their names.
fn add(folder: &Path, content: &mut Vec<u8>) {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort_unstable();
    for path in paths {
        match path.is_dir() {
            true => add(&path, content),
            false => content.extend(fs::read(&path).expect("a file")),
        }
    }
}
