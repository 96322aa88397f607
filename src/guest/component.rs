//! From compiled code to a component that is linked and ready to instantiate.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wasmtime::Store;
use wasmtime_wasi_http::handler::{Proxy, ProxyPre};
use wasmtime_wasi_http::{p2, p3};

use super::State;
use super::code::{Code, Handler};
use super::compile::compile;
use super::engine::{Engines, Kind};
use crate::limit::Limit;

/// SHA-256 of a component's file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// A compiled and linked component.
pub struct Component {
    pub digest: Digest,
    pub kind: Kind,
    pub engines: Arc<Engines>,
    pub compiled: wasmtime::component::Component,
    /// Bytes of memories and tables that the last instance began with.
    pub initial_memory: AtomicUsize,
    pre: ProxyPre<State>,
}

/// Why a file cannot be served. Its text is for the operator.
///
/// Most are found by the process that compiles, which hands them on in JSON.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
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
    /// Its compilation reached a limit.
    #[serde(skip)]
    #[error("it does not compile: it took more than {used} ({})", limit.name())]
    TooDear { limit: Limit, used: String },
    /// The process that compiles has no memory left; it knows no limit's name.
    #[serde(skip)]
    #[error("it does not compile: there is no memory left")]
    NoMemory,
    #[error("it does not link: {0}")]
    Link(String),
    #[error("it does not start: {0}")]
    Start(String),
    /// The machine could not do it just now, which tells nothing about the component.
    #[serde(skip)]
    #[error("{0}")]
    Passing(String),
}

impl ComponentError {
    /// Whether the same component may be served when it is tried again.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Passing(_))
    }
}

impl Component {
    /// Maps and links `code`.
    ///
    /// Takes some milliseconds: not for an async thread.
    ///
    /// # Errors
    /// When it does not fit the engines, or what they offer to guests.
    pub fn link(engines: &Arc<Engines>, code: &Code) -> Result<Self, ComponentError> {
        let side = engines.side(code.label.kind);
        if code.label.engines != engines.id() {
            let reason = "the compiler's process is another version of tidegate";
            return Err(ComponentError::Compile(reason.into()));
        }
        // SAFETY: the compiler wrote these bytes, in a process of this program or of one
        // with the same engine: `Code` comes from such a process through a file that no
        // one else was ever handed, or from the cache, which shows by its key that it put
        // it there. Nobody writes to the file any more.
        let compiled =
            unsafe { wasmtime::component::Component::deserialize_file(&side.engine, code.path()) };
        let compiled = compiled.map_err(|e| ComponentError::Compile(format!("{e:#}")))?;
        // Without it the first instance pays for the image; it can fail where
        // the memory is not initialised statically, and then there is none.
        let _ = compiled.initialize_copy_on_write_image();

        let link = |e: wasmtime::Error| ComponentError::Link(format!("{e:#}"));
        let pre = side.linker.instantiate_pre(&compiled).map_err(link)?;
        let pre = match code.label.handler {
            Handler::P3 => ProxyPre::P3(p3::bindings::ServicePre::new(pre).map_err(link)?),
            Handler::P2 => ProxyPre::P2(p2::bindings::ProxyPre::new(pre).map_err(link)?),
        };
        let (digest, kind) = (code.label.component, code.label.kind);
        let initial_memory = AtomicUsize::new(0);
        Ok(Self { digest, kind, engines: engines.clone(), compiled, initial_memory, pre })
    }

    /// Compiles `bytes` in this process, without any limit, and links them: for tests and
    /// benches. What serves has a [`super::compile::Compiler`].
    ///
    /// # Errors
    /// When the bytes are not a component that this host can serve.
    pub fn compile_here(engines: &Arc<Engines>, bytes: &[u8]) -> Result<Self, ComponentError> {
        let (code, label) = compile(bytes)?;
        let code = Code::in_memory(&code, label);
        Self::link(engines, &code.map_err(|e| ComponentError::Compile(e.to_string()))?)
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
