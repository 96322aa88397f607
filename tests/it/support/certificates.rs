//! Certificates such as an operator has: a root, and pairs of certificate and key that it signed.

use std::sync::LazyLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use time::{Duration, OffsetDateTime};

use super::server::Site;

/// A certificate and its key.
pub struct Pair {
    pub cert: String,
    pub key: String,
    /// The certificate as a client sees it.
    pub der: Vec<u8>,
}

static ROOT: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // By another name than the pairs have: OpenSSL takes those for signed by themselves otherwise.
    params.distinguished_name.push(DnType::CommonName, "the root of the tests");
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root")
});

/// The root that signed every [`pair`], as PEM.
pub fn root() -> String {
    ROOT.pem()
}

/// A new pair for `host`.
pub fn pair(host: &str) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([host.to_owned()]).expect("a host name");
    let cert = params.signed_by(&key, &**ROOT).expect("a certificate");
    Pair { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().to_vec() }
}

/// An authority that signs the certificates of clients.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a client, which expires after `life`.
    pub fn client(&self, name: &str, life: Duration) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
        params.not_after = OffsetDateTime::now_utc() + life;
        let cert = params.signed_by(&key, &*self.0).expect("a certificate");
        Pair { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().to_vec() }
    }
}

impl Pair {
    /// Writes both files, `certs/NAME.pem` first.
    pub fn put(&self, site: &Site, name: &str) {
        site.put(&format!("certs/{name}.pem"), self.cert.as_bytes());
        site.put(&format!("certs/{name}.key"), self.key.as_bytes());
    }
}
