//! From a valid config to a running server, and back to nothing.

use std::io;
use std::process::ExitStatus;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::runtime::Handle;
use tracing::{error, info, warn};

use crate::acme::{self, Hurry, Office};
use crate::admin::{self, Admin};
use crate::certificates::{CaError, Certificates, LocalCa};
use crate::challenges::Challenges;
use crate::config::{AppName, Config, Problems};
use crate::control::{self, Asked, Hint, History, ManifestFile, Reloader};
use crate::crashes::Desk;
use crate::generation::{Builder, Credentials, Current, Fault};
use crate::guest::cache::Cache;
use crate::guest::{Compiler, Engines, PerfMap};
use crate::handover::{Estate, Failure, Predecessor, Program, Successor, Wish, Wishes};
use crate::metrics::Metrics;
use crate::ocsp::{self, Stapler};
use crate::server::{self, BindError, Bound, Given, Kept, Listeners};
use crate::shutdown::Shutdown;
use crate::systemd::{self, Activated};
use crate::traces::{self, Exporting};
use crate::users::UserFiles;

/// What is left of `drain_timeout` when the last answers are cut, so that the
/// process is gone within it.
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// What of that is left for the end of the process itself.
const VERY_LAST: Duration = Duration::from_millis(100);

/// How long the last spans may take, where there is as much of `drain_timeout` left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that runs.
pub struct Running {
    addresses: Vec<Bound>,
    current: Arc<Current>,
    /// Who follows the files has it: its end is that of the compilations under way.
    builder: Weak<Builder>,
    followers: Followers,
    exporting: Exporting,
    shutdown: Shutdown,
    /// The sockets, for the process after this one.
    kept: Kept,
    /// The process before this one.
    before: Option<Arc<Predecessor>>,
    /// Upgrades that operators ask for.
    upgrades: Arc<Wishes>,
}

/// Those who follow what is outside, and look at it at once when they are asked.
#[derive(Clone, Default)]
struct Followers {
    files: Hint,
    authority: Hurry,
    responders: ocsp::Hurry,
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
    #[error(transparent)]
    Admin(admin::BindError),
    #[error("cannot set up the WebAssembly engine: {0}")]
    Engine(String),
    #[error("cannot take the sockets that systemd passed: {0}")]
    Activation(io::Error),
    #[error("cannot take over: {0}")]
    TakeOver(io::Error),
    #[error("cannot serve: {0}")]
    Serve(io::Error),
}

/// What another process hands over: who that is, and what it has.
pub type HandedOver = (Arc<Predecessor>, Estate);

/// Starts serving `config`, with components that `compiler` compiles, and a map
/// of their code for `perf` if one is wanted. `progress` hears of
/// each app that is ready. What another process hands over is taken once everything is loaded.
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
    perf_map: PerfMap,
    handed_over: Option<HandedOver>,
    progress: impl Fn(&AppName),
) -> Result<Running, StartError> {
    let started = Instant::now();
    let shutdown = Shutdown::new();
    let (before, estate) = handed_over.unzip();
    let (config, manifest, parts) = tokio::task::spawn_blocking(move || {
        // Before anything is awaited: who waits until this serves, and then writes, is told from
        // who wrote what was read.
        let manifest = ManifestFile::new(config.path.clone());
        let parts = Parts::open(&config, compiler, perf_map, estate, &shutdown);
        (config, manifest, parts.map(|parts| (parts, shutdown)))
    })
    .await
    .map_err(|panic| StartError::Engine(panic.to_string()))?;
    let (parts, shutdown) = parts?;

    let state_dir = config.server.state_dir.clone();
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let built = parts.builder.build(1, config, parts.credentials, None, &[], progress).await;
    let fault = |fault: &Fault| format!("{}; its hosts answer 503", fault.problem);
    let faults: Vec<_> = built.faults.iter().map(fault).collect();
    for fault in &faults {
        error!("{fault}");
    }
    let (apps, warnings) = (built.generation.apps.len(), built.generation.config.warnings.clone());
    let current = Arc::new(Current::new(built.generation));

    // Before the first handshake.
    let followers = Followers::default();
    let responders = followers.responders.clone();
    let stapler = Stapler::open(state_dir.clone(), Arc::clone(&current), responders).await;
    let addresses: Vec<_> = parts.listeners.addresses().collect();
    let challenges = Arc::new(Challenges::default());
    let builder = Arc::clone(&parts.builder);
    let stats = builder.stats();
    shutdown.spawn(Arc::clone(stats).watch(shutdown.clone()));
    if let Some(before) = &before {
        before.relieve().await.map_err(StartError::TakeOver)?;
        let (before, shutdown) = (Arc::clone(before), shutdown.clone());
        shutdown.clone().spawn(async move {
            tokio::select! {
                () = before.follow() => {}
                () = shutdown.begun() => {}
            }
        });
    }
    let (spans, exporting) = traces::start(Arc::clone(&stats.clients));
    let (serving, proofs) = (Arc::clone(&current), Arc::clone(&challenges));
    let mut kept = server::serve(parts.listeners, serving, proofs, stats, spans.clone(), &shutdown)
        .map_err(StartError::Serve)?;
    let reloader =
        Reloader::new(manifest, Arc::clone(&current), parts.builder, shutdown.tasks().clone());
    let history = Arc::new(History::default());
    history.started(started.elapsed(), faults, warnings);
    let hint = followers.files.clone();
    shutdown.spawn(control::run(reloader, hint, Arc::clone(&history), shutdown.clone()));
    let news = followers.files.clone();
    let office = Office {
        state_dir,
        current: Arc::clone(&current),
        challenges,
        published: Box::new(move || news.give()),
        hurry: followers.authority.clone(),
    };
    shutdown.spawn(acme::run(office, shutdown.clone()));
    shutdown.spawn(stapler.run(shutdown.clone()));
    let upgrades = Arc::new(Wishes::default());
    if let Some(listener) = parts.admin {
        let asking = followers.clone();
        let admin = Admin {
            started: OffsetDateTime::now_utc(),
            listeners: addresses.clone(),
            current: Arc::clone(&current),
            metrics: Arc::new(Metrics {
                current: Arc::clone(&current),
                builder: Arc::clone(&builder),
                spans,
            }),
            serving: Handle::current(),
            history,
            reload: Box::new(move || asking.look()),
            upgrades: Arc::clone(&upgrades),
        };
        admin::serve(listener, Arc::new(admin), &mut kept, &shutdown).map_err(StartError::Serve)?;
    }
    systemd::watchdog(&shutdown);
    systemd::ready(&format!("serving {apps} apps, generation 1"));
    info!(generation = 1, apps, elapsed = ?started.elapsed(), "serving");
    Ok(Running {
        addresses,
        current,
        builder: Arc::downgrade(&builder),
        followers,
        exporting,
        shutdown,
        kept,
        before,
        upgrades,
    })
}

impl From<admin::BindError> for StartError {
    fn from(error: admin::BindError) -> Self {
        match error {
            admin::BindError::Token(problem) => Self::Config(problem.into()),
            other => Self::Admin(other),
        }
    }
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

    /// Resolves when an operator asks for an upgrade at the admin address.
    pub async fn asked_to_upgrade(&self) -> Wish {
        self.upgrades.next().await
    }

    /// Asks for a look at the files, for certificates that were not to be had before, and for what
    /// responders say of those that are there.
    pub fn reload(&self) {
        // Whoever asked by a signal finds the outcome in the log.
        drop(self.followers.look());
    }

    /// Stops accepting, and waits for what runs to finish. False when some of
    /// it was still running at the end of `drain_timeout`.
    pub async fn stop(mut self) -> bool {
        systemd::stopping("finishing the requests that run");
        info!(timeout = ?self.drain_timeout(), "stopping");
        self.shutdown.begin();
        self.drained().await
    }

    /// Starts `program` to take this process' place, and returns once it has loaded everything. Until
    /// [`Running::hand_over`] nothing has changed for clients. Dropping the future ends it.
    ///
    /// # Errors
    /// When it does not get ready, or may not be started now.
    pub async fn upgrade(&self, program: &Program) -> Result<Successor, Failure> {
        if std::process::id() == 1 {
            return Err(Failure::First);
        }
        if self.before.as_ref().is_some_and(|before| !before.has_ended()) {
            return Err(Failure::UnderWay);
        }
        let limit = self.current.load().config.server.upgrade_timeout;
        let mut estate = self.kept.estate().map_err(Failure::Sockets)?;
        let drained = self.builder.upgrade().map_or(Vec::new(), |it| it.tenants().drained());
        estate.drained = drained.iter().map(ToString::to_string).collect();
        let successor = program.start(estate, limit).await?;
        // What the new one says counts for systemd once this has said whose word it is.
        systemd::main_process(successor.pid());
        let left = self.kept.leave().map_err(Failure::Sockets);
        if let Err(failure) = left.and_then(|()| successor.take_over()) {
            self.kept.own_files(true);
            systemd::main_process(std::process::id());
            // It would take our silence for our end, and serve beside us.
            successor.dismiss();
            return Err(failure);
        }
        Ok(successor)
    }

    /// Leaves the sockets to the process that has taken them over, and waits for what runs to
    /// finish. False when some of it was still running at the end of `drain_timeout`.
    pub async fn hand_over(mut self, successor: &mut Successor) -> bool {
        let pid = successor.pid();
        info!(pid, timeout = ?self.drain_timeout(), "handed over, finishing the requests that run");
        self.shutdown.hand_over();
        tokio::select! {
            drained = self.drained() => drained,
            ended = successor.ended() => {
                self.outlived(pid, ended);
                false
            }
        }
    }

    /// The process that has taken over has ended, and this one does with what it had still to
    /// finish: only without this one does a service manager start another.
    fn outlived(&self, successor: u32, ended: io::Result<ExitStatus>) {
        let (pid, unfinished) = (successor, self.shutdown.running());
        match ended {
            Ok(status) if status.success() => {
                info!(pid, unfinished, "the new process has stopped, and this one does");
            }
            Ok(status) => {
                error!(pid, %status, unfinished, "the new process has ended, and this one does");
            }
            Err(error) => {
                error!(pid, %error, unfinished, "the new process is lost, and this one ends")
            }
        }
    }

    /// Resolves when the process before this one was told to stop, which is meant for both.
    pub async fn told_to_stop(&self) {
        match &self.before {
            Some(before) => before.told_to_stop().await,
            None => std::future::pending().await,
        }
    }

    fn drain_timeout(&self) -> Duration {
        self.current.load().config.server.drain_timeout
    }

    async fn drained(&mut self) -> bool {
        let (timeout, began) = (self.drain_timeout(), Instant::now());
        let drained = self.shutdown.drained(timeout.saturating_sub(LAST_MOMENT)).await;
        // After the requests, whose spans are the last.
        let left = timeout.saturating_sub(began.elapsed()).saturating_sub(VERY_LAST);
        self.exporting.stop(left.min(FLUSH_TIMEOUT)).await;
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

impl Followers {
    /// Has all of them look, and returns what tells what became of the files.
    fn look(&self) -> Asked {
        self.authority.ask();
        self.responders.ask();
        self.files.ask_and_wait()
    }
}

/// What has to be read, bound or reserved before anything is built.
struct Parts {
    listeners: Listeners,
    /// Absent where operators ask nothing.
    admin: Option<admin::Listener>,
    credentials: Credentials,
    builder: Arc<Builder>,
}

impl Parts {
    fn open(
        config: &Config,
        compiler: Compiler,
        perf_map: PerfMap,
        estate: Option<Estate>,
        shutdown: &Shutdown,
    ) -> Result<Self, StartError> {
        let ca = Arc::new(LocalCa::open(&config.server.state_dir)?);
        let certificates = Certificates::load(config, &ca).map_err(Problems)?;
        let users = UserFiles::load(config, shutdown.tasks().clone()).map_err(Problems)?;
        let credentials =
            Credentials { certificates: Arc::new(certificates), users: Arc::new(users) };
        // Before anything is compiled: clients wait in the backlog meanwhile.
        let drained = estate.as_ref().map_or(Vec::new(), |estate| estate.drained.clone());
        let (activated, mut given) = match estate {
            Some(estate) => of_two_kinds(estate),
            None => (systemd::activated().map_err(StartError::Activation)?, Given::default()),
        };
        let admin = admin::Listener::bind(&config.admin, &mut given)?;
        let listeners = Listeners::bind(&config.server, activated, given)?;
        let engines =
            Engines::for_perf(perf_map).map_err(|e| StartError::Engine(format!("{e:#}")))?;
        let cache = Cache::open(&config.server.state_dir)
            .inspect_err(|error| warn!(%error, "compiled code is not kept: each start compiles"))
            .ok();
        let tasks = shutdown.tasks().clone();
        let crashes = Desk::new(&config.server.state_dir, tasks.clone());
        let builder = Builder::new(engines, compiler, cache, Some(crashes), tasks);
        for app in drained.iter().filter_map(|app| AppName::parse(app)) {
            builder.tenants().drain(&app).set(true);
        }
        if let Some(address) = admin.as_ref().and_then(|admin| admin.address.tcp()) {
            builder.keep_guests_from(address);
        }
        Ok(Self { listeners, admin, credentials, builder })
    }
}

/// The sockets of another process: those of the service manager, and those that it has bound itself.
fn of_two_kinds(mut estate: Estate) -> (Vec<Activated>, Given) {
    let activated = estate.sockets.extract_if(.., |passed| passed.label.configured.is_none());
    let activated = activated
        .map(|passed| Activated { name: passed.label.name, socket: passed.socket })
        .collect();
    (activated, Given::new(estate))
}
