//! The thread that advances the engines' epochs while guests run, and sleeps while none does.
//!
//! A tokio task cannot do this: on one core a guest that loops would keep the
//! tick, and so its own interruption, from ever running.

mod prompt;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

use super::share::Share;

/// How often a running guest is interrupted, so that timers and other tasks get their turn.
pub const TICK: Duration = Duration::from_millis(1);

/// How often while guests compute on all cores: everything else waits for one of them then.
const SHORT_TICK: Duration = Duration::from_micros(200);

/// Ticks without a running guest after which the thread parks: long enough that
/// steady traffic does not pay a wake-up per request.
const IDLE_TICKS: u32 = 100;

/// Owns the thread; dropping it ends it.
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    engines: Vec<Engine>,
    share: Arc<Share>,
    running: AtomicUsize,
    parked: AtomicBool,
    stop: AtomicBool,
}

/// Held while a guest runs; epochs advance as long as one is held.
pub struct Running<'a>(&'a Shared);

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left to give.
    pub fn start(engines: Vec<Engine>, share: Arc<Share>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            engines,
            share,
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let thread = thread::Builder::new().name("epochs".into()).spawn({
            let shared = shared.clone();
            move || {
                prompt::be_prompt();
                shared.tick();
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps epochs advancing until the guard is dropped.
    pub fn running(&self) -> Running<'_> {
        // The order against `parked` matters: either the thread sees the count
        // before it parks, or we see that it has parked. Both are SeqCst.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(&self.shared)
    }
}

/// The time from one tick to the next, as things are.
pub fn period(share: &Share) -> Duration {
    if share.is_saturated() { SHORT_TICK } else { TICK }
}

impl Shared {
    fn tick(&self) {
        let mut idle = 0;
        while !self.stop.load(Ordering::SeqCst) {
            if idle < IDLE_TICKS {
                thread::sleep(period(&self.share));
                // Before the deadlines are reached: who reaches one finds it counted.
                self.share.tick();
                for engine in &self.engines {
                    engine.increment_epoch();
                }
            } else {
                self.parked.store(true, Ordering::SeqCst);
                if self.running.load(Ordering::SeqCst) == 0 && !self.stop.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.parked.store(false, Ordering::SeqCst);
            }
            idle = match self.running.load(Ordering::SeqCst) {
                0 => idle + 1,
                _ => 0,
            };
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It sleeps for a tick at most, and cannot panic.
            let _ = thread.join();
        }
    }
}
