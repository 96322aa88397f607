//! Compilations under way. They outlast the build that began them, so that none waits for a slow one.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::info;

use super::blocking;
use super::files;
use crate::config::Compile;
use crate::guest::cache::Cache;
use crate::guest::component::Digest;
use crate::guest::{Compiler, Component, ComponentError, Engines};

/// A compilation that takes longer is slow: the build goes on without it, and a later one takes it.
const SLOW: Duration = Duration::from_secs(3);

/// How much longer a start waits for it: a minute in all.
const START: Duration = Duration::from_secs(60).saturating_sub(SLOW);

/// Slow compilations that others are let past. With one more, what comes next has to wait.
const MAX_SLOW: usize = 1;

/// What was compiled, or why not.
pub type Compiled = Result<Arc<Component>, ComponentError>;

/// All compilations of the process.
pub struct Compilations {
    parts: Arc<Parts>,
    tasks: TaskTracker,
    under_way: Mutex<HashMap<Order, Compilation>>,
}

/// What is compiled: the content of a file, within limits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Order {
    pub digest: Digest,
    pub limits: Compile,
}

/// What each compilation needs.
struct Parts {
    engines: Arc<Engines>,
    compiler: Compiler,
    cache: Option<Arc<Cache>>,
    /// One permit for each core that may compile: all but one.
    cores: Arc<Semaphore>,
    /// Permits of slow ones.
    slow: Semaphore,
    finished: Notify,
}

struct Compilation {
    state: watch::Receiver<State>,
    /// Dropping this ends the compilation.
    _task: AbortOnDrop,
}

#[derive(Clone)]
enum State {
    Begun,
    Slow,
    Finished(Compiled),
}

impl Compilations {
    pub fn new(
        engines: Arc<Engines>,
        compiler: Compiler,
        cache: Option<Arc<Cache>>,
        tasks: TaskTracker,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let parts = Parts {
            engines,
            compiler,
            cache,
            cores: Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))),
            slow: Semaphore::new(MAX_SLOW),
            finished: Notify::new(),
        };
        Self { parts: Arc::new(parts), tasks, under_way: Mutex::default() }
    }

    /// The component that `order` asks for, which the file at `path` held a moment ago.
    /// Nothing where it takes long, which is longer at the start of the process: it goes on,
    /// and [`Self::finished`] tells when to ask again.
    pub async fn get(&self, order: Order, path: &Path, is_start: bool) -> Option<Compiled> {
        let mut state = self.begin(order, path);
        // Where it panics, or everything ends, there is no next state.
        let _ = state.wait_for(|state| !matches!(state, State::Begun)).await;
        if is_start {
            let finished = |state: &State| matches!(state, State::Finished(_));
            let _ = timeout(START, state.wait_for(finished)).await;
        }
        let settled = state.borrow().clone();
        match settled {
            State::Finished(compiled) => Some(compiled),
            State::Slow if state.has_changed().is_ok() => None,
            State::Slow | State::Begun => {
                Some(Err(ComponentError::Passing("its compilation was given up".into())))
            }
        }
    }

    /// Resolves when a slow compilation is finished.
    pub async fn finished(&self) {
        self.parts.finished.notified().await;
    }

    /// Forgets what is finished, and ends what nobody wants any more.
    pub fn keep(&self, wanted: &[Order]) {
        let is_finished = |it: &Compilation| matches!(*it.state.borrow(), State::Finished(_));
        self.lock().retain(|order, it| wanted.contains(order) && !is_finished(it));
    }

    fn begin(&self, order: Order, path: &Path) -> watch::Receiver<State> {
        let mut under_way = self.lock();
        if let Some(known) = under_way.get(&order) {
            return known.state.clone();
        }
        let (sender, state) = watch::channel(State::Begun);
        let task = compile(self.parts.clone(), order.clone(), path.to_owned(), sender);
        let task = AbortOnDrop(self.tasks.spawn(task).abort_handle());
        under_way.insert(order, Compilation { state: state.clone(), _task: task });
        state
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Order, Compilation>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One compilation, from the wait for a core on.
async fn compile(parts: Arc<Parts>, order: Order, path: PathBuf, state: watch::Sender<State>) {
    // Nobody closes it.
    let Ok(mut cores) = parts.cores.clone().acquire_owned().await else { return };
    take_idle(&parts.cores, &mut cores);
    let mut compiling = pin!(parts.compile(&order, &path, cores.num_permits()));
    let compiled = tokio::select! {
        compiled = &mut compiling => compiled,
        () = sleep(SLOW) => {
            let lane = parts.slow.try_acquire();
            if lane.is_ok() {
                drop(cores);
            }
            state.send_replace(State::Slow);
            info!(component = %path.display(), "a compilation takes long, nothing else waits for it");
            compiling.await
        }
    };
    let before = state.send_replace(State::Finished(compiled));
    if matches!(before, State::Slow) {
        parts.finished.notify_one();
    }
}

/// Takes the cores that nobody waits for.
fn take_idle(all: &Arc<Semaphore>, mine: &mut OwnedSemaphorePermit) {
    let idle = u32::try_from(all.available_permits()).unwrap_or(0);
    if let Ok(more) = all.clone().try_acquire_many_owned(idle) {
        mine.merge(more);
    }
}

impl Parts {
    async fn compile(&self, order: &Order, path: &Path, threads: usize) -> Compiled {
        let started = Instant::now();
        let file = path.to_owned();
        let file = blocking(move || files::open(&file)).await;
        let file = file.map_err(|error| ComponentError::Passing(error.to_string()))?;
        let code = match self.compiler.compile(file, &order.limits, threads).await {
            Ok(code) => code,
            Err(error) => return Err(self.refuse(order, error).await),
        };
        if code.label.component != order.digest {
            return Err(ComponentError::Passing("it changed while it was read".into()));
        }
        let (engines, cache) = (self.engines.clone(), self.cache.clone());
        let component = blocking(move || {
            let code = match cache {
                Some(cache) => cache.keep(code),
                None => code,
            };
            Component::link(&engines, &code)
        });
        let component = component.await?;
        info!(component = %path.display(), elapsed = ?started.elapsed(), "compiled a component");
        Ok(Arc::new(component))
    }

    /// Remembers that a component is too dear.
    async fn refuse(&self, order: &Order, error: ComponentError) -> ComponentError {
        if let (Some(cache), &ComponentError::TooDear { limit, .. }) = (&self.cache, &error) {
            let (cache, order, engines) = (cache.clone(), order.clone(), self.engines.id());
            blocking(move || cache.refuse(&engines, &order.digest, &order.limits, limit)).await;
        }
        error
    }
}
