use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::Compile;
use crate::guest::ComponentError;
use crate::limit::Limit;

/// A cache with files of 100 bytes that were last used so many seconds ago.
fn cache(files: &[(&str, u64)]) -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    for (name, age) in files {
        let path = file(&cache, name);
        fs::write(&path, [0; 100]).unwrap();
        let then = SystemTime::now() - Duration::from_secs(*age);
        File::open(&path).unwrap().set_modified(then).unwrap();
    }
    (dir, cache)
}

fn file(cache: &Cache, name: &str) -> PathBuf {
    cache.dir.join(name).with_extension("cwasm")
}

/// The files that are left of these when the cache is pruned.
fn left<'a>(files: &[(&'a str, u64)], most: u64, in_use: &[&str]) -> Vec<&'a str> {
    let (_dir, cache) = cache(files);
    let in_use = in_use.iter().map(|name| file(&cache, name)).collect();
    cache.prune_to(most, &in_use).unwrap();
    let names = files.iter().map(|(name, _)| *name);
    names.filter(|name| file(&cache, name).exists()).collect()
}

#[test]
fn what_is_not_used_leaves_first_and_the_oldest_before_the_others() {
    let files = [("old", 30), ("middle", 20), ("new", 10)];
    assert_eq!(left(&files, 300, &[]), ["old", "middle", "new"]);
    assert_eq!(left(&files, 250, &[]), ["middle", "new"]);
    assert_eq!(left(&files, 250, &["old"]), ["old", "new"]);
    assert_eq!(left(&files, 150, &["old", "middle"]), ["middle"]);
    assert_eq!(left(&files, 50, &["old", "middle", "new"]), [""; 0]);
}

#[test]
fn what_no_app_uses_leaves_after_a_day() {
    let files = [("used", 90_000), ("unused", 90_000), ("unused-since-today", 80_000)];
    assert_eq!(left(&files, 300, &["used"]), ["used", "unused-since-today"]);
}

#[test]
fn a_directory_that_is_not_ours_alone_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Cache::open(dir.path()).unwrap());
    for mode in [0o722, 0o770, 0o777] {
        fs::set_permissions(dir.path().join("cache"), PermissionsExt::from_mode(mode)).unwrap();
        let error = Cache::open(dir.path()).map(drop).unwrap_err();
        assert!(error.to_string().contains("nobody else can write to"), "{mode:o}: {error}");
    }
    fs::remove_dir(dir.path().join("cache")).unwrap();
    std::os::unix::fs::symlink("/tmp", dir.path().join("cache")).unwrap();
    assert!(Cache::open(dir.path()).is_err(), "a link");
}

#[test]
fn a_key_that_others_could_know_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.key");
    let key = || {
        drop(Cache::open(dir.path()).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::read(&path).unwrap()
    };
    let first = key();
    assert_eq!((first.len(), key()), (32, first.clone()), "it is kept");

    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let second = key();
    assert_ne!(second, first, "others can read it");
    fs::hard_link(&path, dir.path().join("copy")).unwrap();
    let third = key();
    assert_ne!(third, second, "it has another name");
    fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
    let fourth = key();
    assert_ne!(fourth, third, "it is a link");
    for wrong in [&fourth[..31], b"", &[&fourth[..], b"x"].concat()] {
        fs::write(&path, wrong).unwrap();
        assert_ne!(key(), wrong, "it is no key");
    }
}

#[test]
fn what_was_too_dear_is_remembered_for_its_limits() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let [engines, one, two] = [b"engines", b"the one", b"another"].map(|it| Digest::of(it));
    let limits = Compile::default();
    cache.refuse(&engines, &one, &limits, Limit::CompileTimeout);
    assert!(cache.refusal(&engines, &one, &limits).is_none(), "the machine may have been busy");

    for limit in [Limit::CompileCpuTime, Limit::CompileMemory] {
        cache.refuse(&engines, &one, &limits, limit);
        match cache.refusal(&engines, &one, &limits) {
            Some(ComponentError::TooDear { limit: remembered, .. }) => {
                assert_eq!(remembered, limit)
            }
            other => panic!("{other:?}"),
        }
    }
    let more = Compile { memory: limits.memory + 1, ..limits.clone() };
    assert!(cache.refusal(&engines, &one, &more).is_none(), "other limits");
    assert!(cache.refusal(&engines, &two, &limits).is_none(), "another component");
    assert!(cache.refusal(&two, &one, &limits).is_none(), "other engines");

    let [file] = fs::read_dir(&cache.dir).unwrap().collect::<Vec<_>>().try_into().unwrap();
    let path = file.unwrap().path();
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert!(cache.refusal(&engines, &one, &limits).is_none(), "byte {at}");
    }
}
