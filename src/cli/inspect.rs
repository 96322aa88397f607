//! `tidegate inspect`: what a file is, and whether it can be served here.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::{EXIT_FAILURE, fail};
use crate::guest::files::check_component;
use crate::guest::inspect::{Outline, World};
use crate::guest::interfaces::{Support, support};

pub fn inspect(file: &Path) -> ExitCode {
    let bytes = match read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            return fail(EXIT_FAILURE, format!("cannot read {}: {error}", file.display()));
        }
    };
    let text = match Outline::read(&bytes) {
        Ok(outline) => describe(file, bytes.len(), &outline),
        Err(reason) => return fail(EXIT_FAILURE, format!("{}: {reason}", file.display())),
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILURE, format!("cannot write: {error}")),
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    check_component(&fs::metadata(file)?)?;
    fs::read(file)
}

fn describe(file: &Path, size: usize, outline: &Outline) -> String {
    let world = match outline.world() {
        World::P2(version) => format!("p2: handles HTTP by wasi:http/incoming-handler@{version}"),
        World::P3(version) => format!("p3: handles HTTP by wasi:http/handler@{version}"),
        World::Other(what) => format!("neither p2 nor p3: {what}"),
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}\n  world         {world}", file.display());
    let _ = writeln!(text, "  size          {} KiB", size.div_ceil(1024));
    let _ = writeln!(text, "  core modules  {}", outline.core_modules);
    let _ = writeln!(text, "  memories      {}", outline.memories);
    let _ = writeln!(text, "  exports       {}", outline.exports.len());
    for export in &outline.exports {
        let _ = writeln!(text, "    {export}");
    }
    let _ = writeln!(text, "  imports       {}", outline.imports.len());
    for import in &outline.imports {
        let mark = match support(&import.name) {
            _ if import.only_types => String::new(),
            Support::Provided => String::new(),
            Support::Missing(Some(nearest)) => format!("  MISSING here; the nearest is {nearest}"),
            Support::Missing(None) => "  MISSING here".to_owned(),
        };
        let _ = writeln!(text, "    {}{mark}", import.name);
    }
    text
}
