//! Samples of guest code: what was on the stack, when, and for which request.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use wasmtime::{FrameInfo, WasmBacktrace};

use crate::guest::trace::demangled;
use crate::request_id::RequestId;

/// Which store a sample is of, by the names that it has in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreId {
    pub generation: u64,
    pub instance: u64,
}

/// A bounded number of samples.
#[derive(Clone)]
pub struct Samples {
    most: usize,
    when_full: Full,
    taken: VecDeque<Sample>,
    /// Of those that are offered, one in so many is taken.
    stride: u32,
    offered: u32,
    functions: Functions,
}

/// What becomes of samples of which there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Every second one goes, and from then on half as many are taken: what is there covers all
    /// of the time, evenly.
    Thin,
    ForgetOldest,
}

/// What a guest was doing at one moment.
#[derive(Clone)]
pub struct Sample {
    pub at: Instant,
    pub store: StoreId,
    /// The request that the guest worked on; `None` for the start of an instance.
    pub request: Option<RequestId>,
    /// Functions by number, the innermost first.
    stack: Box<[u32]>,
}

/// The functions that occurred, numbered.
#[derive(Clone, Default)]
struct Functions {
    names: Vec<Arc<str>>,
    /// By their index in their module. Different modules use the same.
    known: HashMap<u32, Vec<Known>>,
}

#[derive(Clone)]
struct Known {
    module: Option<Arc<str>>,
    name: Option<Arc<str>>,
    number: u32,
}

impl Samples {
    /// At most so many.
    pub fn new(most: usize, when_full: Full) -> Self {
        Self {
            most,
            when_full,
            taken: VecDeque::new(),
            stride: 1,
            offered: 0,
            functions: Functions::default(),
        }
    }

    /// Adds what is on the stack now, if it is time for another.
    pub fn offer(&mut self, store: StoreId, request: Option<RequestId>, backtrace: &WasmBacktrace) {
        self.offered = self.offered.wrapping_add(1);
        if self.offered.is_multiple_of(self.stride) {
            self.add(store, request, backtrace);
        }
    }

    /// Adds what is on the stack now.
    pub fn add(&mut self, store: StoreId, request: Option<RequestId>, backtrace: &WasmBacktrace) {
        let functions = &mut self.functions;
        let stack = backtrace.frames().iter().map(|frame| functions.number(frame)).collect();
        self.push(Sample { at: Instant::now(), store, request, stack });
    }

    fn push(&mut self, sample: Sample) {
        if self.taken.len() >= self.most {
            match self.when_full {
                Full::Thin => {
                    let mut stays = true;
                    self.taken.retain(|_| {
                        stays = !stays;
                        stays
                    });
                    self.stride = self.stride.saturating_mul(2);
                }
                Full::ForgetOldest => drop(self.taken.pop_front()),
            }
        }
        self.taken.push_back(sample);
    }

    /// Drops those from before `time`; all, where it is `None`.
    pub fn forget_before(&mut self, time: Option<Instant>) {
        match time {
            Some(time) => {
                let old = self.taken.partition_point(|sample| sample.at < time);
                self.taken.drain(..old);
            }
            None => self.taken.clear(),
        }
        if self.taken.is_empty() {
            self.stride = 1;
        }
    }

    /// A copy of those in between.
    pub fn between(&self, from: Instant, to: Instant) -> Samples {
        let within = self.taken.iter().filter(|sample| (from..=to).contains(&sample.at));
        Samples { taken: within.cloned().collect(), ..self.without_samples() }
    }

    fn without_samples(&self) -> Samples {
        Samples { taken: VecDeque::new(), functions: self.functions.clone(), ..*self }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.taken.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// How many times the interval at which they were offered lies between two.
    pub fn stride(&self) -> u32 {
        self.stride
    }

    /// The names of the functions on a sample's stack, the outermost first.
    pub fn stack<'a>(&'a self, sample: &'a Sample) -> impl Iterator<Item = &'a str> {
        let names = &self.functions.names;
        sample
            .stack
            .iter()
            .rev()
            .filter_map(|number| names.get(*number as usize))
            .map(|name| &**name)
    }
}

impl Functions {
    fn number(&mut self, frame: &FrameInfo) -> u32 {
        let (module, name) = (frame.module().name(), frame.func_name());
        let known = self.known.entry(frame.func_index()).or_default();
        let same =
            |known: &&Known| known.module.as_deref() == module && known.name.as_deref() == name;
        if let Some(known) = known.iter().find(same) {
            return known.number;
        }
        // As many as a component has functions: far fewer than 32 bits count.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        known.push(Known { module: module.map(Arc::from), name: name.map(Arc::from), number });
        self.names.push(match name {
            Some(name) => demangled(name).into(),
            None => {
                let module = module.unwrap_or("unknown");
                format!("{module}, function {}", frame.func_index()).into()
            }
        });
        number
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Samples at these milliseconds.
    fn samples(full: Full, times: impl IntoIterator<Item = u64>) -> (Samples, Instant) {
        let (mut samples, zero) = (Samples::new(4, full), Instant::now());
        for ms in times {
            let at = zero + Duration::from_millis(ms);
            let store = StoreId { generation: 1, instance: 1 };
            samples.push(Sample { at, store, request: None, stack: Box::default() });
        }
        (samples, zero)
    }

    fn times(samples: &Samples, zero: Instant) -> Vec<u128> {
        samples.iter().map(|sample| (sample.at - zero).as_millis()).collect()
    }

    #[test]
    fn when_there_are_too_many_every_second_one_goes_or_the_oldest() {
        let (thinned, zero) = samples(Full::Thin, 1..=5);
        assert_eq!((times(&thinned, zero), thinned.stride()), (vec![2, 4, 5], 2));
        let (newest, zero) = samples(Full::ForgetOldest, 1..=6);
        assert_eq!((times(&newest, zero), newest.stride()), (vec![3, 4, 5, 6], 1));
    }

    #[test]
    fn what_is_forgotten_leaves_room_for_all_again() {
        let (mut samples, zero) = samples(Full::Thin, 1..=6);
        let at = |ms| zero + Duration::from_millis(ms);
        samples.forget_before(Some(at(5)));
        assert_eq!((times(&samples, zero), samples.stride()), (vec![5, 6], 2));
        samples.forget_before(None);
        assert_eq!((samples.is_empty(), samples.stride()), (true, 1));
    }

    #[test]
    fn a_copy_has_those_in_between() {
        let (samples, zero) = samples(Full::Thin, 1..=4);
        let at = |ms| zero + Duration::from_millis(ms);
        assert_eq!(times(&samples.between(at(2), at(3)), zero), [2, 3]);
    }
}
