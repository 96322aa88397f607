//! A tidegate process on ports of its own, with its files in a temporary directory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::pool::guest;
use super::precompiled;

/// How long anything is waited for before a test fails: far longer than it takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The marker in the hello guests that makes one differ from another.
const VERSION: &str = "tidegate-hello-version:00000001";

/// An operator's directory: a manifest, components, certificates.
pub struct Site {
    dir: TempDir,
}

/// A running `tidegate run`. Killed when dropped.
pub struct Server {
    child: Child,
    log: Arc<Log>,
    pub http: SocketAddr,
    pub https: SocketAddr,
}

/// What the process has written to standard error.
#[derive(Default)]
struct Log {
    state: Mutex<(Vec<String>, bool)>,
    grew: Condvar,
}

impl Site {
    /// A directory with `manifest`, to which a `[server]` table with ports of the system's choice is added.
    pub fn new(manifest: &str) -> Site {
        let site = Site { dir: tempfile::tempdir().expect("make a directory") };
        fs::create_dir(site.path("apps")).expect("make apps/");
        site.write_manifest(manifest);
        site
    }

    /// The usual one: `hello` at `hello.test`, `kit-p2` at `p2.test` and `kit-p3` at `p3.test`.
    pub fn usual() -> Site {
        let site = Site::usual_uncompiled();
        precompiled::put(&site.path("state"));
        site
    }

    /// The same, whose first start compiles all three.
    pub fn usual_uncompiled() -> Site {
        let site = Site::new(USUAL);
        for name in ["hello", "kit-p2", "kit-p3"] {
            site.put(&format!("apps/{name}.wasm"), &guest(name));
        }
        site
    }

    /// The guest `name` as `a.test`, under these settings, and an app beside it as `b.test`.
    pub fn with_neighbour(name: &str, settings: &str) -> Site {
        let site = Site::new(&format!(
            "[apps.a]\ncomponent = \"apps/a.wasm\"\n{settings}\n\
             [apps.b]\ncomponent = \"apps/b.wasm\"\n\
             [hosts]\n\"a.test\" = \"a\"\n\"b.test\" = \"b\"\n"
        ));
        site.put("apps/a.wasm", &guest(name));
        site.put("apps/b.wasm", &guest("hello"));
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn manifest(&self) -> PathBuf {
        self.path("config.toml")
    }

    /// Writes the manifest, by rename.
    pub fn write_manifest(&self, text: &str) {
        let server = match text.contains("[server]") {
            true => "",
            false => "[server]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\n\n",
        };
        self.put("config.toml", format!("{server}{text}").as_bytes());
    }

    /// Writes a file by rename, as careful programs do.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        write_by_rename(&self.path(name), bytes);
    }

    /// Starts the server and waits until it serves.
    pub fn start(&self) -> Server {
        Server::spawn(self.command())
    }

    /// What starts the server, for tests that change something about it.
    pub fn command(&self) -> Command {
        let mut command = run(&self.manifest());
        command.current_dir(self.dir.path());
        command
    }

    /// Runs a subcommand to its end: its exit status, and what it printed to both outputs.
    pub fn tidegate(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let output = self.command_of(arguments).output().expect("run tidegate");
        let text = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&text).into_owned())
    }

    /// What runs tidegate with these arguments, in the site's folder.
    pub fn command_of(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).current_dir(self.dir.path());
        command
    }

    /// The root of the server's own certificates, once it has been started.
    pub fn root(&self) -> String {
        fs::read_to_string(self.path("state/ca/root.crt")).expect("read the CA's certificate")
    }
}

/// What a process logs when another has taken over from it.
pub const HANDED_OVER: &str = "handed over, finishing";

/// The manifest of [`Site::usual`].
pub const USUAL: &str = r#"
[defaults]
request_timeout = "2s"
stream_idle_timeout = "2s"
post_return_timeout = "2s"
idle_timeout = "5s"

[apps.hello]
component = "apps/hello.wasm"

[apps.p2]
component = "apps/kit-p2.wasm"

[apps.p3]
component = "apps/kit-p3.wasm"

[hosts]
"hello.test" = "hello"
"p2.test" = "p2"
"p3.test" = "p3"
"#;

impl Server {
    /// Spawns the command and waits until it serves.
    pub fn spawn(command: Command) -> Server {
        Server::try_spawn(command)
            .unwrap_or_else(|(status, log)| panic!("it does not start: {status}; its log:\n{log}"))
    }

    /// Spawns the command and waits until it serves, or ends: with what status and log.
    pub fn try_spawn(command: Command) -> Result<Server, (ExitStatus, String)> {
        let (child, log) = spawn_logged(command);
        let mut server = Server { child, log, http: unbound(), https: unbound() };
        // The last line of a start, as text or JSON.
        let serving =
            |line: &str| line.contains("INFO  serving") || line.contains("\"message\":\"serving\"");
        if server.find_line(0, serving).is_none() {
            return Err((server.exit(), server.log().join("\n")));
        }
        for line in server.log().iter().filter(|line| line.contains("listening")) {
            let Some((before, after)) = line.split_once("://") else { continue };
            let address = after.split(['"', ' ']).next().unwrap_or_default();
            // Unix sockets are where the manifest says.
            if address.starts_with("unix:") {
                continue;
            }
            let address = address.parse().expect("an address");
            match before.ends_with("https") {
                true => server.https = address,
                false => server.http = address,
            }
        }
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `libc::SIGTERM`.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        // SAFETY: the child has not been waited for, so the id is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "send a signal");
    }

    /// Waits for the process to end.
    pub fn exit(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("wait for the server") {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the server does not end; its log:\n{}", self.log().join("\n"));
    }

    /// The lines logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().0.clone()
    }

    /// The lines with `text` so far.
    pub fn logged(&self, text: &str) -> Vec<String> {
        self.log().into_iter().filter(|line| line.contains(text)).collect()
    }

    /// The warnings and errors so far.
    pub fn complaints(&self) -> Vec<String> {
        let grave = |line: &String| [" WARN ", " ERROR "].iter().any(|level| line.contains(level));
        self.log().into_iter().filter(grave).collect()
    }

    /// Executable mappings of the process: each compiled component has its own.
    pub fn executable_mappings(&self) -> usize {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid())).expect("its mappings");
        maps.lines().filter(|line| line.split_whitespace().nth(1) == Some("r-xp")).count()
    }

    /// The most bytes that were resident at a time, since the start or [`Server::forget_peak`].
    pub fn peak(&self) -> usize {
        usize::try_from(self.memory("VmHWM:")).expect("a size")
    }

    /// Bytes of its memory, of the kind that has this name in the kernel's list.
    pub fn memory(&self, kind: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("the process lives");
        let size = status.lines().find_map(|line| line.strip_prefix(kind));
        let kibibytes = size.and_then(|size| size.trim().strip_suffix(" kB"));
        kibibytes.expect(kind).parse::<u64>().expect("a number") << 10
    }

    /// The peak is what is resident now.
    pub fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.pid());
        fs::write(path, "5").expect("forget the peak");
    }

    /// Waits until a line with `text` is logged, and returns it. One that is there already counts.
    pub fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_log_after(0, text)
    }

    /// As `wait_for_log`, but the first `skipped` lines do not count.
    pub fn wait_for_log_after(&self, skipped: usize, text: &str) -> String {
        self.wait_for_line(skipped, text, |line| line.contains(text))
    }

    fn wait_for_line(&self, skipped: usize, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        self.find_line(skipped, is_it).unwrap_or_else(|| {
            panic!("no line with {what:?} in the log:\n{}", self.log().join("\n"))
        })
    }

    /// Waits for a line. None where the process ended without it, or it took too long.
    fn find_line(&self, skipped: usize, is_it: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + PATIENCE;
        let mut state = self.log.lock();
        loop {
            if let Some(line) = state.0.iter().skip(skipped).find(|line| is_it(line)) {
                return Some(line.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || state.1 {
                return None;
            }
            state = self.log.grew.wait_timeout(state, left).expect("the log's lock").0;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Those that took over from it are not its children any more.
        for line in self.logged(HANDED_OVER) {
            let pid = i32::try_from(pid_in(&line)).expect("a process id");
            // SAFETY: a signal changes no memory of ours, and the process is one that this test
            // started. For it to be another by now, all ids must have been given out since.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}

impl Log {
    fn lock(&self) -> std::sync::MutexGuard<'_, (Vec<String>, bool)> {
        self.state.lock().expect("the log's lock")
    }
}

/// What a line of the log says after `pid=`.
pub fn pid_in(line: &str) -> u32 {
    let pid = line.split(" pid=").nth(1).and_then(|rest| rest.split_whitespace().next());
    pid.and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("no pid in {line:?}"))
}

/// What starts a server with this manifest.
pub fn run(manifest: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("run").arg("--config").arg(manifest);
    command
}

fn spawn_logged(mut command: Command) -> (Child, Arc<Log>) {
    // Not ours: whoever reads that waits for all that have it.
    command.stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("start tidegate");
    let stderr = child.stderr.take().expect("its standard error");
    let log = Arc::new(Log::default());
    let reader = Arc::clone(&log);
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            reader.lock().0.push(line);
            reader.grew.notify_all();
        }
        reader.lock().1 = true;
        reader.grew.notify_all();
    });
    (child, log)
}

fn unbound() -> SocketAddr {
    ([0, 0, 0, 0], 0).into()
}

/// Writes a file so that it is there whole or not at all. Keys are for this user alone.
pub fn write_by_rename(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension("new");
    let mode = if path.extension().is_some_and(|it| it == "key") { 0o600 } else { 0o644 };
    fs::write(&temporary, bytes).expect("write a file");
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode)).expect("set its mode");
    fs::rename(&temporary, path).expect("rename it");
}

/// The hello guest as another component: its bytes differ in a number that nothing reads but `/version`.
pub fn hello_version(number: u32) -> Vec<u8> {
    let mut bytes = guest("hello");
    let new = format!("tidegate-hello-version:{number:08}");
    let at: Vec<usize> = (0..bytes.len() - VERSION.len())
        .filter(|&at| bytes[at..].starts_with(VERSION.as_bytes()))
        .collect();
    assert!(!at.is_empty(), "the guest has lost its marker");
    for at in at {
        bytes[at..at + VERSION.len()].copy_from_slice(new.as_bytes());
    }
    bytes
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
