//! The world a component was made for, told by what it exports.

use super::interfaces::Version;

/// The world a file was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum World {
    /// `wasi:http/incoming-handler` of this version.
    P2(String),
    /// `wasi:http/handler` of this version.
    P3(String),
    /// Something else; what, and what to do about it.
    Other(String),
}

const P2_EXPORT: &str = "wasi:http/incoming-handler";
const P3_EXPORT: &str = "wasi:http/handler";

/// Exports named in a message; a hostile file may have a million.
const MAX_NAMED: usize = 8;

impl World {
    /// The best of the handlers among a component's exports, or what it is instead.
    pub fn of(exports: &[String]) -> Self {
        if let Some(version) = handler(exports, P3_EXPORT, [0, 3]) {
            return Self::P3(version.into());
        }
        if let Some(version) = handler(exports, P2_EXPORT, [0, 2]) {
            return Self::P2(version.into());
        }
        Self::Other(match exports.iter().find_map(|export| unservable(export)) {
            Some(what) => what,
            None if exports.is_empty() => {
                "a component that exports nothing; it may be cut short".into()
            }
            None => format!(
                "a component that exports {} and no HTTP handler; unless it is cut short, \
                 it was not built for wasi:http",
                listed(exports)
            ),
        })
    }
}

/// The version of the first export of `interface` on the `track` that is served.
fn handler<'a>(exports: &'a [String], interface: &str, track: [u64; 2]) -> Option<&'a str> {
    exports.iter().find_map(|export| {
        let (name, version) = export.split_once('@')?;
        let served = Version::parse(version)?.release()?[..2] == track;
        (name == interface && served).then_some(version)
    })
}

/// What to do about an export that shows what the component was meant for.
fn unservable(export: &str) -> Option<String> {
    let (name, version) = export.split_once('@').unwrap_or((export, ""));
    let (due, other) = match name {
        P3_EXPORT => ("wasi:http 0.3.0", "0.3"),
        P2_EXPORT => ("wasi:http 0.2.0 or newer", "0.2"),
        "wasi:cli/run" => {
            return Some(
                "a command component (it exports wasi:cli/run), not a server; \
                 export wasi:http/incoming-handler instead"
                    .into(),
            );
        }
        _ => return None,
    };
    Some(match Version::parse(version) {
        Some(version) if version.release().is_none() => {
            format!("a component for the unfinished `{export}`; rebuild it against {due}")
        }
        _ => format!(
            "a component for `{export}`, and only {other} of it is served; rebuild it against {due}"
        ),
    })
}

/// The first few of `names`, and how many there are besides.
pub fn listed(names: &[String]) -> String {
    let named = names[..names.len().min(MAX_NAMED)].join(", ");
    match names.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(exports: &[&str]) -> World {
        World::of(&exports.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    fn other(exports: &[&str]) -> String {
        match world(exports) {
            World::Other(what) => what,
            world => panic!("{world:?}"),
        }
    }

    #[test]
    fn a_release_candidate_does_not_hide_a_good_handler() {
        let rc = "wasi:http/handler@0.3.0-rc-2026-01-06";
        let p3 = World::P3("0.3.0".into());
        assert_eq!(world(&[rc, "wasi:http/handler@0.3.0"]), p3);
        assert_eq!(world(&["wasi:http/handler@0.3.0", rc]), p3);
        let p2 = "wasi:http/incoming-handler@0.2.6";
        assert_eq!(world(&[rc, p2]), World::P2("0.2.6".into()));
    }

    #[test]
    fn build_metadata_says_nothing_about_the_world() {
        let p2 = world(&["wasi:http/incoming-handler@0.2.3+built-on-monday"]);
        assert_eq!(p2, World::P2("0.2.3+built-on-monday".into()));
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        assert!(other(&["wasi:http/handler@0.3.0-rc-1"]).contains("the unfinished"));
        assert!(other(&["wasi:http/handler@0.4.0"]).contains("only 0.3 of it is served"));
        assert!(other(&["wasi:http/handler"]).contains("only 0.3 of it is served"));
        assert!(other(&["wasi:cli/run@0.2.0"]).contains("a command component"));
        assert!(other(&[]).contains("cut short"));
        let many = vec!["acme:thing/store@1.0.0"; 100];
        assert!(other(&many).contains("and 92 more"), "{}", other(&many));
    }
}
