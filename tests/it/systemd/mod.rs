//! The unit files under a real systemd: booted in a container on an overlay of `/`.
//!
//! Needs root, overlay mounts and `systemd-nspawn`. Where it cannot boot, that
//! is said loudly and the rest of the tests still counts.

mod package;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::pool::guest;

/// A boot and all that is tried in it takes some thirty seconds.
const BOOT_TIMEOUT: Duration = Duration::from_secs(180);

/// What is tried inside. Each `check` prints a line that the test asks for.
const PROBE: &str = concat!(include_str!("check.sh"), include_str!("probe.sh"));

/// Runs the probe alone, and powers off when it is done.
const PROBE_UNIT: &str = "\
[Unit]
DefaultDependencies=no
Requires=basic.target
After=basic.target
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStart=/bin/sh /probe.sh
StandardOutput=file:/probe.out
StandardError=inherit
TimeoutStartSec=150
";

const MANIFEST: &str = r#"
[server]
state_dir = "/var/lib/tidegate"

[log]
dir = "/var/log/tidegate"

[apps.hello]
component = "apps/hello.wasm"

[hosts]
"hello.localhost" = "hello"
"#;

/// Systemd kills what does not answer for this long; the unit's own 20 s would make a long test.
const SHORT_WATCHDOG: &str = "[Service]\nWatchdogSec=2\n";

#[test]
fn the_unit_serves_reloads_stops_and_is_watched_under_a_real_systemd() {
    let promises = [
        "the service is not there before the first connection",
        "a connection to the socket starts it and is served",
        "https is served on the socket of that name",
        "HTTP/3 is served on the socket of that name",
        "it says that it is ready and what it serves",
        "it runs as a user of its own",
        "a reload is asked for by systemctl and answered in the log",
        "a new component is compiled and served under the hardening",
        "the status names the new generation",
        "its state and its log are in its own directories",
        "a connection during a restart waits and is served",
        "after an upgrade the main process is the new one, and active",
        "the old process finishes and ends",
        "the new process is of the new file",
        "the new process says what it serves",
        "after an upgrade https is served on the same socket",
        "the watchdog hears from the new process",
        "no request fails at an upgrade",
        "a new process that is killed while the old one drains is started again",
        "a process that is stuck is started again by the watchdog",
        "within WatchdogSec and one second",
        "a stop ends with exit code 0",
        "a wrong manifest ends with exit code 78 and is not tried again",
    ];
    shows(&promises, "NOT TESTED UNDER SYSTEMD", Machine::install);
}

/// A container: `/` of this machine, with changes that are thrown away.
struct Machine {
    dir: TempDir,
}

/// Boots a machine that `prepare` has put its probe on, and sees that the probe has shown each of the
/// promises. Where none can be booted, `untried` is said loudly.
fn shows(promises: &[&str], untried: &str, prepare: impl FnOnce(&Machine)) {
    let booted = Machine::new().and_then(|machine| {
        prepare(&machine);
        machine.boot()
    });
    let said = match booted {
        Ok(said) => said,
        Err(reason) => return eprintln!("\n!!! {untried}: {reason}\n"),
    };
    for promise in promises {
        assert!(said.contains(&format!("good: {promise}\n")), "not shown: {promise}\n{said}");
    }
}

impl Machine {
    fn new() -> Result<Machine, String> {
        let machine = Machine { dir: tempfile::tempdir().map_err(|e| e.to_string())? };
        let dir = machine.dir.path();
        // Not the file system of `/`: that may be an overlay itself.
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(dir))?;
        for name in ["upper", "work", "root"] {
            fs::create_dir(dir.join(name)).map_err(|e| e.to_string())?;
        }
        let layers = format!("lowerdir=/,upperdir={0}/upper,workdir={0}/work", dir.display());
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &layers])
            .arg(machine.root()))?;
        run(Command::new("systemd-nspawn").arg("--version"))?;
        Ok(machine)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// What every boot has: the probe, and a machine's identity to be made.
    fn put_probe(&self, probe: &str) {
        self.put("etc/systemd/system/probe.service", PROBE_UNIT.as_bytes());
        self.put("probe.sh", probe.as_bytes());
        self.put("etc/machine-id", b"");
    }

    fn install(&self) {
        let put = |path: &str, bytes: &[u8]| self.put(path, bytes);
        fs::copy(env!("CARGO_BIN_EXE_tidegate"), self.root().join("usr/bin/tidegate"))
            .expect("install the binary");
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
        for entry in fs::read_dir(units).expect("list the units") {
            let unit = entry.expect("a unit").path();
            let name = unit.file_name().expect("a name").to_string_lossy().into_owned();
            put(&format!("etc/systemd/system/{name}"), &fs::read(&unit).expect("read a unit"));
        }
        put("etc/systemd/system/tidegate.service.d/test.conf", SHORT_WATCHDOG.as_bytes());
        put("etc/tidegate/config.toml", MANIFEST.as_bytes());
        put("etc/tidegate/apps/hello.wasm", &guest("hello"));
        put("etc/tidegate/api.wasm", &guest("api"));
        self.put_probe(PROBE);
    }

    /// Boots it, and returns what the probe printed.
    fn boot(&self) -> Result<String, String> {
        let mut container = Command::new("systemd-nspawn")
            .args(["--quiet", "--register=no", "--keep-unit", "--private-network", "--boot"])
            .arg(format!("--machine=tidegate-{}", std::process::id()))
            .arg("--directory")
            .arg(self.root())
            .arg("systemd.unit=probe.service")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let end = Instant::now() + BOOT_TIMEOUT;
        while container.try_wait().map_err(|e| e.to_string())?.is_none() {
            if Instant::now() > end {
                let _ = container.kill();
                let _ = container.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // Once the probe has begun it is the unit that is tried, and a hang is its failure.
        fs::read_to_string(self.dir.path().join("upper/probe.out"))
            .map_err(|_| "the container does not boot".into())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(self.root()));
        let _ = run(Command::new("umount").arg(self.dir.path()));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
