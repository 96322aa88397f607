//! The interfaces that guests may import, by name, and which version of each is here.
//!
//! wasmtime's linker cannot be asked what it holds, and its own error names the
//! first missing import only. The table is held against the linker and `wit/`
//! by a test.

/// The 0.2 version that the linkers provide; any 0.2 import up to it links.
pub const P2_VERSION: &str = "0.2.12";

/// The 0.3 version that the concurrent linker provides.
pub const P3_VERSION: &str = "0.3.0";

/// Interfaces at [`P2_VERSION`], on both engines.
pub const P2: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Interfaces at [`P3_VERSION`], on the concurrent engine.
pub const P3: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/types",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:clocks/types",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/client",
    "wasi:http/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/types",
];

/// What is known of one import.
#[derive(Debug, PartialEq, Eq)]
pub enum Support {
    Provided,
    /// Missing; with the nearest thing that is provided, if any.
    Missing(Option<String>),
}

/// Whether the linker has `import`, such as `wasi:http/types@0.2.3`.
pub fn support(import: &str) -> Support {
    let Some((name, version)) = import.split_once('@') else {
        return Support::Missing(None);
    };
    let p2 = P2.contains(&name);
    let p3 = P3.contains(&name);
    let nearest = match (p2, p3) {
        (true, true) if version.starts_with("0.3") => Some(format!("{name}@{P3_VERSION}")),
        (true, _) => Some(format!("{name}@{P2_VERSION}")),
        (false, true) => Some(format!("{name}@{P3_VERSION}")),
        (false, false) => None,
    };
    let track = Version::parse(version).and_then(|version| version.track());
    let has =
        |provided| track.is_some() && track == Version::parse(provided).and_then(|v| v.track());
    match p2 && has(P2_VERSION) || p3 && has(P3_VERSION) {
        true => Support::Provided,
        false => Support::Missing(nearest),
    }
}

/// A semantic version, as far as wasmtime's linker looks at it.
#[derive(Clone, Copy)]
pub struct Version {
    numbers: [u64; 3],
    prerelease: bool,
}

impl Version {
    pub fn parse(text: &str) -> Option<Self> {
        // Build metadata tells builds of one version apart, and may hold anything.
        let text = text.split_once('+').map_or(text, |(version, _build)| version);
        let (text, prerelease) = match text.split_once('-') {
            Some((version, _)) => (version, true),
            None => (text, false),
        };
        let mut numbers = text.split('.').map(|number| number.parse().ok());
        let version = [numbers.next()??, numbers.next()??, numbers.next()??];
        numbers.next().is_none().then_some(Self { numbers: version, prerelease })
    }

    /// Its numbers, unless it is a prerelease.
    pub fn release(self) -> Option<[u64; 3]> {
        (!self.prerelease).then_some(self.numbers)
    }

    /// What all versions have in common that link with one another.
    fn track(self) -> Option<[u64; 2]> {
        match self.release()? {
            [0, 0, _] => None,
            [0, minor, _] => Some([0, minor]),
            [major, ..] => Some([major, 0]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_judged_by_name_and_version() {
        assert_eq!(support("wasi:http/types@0.2.3"), Support::Provided);
        assert_eq!(support("wasi:http/types@0.3.0"), Support::Provided);
        assert_eq!(
            support("wasi:http/types@0.3.0-rc-2026-01-06"),
            Support::Missing(Some(format!("wasi:http/types@{P3_VERSION}")))
        );
        assert_eq!(
            support("wasi:http/client@0.2.0"),
            Support::Missing(Some(format!("wasi:http/client@{P3_VERSION}")))
        );
        assert_eq!(support("acme:thing/store@1.0.0"), Support::Missing(None));
        assert_eq!(support("acme:thing/store"), Support::Missing(None));
    }

    #[test]
    fn build_metadata_is_ignored() {
        assert_eq!(support("wasi:http/types@0.2.3+abc"), Support::Provided);
        assert_eq!(support("wasi:http/types@0.2.3+abc-def.1"), Support::Provided);
        assert_ne!(support("wasi:http/types@0.3.0-rc-1+abc"), Support::Provided);
    }

    #[test]
    fn what_is_no_version_is_missing() {
        for version in ["", "0.2", "0.2.", "0.2.0.0", "0.2.x", "0.0.2", "1.2.0"] {
            assert_ne!(support(&format!("wasi:http/types@{version}")), Support::Provided);
        }
    }
}
