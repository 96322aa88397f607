//! What all instances of an app are made from, and one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi_http::handler::Proxy;

use super::fault::reason;
use super::roster::{Member, Roster};
use super::{Drain, Failure};
use crate::config::Limits;
use crate::crashes::{Phase, Scene, Witness};
use crate::guest::budget::Exhausted;
use crate::guest::memory::{Account, Bounds, Room};
use crate::guest::pace::Pace;
use crate::guest::profile::Profiler;
use crate::guest::store::Template;
use crate::guest::{Component, State};
use crate::limit::{Limit, Tally};
use crate::request_id::RequestId;
use crate::stats::{self, Gone};

/// How long a proof waits for room before it tries again.
const NEXT_PROOF: Duration = Duration::from_millis(50);

/// A component with the settings of one app: what its pool makes instances of.
pub struct Blueprint {
    pub component: Arc<Component>,
    pub template: Template,
    pub limits: Limits,
    /// Whether the app takes requests.
    pub drain: Arc<Drain>,
    /// What the app's instances take of the node's memory, in this pool and in those before it.
    pub memory: Arc<Account>,
    /// How often the app reached its limits, in this pool and in those before it.
    pub tally: Arc<Tally>,
    /// What became of the app's instances, in this pool and in those before it.
    pub stats: Arc<stats::App>,
    pub profiler: Option<Arc<Profiler>>,
    /// Absent where no bundles are made of its crashes.
    pub crashes: Option<Witness>,
    /// Its clients are its developers, and may see how its guests fail.
    pub dev: bool,
    /// The generation that made the pool, for names in logs and profiles.
    pub generation: u64,
    /// Everything the pool spawns; shutdown waits for it.
    pub tasks: TaskTracker,
    /// Idle instances leave at once, as the pool serves no more.
    pub evicting: AtomicBool,
    /// Its instances, for those who look.
    pub roster: Arc<Roster>,
}

/// A store and the instance in it.
pub struct Instance {
    /// From 1, in the order they were made by their pool.
    pub id: u64,
    pub store: Store<State>,
    pub proxy: Proxy,
    /// What drives its guest.
    pub pace: Arc<Pace>,
    /// Why it is gone, were it to go now.
    pub gone: Gone,
    pub blueprint: Arc<Blueprint>,
    /// After the store, so given back when that is gone.
    pub room: Room,
    /// Itself as others see it, to the last.
    pub member: Arc<Member>,
}

/// Why there is no instance.
enum Unmade {
    /// There is no room for it; that is tallied.
    Busy,
    Failed(wasmtime::Error, Box<Scene>),
}

impl Instance {
    /// Makes a store and instantiates the component in it.
    ///
    /// # Errors
    /// `Busy` when there is no memory or no room in the engine left; else the guest's own fault.
    pub async fn new(blueprint: &Arc<Blueprint>) -> Result<Self, Failure> {
        let member = blueprint.roster.enter();
        let begun = Instant::now();
        let made = Self::make(blueprint, &member).await.map_err(|unmade| match unmade {
            Unmade::Busy => Failure::busy(),
            Unmade::Failed(error, scene) => {
                blueprint.failed(Phase::Start, (member.id, None), &error, || *scene)
            }
        })?;
        blueprint.stats.instantiate.observe(begun.elapsed());
        Ok(made)
    }

    /// Makes one and drops it: it counts for nothing, and its failure is the caller's to tell.
    ///
    /// Waits where there is no room for it now.
    pub async fn prove(blueprint: &Arc<Blueprint>) -> Result<(), Failure> {
        loop {
            match Self::make(blueprint, &Member::unseen()).await {
                Ok(_) => return Ok(()),
                Err(Unmade::Busy) => tokio::time::sleep(NEXT_PROOF).await,
                Err(Unmade::Failed(error, scene)) => {
                    blueprint.testify(Phase::Start, 0, &error, || *scene);
                    return Err(Failure::Guest(reason(&error).into()));
                }
            }
        }
    }

    async fn make(blueprint: &Arc<Blueprint>, member: &Arc<Member>) -> Result<Self, Unmade> {
        loop {
            match Self::try_to_make(blueprint, member).await {
                Err(Unmade::Failed(error, _)) if error.is::<PoolConcurrencyLimitError>() => {
                    if !blueprint.memory.node().make_room().await {
                        blueprint.tally.reached(Limit::Instances, error);
                        return Err(Unmade::Busy);
                    }
                }
                made => return made,
            }
        }
    }

    async fn try_to_make(blueprint: &Arc<Blueprint>, member: &Arc<Member>) -> Result<Self, Unmade> {
        let id = member.id;
        let Blueprint { component, memory, tally, limits, .. } = &**blueprint;
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let bounds = Bounds { instance: bytes(limits.memory), app: bytes(limits.app_memory) };
        let expected = component.initial_memory.load(Ordering::Relaxed).min(bounds.instance);
        let on = (&component.engines, component.kind);
        let room = Room::take(memory, bounds, tally, expected, on).await;
        let room = room.map_err(|_| Unmade::Busy)?;

        let profiler = blueprint.profiler.as_ref().filter(|_| id > 0);
        let recording = profiler.and_then(|profiler| profiler.start(id));
        let template = &blueprint.template;
        let limiter = room.limiter();
        let mut store =
            State::store(component, template, blueprint.generation, id, recording, limiter);
        let pace = store.data().pace.clone();
        let proxy = match component.instantiate(&mut store).await {
            Ok(proxy) => proxy,
            Err(_) if room.was_short() => return Err(Unmade::Busy),
            Err(error) => {
                let lines = store.data().output.last_lines();
                let scene = Scene { lines, memory: room.used(), ..Scene::default() };
                return Err(Unmade::Failed(error, Box::new(scene)));
            }
        };
        component.initial_memory.store(room.used(), Ordering::Relaxed);
        member.made(room.gauge(), pace.clone());
        let (blueprint, member) = (blueprint.clone(), member.clone());
        Ok(Self { id, store, proxy, pace, gone: Gone::Failed, blueprint, room, member })
    }

    /// Tells that its guest failed, in `request` if that is known, while it worked on so many;
    /// and makes the failure that requests see.
    pub fn failed(
        &mut self,
        request: Option<RequestId>,
        in_flight: usize,
        error: &wasmtime::Error,
    ) -> Failure {
        self.gone = if error.is::<Exhausted>() { Gone::Timeout } else { Gone::Failed };
        if error.downcast_ref() == Some(&Trap::StackOverflow) {
            self.room.stack_was_filled();
        }
        if let Some(backtrace) = error.downcast_ref() {
            self.store.data_mut().sampler.failed(request, backtrace);
        }
        let Self { id, store, member, blueprint, room, .. } = self;
        let state = store.data_mut();
        let scene = || Scene {
            age: member.age(),
            served: member.served(),
            in_flight,
            memory: room.used(),
            head: request.and_then(|request| state.budget.take_head(request)),
            lines: state.output.last_lines(),
        };
        blueprint.failed(Phase::Request, (*id, request), error, scene)
    }

    /// Whether it may take another request after those it has served.
    pub fn is_reusable(&mut self) -> bool {
        self.store.data_mut().count_holdings().is_ok()
            && !self.member.is_killed()
            && !self.blueprint.uses_up(self.member.served())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // One that was made as a proof counts for nothing.
        if self.id > 0 {
            self.blueprint.stats.gone(match self.gone {
                Gone::Idle | Gone::UsedUp if self.member.is_killed() => Gone::Killed,
                Gone::Idle if self.blueprint.evicting.load(Ordering::Relaxed) => Gone::Replaced,
                why => why,
            });
        }
        self.member.leaves();
        self.store.data_mut().end_calls();
        self.room.leaves(self.store.data_mut().holdings());
        // What drives it has settled its requests by now.
        self.store.data_mut().sampler.finish();
    }
}

impl Blueprint {
    /// The app's name.
    pub fn app(&self) -> &str {
        &self.template.app
    }

    /// Whether an instance that has taken so many requests takes no other.
    pub fn uses_up(&self, served: u64) -> bool {
        served >= self.limits.max_requests_per_instance.get() as u64
    }
}
