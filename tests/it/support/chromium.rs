//! Chromium without a window, driven over pipes by the protocol of its developer tools:
//! <https://chromedevtools.github.io/devtools-protocol/>.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::python::missing;

/// A browser may be slow on a machine that has much to do; far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a page is asked whether something is so.
const INTERVAL: Duration = Duration::from_millis(100);

/// It speaks on descriptors 3 and 4.
const ON_PIPES: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

/// A browser with one page. It ends when this is dropped.
pub struct Page {
    child: Child,
    commands: ChildStdin,
    told: Arc<Told>,
    last_id: u64,
    session: Option<String>,
    _profile: TempDir,
}

/// What the browser has told so far.
#[derive(Default)]
struct Told {
    state: Mutex<(Vec<Value>, bool)>,
    grew: Condvar,
}

impl Page {
    /// An empty page of this many pixels; nothing where there is no Chromium.
    pub fn open((width, height): (u32, u32)) -> Option<Page> {
        if let Err(error) = Command::new("chromium").arg("--version").output() {
            missing("chromium", &error.to_string());
            return None;
        }
        let profile = tempfile::tempdir().expect("a folder");
        let browser = Command::new("sh")
            .args(["-c", ON_PIPES, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--remote-debugging-pipe", "--no-first-run"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = browser.expect("run sh");
        let commands = child.stdin.take().expect("its input");
        let answers = BufReader::new(child.stdout.take().expect("its output"));
        let told = Arc::new(Told::default());
        let listener = Arc::clone(&told);
        thread::spawn(move || listener.listen(answers));

        let mut page = Page { child, commands, told, last_id: 0, session: None, _profile: profile };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = page.call("Target.attachToTarget", target);
        page.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.resize((width, height));
        Some(page)
    }

    /// Gives the page another size, in pixels.
    pub fn resize(&mut self, (width, height): (u32, u32)) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Has the page believe that its reader wants `light` or `dark`.
    pub fn prefer(&mut self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    pub fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// What an expression is in the page, a promise awaited. Neither runs under its policy.
    pub fn evaluate(&mut self, script: &str) -> Value {
        let ask = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", ask);
        assert!(answer.get("exceptionDetails").is_none(), "{script}: {answer:#}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page.
    pub fn wait_until(&mut self, script: &str) {
        let end = Instant::now() + PATIENCE;
        // A page that is just being loaded has not all of it.
        let guarded =
            format!("(() => {{ try {{ return Boolean({script}) }} catch {{ return false }} }})()");
        while self.evaluate(&guarded) != Value::Bool(true) {
            if Instant::now() > end {
                let text = self.evaluate("document.body.innerText");
                panic!("never so: {script}\n{}", text.as_str().unwrap_or_default());
            }
            thread::sleep(INTERVAL);
        }
    }

    /// A key is pressed.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({"type": kind, "key": key}));
        }
    }

    /// A picture of this part of the page, left, top, width and height: a PNG.
    pub fn picture(&mut self, [x, y, width, height]: [f64; 4]) -> Vec<u8> {
        let clip = json!({"x": x, "y": y, "width": width, "height": height, "scale": 1});
        let ask = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let answer = self.call("Page.captureScreenshot", ask);
        BASE64.decode(answer["data"].as_str().expect("a picture")).expect("base64")
    }

    /// The parameters of all events of this name so far.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let told = self.told.lock();
        let events = told.0.iter().filter(|it| it["method"] == name);
        events.map(|it| it["params"].clone()).collect()
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut command = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let text = format!("{command}\0");
        self.commands.write_all(text.as_bytes()).expect("the browser lives");
        let answer = self.told.answer(self.last_id);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }
}

impl Told {
    fn listen(&self, answers: impl BufRead) {
        for message in answers.split(0).map_while(Result::ok) {
            if let Ok(message) = serde_json::from_slice(&message) {
                self.lock().0.push(message);
                self.grew.notify_all();
            }
        }
        self.lock().1 = true;
        self.grew.notify_all();
    }

    fn answer(&self, id: u64) -> Value {
        let end = Instant::now() + PATIENCE;
        let mut told = self.lock();
        loop {
            if let Some(at) = told.0.iter().position(|it| it["id"] == id) {
                return told.0.swap_remove(at);
            }
            assert!(!told.1, "the browser has ended");
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the browser does not answer");
            let waited = self.grew.wait_timeout(told, left);
            told = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Value>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
