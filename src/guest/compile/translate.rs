//! From a component's bytes to compiled code: what the child does with them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::guest::ComponentError;
use crate::guest::code::{Handler, Label};
use crate::guest::component::Digest;
use crate::guest::engine::{Kind, Settings};
use crate::guest::inspect::{Import, Outline, World};
use crate::guest::interfaces::{Support, support};

/// Missing imports named in a message; a hostile file may have a million.
const MAX_NAMED: usize = 20;

/// Characters of the compiler's own words in a message; it quotes what it does not like.
const MAX_WORDS: usize = 2000;

/// Compiles `bytes` in this process.
///
/// # Errors
/// When they are not a component that this host can serve.
pub fn compile(bytes: &[u8]) -> Result<(Vec<u8>, Label), ComponentError> {
    let outline = Outline::read(bytes).map_err(ComponentError::NotWasm)?;
    let handler = match outline.world() {
        World::P2(_) => Handler::P2,
        World::P3(_) => Handler::P3,
        World::Other(what) => return Err(ComponentError::WrongWorld(what)),
    };
    check_imports(&outline)?;
    let kind = match outline.needs_concurrency() {
        true => Kind::Concurrent,
        false => Kind::Plain,
    };
    let settings = Settings::new().map_err(because)?;
    let engine = settings.engine(kind);
    // The compiler asserts much about its input.
    let code = match catch_unwind(AssertUnwindSafe(|| engine.precompile_component(bytes))) {
        Ok(code) => code.map_err(because)?,
        Err(_) => return Err(ComponentError::Compile("the compiler panicked over it".into())),
    };
    let label = Label {
        kind,
        handler,
        size: code.len() as u64,
        engines: settings.id(),
        component: Digest::of(bytes),
        code: Digest::of(&code),
    };
    Ok((code, label))
}

/// Names what is missing before anything is compiled; the linker would only say the first.
fn check_imports(outline: &Outline) -> Result<(), ComponentError> {
    let mut missing: Vec<_> = outline
        .imports
        .iter()
        .filter(|import| !import.only_types)
        .filter_map(|Import { name, .. }| match support(name) {
            Support::Provided => None,
            Support::Missing(None) => Some(format!("`{name}`")),
            Support::Missing(Some(nearest)) => Some(format!("`{name}` (nearest: `{nearest}`)")),
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if missing.len() > MAX_NAMED {
        let more = missing.split_off(MAX_NAMED).len();
        missing.push(format!("and {more} more"));
    }
    Err(ComponentError::MissingImports(missing))
}

fn because(error: wasmtime::Error) -> ComponentError {
    let no_memory = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::OutOfMemory)
    };
    match error.is::<wasmtime::OutOfMemory>() || error.chain().any(no_memory) {
        true => ComponentError::NoMemory,
        false => ComponentError::Compile(format!("{error:#}").chars().take(MAX_WORDS).collect()),
    }
}
