//! What a guest did wrong, and who is told of it: the log, its requests, a crash bundle.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::warn;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::Failure;
use super::instance::Blueprint;
use crate::crashes::{Crash, Kind, Phase, Scene};
use crate::guest::budget::Exhausted;
use crate::guest::last_lines::Line;
use crate::guest::output::Source;
use crate::guest::trace::{Frame, frames};
use crate::guest::trapped;
use crate::limit::Limit;
use crate::request_id::RequestId;

/// That a guest failed, in words that tell nothing of its inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub what: Cow<'static, str>,
    /// Only in an app in `dev`.
    pub insight: Option<Arc<Insight>>,
}

/// How a guest failed, for its developer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Insight {
    pub reason: String,
    /// The innermost call first.
    pub frames: Vec<Frame>,
    /// What it has written last.
    pub lines: Vec<Line>,
}

impl<T: Into<Cow<'static, str>>> From<T> for Fault {
    fn from(what: T) -> Self {
        Self { what: what.into(), insight: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Blueprint {
    /// Tells what a guest did wrong, and makes the failure that its requests see: one of an
    /// instance, in a request if that is known. `scene` is asked where somebody wants to know.
    ///
    /// An exit with code 0 is a guest that will not be used again, and no fault. One that has
    /// used up its `cpu_time` is counted as that.
    pub fn failed(
        &self,
        phase: Phase,
        (instance, request): (u64, Option<RequestId>),
        error: &wasmtime::Error,
        scene: impl FnOnce() -> Scene,
    ) -> Failure {
        if let Some(how) = trapped::kind(error) {
            self.stats.trapped(how);
        }
        if let Some(I32Exit(0)) = error.downcast_ref() {
            return Failure::Guest("the guest exited".into());
        }
        if let Some(exhausted) = error.downcast_ref::<Exhausted>() {
            match exhausted.request {
                Some(request) => self.tally.reached(Limit::CpuTime, request),
                None => self.tally.reached(Limit::CpuTime, "the start of an instance"),
            }
            return Failure::Exhausted(self.testify(phase, instance, error, scene));
        }
        let what = match phase {
            Phase::Start => "the guest could not start",
            Phase::Request => "the guest failed",
        };
        if self.tally.may_warn() {
            let (app, generation) = (self.app(), self.generation);
            let request = request.map(tracing::field::display);
            let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
            let reason = reason(error);
            warn!(app, generation, instance, request, backtrace, "{what}: {reason}");
        }
        let insight = self.testify(phase, instance, error, scene);
        Failure::Guest(Fault { what: what.into(), insight })
    }

    /// Has a bundle made of a crash, if it is one of those that get one, and says what a
    /// developer may see of it.
    pub fn testify(
        &self,
        phase: Phase,
        instance: u64,
        error: &wasmtime::Error,
        scene: impl FnOnce() -> Scene,
    ) -> Option<Arc<Insight>> {
        let witness = self.crashes.as_ref().filter(|witness| witness.may_report());
        if witness.is_none() && !self.dev {
            return None;
        }
        let scene = scene();
        let (reason, frames) = (reason(error), frames(error));
        let insight = self.dev.then(|| {
            let (reason, frames, lines) = (reason.clone(), frames.clone(), scene.lines.clone());
            Arc::new(Insight { reason, frames, lines })
        });
        if let Some(witness) = witness {
            witness.report(Crash {
                time: SystemTime::now(),
                kind: kind(error),
                phase,
                reason,
                frames,
                generation: self.generation,
                instance,
                scene,
                limits: self.limits.clone(),
            });
        }
        insight
    }

    /// Names the sources in what a developer may see, off the async threads.
    pub async fn locate(&self, failure: &mut Failure) {
        let (Failure::Exhausted(insight) | Failure::Guest(Fault { insight, .. })) = failure else {
            return;
        };
        let (Some(shown), Some(witness)) = (insight.as_ref(), self.crashes.clone()) else { return };
        let mut seen = Insight::clone(shown);
        let named = tokio::task::spawn_blocking(move || {
            witness.locate(&mut seen.frames);
            seen
        });
        if let Ok(named) = named.await {
            *insight = Some(Arc::new(named));
        }
    }

    /// Logs a guest that returned before it had finished its response.
    pub fn unfinished(&self, instance: u64, request: RequestId) {
        if self.tally.may_warn() {
            let app = self.app();
            warn!(app, instance, %request, "the guest returned before its response was finished");
        }
    }
}

/// Why a guest failed, without the calls that were under way.
///
/// Not `{error:?}`: that holds the host's own backtrace where RUST_BACKTRACE is set.
pub fn reason(error: &wasmtime::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    let causes: Vec<_> = causes.filter(|cause| !cause.contains("wasm backtrace:")).collect();
    causes.join(": ")
}

fn kind(error: &wasmtime::Error) -> Kind {
    if error.is::<Exhausted>() {
        Kind::CpuTime
    } else if error.is::<I32Exit>() {
        Kind::Exit
    } else if error.is::<Trap>() {
        Kind::Trap
    } else {
        Kind::Error
    }
}

/// Logs a guest that answered with an error code, and makes the failure that its request sees.
pub fn declined(
    source: &Source,
    instance: u64,
    request: RequestId,
    code: &dyn fmt::Debug,
) -> Failure {
    if source.tally.may_warn() {
        let app = &*source.app;
        warn!(app, instance, %request, "the guest answered with the error {code:?}");
    }
    Failure::Guest("the guest answered with an error".into())
}
