//! A collector of traces that is not ours: tests/python/collector.py.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::python::script;
use super::server::PATIENCE;

/// See the module. Killed when dropped.
pub struct Collector {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub address: String,
    came: Arc<(Mutex<Vec<Value>>, Condvar)>,
}

impl Collector {
    /// Answers batches with these statuses in turn, the last one again and again. None where there
    /// is no Python for it.
    pub fn start(statuses: &[u16]) -> Option<Collector> {
        Collector::spawn(&statuses.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    /// The same over TLS.
    pub fn start_tls(chain: &Path, key: &Path) -> Option<Collector> {
        let path = |path: &Path| path.display().to_string();
        Collector::spawn(&["--tls".to_owned(), path(chain), path(key)])
    }

    fn spawn(arguments: &[String]) -> Option<Collector> {
        let mut command = script("collector.py")?;
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).spawn().expect("run the collector");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = lines.next().expect("a line").expect("its address");
        let address: String = serde_json::from_str(&first).expect("JSON");
        let came: Arc<(Mutex<Vec<Value>>, Condvar)> = Arc::default();
        let reader = Arc::clone(&came);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                reader.0.lock().expect("a lock").push(serde_json::from_str(&line).expect("JSON"));
                reader.1.notify_all();
            }
        });
        Some(Collector { child, address, came })
    }

    /// The batches that came so far.
    pub fn batches(&self) -> Vec<Value> {
        self.came.0.lock().expect("a lock").clone()
    }

    /// The spans of those batches that were taken.
    pub fn spans(&self) -> Vec<Value> {
        spans(&self.batches())
    }

    /// Waits until spans have come that `enough` is content with, and returns all.
    pub fn wait_for(&self, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        let mut came = self.came.0.lock().expect("a lock");
        loop {
            let spans = spans(&came);
            if enough(&spans) {
                return spans;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never came: {what}; what did: {spans:#?}");
            came = self.came.1.wait_timeout(came, left).expect("a lock").0;
        }
    }

    /// Waits for a span of which this is so.
    pub fn wait_for_span(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let spans = self.wait_for(what, |spans| spans.iter().any(&is_it));
        spans.into_iter().find(is_it).expect("it came")
    }
}

fn spans(batches: &[Value]) -> Vec<Value> {
    let taken = batches.iter().filter(|batch| batch["status"] == 200);
    taken.flat_map(|batch| batch["spans"].as_array().expect("a list").clone()).collect()
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
