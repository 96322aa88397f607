//! The process: its reloads, certificates, logs, and what it takes of the machine.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use super::Metrics;
use super::families::Families;
use crate::logging;

/// Adds what there is of the process.
pub fn add(metrics: &Metrics, families: &mut Families) {
    let stats = metrics.builder.stats();
    let generation = metrics.current.load();
    families
        .gauge("tidegate_build_info", "Which tidegate runs, always 1")
        .value(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0);
    families
        .gauge("tidegate_generation", "The number of the generation that serves")
        .value(Vec::new(), generation.number as f64);

    let reloads = &stats.reloads;
    let counter = families
        .counter("tidegate_reloads", "Changes to the operator's files, by what became of them");
    for (verdict, count) in reloads.all() {
        counter.count(vec![("result", verdict.name().to_owned())], count);
    }
    families
        .gauge(
            "tidegate_last_reload_successful",
            "Whether all of the last change serves, also where there was none",
        )
        .value(Vec::new(), f64::from(u8::from(reloads.last_succeeded())));
    families
        .gauge(
            "tidegate_last_reload_timestamp_seconds",
            "When the last change was found, 0 where there was none",
        )
        .value(Vec::new(), reloads.last_at() as f64);

    let expiry = families.gauge(
        "tidegate_certificate_expiry_timestamp_seconds",
        "Until when the certificate of a host is good; one of the local CA is there once it was asked for",
    );
    for listed in generation.certificates.listed() {
        if let Some(details) = listed.details {
            let labels = vec![("name", listed.host.to_string())];
            expiry.value(labels, details.not_after.unix_timestamp() as f64);
        }
    }

    let losses = logging::losses();
    families
        .counter("tidegate_log_lines_dropped", "Log lines that were left out: too many came")
        .count(Vec::new(), losses.dropped);
    families
        .counter("tidegate_log_lines_lost", "Log lines that could not be written")
        .count(Vec::new(), losses.lost);

    families
        .counter("tidegate_spans_exported", "Spans of traces that the collector has taken")
        .count(Vec::new(), metrics.spans.sent());
    families
        .counter("tidegate_spans_lost", "Spans that too many waited for, or that it did not take")
        .count(Vec::new(), metrics.spans.lost());

    let started = stats.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    families
        .gauge("process_start_time_seconds", "When the process began to serve")
        .value(Vec::new(), started.as_secs_f64());
    of_the_system(families);
}

/// What the system knows of the process; what it does not tell is left out.
fn of_the_system(families: &mut Families) {
    if let Some(cpu) = cpu() {
        families
            .counter("process_cpu_seconds", "CPU that the process has used")
            .sum(Vec::new(), cpu.as_secs_f64());
    }
    if let Some(bytes) = resident_bytes() {
        families
            .gauge("process_resident_memory_bytes", "Memory of the process that is resident")
            .value(Vec::new(), bytes as f64);
    }
    // Without the one that the directory is read by.
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        families
            .gauge("process_open_fds", "File descriptors that are open")
            .value(Vec::new(), open.count().saturating_sub(1) as f64);
    }
    if let Some(max) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        families
            .gauge("process_max_fds", "File descriptors that may be open")
            .value(Vec::new(), max as f64);
    }
}

fn cpu() -> Option<Duration> {
    // SAFETY: it is given a valid `rusage` and keeps no pointer to it.
    let usage = unsafe {
        let mut usage = std::mem::zeroed();
        (libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) == 0).then_some(usage)
    }?;
    let duration = |time: libc::timeval| {
        let micros = Duration::from_micros(u64::try_from(time.tv_usec).ok()?);
        Some(Duration::from_secs(u64::try_from(time.tv_sec).ok()?) + micros)
    };
    Some(duration(usage.ru_utime)? + duration(usage.ru_stime)?)
}

/// As `/proc/self/status` has it (proc(5)), in units of 1024 bytes there.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}
