//! Folders whose components are served as hosts.

use std::fs;
use std::io;
use std::path::Path;

/// Components in one folder at the most.
pub(super) const MAX_FOLDER_APPS: usize = 4096;

/// What a folder holds: a name for each component, and why other files are left alone.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Without `.wasm`, sorted; each a lower-case DNS label.
    pub names: Vec<String>,
    pub warnings: Vec<String>,
}

/// Lists the components directly in `folder`, which messages call `shown`.
///
/// A folder that is not there is an empty one: it may be made later. Fails
/// beyond [`MAX_FOLDER_APPS`] rather than serve an arbitrary part.
pub(super) fn list(folder: &Path, shown: &str) -> io::Result<Contents> {
    let mut contents = Contents::default();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            contents
                .warnings
                .push(format!("{shown}: no such folder yet, so no hosts come from it"));
            return Ok(contents);
        }
        Err(error) => return Err(error),
    };

    for entry in entries {
        let entry = entry?;
        let file_name = entry.file_name();
        let file_name = file_name.to_string_lossy();
        // Hidden files and other suffixes are how components arrive: copied aside, then renamed.
        let Some(name) = file_name.strip_suffix(".wasm").filter(|_| !file_name.starts_with('.'))
        else {
            continue;
        };

        if !is_label(name) {
            let rename = label_like(name)
                .map_or(String::new(), |label| format!("; rename it to {label}.wasm"));
            contents.warnings.push(format!(
                "{shown}/{file_name} is not served: its name is to be a part of a host, lower-case letters, digits and `-`{rename}"
            ));
            continue;
        }
        // Through links; one that leads nowhere is a component that is missing, not one that was removed.
        if fs::metadata(entry.path()).is_ok_and(|metadata| !metadata.is_file()) {
            contents.warnings.push(format!("{shown}/{file_name} is not served: it is not a file"));
            continue;
        }
        if contents.names.len() == MAX_FOLDER_APPS {
            return Err(io::Error::other(format!(
                "it holds more than {MAX_FOLDER_APPS} components"
            )));
        }
        contents.names.push(name.to_owned());
    }

    // The order of a directory is arbitrary, and a reload compares.
    contents.names.sort();
    contents.warnings.sort();
    Ok(contents)
}

fn is_label(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn label_like(name: &str) -> Option<String> {
    let label = name.to_ascii_lowercase().replace(['_', ' ', '.'], "-");
    is_label(&label).then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "").unwrap();
        }
        folder
    }

    #[test]
    fn components_are_listed_by_name_and_other_files_left_alone() {
        let folder = folder(&["b.wasm", "a.wasm", ".hidden.wasm", "c.wasm.tmp", "notes.txt"]);
        let contents = list(folder.path(), "apps").unwrap();
        assert_eq!(contents.names, ["a", "b"]);
        assert!(contents.warnings.is_empty());
    }

    #[test]
    fn a_file_that_can_be_no_host_is_named_with_what_to_call_it() {
        let folder = folder(&["My_App.wasm", "-.wasm"]);
        fs::create_dir(folder.path().join("dir.wasm")).unwrap();
        let contents = list(folder.path(), "apps").unwrap();
        assert!(contents.names.is_empty());
        assert_eq!(contents.warnings.len(), 3);
        assert!(
            contents.warnings[1].ends_with("rename it to my-app.wasm"),
            "{:?}",
            contents.warnings
        );
        assert!(contents.warnings[2].ends_with("it is not a file"), "{:?}", contents.warnings);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_a_dangling_one_is_still_an_app() {
        let folder = folder(&["real.wasm"]);
        std::os::unix::fs::symlink("real.wasm", folder.path().join("linked.wasm")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling.wasm")).unwrap();
        assert_eq!(list(folder.path(), "apps").unwrap().names, ["dangling", "linked", "real"]);
    }

    #[test]
    fn a_missing_folder_is_empty_and_said() {
        let folder = folder(&[]);
        let contents = list(&folder.path().join("later"), "later").unwrap();
        assert!(contents.names.is_empty());
        assert_eq!(contents.warnings.len(), 1);
    }

    #[test]
    fn too_many_components_are_an_error() {
        let folder = folder(&[]);
        for n in 0..=MAX_FOLDER_APPS {
            fs::write(folder.path().join(format!("a{n}.wasm")), "").unwrap();
        }
        assert!(list(folder.path(), "apps").unwrap_err().to_string().contains("4096"));
    }
}
