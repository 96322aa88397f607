//! Profiles in their directory: each whole or not there, within the caps on number and size.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use crate::config;
use crate::guest::files::{newest_first, remove, remove_leftovers, write_by_rename};

/// Digits of a request's id in a name.
const REQUEST_DIGITS: usize = 16;

/// A profile in its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Of its file.
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub written: SystemTime,
}

/// Writes a profile of `app` and removes older ones, within the caps.
pub(super) fn keep(
    settings: &config::Profile,
    app: &str,
    name: &str,
    json: &[u8],
) -> io::Result<()> {
    let size = json.len() as u64;
    if size > settings.max_total_size {
        return Err(io::Error::other(format!("its {size} bytes are more than max_total_size")));
    }
    let dir = &settings.dir;
    fs::create_dir_all(dir)?;
    remove_leftovers(dir, |stem| is_of(stem, app))?;
    // Room first, so that the caps hold at every moment; and again after, for
    // the profiles that other stores wrote meanwhile.
    prune(dir, app, settings.max_files.get() - 1, settings.max_total_size - size)?;
    write_by_rename(&dir.join(name), |file| file.write_all(json))?;
    prune(dir, app, settings.max_files.get(), settings.max_total_size)
}

/// The profiles of `app` in `dir`, the newest first. None where there is no directory yet.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(dir: &Path, app: &str) -> io::Result<Vec<Stored>> {
    let files = match newest_first(dir, |name| is_profile(name, app)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let stored = files.into_iter().filter_map(|(size, path)| {
        let name = path.file_name()?.to_str()?.to_owned();
        // Another may remove it meanwhile.
        let written = fs::metadata(&path).and_then(|meta| meta.modified()).ok()?;
        Some(Stored { name, size, written })
    });
    Ok(stored.collect())
}

/// The content of one of them, if there is one of that name.
///
/// # Errors
/// When it cannot be read.
pub fn read(settings: &config::Profile, app: &str, name: &str) -> io::Result<Option<Vec<u8>>> {
    // A name that is one of a profile has no separators, and so leads nowhere else.
    if !is_profile(name, app) {
        return Ok(None);
    }
    let file = match File::open(settings.dir.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut json = Vec::new();
    file.take(settings.max_total_size).read_to_end(&mut json)?;
    Ok(Some(json))
}

/// Leaves at most `files` of this app's profiles and `bytes` in all, the newest.
fn prune(dir: &Path, app: &str, files: usize, bytes: u64) -> io::Result<()> {
    let mut total = 0;
    let all = newest_first(dir, |name| is_profile(name, app))?;
    for (kept, (size, path)) in all.into_iter().enumerate() {
        total += size;
        if kept >= files || total > bytes {
            remove(&path)?;
        }
    }
    Ok(())
}

fn is_profile(name: &str, app: &str) -> bool {
    name.strip_suffix(".json").is_some_and(|stem| is_of(stem, app))
}

/// Whether `stem` is APP-GENERATION-INSTANCE, or that with -REQUEST. Apps may share a directory,
/// and one's name may begin with another's.
fn is_of(stem: &str, app: &str) -> bool {
    let Some(rest) = stem.strip_prefix(app).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    // Shorter than a request, so that none is taken for the other.
    let is_number = |part: &str| {
        (1..REQUEST_DIGITS).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_request = |part: &str| {
        part.len() == REQUEST_DIGITS
            && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    match rest.split('-').collect::<Vec<_>>()[..] {
        [generation, instance] => is_number(generation) && is_number(instance),
        [generation, instance, request] => {
            is_number(generation) && is_number(instance) && is_request(request)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(dir: &Path, files: usize, bytes: u64) -> config::Profile {
        config::Profile {
            interval: Duration::from_millis(1),
            sample: 1.try_into().unwrap(),
            when: config::When::Always,
            dir: dir.join("profiles"),
            max_files: files.try_into().unwrap(),
            max_total_size: bytes,
        }
    }

    fn names(settings: &config::Profile) -> Vec<String> {
        let entries = fs::read_dir(&settings.dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// Writes profiles 1 to `count` of `app`, each of 100 bytes and older than the next.
    fn keep_all(settings: &config::Profile, app: &str, count: u64) {
        for instance in 1..=count {
            let name = format!("{app}-1-{instance}.json");
            keep(settings, app, &name, &[b' '; 100]).unwrap();
            let written = fs::File::open(settings.dir.join(name)).unwrap();
            let age = Duration::from_secs(100 - instance);
            written.set_modified(std::time::SystemTime::now() - age).unwrap();
        }
    }

    #[test]
    fn the_newest_profiles_stay_up_to_max_files() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), 3, 1 << 20);
        keep_all(&settings, "app", 5);
        assert_eq!(names(&settings), ["app-1-3.json", "app-1-4.json", "app-1-5.json"]);
    }

    #[test]
    fn the_newest_profiles_stay_up_to_max_total_size() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), 100, 250);
        keep_all(&settings, "app", 5);
        assert_eq!(names(&settings), ["app-1-4.json", "app-1-5.json"]);
    }

    #[test]
    fn a_profile_larger_than_the_cap_is_not_kept_and_removes_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), 100, 250);
        keep_all(&settings, "app", 1);
        assert!(keep(&settings, "app", "app-1-2.json", &[b' '; 251]).is_err());
        assert_eq!(names(&settings), ["app-1-1.json"]);
    }

    #[test]
    fn an_app_leaves_the_profiles_of_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), 1, 1 << 20);
        keep_all(&settings, "shop-1", 1);
        keep_all(&settings, "shop-api", 1);
        keep_all(&settings, "shop", 2);
        assert_eq!(names(&settings), ["shop-1-1-1.json", "shop-1-2.json", "shop-api-1-1.json"]);
    }

    #[test]
    fn a_name_says_whose_profile_it_is() {
        for name in ["shop-1-2", "shop-12-1-00112233445566ff"] {
            assert!(is_of(name, "shop"), "{name}");
        }
        for name in [
            "shop",
            "shop-1",
            "shop-1-1-1",
            "shop-1-+1",
            "shop-1-9999999999999999",
            "shop-1-",
            "shop-1-1-00112233445566FF",
            "shop-1-1-../../../x",
            "shop-1-1-00112233445566ff-1",
            "shopping-1-1",
        ] {
            assert!(!is_of(name, "shop"), "{name}");
        }
        // One app's name, or request, may look like a part of another's.
        assert!(!is_of("shop-1-1-1234567890123456", "shop-1"));
        assert!(!is_of("shop-1-1-00112233445566ff", "shop-1"));
        assert!(is_of("shop-1-1-1-00112233445566ff", "shop-1"));
        assert!(!is_of("shop-1-1-1-00112233445566ff", "shop"));
    }

    #[test]
    fn what_is_there_is_listed_and_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), 10, 1 << 20);
        assert_eq!(list(&settings.dir, "shop").unwrap(), []);
        keep_all(&settings, "shop", 2);
        keep_all(&settings, "other", 1);
        fs::write(dir.path().join("secret.json"), "secret").unwrap();

        let listed = list(&settings.dir, "shop").unwrap();
        let names: Vec<_> = listed.iter().map(|stored| (&*stored.name, stored.size)).collect();
        assert_eq!(names, [("shop-1-2.json", 100), ("shop-1-1.json", 100)]);
        assert_eq!(read(&settings, "shop", "shop-1-1.json").unwrap(), Some(vec![b' '; 100]));
        for name in ["shop-1-3.json", "other-1-1.json", "../secret.json", "/etc/passwd", ""] {
            assert_eq!(read(&settings, "shop", name).unwrap(), None, "{name}");
        }
    }
}
