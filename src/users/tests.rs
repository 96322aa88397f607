//! Every hash here was written by `htpasswd`, `argon2` or `openssl passwd`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;

use super::checks::WAITING_MAX;
use super::{Crowded, Login, UserFiles, Users};
use crate::config::{Config, manifest_from_text};

const ALICE: &str = "alice:$2y$04$Fc8N/j2BDM2qPupq1IZZ3eCNw7e72dVqJoe/4qKEzN.lEcmxVNBlu";
const BOB: &str = "bob:$2y$05$1Z8oEqhRFlTuRiQgYjBLGeaR6bd7Ikp/7IVfSLvcz0AaQjCc05d7y";
const CAROL: &str = "carol:$argon2id$v=19$m=256,t=1,p=1$c2FsdHNhbHRzYWx0$+fbqYsF1NMKLH5Z3HDNPYMiLqsD/VS9+SHH3HpIUwtA";

/// What a check may say: nothing stops these.
#[derive(Debug)]
struct Any;

impl From<Crowded> for Any {
    fn from(Crowded: Crowded) -> Any {
        Any
    }
}

fn config(dir: &Path) -> Config {
    let text = "apps.a.component = 'a.wasm'\nhosts.'*' = { '/' = { app = 'a', basic_auth = { users_file = 'users' } } }\n";
    manifest_from_text(Path::new("config.toml"), dir.join("config.toml"), text).expect("a config")
}

fn load(dir: &Path, lines: &[&str]) -> Result<UserFiles, Vec<String>> {
    fs::write(dir.join("users"), lines.join("\n")).expect("write the users");
    let loaded = UserFiles::load(&config(dir), TaskTracker::new());
    loaded.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn users(files: &UserFiles, dir: &Path) -> Arc<Users> {
    files.get(&dir.join("users"))
}

fn login(name: &str, password: &str) -> Login {
    Login { name: name.to_owned(), password: password.as_bytes().to_vec() }
}

async fn is_right(users: &Users, name: &str, password: &str) -> bool {
    users.check::<Any>(&login(name, password), || Ok(())).await.expect("nobody waits")
}

#[tokio::test]
async fn a_password_is_right_for_its_user_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = load(dir.path(), &["# people", ALICE, "", BOB, CAROL]).expect("good lines");
    let users = users(&files, dir.path());

    assert!(is_right(&users, "alice", "correct horse").await);
    assert!(is_right(&users, "bob", "ünï:cödé").await);
    assert!(is_right(&users, "carol", "tide").await);
    for (name, password) in [
        ("alice", "correct Horse"),
        ("alice", ""),
        ("bob", "correct horse"),
        ("carol", "tide "),
        ("Alice", "correct horse"),
        ("mallory", "correct horse"),
        ("", ""),
    ] {
        assert!(!is_right(&users, name, password).await, "{name} {password}");
        assert!(!users.knows(&login(name, password)));
    }
    assert!(!is_right(&users, "alice", &"x".repeat(100_000)).await);
}

#[tokio::test]
async fn what_was_right_is_known_until_the_file_says_otherwise() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = Arc::new(load(dir.path(), &[ALICE, BOB]).expect("good lines"));
    let alice = login("alice", "correct horse");
    assert!(!users(&files, dir.path()).knows(&alice));
    assert!(is_right(&users(&files, dir.path()), "alice", "correct horse").await);
    assert!(users(&files, dir.path()).knows(&alice));

    let same = UserFiles::renew(&files, &config(dir.path())).expect("good");
    assert!(Arc::ptr_eq(&files, &same.users));

    fs::write(dir.path().join("users"), BOB).expect("take alice out");
    let next = UserFiles::renew(&files, &config(dir.path())).expect("good").users;
    assert!(!Arc::ptr_eq(&files, &next));
    assert!(!users(&next, dir.path()).knows(&alice));
    assert!(!is_right(&users(&next, dir.path()), "alice", "correct horse").await);
}

#[tokio::test]
async fn a_file_that_goes_bad_leaves_its_users_and_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = Arc::new(load(dir.path(), &[ALICE]).expect("good lines"));
    for broken in ["alice", "alice:$2y$04$short"] {
        fs::write(dir.path().join("users"), broken).expect("break it");
        let renewed = UserFiles::renew(&files, &config(dir.path())).expect("the old ones serve");
        assert_eq!(renewed.problems.len(), 1);
        assert!(Arc::ptr_eq(&renewed.users, &files));
    }
    let none = Arc::new(UserFiles::none(TaskTracker::new()));
    assert!(UserFiles::renew(&none, &config(dir.path())).is_err(), "a new one is refused");
}

#[test]
fn what_is_guessed_in_no_time_or_costs_too_much_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    for (line, why) in [
        ("a:b", "is neither a bcrypt nor an argon2id hash"),
        ("a:jnx8vcHaqIyB6", "is neither a bcrypt nor an argon2id hash"),
        ("a:$6$H4G6tPN/gwMff8AZ$6TORUY4edfpHrgZScED7", "is neither a bcrypt nor an argon2id hash"),
        ("a:$apr1$OkTvomEk$mhHCdM1v8YStJzYpxp/ll0", "is hashed with MD5"),
        ("a:{SHA}6dcfXufJLW3J6S/9rRe4vUlBj5g=", "is hashed with SHA-1"),
        (
            "a:$2y$15$ux0dFBUS4fy2yPsxHEPe6OBkuFNnWf6/Pjw.8xosKA0Ay6pG.0uAy",
            "has a cost that is not 4 to 14",
        ),
        ("a:$2y$10$tooshort", "is no bcrypt hash"),
        (
            "a:$argon2i$v=19$m=256,t=1,p=1$c2FsdHNhbHRzYWx0$+fbqYsF1NMKLH5Z3HDNPYMiLqsD/VS9+SHH3HpIUwtA",
            "is no argon2id hash",
        ),
        (
            "a:$argon2id$v=19$m=1048576,t=1,p=1$c2FsdHNhbHRzYWx0$+fbqYsF1NMKLH5Z3HDNPYMiLqsD/VS9+SHH3HpIUwtA",
            "costs more than 128 MiB",
        ),
        ("nobody", "this is no user with a hash"),
        (":x", "a user's name is ASCII text"),
        ("zoë:x", "a user's name is ASCII text"),
    ] {
        let problems = load(dir.path(), &[line]).err().expect("it is refused");
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].contains("users, line 1: ") && problems[0].contains(why),
            "{problems:?}"
        );
        let hash = line.split(':').nth(1).filter(|hash| hash.len() > 2);
        assert!(!hash.is_some_and(|hash| problems[0].contains(hash)), "{problems:?}");
    }
    let problems = load(dir.path(), &[ALICE, "x", ALICE]).err().expect("it is refused");
    assert_eq!(problems.len(), 2, "everything is said: {problems:?}");
}

#[tokio::test]
async fn few_are_computed_at_a_time_and_few_wait() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = load(dir.path(), &[ALICE]).expect("a good line");
    let users = users(&files, dir.path());
    let mut turns = Vec::new();
    while let Some(Ok(turn)) = users.checks.turn().now_or_never() {
        turns.push(turn);
    }
    let cores = std::thread::available_parallelism().expect("cores").get();
    assert_eq!(turns.len(), (cores / 2).max(1));

    let begun = Arc::new(AtomicUsize::new(0));
    let mut checks: Vec<_> = (0..WAITING_MAX + 10)
        .map(|_| {
            let (users, begun) = (users.clone(), begun.clone());
            async move {
                let begin = || {
                    begun.fetch_add(1, Relaxed);
                    Ok(())
                };
                users.check::<Any>(&login("alice", "correct horse"), begin).await
            }
            .boxed()
        })
        .collect();
    let refused = |check: &mut BoxFuture<'static, Result<bool, Any>>| {
        matches!(check.now_or_never(), Some(Err(Any)))
    };
    let told = checks.iter_mut().map(refused).filter(|refused| *refused).count();
    assert_eq!((told, begun.load(Relaxed)), (10, 0));

    drop(turns);
    for check in checks.drain(..WAITING_MAX) {
        assert!(check.await.expect("its turn comes"));
    }
    assert_eq!(begun.load(Relaxed), 1, "what was found right is not computed again");
}
