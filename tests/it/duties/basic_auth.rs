//! Only who is in the file of users comes in, and guessing costs the guesser more than us.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use http_body_util::Full;
use tokio::task::JoinSet;

use super::{from, from_at, manifest, put, request, seen, site};
use crate::support::client::{self, Reply, VERSIONS, answer, get, request_tls};
use crate::support::machine::cpu_time;
use crate::support::python::missing;
use crate::support::server::{Server, Site};

const HOSTS: &str = r#"
[hosts."locked.test"]
"/" = { app = "kit", basic_auth = { users_file = "users", realm = "the harbour" } }
"/docs" = { redirect = "/docs/start", basic_auth = { users_file = "users" } }
"/open" = "kit"
"#;

/// "correct horse", the same, and "tide", as `htpasswd -B -C 4`, `-C 10` and `argon2 -id` make them.
const ALICE: &str = "alice:$2y$04$Fc8N/j2BDM2qPupq1IZZ3eCNw7e72dVqJoe/4qKEzN.lEcmxVNBlu";
const SLOW: &str = "slow:$2y$10$ukgwwsm.oNHVycZFs5FJFeE5adQoIXrr3PhuFAbv209von8OHiMhe";
const CAROL: &str = "carol:$argon2id$v=19$m=256,t=1,p=1$c2FsdHNhbHRzYWx0$+fbqYsF1NMKLH5Z3HDNPYMiLqsD/VS9+SHH3HpIUwtA";

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn locked(users: &[&str]) -> Site {
    let site = site(HOSTS);
    write_users(&site, users);
    site
}

fn write_users(site: &Site, users: &[&str]) {
    site.put("users", format!("{}\n", users.join("\n")).as_bytes());
}

fn authorization(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// Asks for `path` as `name`, from `client`.
async fn ask(client: Ipv4Addr, server: &Server, path: &str, name: &str, password: &str) -> Reply {
    let login = authorization(name, password);
    let headers = [("authorization", login.as_str()), ("x-forwarded-user", "root")];
    from(client, server, request("locked.test", path, &headers)).await
}

async fn status(server: &Server, name: &str, password: &str) -> u16 {
    ask(ONE, server, "/hello", name, password).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_say_who_it_is_is_asked() {
    let site = locked(&[ALICE]);
    let server = site.start();

    let reply = get(&server, "locked.test", "/hello").await.expect("an answer");
    assert_eq!(reply.status, 401);
    assert_eq!(reply.headers["www-authenticate"], r#"Basic realm="the harbour", charset="UTF-8""#);
    assert_eq!(reply.headers["cache-control"], "no-store");
    let reply = get(&server, "locked.test", "/docs").await.expect("an answer");
    assert_eq!(reply.status, 401, "other targets than apps are locked as well");
    assert_eq!(reply.headers["www-authenticate"], r#"Basic realm="restricted", charset="UTF-8""#);
    assert!(!reply.headers.contains_key("location"));
    assert_eq!(answer(&server, "locked.test", "/open/").await.get(..3), Some("404"), "the kit's");

    for wrong in ["Basic", "Basic !", "Bearer YWxpY2U6Y29ycmVjdCBob3JzZQ==", "Basic YWxpY2U="] {
        let request = request("locked.test", "/hello", &[("authorization", wrong)]);
        assert_eq!(from(ONE, &server, request).await.status, 401, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_comes_in_by_name_and_the_password_goes_no_further() {
    let site = locked(&["# people", ALICE, "", CAROL]);
    let server = site.start();

    for (name, password) in [("alice", "correct horse"), ("carol", "tide")] {
        // The second time it is known.
        for _ in 0..2 {
            let reply = ask(ONE, &server, "/inspect", name, password).await;
            assert_eq!(reply.status, 200, "{name}");
            assert_eq!(seen(&reply, "x-forwarded-user"), [name]);
            assert!(seen(&reply, "authorization").is_empty());
        }
        assert_eq!(ask(ONE, &server, "/docs", name, password).await.status, 308);
    }
    for (name, password) in
        [("alice", "tide"), ("alice", ""), ("alice", "correct horse "), ("Alice", "correct horse")]
    {
        assert_eq!(status(&server, name, password).await, 401, "{name} {password}");
    }
    for version in VERSIONS {
        let request = Request::get("/inspect")
            .header("authorization", authorization("alice", "correct horse"))
            .body(Full::default());
        let reply = request_tls(&site, &server, "locked.test", version, request.expect("it")).await;
        assert_eq!(seen(&reply.expect("an answer"), "x-forwarded-user"), ["alice"]);
    }
    // Where nobody is asked, nobody is told of.
    let forged = [("x-forwarded-user", "root")];
    let reply = from(ONE, &server, request("kit.test", "/inspect", &forged)).await;
    assert!(seen(&reply, "x-forwarded-user").is_empty());
    let log = server.log().join("\n");
    assert!(!log.contains("correct horse") && !log.contains("$2y$"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_files_path_leads_around_its_password() {
    let site = site(
        r#"
[hosts."files.test"]
"/" = { files = "public" }
"/private" = { files = "public/private", basic_auth = { users_file = "users" } }
"/caf%C3%A9" = { files = "public/café", basic_auth = { users_file = "users" } }
"#,
    );
    write_users(&site, &[ALICE]);
    put(&site, "public/a b.txt", b"for all");
    for folder in ["private", "café"] {
        put(&site, &format!("public/{folder}/report.txt"), b"for alice");
    }
    let server = site.start();

    for (path, expected) in [
        ("/private/report.txt", 401),
        ("/private/%72eport.txt", 401),
        ("/%70rivate/report.txt", 404),
        ("/privat%65/report.txt", 404),
        ("/%70%72%69%76%61%74%65/report.txt", 404),
        ("/%70rivate%2freport.txt", 404),
        ("/%70rivate", 404),
        ("/caf%C3%A9/report.txt", 401),
        ("/caf%c3%a9/report.txt", 404),
        ("/%63af%C3%A9/report.txt", 404),
        ("/a%20b.txt", 200),
        ("/%61%20b.txt", 200),
    ] {
        let reply = get(&server, "files.test", path).await.expect("an answer");
        assert_eq!(reply.status, expected, "{path}");
    }
    // Not every reader of a head takes this for a path.
    let answer = client::ask(&server, "GET", "/café/report.txt", "host: files.test\r\n").await;
    assert!(!answer.contains("for alice"), "{answer}");

    let login = authorization("alice", "correct horse");
    for path in ["/private/%72eport.txt", "/caf%C3%A9/report.txt"] {
        let request = request("files.test", path, &[("authorization", login.as_str())]);
        assert_eq!(from(ONE, &server, request).await.text(), "for alice", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_that_everybody_has_agree() {
    let site = locked(&[ALICE]);
    let server = site.start();
    let users = site.path("users");
    let skipped = server.log().len();
    let written = Command::new("htpasswd")
        .args(["-b", "-B", "-C", "5"])
        .arg(&users)
        .args(["dave", "pä:ss"])
        .output();
    match written {
        Ok(written) => assert!(written.status.success(), "{written:?}"),
        Err(error) => return missing("htpasswd of apache2-utils", &error.to_string()),
    }
    server.wait_for_log_after(skipped, "reloaded");

    let url = format!("http://{}/hello", server.http);
    for (login, expected) in [("dave:pä:ss", "200"), ("dave:pass", "401")] {
        let arguments = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"];
        let asked = Command::new("curl")
            .args(arguments)
            .args(["--user", login, "--header", "host: locked.test", &url])
            .output();
        match asked {
            Ok(asked) => assert_eq!(String::from_utf8_lossy(&asked.stdout), expected, "{login}"),
            Err(error) => return missing("curl", &error.to_string()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_counts_at_once_and_a_bad_one_changes_nothing() {
    let site = locked(&[ALICE]);
    let server = site.start();
    assert_eq!(status(&server, "alice", "correct horse").await, 200);
    assert_eq!(status(&server, "carol", "tide").await, 401);

    let skipped = server.log().len();
    write_users(&site, &[CAROL]);
    server.wait_for_log_after(skipped, "reloaded");
    assert_eq!(status(&server, "alice", "correct horse").await, 401, "what was known is forgotten");
    assert_eq!(status(&server, "carol", "tide").await, 200);

    let skipped = server.log().len();
    write_users(&site, &["alice:$apr1$OkTvomEk$mhHCdM1v8YStJzYpxp/ll0"]);
    let line = server.wait_for_log_after(skipped, "hashed with MD5");
    assert!(line.contains("users, line 1") && line.contains("alice"), "{line}");
    assert_eq!(status(&server, "carol", "tide").await, 200, "the former users still come in");

    // Other changes are taken meanwhile.
    let realm = async || {
        let reply = get(&server, "locked.test", "/hello").await.expect("an answer");
        reply.headers["www-authenticate"].to_str().expect("text").to_owned()
    };
    let skipped = server.log().len();
    site.write_manifest(&manifest(&HOSTS.replace("the harbour", "the quay")));
    server.wait_for_log_after(skipped, "reloaded");
    assert!(realm().await.contains("the quay"));
    assert_eq!(status(&server, "carol", "tide").await, 200);

    // A manifest that newly names a bad file is refused as a whole.
    let skipped = server.log().len();
    site.write_manifest(&manifest(&HOSTS.replace("\"users\"", "\"nobody\"")));
    server.wait_for_log_after(skipped, "nobody: No such file");
    assert_eq!(status(&server, "carol", "tide").await, 200);
    assert_eq!(get(&server, "locked.test", "/hello").await.expect("an answer").status, 401);

    let skipped = server.log().len();
    write_users(&site, &[ALICE]);
    site.write_manifest(&manifest(&HOSTS.replace("the harbour", "the mole")));
    server.wait_for_log_after(skipped, "reloaded");
    assert!(realm().await.contains("the mole"));
    assert_eq!(status(&server, "alice", "correct horse").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_without_its_file_of_users() {
    let site = locked(&["alice:secret"]);
    let (checked, text) = site.tidegate(&["check", "--config", "config.toml"]);
    assert_eq!(checked.code(), Some(78), "{text}");
    assert!(text.contains("the password of alice is neither a bcrypt nor"), "{text}");
    assert!(!text.contains("secret"), "{text}");

    let Err((ended, log)) = Server::try_spawn(site.command()) else { panic!("it starts") };
    assert_eq!(ended.code(), Some(78), "{log}");
    assert!(log.contains("the password of alice is neither"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_is_told_to_wait_and_who_knows_comes_in() {
    let site = locked(&[ALICE, CAROL]);
    let server = site.start();
    assert_eq!(status(&server, "carol", "tide").await, 200, "and so it is known");

    let mut wrong = 0;
    let reply = loop {
        let reply = ask(ONE, &server, "/hello", "alice", &format!("guess {wrong}")).await;
        if reply.status != 401 {
            break reply;
        }
        wrong += 1;
        assert!(wrong < 20, "so many guesses are answered");
    };
    // On a slow machine time brings one more.
    assert!(wrong == 10 || wrong == 11, "{wrong} guesses were answered");
    assert_eq!(reply.status, 429);
    let wait: u64 = reply.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=6).contains(&wait), "{wait}");
    let line = server.wait_for_log("limit=basic_auth.attempts");
    assert!(line.contains("127.0.0.1 at locked.test/"), "{line}");

    assert_eq!(status(&server, "alice", "correct horse").await, 429, "the right one is not told");
    assert_eq!(status(&server, "carol", "tide").await, 200, "whose password is known goes on");
    assert_eq!(ask(OTHER, &server, "/hello", "alice", "correct horse").await.status, 200);
    assert_eq!(ask(ONE, &server, "/docs", "alice", "tide").await.status, 401, "a route by itself");

    // Right ones do not count: each of these is looked at, and none was known.
    let hash = ALICE.split_once(':').expect("a hash").1;
    let many: Vec<_> = (0..20).map(|n| format!("user{n}:{hash}")).collect();
    let skipped = server.log().len();
    write_users(&site, &many.iter().map(String::as_str).collect::<Vec<_>>());
    server.wait_for_log_after(skipped, "reloaded");
    for n in 0..20 {
        let name = format!("user{n}");
        let reply = ask(OTHER, &server, "/hello", &name, "correct horse").await;
        assert_eq!(reply.status, 200, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_takes_half_of_the_cores_at_the_most_and_others_are_served() {
    let site = locked(&[SLOW]);
    let server = site.start();
    let (begun, used) = (Instant::now(), cpu_time(server.pid()));

    // More than may wait, each from an address of its own.
    let mut guesses = JoinSet::new();
    for n in 0..120_u8 {
        let http = server.http;
        guesses.spawn(async move {
            let login = authorization("slow", &format!("guess {n}"));
            let request = request("locked.test", "/hello", &[("authorization", &login)]);
            from_at([127, 0, 1, n].into(), http, request).await.status.as_u16()
        });
    }
    let mut longest = Duration::ZERO;
    let mut statuses = Vec::new();
    while !guesses.is_empty() {
        let asked = Instant::now();
        assert_eq!(answer(&server, "kit.test", "/hello").await, "200 hello world");
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
        while let Some(guess) = guesses.try_join_next() {
            statuses.push(guess.expect("no panic"));
        }
    }

    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(statuses.iter().all(|status| matches!(status, 401 | 503)), "{statuses:?}");
    assert!((20..=55).contains(&refused), "{refused} of 120 were not looked at");
    server.wait_for_log("limit=basic_auth.checks");
    let cores = std::thread::available_parallelism().expect("cores").get();
    let (used, elapsed) = (cpu_time(server.pid()) - used, begun.elapsed());
    let most = elapsed.mul_f64((cores / 2).max(1) as f64 + 0.3);
    assert!(used < most, "{used:?} of CPU in {elapsed:?}");
    assert!(longest < Duration::from_secs(1), "another host's answer took {longest:?}");
}
