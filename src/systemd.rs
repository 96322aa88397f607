//! What the service manager is told and asked: readiness, status, the watchdog, and sockets it opened for us.
//!
//! Without systemd each of these does nothing.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::shutdown::Shutdown;

/// A socket that systemd opened, and its `FileDescriptorName=`.
#[derive(Debug)]
pub struct Activated {
    pub name: String,
    pub socket: OwnedFd,
}

/// Takes the sockets that systemd passed to this process. They can be taken once.
pub fn activated() -> io::Result<Vec<Activated>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    // This looks at LISTEN_PID too, and marks the sockets close-on-exec.
    let passed = sd_notify::listen_fds_with_names()?;
    Ok(passed
        .map(|(fd, name)| {
            // SAFETY: systemd opened it for this process, and `TAKEN` makes this its only owner.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            Activated { name, socket }
        })
        .collect())
}

/// The first generation serves.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload was asked for; [`ready`] ends it, whatever came of it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "cannot read the clock for systemd"),
    }
}

/// The drain begins.
pub fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Another process is the service's main one from now on, and what it tells counts.
pub fn main_process(pid: u32) {
    notify(&[NotifyState::MainPid(pid)]);
}

/// What of the environment is for this process alone, and not for one that takes over from it.
pub const OWN_ENVIRONMENT: [&str; 4] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// One line for `systemctl status`.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Keeps systemd's watchdog fed at twice the rate it asks for, from now until the tasks have drained.
///
/// The ticks come from a task on the runtime that serves: when its threads are
/// stuck they stop, and systemd starts the service again.
pub fn watchdog(shutdown: &Shutdown) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    // Not one of the tasks that are waited for: it feeds the watchdog during the drain as well.
    drop(tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            let mut ticks = interval(limit / 2);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !(shutdown.has_begun() && shutdown.running() == 0) {
                ticks.tick().await;
                if shutdown.is_handed_over() {
                    // The process that took over feeds it.
                    return;
                }
                notify(&[NotifyState::Watchdog]);
            }
        }
    }));
}

/// A datagram to a local socket: it does not wait.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot notify systemd");
    }
}
