//! What a `.wasm` file is, read from its bytes alone, before anything is compiled.

use wasmparser::{Encoding, Parser, Payload};

/// A file's outline.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outline {
    pub form: Form,
    /// Names of the component's imports, such as `wasi:http/types@0.2.0`.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// Core modules in it, at any depth.
    pub core_modules: usize,
    /// Linear memories that these define.
    pub memories: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Component,
    CoreModule,
}

/// The world a file was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum World {
    /// `wasi:http/incoming-handler` of this version.
    P2(String),
    /// `wasi:http/handler` of this version.
    P3(String),
    /// Something else; what, and what to do about it.
    Other(String),
}

const P2_EXPORT: &str = "wasi:http/incoming-handler@";
const P3_EXPORT: &str = "wasi:http/handler@";

impl Outline {
    /// Reads the outline of `bytes`.
    ///
    /// # Errors
    /// When they are not WebAssembly, or cut short: in words fit for a user.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if !bytes.starts_with(b"\0asm") {
            return Err(match bytes.is_empty() {
                true => "the file is empty".into(),
                false => {
                    "not a WebAssembly file: it does not start with the bytes 00 61 73 6d".into()
                }
            });
        }
        let mut outline = Outline::default();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|e| format!("damaged or cut short: {e}"))?;
            match payload {
                Payload::Version { encoding, .. } => match (encoding, depth) {
                    (Encoding::Module, 0) => outline.form = Form::CoreModule,
                    (Encoding::Module, _) => outline.core_modules += 1,
                    (Encoding::Component, _) => {}
                },
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::MemorySection(section) => outline.memories += section.count() as usize,
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import.map_err(|e| format!("damaged: {e}"))?;
                        outline.imports.push(import.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export.map_err(|e| format!("damaged: {e}"))?;
                        outline.exports.push(export.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    /// Which handler it exports, or what it is instead.
    pub fn world(&self) -> World {
        if self.form == Form::CoreModule {
            return World::Other(
                "a core module, not a component; build it for `wasm32-wasip2`, or wrap it with `wasm-tools component new`".into(),
            );
        }
        let version = |prefix| self.exports.iter().find_map(|name| name.strip_prefix(prefix));
        if let Some(version) = version(P3_EXPORT) {
            return match version.starts_with("0.3.") && !version.contains('-') {
                true => World::P3(version.into()),
                false => World::Other(format!(
                    "a component for the unfinished `{P3_EXPORT}{version}`; rebuild it against wasi:http 0.3.0"
                )),
            };
        }
        if let Some(version) = version(P2_EXPORT) {
            return match version.starts_with("0.2.") && !version.contains('-') {
                true => World::P2(version.into()),
                false => World::Other(format!(
                    "a component for the unfinished `{P2_EXPORT}{version}`; rebuild it against wasi:http 0.2.0 or newer"
                )),
            };
        }
        if self.exports.iter().any(|name| name.starts_with("wasi:cli/run@")) {
            return World::Other(
                "a command component (it exports wasi:cli/run), not a server; export wasi:http/incoming-handler instead".into(),
            );
        }
        World::Other(match self.exports.as_slice() {
            [] => "a component that exports nothing".into(),
            exports => {
                format!("a component that exports {} and no HTTP handler", exports.join(", "))
            }
        })
    }

    /// Whether anything in it needs the engine with concurrency support.
    pub fn needs_concurrency(&self) -> bool {
        matches!(self.world(), World::P3(_))
            || self.imports.iter().any(|name| name.contains("@0.3."))
    }
}
