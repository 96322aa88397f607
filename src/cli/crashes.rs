//! `tidegate crashes`: lists the crash bundles, and shows one.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::show::paint::tame;
use super::{EXIT_CONFIG, EXIT_FAILURE, fail, load};
use crate::crashes::{Bundle, Folder, Found, Kind, Phase};

#[derive(Args)]
pub struct Crashes {
    /// Only those of this app
    #[arg(value_name = "APP")]
    app: Option<String>,
    /// The manifest [default: ./config.toml, else /etc/tidegate/config.toml]
    #[arg(long, value_name = "PATH", global = true)]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Show all that is known of one
    Show {
        /// A file of the list, or the newest
        #[arg(value_name = "FILE|latest")]
        which: String,
    },
}

pub fn crashes(arguments: &Crashes) -> ExitCode {
    let config = match load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(reason) => return fail(EXIT_CONFIG, reason),
    };
    let folder = Folder::below(&config.server.state_dir);
    let files = match folder.list(arguments.app.as_deref()) {
        Ok(files) => files,
        Err(error) => {
            let folder = folder.path().display();
            return fail(EXIT_FAILURE, format!("cannot read {folder}: {error}"));
        }
    };
    let text = match &arguments.command {
        None => list(files, arguments.json),
        Some(Command::Show { which }) => match shown(which, files, &folder) {
            Ok(bundle) if arguments.json => format!("{:#}\n", json!(bundle)),
            Ok(bundle) => describe(&bundle),
            Err(reason) => return fail(EXIT_FAILURE, reason),
        },
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILURE, format!("cannot write: {error}")),
    }
}

fn list(files: Vec<PathBuf>, json: bool) -> String {
    let found = files.into_iter().map(Folder::read);
    if json {
        let all: Vec<_> = found.map(|found| summary(&found)).collect();
        return format!("{:#}\n", json!(all));
    }
    let mut text = String::new();
    for Found { path, bundle } in found {
        let file = file_name(&path);
        // Writing to a String cannot fail.
        let _ = match bundle {
            Ok(bundle) => {
                let (time, app) = (&bundle.time, &bundle.app);
                let (reason, place) = (tame(&bundle.reason), place(&bundle));
                writeln!(text, "{time}  {app}  {reason}\n    at {place}\n    {file}")
            }
            Err(reason) => writeln!(text, "{file}: {reason}"),
        };
    }
    if text.is_empty() { "no crashes are kept\n".to_owned() } else { text }
}

fn summary(found: &Found) -> serde_json::Value {
    let file = file_name(&found.path);
    match &found.bundle {
        Ok(bundle) => json!({
            "file": file,
            "time": bundle.time,
            "app": bundle.app,
            "kind": bundle.kind,
            "reason": bundle.reason,
            "where": bundle.top().map(ToString::to_string),
        }),
        Err(reason) => json!({ "file": file, "error": reason }),
    }
}

/// The bundle that is meant, of those in `files` or of another file.
fn shown(which: &str, files: Vec<PathBuf>, folder: &Folder) -> Result<Bundle, String> {
    let path = match which {
        "latest" => files.into_iter().next().ok_or("no crashes are kept")?,
        name if name.contains('/') => PathBuf::from(name),
        name => folder.path().join(name),
    };
    let Found { path, bundle } = Folder::read(path);
    bundle.map_err(|reason| format!("cannot show {}: {reason}", path.display()))
}

fn describe(bundle: &Bundle) -> String {
    let Bundle { instance, component, .. } = bundle;
    let kind = match (bundle.kind, bundle.phase) {
        (_, Phase::Start) => "an instance could not start",
        (Kind::Trap, _) => "the guest trapped",
        (Kind::Exit, _) => "the guest exited with an error",
        (Kind::CpuTime, _) => "a request used up its cpu_time",
        (Kind::Error, _) => "the guest could not go on",
    };
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<11}{value}");
    };
    row("app", &format!("{} (generation {})", bundle.app, bundle.generation));
    row("time", &bundle.time);
    row("what", kind);
    row("reason", &tame(&bundle.reason));
    row("where", &place(bundle));
    row(
        "instance",
        &format!(
            "{}, {:.1} s old, {} requests served, {} in flight, {} KiB of memory",
            instance.id,
            instance.age_seconds,
            instance.requests_served,
            instance.requests_in_flight,
            instance.memory_bytes.div_ceil(1024),
        ),
    );
    row("component", &tame(&component.path));
    row("SHA-256", &component.digest);
    row("tidegate", &bundle.tidegate);
    if bundle.left_out > 0 {
        row("besides", &format!("{} crashes before it that no file was kept of", bundle.left_out));
    }

    text.push_str("\nbacktrace\n");
    for (number, frame) in bundle.backtrace.iter().enumerate() {
        let _ = write!(text, "{number:>4}  {}", tame(&frame.function));
        if let (Some(module), Some(offset)) = (&frame.module, frame.offset) {
            let _ = write!(text, "  ({}, {offset:#x})", tame(module));
        }
        text.push('\n');
        if let Some(source) = &frame.source {
            let _ = writeln!(text, "      at {}", tame(source));
        }
    }
    if let Some(request) = &bundle.request {
        let target = format!("{} {}{}", request.method, request.host, request.path);
        let _ = writeln!(text, "\nrequest {}\n  {}", request.id, tame(&target));
        for header in &request.headers {
            let name = tame(&header.name);
            let _ = match &header.value {
                Some(value) => writeln!(text, "  {name}: {}", tame(value)),
                None => writeln!(text, "  {name}: ({} bytes)", header.bytes),
            };
        }
    }
    if !bundle.lines.is_empty() {
        text.push_str("\nits last lines\n");
    }
    for line in &bundle.lines {
        let _ = writeln!(text, "  {}: {}", tame(&line.stream), tame(&line.text));
    }
    text.push_str("\nlimits\n");
    for (name, value) in &bundle.limits {
        let _ = writeln!(text, "  {} = {}", tame(name), tame(value));
    }
    text
}

fn place(bundle: &Bundle) -> String {
    bundle.top().map_or("an unknown place".to_owned(), |frame| tame(&frame.to_string()))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| tame(&name.to_string_lossy())).unwrap_or_default()
}
