//! The folder of bundles: `state_dir/crashes`, which holds so many and no more.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::bundle::{Bundle, FORMAT};
use crate::guest::files::{newest_first, remove, remove_leftovers, write_by_rename};
use crate::{private, small_file};

/// Bundles kept of one app.
pub const MAX_FILES: usize = 50;

/// Bytes of bundles kept of all apps.
pub const MAX_TOTAL: u64 = 16 << 20;

/// A larger file is none of ours: all in a bundle has bounds.
const MAX_BUNDLE: u64 = 1 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// A file in the folder.
pub struct Found {
    pub path: PathBuf,
    /// What is in it, or why that cannot be told.
    pub bundle: Result<Bundle, String>,
}

impl Folder {
    /// That of the server with this `state_dir`.
    pub fn below(state_dir: &Path) -> Self {
        Self(state_dir.join("crashes"))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a bundle and removes older ones, within the bounds.
    pub fn keep(&self, bundle: &Bundle) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(bundle)?;
        private::create_dir(&self.0)?;
        remove_leftovers(&self.0, |stem| app_of(stem).is_some())?;
        // Room first, so that the bounds hold at every moment, and a full disk gets some.
        self.prune(&bundle.app, MAX_FILES - 1, MAX_TOTAL.saturating_sub(json.len() as u64))?;
        write_by_rename(&self.0.join(name(bundle)), |file| file.write_all(&json))?;
        Ok(())
    }

    /// The bundles of `app`, or of all apps, the newest first.
    ///
    /// # Errors
    /// When the folder cannot be read. One that is not there is empty.
    pub fn list(&self, app: Option<&str>) -> io::Result<Vec<PathBuf>> {
        let is_wanted = |name: &str| {
            let of = name.strip_suffix(".json").and_then(app_of);
            of.is_some_and(|of| app.is_none_or(|app| app == of))
        };
        match newest_first(&self.0, is_wanted) {
            Ok(files) => Ok(files.into_iter().map(|(_, path)| path).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What is in a file of the folder, or of another one.
    pub fn read(path: PathBuf) -> Found {
        let bundle = small_file::read(&path, MAX_BUNDLE).map_err(|error| error.to_string());
        let bundle = bundle.and_then(|(bytes, _)| {
            let bundle: Bundle =
                serde_json::from_slice(&bytes).map_err(|error| format!("not a bundle: {error}"))?;
            match bundle.format {
                FORMAT => Ok(bundle),
                other => {
                    Err(format!("a bundle of format {other}, from another version of tidegate"))
                }
            }
        });
        Found { path, bundle }
    }

    /// Leaves at most `files` of this app's bundles, and `bytes` of all, the newest.
    fn prune(&self, app: &str, files: usize, bytes: u64) -> io::Result<()> {
        let is_bundle = |name: &str| name.strip_suffix(".json").and_then(app_of).is_some();
        let (mut total, mut of_app) = (0, 0);
        for (size, path) in newest_first(&self.0, is_bundle)? {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let is_its = app_of(stem) == Some(app);
            of_app += usize::from(is_its);
            total += size;
            if total > bytes || is_its && of_app > files {
                remove(&path)?;
                total -= size;
            }
        }
        Ok(())
    }
}

/// APP-TIME-INSTANCE.json, the time as 20250131T235959.123Z.
fn name(bundle: &Bundle) -> String {
    let time: String = bundle.time.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{}-{time}-{}.json", bundle.app, bundle.instance.id)
}

/// The app of a bundle whose name is this without `.json`.
fn app_of(stem: &str) -> Option<&str> {
    let (rest, instance) = stem.rsplit_once('-')?;
    let (app, time) = rest.rsplit_once('-')?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = || {
        let (day, rest) = time.strip_suffix('Z')?.split_once('T')?;
        let seconds = rest.split_once('.').map_or(rest, |(seconds, _)| seconds);
        (day.len() == 8 && is_number(day) && is_number(seconds)).then_some(())
    };
    (is_number(instance) && is_time().is_some()).then_some(app)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    use super::super::bundle::{Component, Instance, Kind, Phase};
    use super::*;

    fn bundle(app: &str, instance: u64) -> Bundle {
        Bundle {
            format: FORMAT,
            tidegate: "0.0.0".into(),
            time: "2025-01-31T23:59:59.123Z".into(),
            app: app.into(),
            generation: 1,
            kind: Kind::Trap,
            phase: Phase::Request,
            reason: "it trapped".into(),
            backtrace: Vec::new(),
            instance: Instance {
                id: instance,
                age_seconds: 1.5,
                requests_served: 2,
                requests_in_flight: 1,
                memory_bytes: 3,
            },
            component: Component { path: "apps/a.wasm".into(), digest: "00".into() },
            request: None,
            lines: Vec::new(),
            limits: BTreeMap::new(),
            left_out: 0,
        }
    }

    /// Keeps bundles 1 to `count` of `app`, each older than the next.
    fn keep_all(folder: &Folder, app: &str, count: u64) {
        for instance in 1..=count {
            let bundle = bundle(app, instance);
            folder.keep(&bundle).unwrap();
            let age = Duration::from_secs(1000 - instance);
            let file = fs::File::open(folder.path().join(name(&bundle))).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
    }

    #[test]
    fn a_bundle_is_read_as_it_was_written_and_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::below(dir.path());
        assert!(folder.list(None).unwrap().is_empty());
        folder.keep(&bundle("shop-1", 7)).unwrap();

        let path = folder.list(Some("shop-1")).unwrap().remove(0);
        assert_eq!(path.file_name().unwrap(), "shop-1-20250131T235959.123Z-7.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(Folder::read(path).bundle, Ok(bundle("shop-1", 7)));
        assert!(folder.list(Some("shop")).unwrap().is_empty());
    }

    #[test]
    fn an_app_keeps_its_newest_and_leaves_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::below(dir.path());
        keep_all(&folder, "shop-1", 2);
        keep_all(&folder, "shop", MAX_FILES as u64 + 3);
        let kept = folder.list(Some("shop")).unwrap();
        assert_eq!(kept.len(), MAX_FILES);
        let oldest = Folder::read(kept.last().unwrap().clone()).bundle.unwrap();
        assert_eq!(oldest.instance.id, 4);
        assert_eq!(folder.list(None).unwrap().len(), MAX_FILES + 2);
    }

    #[test]
    fn all_apps_together_keep_so_many_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::below(dir.path());
        keep_all(&folder, "a", 3);
        let size = fs::metadata(&folder.list(None).unwrap()[0]).unwrap().len();
        folder.prune("b", MAX_FILES, size * 2).unwrap();
        assert_eq!(folder.list(None).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_bundle_is_left_alone() {
        for stem in ["notes", "a-b-1", "a-20250131T235959.123Z-x", "a-2025T1Z-1", "-1", "Z-1"] {
            assert_eq!(app_of(stem), None, "{stem}");
        }
        assert_eq!(app_of("a.b-c-20250131T235959Z-12"), Some("a.b-c"));
    }
}
