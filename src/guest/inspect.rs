//! What a `.wasm` file is, read from its bytes alone, before anything is compiled.

use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::types::Types;
use wasmparser::{Encoding, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use super::bounds;
use super::parts::Parts;
pub use super::world::World;

/// A file's outline.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outline {
    pub form: Form,
    pub imports: Vec<Import>,
    pub exports: Vec<String>,
    /// Core modules in it, at any depth.
    pub core_modules: usize,
    /// Linear memories that these define.
    pub memories: usize,
    /// It uses async functions, streams, futures or what belongs to them, be it only inside.
    pub asynchronous: bool,
}

/// A component's import.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    /// Such as `wasi:http/types@0.2.0`.
    pub name: String,
    /// Nothing but the shapes of values: there is nothing that a host could lack.
    pub only_types: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Component,
    CoreModule,
}

/// Bytes of the name of an import or export; the parser takes a hundred times as many.
const MAX_NAME: usize = 1000;

/// What an engine without concurrency support refuses.
const ASYNC: WasmFeatures = WasmFeatures::CM_ASYNC
    .union(WasmFeatures::CM_ASYNC_STACKFUL)
    .union(WasmFeatures::CM_MORE_ASYNC_BUILTINS)
    .union(WasmFeatures::CM_ERROR_CONTEXT)
    .union(WasmFeatures::CM_THREADING);

impl Outline {
    /// Reads the outline of `bytes`.
    ///
    /// # Errors
    /// When they are not WebAssembly, cut short, or of an absurd make: in words fit for a user.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if !bytes.starts_with(b"\0asm") {
            return Err(match bytes.is_empty() {
                true => "the file is empty".into(),
                false => {
                    "not a WebAssembly file: it does not start with the bytes 00 61 73 6d".into()
                }
            });
        }
        let damaged = |e| format!("damaged or cut short: {e}");
        let mut outline = Outline::default();
        let mut parts = Parts::new();
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(damaged)?;
            match &payload {
                Payload::Version { encoding: Encoding::Module, .. } => match parts.at_top() {
                    true => outline.form = Form::CoreModule,
                    false => outline.core_modules += 1,
                },
                Payload::MemorySection(section) => outline.memories += section.count() as usize,
                Payload::ComponentTypeSection(section) => {
                    let types = &bytes[section.range()];
                    bounds::check_types(types).map_err(damaged)??;
                }
                Payload::ComponentImportSection(section) if parts.at_top() => {
                    for import in section.clone() {
                        let name = printable(import.map_err(damaged)?.name.name)?;
                        outline.imports.push(Import { name, only_types: false });
                    }
                }
                Payload::ComponentExportSection(section) if parts.at_top() => {
                    for export in section.clone() {
                        outline.exports.push(printable(export.map_err(damaged)?.name.name)?);
                    }
                }
                _ => {}
            }
            parts.read(&payload).map_err(damaged)??;
        }
        if outline.form == Form::Component {
            outline.judge(bytes);
        }
        Ok(outline)
    }

    /// Fills in what takes the types to know. Where they do not fit together
    /// that stays unknown, and the compiler says what is wrong.
    fn judge(&mut self, bytes: &[u8]) {
        let everything = WasmFeatures::default().union(ASYNC);
        let types = match types(bytes, everything.difference(ASYNC)) {
            Some(types) => Some(types),
            None => types(bytes, everything).inspect(|_| self.asynchronous = true),
        };
        let Some(types) = types else { return };
        for import in &mut self.imports {
            let entity = types.as_ref().component_item_for_import(&import.name);
            import.only_types = entity.is_some_and(|item| is_only_types(&types, item.ty));
        }
    }

    /// Which handler it exports, or what it is instead.
    pub fn world(&self) -> World {
        match self.form {
            Form::Component => World::of(&self.exports),
            Form::CoreModule => World::Other(
                "a core module, not a component; build it for `wasm32-wasip2`, or wrap it with `wasm-tools component new`".into(),
            ),
        }
    }

    /// Whether anything in it needs the engine with concurrency support.
    pub fn needs_concurrency(&self) -> bool {
        let mut names = self.imports.iter().map(|import| &import.name).chain(&self.exports);
        self.asynchronous || names.any(|name| name.contains("@0.3."))
    }
}

/// Names go into logs and onto terminals, and the parser takes any text for one.
fn printable(name: &str) -> Result<String, String> {
    if name.len() > MAX_NAME {
        return Err(format!("damaged: it has a name of {} bytes", name.len()));
    }
    match name.chars().any(char::is_control) {
        true => Err(format!("damaged: it has the name {name:?}")),
        false => Ok(name.to_owned()),
    }
}

/// The types of a component whose parts fit together, when only `features` may
/// be used. Leaves the bodies of functions to the compiler.
fn types(bytes: &[u8], features: WasmFeatures) -> Option<Types> {
    let mut validator = Validator::new_with_features(features);
    let mut types = None;
    for payload in Parser::new(0).parse_all(bytes) {
        if let ValidPayload::End(of_this_part) = validator.payload(&payload.ok()?).ok()? {
            types = Some(of_this_part);
        }
    }
    types
}

/// Whether an import asks for nothing that would have to be there.
fn is_only_types(types: &Types, entity: ComponentEntityType) -> bool {
    match entity {
        ComponentEntityType::Type { referenced: ComponentAnyTypeId::Resource(_), .. } => false,
        ComponentEntityType::Type { .. } => true,
        ComponentEntityType::Instance(id) => {
            types[id].exports.values().all(|export| is_only_types(types, export.ty))
        }
        _ => false,
    }
}
