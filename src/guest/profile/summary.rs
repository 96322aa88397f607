//! What a profile says at a glance: how many samples it has, and which functions they were in.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// What a profile on demand says, read from its JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub samples: u64,
    /// Tracks with samples.
    pub instances: usize,
    /// All functions that computed themselves, the hottest first.
    pub hottest: Vec<Hot>,
}

/// A function that computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hot {
    pub function: String,
    /// Samples that found it computing, and nothing that it called.
    pub samples: u64,
}

/// What is read of the "processed profile format", whose tables have a list for each column.
#[derive(Deserialize)]
struct Profile {
    threads: Vec<Thread>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thread {
    samples: Stacks,
    stack_table: Frames,
    frame_table: Funcs,
    func_table: Names,
    string_array: Vec<String>,
}

#[derive(Deserialize)]
struct Stacks {
    stack: Vec<Option<usize>>,
}

#[derive(Deserialize)]
struct Frames {
    frame: Vec<usize>,
}

#[derive(Deserialize)]
struct Funcs {
    func: Vec<usize>,
}

#[derive(Deserialize)]
struct Names {
    name: Vec<usize>,
}

impl Summary {
    /// # Errors
    /// When this is no profile as tidegate writes them.
    pub fn of(json: &[u8]) -> serde_json::Result<Summary> {
        let profile: Profile = serde_json::from_slice(json)?;
        let mut own: HashMap<&str, u64> = HashMap::new();
        let (mut samples, mut instances) = (0, 0);
        for thread in &profile.threads {
            samples += thread.samples.stack.len() as u64;
            instances += usize::from(!thread.samples.stack.is_empty());
            for name in thread.samples.stack.iter().filter_map(|stack| thread.innermost(*stack)) {
                *own.entry(name).or_default() += 1;
            }
        }
        let hot = |(function, samples): (&str, u64)| Hot { function: function.to_owned(), samples };
        let mut hottest: Vec<_> = own.into_iter().map(hot).collect();
        hottest.sort_by(|a, b| (b.samples, &a.function).cmp(&(a.samples, &b.function)));
        Ok(Summary { samples, instances, hottest })
    }
}

impl Thread {
    /// The name of the function that computes in this stack.
    fn innermost(&self, stack: Option<usize>) -> Option<&str> {
        let frame = self.stack_table.frame.get(stack?)?;
        let function = self.frame_table.func.get(*frame)?;
        let name = self.func_table.name.get(*function)?;
        self.string_array.get(*name).map(String::as_str)
    }
}
