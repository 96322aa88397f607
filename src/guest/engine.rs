//! The two wasmtime engines and what guests may import on each.
//!
//! Concurrency support costs every call a third more CPU and every instance a
//! quarter more, so components that cannot use it run on an engine without it.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::component::Linker;
use wasmtime::{
    Config, Engine, Instance, InstanceAllocationStrategy, Module, PoolingAllocationConfig,
    ProfilingStrategy, Store, WasmBacktraceDetails,
};

use super::State;
use super::code::FORMAT;
use super::component::Digest;
use super::heap;
use super::share::Share;
use super::ticker::{Running, Ticker};

/// Live instances that one engine has room for, over all apps.
///
/// Each memory reserves 4 GiB of address space (not of RAM), so this is what a
/// 47-bit address space holds with room to spare. Halved until it fits.
pub const MAX_LIVE_INSTANCES: u32 = 4096;

/// Fewer than this and the address space is too small to serve anything.
const MIN_LIVE_INSTANCES: u32 = 16;

/// Core instances per component instance: a Rust guest has four, the adapters of others a few more.
const CORE_INSTANCES: u32 = 6;

/// Bounds on one component, far above what compilers make.
const MAX_CORE_INSTANCES_PER_COMPONENT: u32 = 50;
const MAX_MEMORIES_PER_COMPONENT: u32 = 8;
const MAX_TABLES_PER_COMPONENT: u32 = 50;

/// Memory of a table, and of a stack, kept between instances: zeroing it costs less than
/// faulting it in again. It stays with each slot that was ever used, counted by nobody, so it
/// is what small guests need and no more.
const TABLE_KEEP_RESIDENT: usize = 8 << 10;
const STACK_KEEP_RESIDENT: usize = 16 << 10;

/// Ranges of memory that are returned to the system together. Until then slots keep their
/// component's code, see [`Engines::release`], and their memory, see [`super::lingering`].
/// With half of it a fresh instance is a twentieth dearer, with more it is not cheaper.
pub(super) const DECOMMIT_BATCH: usize = 32;

/// Frames of a backtrace and of a profile's samples, the innermost: a hello written in Rust has
/// a dozen, and a profile of which the outer ones are missing has no common root.
const MAX_FRAMES: NonZeroUsize = NonZeroUsize::new(64).expect("written here, not zero");

/// A core module with one memory of one page, in WebAssembly's binary format.
const ONE_PAGE: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\0\x01";

/// Which engine a component runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Calls one at a time: p2.
    Plain,
    /// Several calls at once: p3, and p2 components that import 0.3 interfaces.
    Concurrent,
}

/// Whether `perf` is told which function is where in compiled code.
///
/// That is by a file `/tmp/perf-PID.map`, where `perf` looks for it. Each component that is
/// loaded adds a line for each of its functions, and none is ever removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerfMap {
    Off,
    Written,
}

/// An engine and its linker.
pub struct Side {
    pub engine: Engine,
    pub linker: Linker<State>,
    one_page: Module,
}

/// Both engines, the thread that interrupts their guests, and the CPU that these share.
pub struct Engines {
    plain: Side,
    concurrent: Side,
    id: Digest,
    ticker: Ticker,
    pub share: Arc<Share>,
}

/// Both engines as far as they compile. They reserve no address space, and make the same code.
pub struct Settings {
    plain: Engine,
    concurrent: Engine,
}

impl Engines {
    /// Reserves address space and links everything a guest may import.
    ///
    /// # Errors
    /// When the address space is too small for even a few instances, or the
    /// system has no thread left.
    pub fn new() -> wasmtime::Result<Arc<Self>> {
        Self::for_perf(PerfMap::Off)
    }

    /// The same, with a map for `perf` where it is wanted.
    ///
    /// # Errors
    /// As of [`Engines::new`], and when the map cannot be written.
    pub fn for_perf(map: PerfMap) -> wasmtime::Result<Arc<Self>> {
        heap::keep();
        let mut instances = MAX_LIVE_INSTANCES;
        let (plain, concurrent) = loop {
            match (side(Kind::Plain, instances, map), side(Kind::Concurrent, instances, map)) {
                (Ok(plain), Ok(concurrent)) => break (plain, concurrent),
                (Err(e), _) | (_, Err(e)) if instances <= MIN_LIVE_INSTANCES => return Err(e),
                _ => instances /= 2,
            }
        };
        let share = Share::new(cores());
        let engines = vec![plain.engine.clone(), concurrent.engine.clone()];
        let ticker = Ticker::start(engines, share.clone())?;
        let id = id(&plain.engine, &concurrent.engine);
        Ok(Arc::new(Self { plain, concurrent, id, ticker, share }))
    }

    /// The same where compiled code fits: it depends on the version of the engine, on its
    /// settings, and on the machine.
    pub fn id(&self) -> Digest {
        self.id
    }

    pub fn side(&self, kind: Kind) -> &Side {
        match kind {
            Kind::Plain => &self.plain,
            Kind::Concurrent => &self.concurrent,
        }
    }

    /// Returns to the system what instances that are gone still hold: to be called before
    /// the last handle of their component goes, or its code stays mapped.
    ///
    /// wasmtime collects the slots of such instances in batches, one for each core, and has
    /// no call that returns an unfinished batch. Small instances of our own complete it.
    /// Batches of one need none of this, and make a fresh instance a fifth dearer.
    ///
    /// Takes a few milliseconds: not for an async thread.
    pub fn release(&self) {
        // wasmtime deals threads out to its batches in turn, at their first instance. Twice
        // round, in case that others get their turn in between.
        for _ in 0..2 * cores() {
            let complete = || [&self.plain, &self.concurrent].into_iter().for_each(Side::complete);
            // Where there is no thread to be had, the slots wait for the next instances.
            std::thread::scope(|scope| {
                drop(std::thread::Builder::new().spawn_scoped(scope, complete))
            });
        }
    }

    /// Held around guest code, so that it is interrupted.
    pub fn running(&self) -> Running<'_> {
        self.ticker.running()
    }
}

impl Settings {
    /// # Errors
    /// When this machine is none that code can be compiled for.
    pub fn new() -> wasmtime::Result<Self> {
        let engine = |kind| {
            let mut config = config(kind);
            // How instances are allocated is nothing to their code.
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            Engine::new(&config)
        };
        Ok(Self { plain: engine(Kind::Plain)?, concurrent: engine(Kind::Concurrent)? })
    }

    pub fn engine(&self, kind: Kind) -> &Engine {
        match kind {
            Kind::Plain => &self.plain,
            Kind::Concurrent => &self.concurrent,
        }
    }

    /// That of [`Engines::id`].
    pub fn id(&self) -> Digest {
        id(&self.plain, &self.concurrent)
    }
}

fn id(plain: &Engine, concurrent: &Engine) -> Digest {
    let mut hasher = Sha(Sha256::new_with_prefix(FORMAT.to_le_bytes()));
    plain.precompile_compatibility_hash().hash(&mut hasher);
    concurrent.precompile_compatibility_hash().hash(&mut hasher);
    Digest(hasher.0.finalize().into())
}

/// A hasher that keeps all 256 bits, for the engines' `impl Hash`.
struct Sha(Sha256);

impl Hasher for Sha {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes(std::array::from_fn(|i| digest[i]))
    }
}

impl Side {
    /// Completes this thread's batch of slots.
    pub(super) fn complete(&self) {
        for _ in 0..DECOMMIT_BATCH {
            let mut store = Store::new(&self.engine, ());
            // Without room there is nothing to complete: wasmtime returned all batches then.
            let _ = Instance::new(&mut store, &self.one_page, &[]);
        }
    }
}

/// Cores that this process may use: as many threads run guests.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn side(kind: Kind, instances: u32, map: PerfMap) -> wasmtime::Result<Side> {
    let mut config = config(kind);
    if map == PerfMap::Written {
        // Nothing to the code itself: that from the cache, and from the compiler's process, fits.
        config.profiler(ProfilingStrategy::PerfMap);
    }
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)));
    let engine = Engine::new(&config)?;
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if kind == Kind::Concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        super::client::add_to_linker(&mut linker)?;
    }
    let one_page = Module::from_binary(&engine, ONE_PAGE)?;
    Ok(Side { engine, linker, one_page })
}

fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * CORE_INSTANCES)
        .total_memories(instances + instances / 4)
        .total_tables(instances * 3)
        .total_stacks(instances)
        .total_gc_heaps(instances / 16)
        .max_core_instances_per_component(MAX_CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MAX_MEMORIES_PER_COMPONENT)
        .max_tables_per_component(MAX_TABLES_PER_COMPONENT)
        .max_memory_size(4 << 30)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .linear_memory_keep_resident(0)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT)
        .decommit_batch_size(DECOMMIT_BATCH);
    pool
}

/// All but how instances are allocated.
fn config(kind: Kind) -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(kind == Kind::Concurrent)
        .wasm_component_model_async(kind == Kind::Concurrent)
        // What a guest has touched of its stack would stay for good.
        .async_stack_zeroing(true)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .wasm_memory64(false)
        // Memory is bounded by pages of 64 KiB.
        .wasm_custom_page_sizes(false)
        .wasm_backtrace_max_frames(Some(MAX_FRAMES))
        // The default reads the environment, which is not ours to obey.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    if cfg!(target_env = "musl") {
        config.native_unwind_info(false);
    }
    config
}
