//! `[tls]`: what every handshake is like.

use super::read::Table;

/// What every handshake is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    pub min_version: TlsVersion,
    /// Whether a handshake for no host, or for one that is not served, is refused.
    pub strict_sni: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// Reads `[tls]`, but for its certificates.
pub(super) fn tls(table: &mut Table<'_>) -> Tls {
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    Tls {
        min_version: table
            .take("min_version", |value| value.one_of(&versions))
            .unwrap_or(TlsVersion::V1_2),
        strict_sni: table.take("strict_sni", |value| value.flag()).unwrap_or(false),
    }
}
