//! The unit files under a real systemd: booted in a container on an overlay of `/`.
//!
//! Needs root, overlay mounts and `systemd-nspawn`. Where it cannot boot, that
//! is said loudly and the rest of the tests still counts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::pool::guest;

/// A boot and all that is tried in it takes some ten seconds.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// What is tried inside. Each `check` prints a line that the test asks for.
const PROBE: &str = include_str!("probe.sh");

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
TimeoutStartSec=100
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
    let machine = match Machine::new() {
        Ok(machine) => machine,
        Err(reason) => return eprintln!("\n!!! NOT TESTED UNDER SYSTEMD: {reason}\n"),
    };
    machine.install();
    let said = match machine.boot() {
        Ok(said) => said,
        Err(reason) => return eprintln!("\n!!! NOT TESTED UNDER SYSTEMD: {reason}\n"),
    };

    for promise in [
        "the service is not there before the first connection",
        "a connection to the socket starts it and is served",
        "https is served on the socket of that name",
        "it says that it is ready and what it serves",
        "it runs as a user of its own",
        "a reload is asked for by systemctl and answered in the log",
        "a new component is compiled and served under the hardening",
        "the status names the new generation",
        "its state and its log are in its own directories",
        "a connection during a restart waits and is served",
        "a process that is stuck is started again by the watchdog",
        "a stop ends with exit code 0",
        "a wrong manifest ends with exit code 78 and is not tried again",
    ] {
        assert!(said.contains(&format!("good: {promise}\n")), "not shown: {promise}\n{said}");
    }
}

/// A container: `/` of this machine, with changes that are thrown away.
struct Machine {
    dir: TempDir,
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

    fn install(&self) {
        let put = |path: &str, bytes: &[u8]| {
            let path = self.root().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
            fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        };
        fs::copy(env!("CARGO_BIN_EXE_tidegate"), self.root().join("usr/bin/tidegate"))
            .expect("install the binary");
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
        for entry in fs::read_dir(units).expect("list the units") {
            let unit = entry.expect("a unit").path();
            let name = unit.file_name().expect("a name").to_string_lossy().into_owned();
            put(&format!("etc/systemd/system/{name}"), &fs::read(&unit).expect("read a unit"));
        }
        put("etc/systemd/system/tidegate.service.d/test.conf", SHORT_WATCHDOG.as_bytes());
        put("etc/systemd/system/probe.service", PROBE_UNIT.as_bytes());
        put("etc/tidegate/config.toml", MANIFEST.as_bytes());
        put("etc/tidegate/apps/hello.wasm", &guest("hello"));
        put("etc/tidegate/api.wasm", &guest("api"));
        put("etc/machine-id", b"");
        put("probe.sh", PROBE.as_bytes());
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
