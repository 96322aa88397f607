//! From a file's bytes to a component that is compiled, linked and ready to instantiate.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::handler::{Proxy, ProxyPre};
use wasmtime_wasi_http::{p2, p3};

use super::State;
use super::cache::Cache;
use super::engine::{Engines, Kind};
use super::inspect::{Import, Outline, World};
use super::interfaces::{Support, support};

/// SHA-256 of a component's file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// A compiled and linked component.
pub struct Component {
    pub digest: Digest,
    pub kind: Kind,
    pub engines: Arc<Engines>,
    pub compiled: wasmtime::component::Component,
    pre: ProxyPre<State>,
}

/// Why a file cannot be served. Its text is for the operator.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ComponentError {
    #[error("{0}")]
    Unreadable(String),
    #[error("{0}")]
    NotWasm(String),
    #[error("it is {0}")]
    WrongWorld(String),
    #[error("it imports what tidegate does not have: {}", .0.join("; "))]
    MissingImports(Vec<String>),
    #[error("it does not compile: {0}")]
    Compile(String),
    #[error("it does not link: {0}")]
    Link(String),
    #[error("it does not start: {0}")]
    Start(String),
}

impl Component {
    /// Compiles and links `bytes`, or takes the compiled code from the cache.
    ///
    /// Takes seconds of CPU at worst: not for an async thread.
    ///
    /// # Errors
    /// When the bytes are not a component that this host can serve.
    pub fn load(
        engines: &Arc<Engines>,
        cache: Option<&Cache>,
        bytes: &[u8],
    ) -> Result<Self, ComponentError> {
        let outline = Outline::read(bytes).map_err(ComponentError::NotWasm)?;
        let world = match outline.world() {
            World::Other(what) => return Err(ComponentError::WrongWorld(what)),
            world => world,
        };
        check_imports(&outline)?;

        let digest = Digest::of(bytes);
        let kind = match outline.needs_concurrency() {
            true => Kind::Concurrent,
            false => Kind::Plain,
        };
        let side = engines.side(kind);
        let compiled = match cache.and_then(|cache| cache.load(&side.engine, &digest)) {
            Some(compiled) => compiled,
            None => {
                let compiled = compile(&side.engine, bytes)?;
                if let Some(cache) = cache {
                    cache.store(&side.engine, &digest, &compiled);
                }
                compiled
            }
        };
        // Without it the first instance pays for the image; it can fail where
        // the memory is not initialised statically, and then there is none.
        let _ = compiled.initialize_copy_on_write_image();

        let link = |e: wasmtime::Error| ComponentError::Link(format!("{e:#}"));
        let pre = side.linker.instantiate_pre(&compiled).map_err(link)?;
        let pre = match world {
            World::P3(_) => ProxyPre::P3(p3::bindings::ServicePre::new(pre).map_err(link)?),
            _ => ProxyPre::P2(p2::bindings::ProxyPre::new(pre).map_err(link)?),
        };
        Ok(Self { digest, kind, engines: engines.clone(), compiled, pre })
    }

    /// Whether its requests run one at a time on an instance of their own.
    pub fn is_exclusive(&self) -> bool {
        self.kind == Kind::Plain
    }

    /// Instantiates it in `store`.
    pub async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Proxy> {
        let pace = store.data().pace.clone();
        let _running = self.engines.running();
        pace.drive(self.pre.instantiate_async(store)).await
    }
}

/// Compiles `bytes`. The compiler asserts much about its input, and one app's
/// file is no reason for another's requests to fail.
fn compile(
    engine: &Engine,
    bytes: &[u8],
) -> Result<wasmtime::component::Component, ComponentError> {
    let compile = || wasmtime::component::Component::from_binary(engine, bytes);
    match catch_unwind(AssertUnwindSafe(compile)) {
        Ok(compiled) => compiled.map_err(|e| ComponentError::Compile(format!("{e:#}"))),
        Err(_) => Err(ComponentError::Compile("the compiler panicked over it".into())),
    }
}

/// Names what is missing before anything is compiled; the linker would only say the first.
fn check_imports(outline: &Outline) -> Result<(), ComponentError> {
    let missing: Vec<_> = outline
        .imports
        .iter()
        .filter(|import| !import.only_types)
        .filter_map(|Import { name, .. }| match support(name) {
            Support::Provided => None,
            Support::Missing(None) => Some(format!("`{name}`")),
            Support::Missing(Some(nearest)) => Some(format!("`{name}` (nearest: `{nearest}`)")),
        })
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(ComponentError::MissingImports(missing)),
    }
}

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
