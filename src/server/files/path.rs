//! From a request's path to a file's name below the folder.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use percent_encoding::percent_decode;

/// A file's name in a file system, at the most.
const NAME_MAX: usize = 255;

/// The one hidden folder that is for everyone, see RFC 8615.
const WELL_KNOWN: &[u8] = b".well-known";

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub struct Name {
    /// Relative; `.` for the folder itself.
    pub path: PathBuf,
    /// Whether it is written with a `/` at its end.
    pub is_folder: bool,
}

/// The name that `path` means below `prefix`, or none where no file has such a name.
///
/// A file has one name only. What others may take for the same, or for one outside of the folder,
/// is none: `.` and `..`, empty parts, and `/`, `\`, NUL and other control characters that were
/// escaped. Nothing is decoded twice. Hidden files are hidden.
pub fn name(path: &str, prefix: &str) -> Option<Name> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    // The route's prefix itself, without its slash.
    let Some(rest) = rest.strip_prefix('/') else {
        return rest.is_empty().then(|| Name { path: PathBuf::from("."), is_folder: false });
    };
    if rest.is_empty() {
        return Some(Name { path: PathBuf::from("."), is_folder: true });
    }
    let parts = rest.strip_suffix('/').unwrap_or(rest);
    let mut path = PathBuf::new();
    for (depth, part) in parts.split('/').enumerate() {
        if !is_escaped_well(part) {
            return None;
        }
        let part: Vec<u8> = percent_decode(part.as_bytes()).collect();
        let hidden = part.first() == Some(&b'.') && !(depth == 0 && part == WELL_KNOWN);
        let odd = |byte: &u8| matches!(byte, 0..=0x1f | 0x7f | b'/' | b'\\');
        if part.is_empty() || part.len() > NAME_MAX || hidden || part.iter().any(odd) {
            return None;
        }
        path.push(OsStr::from_bytes(&part));
    }
    Some(Name { path, is_folder: rest.ends_with('/') })
}

/// Whether each `%` is followed by two digits: anything else means different bytes to different readers.
fn is_escaped_well(part: &str) -> bool {
    let after = part.split('%').skip(1);
    after.map(str::as_bytes).all(|after| {
        after.len() >= 2 && after[0].is_ascii_hexdigit() && after[1].is_ascii_hexdigit()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(path: &str, prefix: &str) -> Option<(String, bool)> {
        let name = name(path, prefix)?;
        Some((name.path.to_str().unwrap().to_owned(), name.is_folder))
    }

    #[test]
    fn a_path_names_a_file_below_the_prefix() {
        let some = |path: &str, is_folder| Some((path.to_owned(), is_folder));
        assert_eq!(plain("/a/b.js", "/"), some("a/b.js", false));
        assert_eq!(plain("/a/", "/"), some("a", true));
        assert_eq!(plain("/", "/"), some(".", true));
        assert_eq!(plain("/static/a.js", "/static"), some("a.js", false));
        assert_eq!(plain("/static", "/static"), some(".", false));
        assert_eq!(plain("/static/", "/static"), some(".", true));
        assert_eq!(plain("/a%20b/%C3%BC", "/"), some("a b/ü", false));
        assert_eq!(plain("/100%25", "/"), some("100%", false));
        assert_eq!(plain("/%2561", "/"), some("%61", false), "decoded once");
        assert_eq!(plain("/.well-known/x", "/"), some(".well-known/x", false));
        assert_eq!(plain("/a..b/c..", "/"), some("a..b/c..", false));
    }

    #[test]
    fn what_is_no_name_is_none() {
        for path in [
            "/..",
            "/../a",
            "/a/..",
            "/a/../b",
            "/.",
            "/./a",
            "/%2e%2e/a",
            "/.%2e/a",
            "//a",
            "/a//b",
            "/a//",
            "/a%2fb",
            "/a%2Fb",
            "/%2f",
            "/a%5cb",
            "/..%5ca",
            "/a%00",
            "/%00",
            "/a%0a",
            "/a%7f",
            "/%",
            "/%2",
            "/%zz",
            "/a%2",
            "/.env",
            "/.git/config",
            "/a/.well-known/x",
            "/.well-known/.x",
        ] {
            assert_eq!(name(path, "/"), None, "{path}");
        }
        assert_eq!(name(&format!("/{}", "a".repeat(256)), "/"), None);
        assert_eq!(name("/staticfile", "/static"), None);
    }

    proptest! {
        #[test]
        fn no_name_leaves_its_folder(path in "/[./%2efF5cC0\\\\a]{0,24}") {
            if let Some(name) = name(&path, "/") {
                let parts: Vec<_> = name.path.as_os_str().as_bytes().split(|byte| *byte == b'/').collect();
                prop_assert!(!name.path.is_absolute());
                prop_assert!(name.path.as_os_str() == "." || parts.iter().all(|part| !part.is_empty() && part[0] != b'.'));
            }
        }
    }
}
