//! Requests that go on while a test does something else, and a judgement of every answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use super::client::Reply;
use super::connection::{Connection, Transport, is_unsent};

/// Clients that send requests until they are stopped.
#[derive(Default)]
pub struct Traffic {
    clients: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// The server ends connections in good order.
    ends: AtomicBool,
    answered: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// Wrong answers that are told in full; the first ones say it all.
const TOLD: usize = 10;

impl Traffic {
    /// To a server that ends connections now and then, having said so: what was not begun by then
    /// is asked on the next one, as clients do.
    pub fn of_ending_connections() -> Traffic {
        let traffic = Traffic::default();
        traffic.shared.ends.store(true, Ordering::Relaxed);
        traffic
    }

    /// Adds a client that asks `host` for `path` on one connection after another, each kept for
    /// `requests`. `before` runs before each request and what it returns is for `judge`, which
    /// says what is wrong with an answer.
    pub fn add<T, Before, Judge>(
        &mut self,
        transport: &Transport,
        (host, path): (&str, &str),
        requests: u32,
        before: Before,
        judge: Judge,
    ) where
        T: Send + 'static,
        Before: Fn() -> T + Send + Sync + 'static,
        Judge: Fn(T, &Connection, Reply) -> Result<(), String> + Send + Sync + 'static,
    {
        let (transport, shared) = (transport.clone(), Arc::clone(&self.shared));
        let (host, path) = (host.to_owned(), path.to_owned());
        self.clients.spawn(async move {
            while !shared.stop.load(Ordering::Relaxed) {
                let since = before();
                let mut connection = match Connection::open(&transport, &host).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        shared.wrong(format!("{host}: cannot connect: {error}"));
                        continue;
                    }
                };
                let mut since = Some(since);
                for _ in 0..requests {
                    let ended = shared.ends.load(Ordering::Relaxed) && connection.is_closed();
                    if shared.stop.load(Ordering::Relaxed) || ended {
                        break;
                    }
                    let since = since.take().unwrap_or_else(&before);
                    let verdict = match connection.get(&path).await {
                        Ok(reply) => judge(since, &connection, reply),
                        Err(error) if shared.ends.load(Ordering::Relaxed) && is_unsent(&error) => {
                            break;
                        }
                        Err(error) => Err(format!("failed: {error:?}")),
                    };
                    shared.answered.fetch_add(1, Ordering::Relaxed);
                    if let Err(why) = verdict {
                        shared.wrong(format!("{host}{path}: {why}"));
                        break;
                    }
                }
            }
        });
    }

    /// Adds a client for whom every answer must be 200 and `expected`.
    pub fn expect(&mut self, transport: &Transport, target: (&str, &str), expected: &str) {
        let expected = expected.to_owned();
        self.add(
            transport,
            target,
            20,
            || (),
            move |(), _, reply| match reply.status == 200 && reply.text().trim() == expected {
                true => Ok(()),
                false => {
                    Err(format!("{} {:?} instead of {expected:?}", reply.status, reply.text()))
                }
            },
        );
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// What was wrong so far.
    pub fn wrong(&self) -> Vec<String> {
        self.shared.wrong.lock().expect("a lock").clone()
    }

    /// Waits until `count` more requests are answered.
    pub async fn pass(&self, count: u64) {
        let enough = self.answered() + count;
        while self.answered() < enough {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops the clients, asserts that no answer was wrong, and returns how many there were.
    pub async fn stop(mut self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client");
        }
        let wrong = self.wrong();
        let (count, told) = (wrong.len(), wrong[..wrong.len().min(TOLD)].join("\n"));
        assert!(wrong.is_empty(), "{count} wrong answers of {}:\n{told}", self.answered());
        assert!(self.answered() > 0, "nothing was asked");
        self.answered()
    }
}

impl Shared {
    fn wrong(&self, what: String) {
        self.wrong.lock().expect("a lock").push(what);
    }
}
