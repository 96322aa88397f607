//! A server whose manifest, component and certificate change all the time, and clients that know
//! which answers are right meanwhile.
//!
//! What is published stands in a history before it is written to disk. A request may see
//! anything from what was known to serve when it began to what was published when it ended.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::certificates::{Pair, pair, root};
use super::client::{Reply, Version};
use super::connection::{Connection, Transport};
use super::pool::guest;
use super::server::{Server, Site, hello_version};
use super::traffic::Traffic;

/// A change is served this soon, or the test fails; far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
pub struct World {
    pub site: Site,
    pub server: Server,
    pub plain: Transport,
    pub h1: Transport,
    pub h2: Transport,
    truth: Truth,
    count: u32,
}

/// What may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Component,
    Manifest,
    Certificate,
}

/// Each history by itself, since each has its own file.
#[derive(Clone, Default)]
struct Truth {
    /// The version of the component at `hello.test`.
    component: History<u32>,
    /// The greeting at `greet.test`; and whether there is a host `extra.test`, where it is odd.
    manifest: History<u32>,
    /// What `hello.test` shows.
    certificate: History<Vec<u8>>,
}

/// What was published, oldest first, and the number of the state that is known to serve.
struct History<T>(Arc<Mutex<(Vec<T>, usize)>>);

/// Where each history stood when a request began.
#[derive(Clone, Copy)]
struct Since {
    component: usize,
    manifest: usize,
    certificate: usize,
}

impl World {
    pub fn start() -> World {
        let site = Site::new("");
        for (name, bytes) in [
            ("hello", hello_version(0)),
            ("greet", guest("hello")),
            ("kit-p2", guest("kit-p2")),
            ("kit-p3", guest("kit-p3")),
        ] {
            site.put(&format!("apps/{name}.wasm"), &bytes);
        }
        let truth = Truth::default();
        truth.component.publish(0);
        truth.manifest.publish(0);
        site.write_manifest(&manifest(0));
        std::fs::create_dir(site.path("certs")).expect("make certs/");
        let first = pair("hello.test");
        first.put(&site, "hello");
        truth.certificate.publish(first.der);

        let server = site.start();
        let roots = format!("{}\n{}", site.root(), root());
        let plain = Transport::plain(&server);
        let h1 = Transport::tls(&server, Version::H1, &roots);
        let h2 = Transport::tls(&server, Version::H2, &roots);
        World { site, server, plain, h1, h2, truth, count: 0 }
    }

    /// Clients of every kind, at every host.
    pub fn traffic(&self) -> Traffic {
        let mut traffic = Traffic::default();
        let (plain, h1, h2) = (&self.plain, &self.h1, &self.h2);
        for (transport, target, requests) in [
            (plain, ("hello.test", "/version"), 50),
            (h2, ("hello.test", "/version"), 50),
            // A handshake for each request, so that each shows a certificate.
            (h2, ("hello.test", "/version"), 1),
            (h1, ("hello.test", "/version"), 1),
            (h1, ("greet.test", "/"), 50),
            (plain, ("greet.test", "/"), 1),
            (plain, ("extra.test", "/"), 50),
            (h2, ("p3.test", "/drip?ms=20&count=20"), 3),
            (plain, ("p2.test", "/drip?ms=20&count=20"), 3),
            (plain, ("p3.test", "/hello"), 50),
            (h1, ("p2.test", "/hello"), 50),
        ] {
            let (truth, host, first) = (self.truth.clone(), target.0, requests == 1);
            let before = self.truth.clone();
            traffic.add(
                transport,
                target,
                requests,
                move || before.since(),
                move |since, connection, reply| {
                    if first
                        && let Some(shown) = &connection.certificate
                        && host == "hello.test"
                    {
                        truth.certificate.allows(since.certificate, shown, "certificate")?;
                    }
                    truth.judge(since, host, &reply)
                },
            );
        }
        traffic
    }

    /// Publishes the next version of `kind`, by rename or in place.
    pub fn change(&mut self, kind: Kind, in_place: bool) {
        self.count += 1;
        let number = self.count;
        let put = |name: &str, bytes: &[u8]| match in_place {
            true => std::fs::write(self.site.path(name), bytes).expect("write in place"),
            false => self.site.put(name, bytes),
        };
        match kind {
            Kind::Component => {
                self.truth.component.publish(number);
                put("apps/hello.wasm", &hello_version(number));
            }
            Kind::Manifest => {
                self.truth.manifest.publish(number);
                put("config.toml", manifest(number).as_bytes());
            }
            Kind::Certificate => {
                let Pair { cert, key, der } = pair("hello.test");
                self.truth.certificate.publish(der);
                put("certs/hello.pem", cert.as_bytes());
                put("certs/hello.key", key.as_bytes());
            }
        }
    }

    /// Breaks the file of `kind`, which changes nothing that is served.
    pub fn break_it(&self, kind: Kind) {
        match kind {
            Kind::Component => self.site.put("apps/hello.wasm", b"\0asm this is none"),
            Kind::Manifest => self.site.put("config.toml", b"[hosts]\n\"hello.test\" = \"helo\"\n"),
            Kind::Certificate => {
                self.site.put("certs/hello.key", pair("hello.test").key.as_bytes());
            }
        }
    }

    /// Waits until what was published last serves, and returns for how long.
    pub async fn settle(&self, kind: Kind) -> Duration {
        let began = Instant::now();
        while !self.serves(kind).await {
            assert!(
                began.elapsed() < PATIENCE,
                "a new {kind:?} is not served; complaints:\n{}",
                self.server.complaints().join("\n")
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let took = began.elapsed();
        match kind {
            Kind::Component => self.truth.component.settle(),
            Kind::Manifest => self.truth.manifest.settle(),
            Kind::Certificate => self.truth.certificate.settle(),
        }
        took
    }

    async fn serves(&self, kind: Kind) -> bool {
        let (transport, host, path) = match kind {
            Kind::Component => (&self.plain, "hello.test", "/version"),
            Kind::Manifest => (&self.plain, "greet.test", "/"),
            Kind::Certificate => (&self.h2, "hello.test", "/"),
        };
        let mut connection = Connection::open(transport, host).await.expect("a connection");
        let reply = connection.get(path).await.expect("an answer");
        let text = reply.text().trim();
        match kind {
            Kind::Component => text.parse().ok() == self.truth.component.last(),
            Kind::Manifest => greeted(text) == self.truth.manifest.last(),
            Kind::Certificate => connection.certificate == self.truth.certificate.last(),
        }
    }
}

impl Truth {
    fn since(&self) -> Since {
        Since {
            component: self.component.settled(),
            manifest: self.manifest.settled(),
            certificate: self.certificate.settled(),
        }
    }

    fn judge(&self, since: Since, host: &str, reply: &Reply) -> Result<(), String> {
        let (status, text) = (reply.status.as_u16(), reply.text().trim());
        let wrong = || Err(format!("{status} {text:?}"));
        match host {
            "hello.test" => match text.parse() {
                Ok(version) if status == 200 => {
                    self.component.allows(since.component, &version, "version")
                }
                _ => wrong(),
            },
            "greet.test" => match greeted(text) {
                Some(number) if status == 200 => {
                    self.manifest.allows(since.manifest, &number, "greeting")
                }
                _ => wrong(),
            },
            "extra.test" => {
                let possible = self.manifest.possible(since.manifest);
                let right = possible.iter().any(|number| match number % 2 {
                    1 => status == 200 && greeted(text).is_some_and(|it| possible.contains(&it)),
                    _ => status == 404,
                });
                if right { Ok(()) } else { wrong() }
            }
            _ if text == "hello world" || text == ["tick"; 20].join("\n") => Ok(()),
            _ => wrong(),
        }
    }
}

impl<T: Clone + PartialEq + Debug> History<T> {
    fn publish(&self, state: T) {
        self.0.lock().expect("a lock").0.push(state);
    }

    fn settle(&self) {
        let mut history = self.0.lock().expect("a lock");
        history.1 = history.0.len() - 1;
    }

    fn settled(&self) -> usize {
        self.0.lock().expect("a lock").1
    }

    fn last(&self) -> Option<T> {
        self.0.lock().expect("a lock").0.last().cloned()
    }

    fn possible(&self, since: usize) -> Vec<T> {
        self.0.lock().expect("a lock").0[since..].to_vec()
    }

    fn allows(&self, since: usize, state: &T, what: &str) -> Result<(), String> {
        let possible = self.possible(since);
        match possible.contains(state) {
            true => Ok(()),
            false => {
                let what = format!("a {what} that is not of the {} possible", possible.len());
                Err(format!("{what}: {:.60?}", format!("{state:?}")))
            }
        }
    }
}

impl<T> Default for History<T> {
    fn default() -> Self {
        History(Arc::default())
    }
}

impl<T> Clone for History<T> {
    fn clone(&self) -> Self {
        History(Arc::clone(&self.0))
    }
}

fn greeted(text: &str) -> Option<u32> {
    text.strip_prefix("number")?.strip_suffix(" world")?.parse().ok()
}

fn manifest(number: u32) -> String {
    let extra = if number % 2 == 1 { "\"extra.test\" = \"greet\"\n" } else { "" };
    format!(
        r#"[server]
http = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]

# Access lines go there, and not to the test's memory.
[log]
dir = "logs"
max_total_size = "16MiB"

[defaults]
request_timeout = "10s"
stream_idle_timeout = "10s"
post_return_timeout = "2s"
idle_timeout = "1s"

[apps]
greet = {{ component = "apps/greet.wasm", env = {{ GREETING = "number{number}" }} }}
hello = {{ component = "apps/hello.wasm" }}
p2 = {{ component = "apps/kit-p2.wasm" }}
p3 = {{ component = "apps/kit-p3.wasm" }}

[hosts]
"hello.test" = {{ "/" = "hello", redirect_to_https = false }}
"greet.test" = "greet"
"p2.test" = "p2"
"p3.test" = "p3"
{extra}
[tls.certificates]
"hello.test" = {{ cert = "certs/hello.pem", key = "certs/hello.key" }}
"#
    )
}
