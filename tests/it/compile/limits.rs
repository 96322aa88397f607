//! What one compilation may use, and that it ends with the server.

use std::time::{Duration, Instant};

use super::{bombs, compiler_of, exists, manifest, resident, site};
use crate::support::client::{answer, until_answer};
use crate::support::connection::{Connection, Transport};
use crate::support::holds::Shown;
use crate::support::server::{Server, Site, hello_version, wait_until};

/// Room for what a server allocates anyway while it serves.
const FLAT: u64 = 16 << 20;

const GOES_ON: &str = "; its last good version goes on serving";

#[tokio::test(flavor = "multi_thread")]
async fn too_much_cpu_is_a_refused_change() {
    let bomb = bombs::cpu(1400);
    assert!(bomb.len() < 12 << 10, "{}", bomb.len());
    let refused = "it does not compile: it took more than 1s of CPU (compile.cpu_time)";
    refuses("an 11 KiB bomb of CPU", &bomb, "cpu_time = \"1s\"", refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_memory_is_a_refused_change() {
    let bomb = bombs::memory(1000);
    assert!(bomb.len() < 9 << 10, "{}", bomb.len());
    let refused = "it does not compile: it took more than 256MiB of memory (compile.memory)";
    refuses("an 8 KiB bomb of memory", &bomb, "memory = \"256MiB\"", refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_time_is_a_refused_change() {
    let refused = "it does not compile: it took more than 1s (compile.timeout)";
    refuses("a 20 KiB bomb of time", &bombs::cpu(2500), "timeout = \"1s\"", refused).await;
}

/// Puts `bomb` in the place of an app, and looks at everything that is not to notice.
async fn refuses(what: &str, bomb: &[u8], limit: &str, refused: &str) {
    let site = site(limit);
    let server = site.start();
    let before = latencies(&server, Duration::from_secs(1), || false).await;
    let resident_before = resident(&server);

    let began = Instant::now();
    site.put("apps/hello.wasm", bomb);
    let is_told = || !server.logged(refused).is_empty();
    let mut most = 0;
    let during = latencies(&server, Duration::from_secs(60), || {
        most = most.max(resident(&server));
        is_told()
    });
    let during = during.await;
    let line = server.wait_for_log(refused);
    let took = began.elapsed();

    assert!(line.contains("apps.hello.component") && line.ends_with(GOES_ON), "{line}");
    let name = refused.split(['(', ')']).nth(1).expect("a limit's name");
    server.wait_for_log(&format!("limit={name} times=1"));
    assert_eq!(answer(&server, "hello.test", "/version").await, "200 00000001");
    assert_eq!(compiler_of(server.pid()), None, "it still compiles");

    let (status, said) = site.tidegate(&["check", "--config", "config.toml"]);
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains(refused), "{said}");

    // The change that follows is taken.
    site.put("apps/hello.wasm", &hello_version(2));
    until_answer(&server, "hello.test", "/version", "200 00000002").await;

    let part = "Tenants: compile bombs";
    Shown {
        part,
        tried: &format!("{what}, with {limit}"),
        times: 1,
        bound: "killed, refused and told within 30 s",
    }
    .holds(format!("{:.1} s", took.as_secs_f64()), took < Duration::from_secs(30));
    let grown = most.saturating_sub(resident_before);
    Shown {
        part,
        tried: &format!("{what}: memory of the server meanwhile"),
        times: 1,
        bound: "grows by at most 16 MiB",
    }
    .holds(format!("{:.1} MiB", grown as f64 / (1 << 20) as f64), grown <= FLAT);
    let (slow, usual) = (p99(&during), p99(&before));
    Shown {
        part,
        tried: &format!("{what}: answers of another app meanwhile"),
        times: during.len(),
        bound: "all, with a p99 of at most three times the usual, or 50 ms",
    }
    .holds(
        format!("p99 {slow:.1?}, usually {usual:.1?}"),
        slow <= (usual * 3).max(Duration::from_millis(50)),
    );
}

/// How long each of the answers takes that follow one another until `is_over`, or for `most`.
async fn latencies(
    server: &Server,
    most: Duration,
    mut is_over: impl FnMut() -> bool,
) -> Vec<Duration> {
    let mut connection =
        Connection::open(&Transport::plain(server), "other.test").await.expect("a connection");
    let (began, mut all) = (Instant::now(), vec![]);
    while began.elapsed() < most && !is_over() {
        let sent = Instant::now();
        let reply = connection.get("/version").await.expect("an answer");
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "00000100"));
        all.push(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    all
}

fn p99(all: &[Duration]) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_tried_again_under_other_limits() {
    let site = site("cpu_time = \"1s\"");
    site.put("apps/hello.wasm", &bombs::cpu(1400));
    drop(site.start());
    // What was too dear is not tried again at each start, but told.
    let server = site.start();
    server.wait_for_log("compile.cpu_time); its hosts answer 503");
    assert_eq!(server.logged("a limit was reached").len(), 1);
    let serving = server.wait_for_log("serving generation=1");
    let elapsed = serving.rsplit("elapsed=").next().unwrap_or_default();
    assert!(elapsed.ends_with("ms"), "it was compiled once more: {serving}");
    assert!(answer(&server, "hello.test", "/").await.starts_with("503"));
    assert_eq!(answer(&server, "other.test", "/version").await, "200 00000100");

    site.write_manifest(&manifest("cpu_time = \"2m\""));
    // It compiles now, and is no handler all the same.
    server.wait_for_log("it does not link");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_compilation_holds_up_no_change_of_another_app() {
    let site = site("cpu_time = \"40s\"");
    let server = site.start();
    site.put("apps/hello.wasm", &bombs::cpu(6000));
    wait_until("it compiles", || compiler_of(server.pid()).is_some());
    let began = Instant::now();
    site.put("apps/other.wasm", &hello_version(101));
    until_answer(&server, "other.test", "/version", "200 00000101").await;
    let took = began.elapsed();
    assert!(compiler_of(server.pid()).is_some(), "the slow one is not slow");
    assert_eq!(answer(&server, "hello.test", "/version").await, "200 00000001");
    Shown {
        part: "Tenants: compile bombs",
        tried: "a change of another app while a bomb compiles for 40 s",
        times: 1,
        bound: "serves within 10 s",
    }
    .holds(format!("{:.1} s", took.as_secs_f64()), took < Duration::from_secs(10));

    // What nobody wants any more is not compiled to its end.
    site.put("apps/hello.wasm", &hello_version(2));
    until_answer(&server, "hello.test", "/version", "200 00000002").await;
    wait_until("it is given up", || compiler_of(server.pid()).is_none());
    assert_eq!(server.logged("cpu_time"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_the_end_of_a_compilation() {
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let (_site, mut server) = compiling();
        let compiler = compiler_of(server.pid()).expect("a compilation");
        let began = Instant::now();
        server.signal(signal);
        server.exit();
        wait_until("the compiler is gone", || !exists(compiler));
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "signal {signal}: {took:?}");
        assert_eq!(server.logged(" ERROR "), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_it_starts_waits_for_no_compilation() {
    let site = site("");
    site.put("apps/hello.wasm", &bombs::cpu(2500));
    let mut child = site.command().spawn().expect("tidegate");
    wait_until("it compiles the bomb", || {
        compiler_of(child.id()).is_some_and(|pid| cpu_time(pid) > Duration::from_secs(1))
    });
    let began = Instant::now();
    // SAFETY: the child has not been waited for, so the id is still its own.
    unsafe { libc::kill(child.id().try_into().expect("a process id"), libc::SIGTERM) };
    assert!(child.wait().expect("its end").success());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_killed_from_outside_is_begun_again_by_a_reload() {
    let (site, server) = compiling();
    let compiler = compiler_of(server.pid()).expect("a compilation");
    // SAFETY: a signal changes no memory of ours, and the process is our server's.
    unsafe { libc::kill(compiler.try_into().expect("a process id"), libc::SIGKILL) };
    let line = server.wait_for_log("was killed from outside");
    assert!(line.contains("is tried again within a minute"), "{line}");
    assert_eq!(compiler_of(server.pid()), None, "it is not begun again at once");

    let asking = site.command_of(&["reload"]).spawn().expect("tidegate");
    wait_until("it compiles again", || {
        compiler_of(server.pid()).is_some_and(|pid| pid != compiler)
    });
    drop(server);
    let mut asking = asking;
    asking.wait().expect("its end");
}

/// A server that is compiling a bomb.
fn compiling() -> (Site, Server) {
    let site = site("");
    let server = site.start();
    site.put("apps/hello.wasm", &bombs::cpu(3000));
    wait_until("it compiles", || compiler_of(server.pid()).is_some());
    (site, server)
}

/// What the process has used of a processor.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which is in brackets and may hold anything.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
