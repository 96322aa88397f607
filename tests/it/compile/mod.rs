//! Components that the compiler cannot cope with: they cost their own app a change, and nobody
//! else anything.

mod bombs;
mod child;
mod limits;

use std::fs;
use std::path::Path;

use crate::support::server::{Server, Site, hello_version};

/// The process that compiles for `parent`, if there is one.
fn compiler_of(parent: u32) -> Option<u32> {
    let is_compiler = |pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).nth(1) == Some(b"compile")
    };
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<String> = children.collect();
    let pids = children.iter().flat_map(|pids| pids.split_whitespace());
    pids.filter_map(|pid| pid.parse().ok()).find(is_compiler)
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
        && fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// Bytes that the process has in memory, but for files.
fn resident(server: &Server) -> u64 {
    server.memory("RssAnon:")
}

/// Two apps, `hello` and `other`, and limits on compilations.
fn site(compile: &str) -> Site {
    let site = Site::new(&manifest(compile));
    site.put("apps/hello.wasm", &hello_version(1));
    site.put("apps/other.wasm", &hello_version(100));
    site
}

fn manifest(compile: &str) -> String {
    format!(
        "[compile]\n{compile}\n\n\
         [apps]\nhello.component = \"apps/hello.wasm\"\nother.component = \"apps/other.wasm\"\n\n\
         [hosts]\n\"hello.test\" = \"hello\"\n\"other.test\" = \"other\"\n"
    )
}
