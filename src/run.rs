//! From a valid config to a running server, and back to nothing.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::certificates::{CaError, Certificates, LocalCa};
use crate::config::{AppName, Config, Problems};
use crate::control::{self, Hint, Reloader};
use crate::generation::{Builder, Current};
use crate::guest::cache::Cache;
use crate::guest::{Compiler, Engines};
use crate::limit::Tally;
use crate::server::{self, BindError, Bound, Listeners};
use crate::shutdown::Shutdown;
use crate::systemd;

/// What is left of `drain_timeout` when the last answers are cut, so that the
/// process is gone within it.
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// A server that runs.
pub struct Running {
    addresses: Vec<Bound>,
    current: Arc<Current>,
    hint: Hint,
    shutdown: Shutdown,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator's files are wrong; each problem names its place.
    #[error(transparent)]
    Config(#[from] Problems),
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot set up the WebAssembly engine: {0}")]
    Engine(String),
    #[error("cannot take the sockets that systemd passed: {0}")]
    Activation(io::Error),
    #[error("cannot serve: {0}")]
    Serve(io::Error),
}

/// Starts serving `config`, with components that `compiler` compiles. `progress` hears of
/// each app that is ready.
///
/// A component that cannot be served does not stop the start: its hosts answer
/// 503 until the right file is there.
///
/// # Errors
/// When certificates are wrong, an address cannot be bound, or the state
/// directory or the engine cannot be had.
pub async fn start(
    config: Config,
    compiler: Compiler,
    progress: impl Fn(&AppName),
) -> Result<Running, StartError> {
    let started = Instant::now();
    let shutdown = Shutdown::new();
    let (config, parts) = tokio::task::spawn_blocking(move || {
        let parts = Parts::open(&config, compiler, &shutdown);
        (config, parts.map(|parts| (parts, shutdown)))
    })
    .await
    .map_err(|panic| StartError::Engine(panic.to_string()))?;
    let (parts, shutdown) = parts?;

    let manifest = config.path.clone();
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let built = parts.builder.build(1, config, parts.certificates, None, &[], progress).await;
    for fault in &built.faults {
        error!("{}; its hosts answer 503", fault.problem);
    }
    let apps = built.generation.apps.len();
    let current = Arc::new(Current::new(built.generation));

    let addresses: Vec<_> = parts.listeners.addresses().collect();
    server::serve(parts.listeners, Arc::clone(&current), Tally::new(None), &shutdown)
        .map_err(StartError::Serve)?;
    let reloader =
        Reloader::new(manifest, Arc::clone(&current), parts.builder, shutdown.tasks().clone());
    let hint = Hint::default();
    shutdown.spawn(control::run(reloader, hint.clone(), shutdown.clone()));
    systemd::watchdog(&shutdown);
    systemd::ready(&format!("serving {apps} apps, generation 1"));
    info!(generation = 1, apps, elapsed = ?started.elapsed(), "serving");
    Ok(Running { addresses, current, hint, shutdown })
}

impl Running {
    /// What is listened on.
    pub fn addresses(&self) -> &[Bound] {
        &self.addresses
    }

    /// The generation that serves.
    pub fn current(&self) -> &Current {
        &self.current
    }

    /// Asks for a look at the files.
    pub fn reload(&self) {
        self.hint.ask();
    }

    /// Stops accepting, and waits for what runs to finish. False when some of
    /// it was still running at the end of `drain_timeout`.
    pub async fn stop(self) -> bool {
        systemd::stopping("finishing the requests that run");
        let timeout = self.current.load().config.server.drain_timeout;
        info!(?timeout, "stopping");
        self.shutdown.begin();
        let limit = timeout.saturating_sub(LAST_MOMENT);
        let drained = self.shutdown.drained(limit).await;
        match drained {
            true => info!("stopped"),
            false => warn!(
                unfinished = self.shutdown.running(),
                "stopped before all was finished: drain_timeout is over"
            ),
        }
        drained
    }
}

/// What has to be read, bound or reserved before anything is built.
struct Parts {
    listeners: Listeners,
    certificates: Arc<Certificates>,
    builder: Arc<Builder>,
}

impl Parts {
    fn open(config: &Config, compiler: Compiler, shutdown: &Shutdown) -> Result<Self, StartError> {
        let ca = Arc::new(LocalCa::open(&config.server.state_dir)?);
        let certificates = Certificates::load(config, &ca).map_err(Problems)?;
        // Before anything is compiled: clients wait in the backlog meanwhile.
        let activated = systemd::activated().map_err(StartError::Activation)?;
        let listeners = Listeners::bind(&config.server, activated)?;
        let engines = Engines::new().map_err(|e| StartError::Engine(format!("{e:#}")))?;
        let cache = Cache::open(&config.server.state_dir)
            .inspect_err(|error| warn!(%error, "compiled code is not kept: each start compiles"))
            .ok();
        Ok(Self {
            listeners,
            certificates: Arc::new(certificates),
            builder: Builder::new(engines, compiler, cache, shutdown.tasks().clone()),
        })
    }
}
