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
    let provided = !version.contains('-')
        && (p2 && links(version, P2_VERSION) || p3 && links(version, P3_VERSION));
    match provided {
        true => Support::Provided,
        false => Support::Missing(nearest),
    }
}

/// Whether an import of `wanted` links against `provided`, on the same 0.x track.
fn links(wanted: &str, provided: &str) -> bool {
    let parse = |version: &str| -> Option<[u32; 3]> {
        let mut parts = version.split('.').map(|part| part.parse().ok());
        Some([parts.next()??, parts.next()??, parts.next()??])
    };
    match (parse(wanted), parse(provided)) {
        (Some(wanted), Some(provided)) => wanted[..2] == provided[..2],
        _ => false,
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
    }
}
