//! Which route answers which path of a host.

use percent_encoding::percent_decode;

use super::Route;

/// Path prefixes of one host, longest first; `/` is one of them or nothing else matches.
///
/// Prefixes are compared with the path as the client sent it: nothing is
/// decoded, no `.`, `..` or `//` is resolved. So `/api` matches `/api`,
/// `/api/`, `/api/users` and `/api/../x`, but not `/apix`, `//api` or
/// `/%61pi`. An app that guards something by its path must judge the path it
/// is handed, as the routing has promised nothing about what it means. Folders of files do: what
/// means a path below a nearer prefix than its own is not found there, see [`Paths::means_nearer`].
///
/// A host served from a folder has no prefix at all: the names below it that no
/// file answers for are not found, whatever `*` is mapped to.
#[derive(Clone, Debug, PartialEq)]
pub struct Paths<T = Route>(Vec<(String, T)>);

impl Paths {
    /// Whether a route of `prefix` could answer for `path`.
    pub fn prefix_matches(prefix: &str, path: &str) -> bool {
        matches(prefix, path)
    }
}

impl<T> Paths<T> {
    /// Every path to one route.
    pub(super) fn all(route: T) -> Paths<T> {
        Paths(vec![("/".to_owned(), route)])
    }

    /// No path to any route.
    pub(super) fn none() -> Paths<T> {
        Paths(Vec::new())
    }

    /// Prefixes as [`normalise`] returns them, no two alike, in any order.
    pub(super) fn new(mut prefixes: Vec<(String, T)>) -> Paths<T> {
        prefixes.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        Paths(prefixes)
    }

    /// The route whose prefix is the longest that matches `path` on segment boundaries.
    ///
    /// `path` is the request's path without its query. `/` matches whatever
    /// there is, also the `*` of `OPTIONS *`.
    pub fn find(&self, path: &str) -> Option<&T> {
        self.0.iter().find(|(prefix, _)| matches(prefix, path)).map(|(_, route)| route)
    }

    /// The route of exactly this prefix.
    pub fn get(&self, prefix: &str) -> Option<&T> {
        self.0.iter().find(|(other, _)| other == prefix).map(|(_, route)| route)
    }

    /// Whether what `path` means is below a prefix that is longer than `prefix`, which it matches.
    ///
    /// Prefixes mean what is escaped in them as well: `/caf%C3%A9` is also `/caf%c3%a9`.
    pub fn means_nearer(&self, prefix: &str, path: &str) -> bool {
        let length = |prefix: &str| percent_decode(prefix.as_bytes()).count();
        let own = length(prefix);
        self.0.iter().any(|(other, _)| length(other) > own && means(other, path))
    }

    /// The prefixes and their routes, longest first; without a trailing `/` but for `/` itself.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(prefix, route)| (prefix.as_str(), route))
    }

    /// The same prefixes with what `make` makes of each and its route.
    pub fn map<U>(&self, mut make: impl FnMut(&str, &T) -> U) -> Paths<U> {
        Paths(self.0.iter().map(|(prefix, route)| (prefix.clone(), make(prefix, route))).collect())
    }
}

fn matches(prefix: &str, path: &str) -> bool {
    prefix == "/"
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// As [`matches`], by what both mean. Decoded once, as names of files are.
fn means(prefix: &str, path: &str) -> bool {
    let mut path = percent_decode(path.as_bytes());
    prefix == "/"
        || percent_decode(prefix.as_bytes()).all(|byte| path.next() == Some(byte))
            && matches!(path.next(), None | Some(b'/'))
}

/// The form of a prefix that [`Paths`] compares, or what is wrong with it and what to write.
///
/// `/api/` is `/api`: a prefix always matches itself and everything below it.
pub(super) fn normalise(prefix: &str) -> Result<String, (String, String)> {
    if !prefix.starts_with('/') {
        return Err(("a path prefix starts with `/`".to_owned(), format!("write \"/{prefix}\"")));
    }

    let bare = prefix.strip_suffix('/').unwrap_or(prefix);
    if bare.is_empty() {
        return Ok("/".to_owned());
    }

    // What a client never sends can never match, so it is a mistake.
    for segment in bare.split('/').skip(1) {
        if matches!(segment, "" | "." | "..") {
            let found = if segment.is_empty() { "//".to_owned() } else { format!("/{segment}/") };
            let message =
                format!("a path prefix has no `{found}`: paths are compared as they are sent");
            return Err((message, "write the path as the client requests it".to_owned()));
        }
    }
    if bare.contains(['?', '#']) {
        let end = bare.find(['?', '#']).unwrap_or(bare.len());
        return Err((
            "a path prefix has no query".to_owned(),
            format!("write \"{}\"", &bare[..end]),
        ));
    }
    if !bare.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "a path prefix is compared with the percent-encoded path".to_owned();
        return Err((message, format!("write \"{}\"", percent_encoded(prefix))));
    }
    Ok(bare.to_owned())
}

fn percent_encoded(path: &str) -> String {
    path.bytes()
        .map(|byte| {
            if byte.is_ascii_graphic() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(prefixes: &[(&str, &'static str)]) -> Paths<&'static str> {
        let entry = |(prefix, route): &(&str, &'static str)| (normalise(prefix).unwrap(), *route);
        Paths::new(prefixes.iter().map(entry).collect())
    }

    fn find(paths: &Paths<&'static str>, path: &str) -> Option<&'static str> {
        paths.find(path).copied()
    }

    #[test]
    fn the_longest_prefix_wins_on_segment_boundaries() {
        let paths = paths(&[("/", "shop"), ("/api/", "api"), ("/api/v2", "v2")]);

        assert_eq!(find(&paths, "/"), Some("shop"));
        assert_eq!(find(&paths, "/apix"), Some("shop"));
        assert_eq!(find(&paths, "/api"), Some("api"));
        assert_eq!(find(&paths, "/api/"), Some("api"));
        assert_eq!(find(&paths, "/api/v20"), Some("api"));
        assert_eq!(find(&paths, "/api/v2/x"), Some("v2"));
        assert_eq!(find(&paths, "*"), Some("shop"));
        assert_eq!(find(&paths, ""), Some("shop"));
    }

    #[test]
    fn nothing_is_decoded_or_resolved() {
        let paths = paths(&[("/api", "api")]);

        assert_eq!(find(&paths, "/api/../secret"), Some("api"));
        assert_eq!(find(&paths, "//api"), None);
        assert_eq!(find(&paths, "/x/../api"), None);
        assert_eq!(find(&paths, "/%61pi"), None);
        assert_eq!(find(&paths, "/API"), None);
    }

    #[test]
    fn an_escape_hides_no_nearer_prefix() {
        let paths = paths(&[("/", "all"), ("/private", "guarded"), ("/caf%C3%A9/x", "guarded")]);

        for path in ["/%70rivate", "/privat%65/a", "/%70rivate%2Fa", "/caf%c3%a9/x", "/café/%78/a"]
        {
            assert!(paths.means_nearer("/", path), "{path}");
        }
        for path in ["/", "/a", "/%70rivateer", "/%2570rivate", "/priv%zzate", "/caf%C3%A9", "/%"] {
            assert!(!paths.means_nearer("/", path), "{path}");
        }
        assert!(!paths.means_nearer("/private", "/private/%61"));
        assert!(!paths.means_nearer("/caf%C3%A9/x", "/caf%C3%A9/x/private"));
    }

    #[test]
    fn a_prefix_may_be_written_escaped() {
        // Longer as it is written, and shorter in what it means.
        let paths = paths(&[("/%70%71", "outer"), ("/pq/r", "inner")]);
        assert!(paths.means_nearer("/%70%71", "/%70%71/r"));
        assert!(!paths.means_nearer("/pq/r", "/pq/r"));
    }

    #[test]
    fn without_a_root_other_paths_find_nothing() {
        let paths = paths(&[("/api", "api")]);
        assert_eq!(find(&paths, "/"), None);
        assert_eq!(find(&paths, ""), None);
        assert_eq!(find(&Paths::none(), "/"), None);
    }

    #[test]
    fn a_prefix_that_can_never_match_is_refused() {
        for bad in
            ["", "api", "//", "/a//b", "/a/../b", "/./a", "/..", "/a?b", "/a#b", "/a b", "/é"]
        {
            assert!(normalise(bad).is_err(), "{bad:?}");
        }
        assert_eq!(normalise("/café/").unwrap_err().1, "write \"/caf%C3%A9/\"");
    }
}
