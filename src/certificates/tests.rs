use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::*;

/// A manifest with these hosts and certificates, read, and the directory it is in.
struct Site {
    dir: TempDir,
}

impl Site {
    fn new(hosts: &str, certificates: &str) -> Site {
        let site = Site { dir: tempfile::tempdir().unwrap() };
        site.put("app.wasm", "");
        site.put(
            "config.toml",
            &format!(
                "[apps.app]\ncomponent = \"app.wasm\"\n[hosts]\n{hosts}\n[tls.certificates]\n{certificates}\n"
            ),
        );
        site
    }

    /// One certificate, in `a.pem` and `a.key`, for the one host `a.test`.
    fn with_one() -> Site {
        let given = r#""a.test" = { cert = "a.pem", key = "a.key" }"#;
        let site = Site::new(r#""a.test" = "app""#, given);
        site.put_pair("a", &["a.test"], 0..90);
        site
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        if name.ends_with(".key") {
            self.set_mode(name, 0o600);
        }
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A certificate for `names` that is valid on these days from now.
    fn put_pair(&self, file: &str, names: &[&str], days: std::ops::Range<i64>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let now = OffsetDateTime::now_utc();
        params.not_before = now + Duration::days(days.start) - Duration::hours(1);
        params.not_after = now + Duration::days(days.end) - Duration::hours(1);
        self.put(&format!("{file}.pem"), &params.self_signed(&key).unwrap().pem());
        self.put(&format!("{file}.key"), &key.serialize_pem());
    }

    fn config(&self) -> Config {
        Config::load(&self.dir.path().join("config.toml")).unwrap_or_else(|error| panic!("{error}"))
    }

    fn load(&self) -> Result<Certificates, Vec<Problem>> {
        Certificates::load(&self.config(), &Arc::new(LocalCa::ephemeral().unwrap()))
    }

    /// What is said about the certificates, as one text.
    fn problems(&self) -> String {
        let problems = self.load().err().expect("it is refused");
        problems.iter().map(|problem| format!("{problem}\n")).collect()
    }
}

/// The certificates of the same manifest, read again.
fn renew(running: &Arc<Certificates>, config: &Config) -> Renewed {
    Certificates::renew(running, config, config)
        .unwrap_or_else(|problems| panic!("{}", problems[0]))
}

fn host(name: &str) -> Host {
    Host::from_authority(name).unwrap()
}

/// The names in a certificate.
fn names(certificate: &CertifiedKey) -> String {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, x509) = X509Certificate::from_der(&certificate.cert[0]).unwrap();
    let names = x509.subject_alternative_name().unwrap().unwrap();
    let names: Vec<_> = names.value.general_names.iter().map(ToString::to_string).collect();
    names.join(" ")
}

#[test]
fn each_host_that_is_served_has_a_certificate_and_no_other() {
    let site = Site::new("\"a.test\" = \"app\"\n\"*.b.test\" = \"app\"", "");
    let certificates = site.load().unwrap();
    let of = |name| certificates.resolve(&host(name)).map(|certificate| names(&certificate));

    assert_eq!(of("a.test").as_deref(), Some("DNSName(a.test)"));
    assert_eq!(of("x.b.test").as_deref(), Some("DNSName(*.b.test)"));
    assert_eq!(of("b.test"), None);
    assert_eq!(of("x.y.b.test"), None);
    assert_eq!(of("c.test"), None);
    assert!(certificates.fallback().is_some());
}

#[test]
fn a_client_that_names_no_host_is_shown_the_certificate_that_it_may_know() {
    let is_shown = |hosts: &[&str], given: &str| {
        let hosts: String = hosts.iter().map(|host| format!("{host:?} = \"app\"\n")).collect();
        let files = "{ cert = \"a.pem\", key = \"a.key\" }";
        let site = Site::new(&hosts, &format!("{given:?} = {files}"));
        site.put_pair("a", &[given.trim_matches(['[', ']'])], 0..90);
        let certificates = site.load().unwrap();
        let shown = certificates.fallback().unwrap();
        certificates.known().any(|(_, given)| given.cert == shown.cert)
    };

    assert!(is_shown(&["192.0.2.1", "a.test"], "192.0.2.1"));
    assert!(
        is_shown(&["127.0.0.1", "192.0.2.1"], "192.0.2.1"),
        "of another address than the first"
    );
    assert!(is_shown(&["[2001:db8::1]"], "[2001:db8::1]"));
    assert!(is_shown(&["*"], "192.0.2.1"), "where every host is served");
    assert!(is_shown(&["a.test", "b.test"], "a.test"));
    assert!(is_shown(&["a.b.test"], "*.b.test"));
    assert!(!is_shown(&["192.0.2.1", "a.test"], "a.test"), "a name's is of no use at an address");
}

#[test]
fn connections_are_shared_within_one_certificate_only() {
    let site = Site::new(
        "\"a.test\" = \"app\"\n\"*.b.test\" = \"app\"\n\"c.b.test\" = \"app\"",
        "\"a.test\" = { cert = \"a.pem\", key = \"a.key\" }\n\"*.b.test\" = { cert = \"a.pem\", key = \"a.key\" }",
    );
    site.put_pair("a", &["a.test", "*.b.test"], 0..90);
    let certificates = site.load().unwrap();
    let share = |named, asked| certificates.share(&host(named), &host(asked));
    assert!(
        share("a.test", "a.test") && share("x.b.test", "y.b.test") && share("a.test", "c.b.test")
    );
    assert!(!share("a.test", "d.test") && !share("d.test", "a.test"));

    let local = Site::new("\"a.test\" = \"app\"\n\"b.test\" = \"app\"", "").load().unwrap();
    assert!(!local.share(&host("a.test"), &host("b.test")));
}

#[test]
fn what_clients_would_not_take_is_refused_with_the_reason() {
    let site = Site::with_one();
    assert!(site.load().is_ok());

    site.put_pair("a", &["a.test"], -90..0);
    assert!(site.problems().contains("has expired on"), "{}", site.problems());
    site.put_pair("a", &["a.test"], 1..90);
    assert!(site.problems().contains("is not valid before"), "{}", site.problems());
    site.put_pair("a", &["b.test", "c.test"], 0..90);
    assert!(site.problems().contains("does not cover a.test"), "{}", site.problems());
    assert!(site.problems().contains("DNSName(b.test), DNSName(c.test)"), "{}", site.problems());
    site.put_pair("a", &["a.test"], 0..90);
    site.put("a.key", &KeyPair::generate().unwrap().serialize_pem());
    assert!(site.problems().contains("a.key is not the key of"), "{}", site.problems());
}

#[test]
fn a_key_that_everyone_can_use_is_refused_and_how_to_mend_it_told() {
    let site = Site::with_one();
    for mode in [0o604, 0o644, 0o602, 0o666, 0o777] {
        site.set_mode("a.key", mode);
        let problems = site.problems();
        assert!(problems.contains("everyone on this machine can use"), "{mode:o}: {problems}");
        assert!(problems.contains(&format!("mode {mode:04o}")), "{problems}");
        assert!(problems.contains("help: chmod 600 /"), "{problems}");
    }
    for mode in [0o400, 0o600, 0o640, 0o660] {
        site.set_mode("a.key", mode);
        assert!(site.load().is_ok(), "{mode:o}");
    }
    // The certificate is for everyone.
    site.set_mode("a.pem", 0o666);
    assert!(site.load().is_ok());
}

#[test]
fn files_that_hold_something_else_are_refused_by_name() {
    let site = Site::with_one();

    site.put("a.pem", "hello");
    site.put("a.key", "hello");
    let problems = site.problems();
    assert!(problems.contains("a.pem holds no certificate"), "{problems}");
    assert!(problems.contains("a.key holds no private key"), "both are told: {problems}");
    assert!(problems.contains("config.toml:"), "with the line: {problems}");
    site.put("a.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    site.put("a.key", &KeyPair::generate().unwrap().serialize_pem());
    assert!(site.problems().contains("a.pem holds a certificate that cannot be read"));
}

#[test]
fn a_certificate_that_goes_bad_is_kept_as_it_was() {
    let site = Site::with_one();
    let config = site.config();
    let running = Arc::new(site.load().unwrap());

    let same = renew(&running, &config);
    assert!(Arc::ptr_eq(&same.certificates, &running), "nothing changed");
    let is_kept = || {
        let kept = renew(&running, &config);
        Arc::ptr_eq(&kept.certificates, &running) && kept.problems.len() == 1
    };
    site.put_pair("a", &["b.test"], 0..90);
    assert!(is_kept(), "for another host");
    site.put_pair("a", &["a.test"], -90..0);
    assert!(is_kept(), "expired");
    site.put_pair("a", &["a.test"], 0..90);
    site.set_mode("a.key", 0o644);
    assert!(is_kept(), "its key is everyone's");
    site.put("a.key", &KeyPair::generate().unwrap().serialize_pem());
    assert!(is_kept(), "half of another pair");
    site.put_pair("a", &["a.test"], 0..90);
    let new = renew(&running, &config);
    assert!(!Arc::ptr_eq(&new.certificates, &running) && new.problems.is_empty());
}

/// The certificates of a manifest with these hosts and this challenge, where `running` came before it.
fn reloaded(
    site: &Site,
    running: &Arc<Certificates>,
    hosts: &[&str],
    challenge: &str,
) -> Arc<Certificates> {
    let before = site.config();
    put_manifest(site, hosts, challenge);
    let renewed = Certificates::renew(running, &before, &site.config());
    renewed.unwrap_or_else(|problems| panic!("{}", problems[0])).certificates
}

const DNS: &str = "challenge = \"dns-01\"\ndns.hook = [\"/bin/true\"]";
const HTTP: &str = "challenge = \"http-01\"";

fn put_manifest(site: &Site, hosts: &[&str], challenge: &str) {
    let hosts: String = hosts.iter().map(|host| format!("{host:?} = \"app\"\n")).collect();
    let acme = format!("[tls.acme]\nterms_agreed = true\n{challenge}\n");
    let manifest = format!("[apps.app]\ncomponent = \"app.wasm\"\n[hosts]\n{hosts}{acme}");
    site.put("config.toml", &manifest);
}

/// What an authority has issued for `pattern`, where it is looked for.
fn put_issued(site: &Site, pattern: &str) {
    let config = site.config();
    let dir = kept::authority_dir(&config.server.state_dir, &config.acme.unwrap().directory);
    fs::create_dir_all(&dir).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([pattern.to_owned()]).unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let pattern = HostPattern::parse(pattern).unwrap();
    kept::write(&dir, &pattern, &key.serialize_pem(), &chain).unwrap();
}

/// The certificates of an authority, by their names.
fn issued(certificates: &Certificates) -> Vec<String> {
    certificates.kept.values().map(|kept| names(&kept.certificate)).collect()
}

#[test]
fn a_host_keeps_its_certificate_until_that_of_its_new_wildcard_is_there() {
    let site = Site::new("", "");
    put_manifest(&site, &["b.a.org", "d.org"], DNS);
    put_issued(&site, "b.a.org");
    put_issued(&site, "d.org");
    let running = Arc::new(site.load().unwrap());
    assert_eq!(issued(&running), ["DNSName(b.a.org)", "DNSName(d.org)"]);

    let hosts = ["b.a.org", "*.a.org"];
    let next = reloaded(&site, &running, &hosts, DNS);
    assert_eq!(issued(&next), ["DNSName(b.a.org)"], "and what is not served any more goes");
    let next = reloaded(&site, &next, &hosts, DNS);
    assert_eq!(issued(&next), ["DNSName(b.a.org)"], "for as long as it takes");
    put_issued(&site, "*.a.org");
    let next = reloaded(&site, &next, &hosts, DNS);
    assert_eq!(issued(&next), ["DNSName(*.a.org)"]);
}

#[test]
fn a_wildcard_s_certificate_stays_until_its_hosts_have_their_own() {
    for (hosts, challenge) in [(&["b.a.org"][..], DNS), (&["b.a.org", "*.a.org"][..], HTTP)] {
        let site = Site::new("", "");
        put_manifest(&site, &["b.a.org", "*.a.org"], DNS);
        put_issued(&site, "*.a.org");
        let running = Arc::new(site.load().unwrap());

        let next = reloaded(&site, &running, hosts, challenge);
        assert_eq!(issued(&next), ["DNSName(*.a.org)"], "{challenge}");
        put_issued(&site, "b.a.org");
        let next = reloaded(&site, &next, hosts, challenge);
        assert_eq!(issued(&next), ["DNSName(b.a.org)"], "{challenge}");
    }
}

#[test]
fn the_local_ca_is_kept_and_its_key_is_nobody_elses() {
    let state = tempfile::tempdir().unwrap();

    let first = LocalCa::open(state.path()).unwrap();
    let second = LocalCa::open(state.path()).unwrap();

    assert_eq!(first.root(), second.root());
    let mode = |name: &str| fs::metadata(state.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode("ca") & 0o777, 0o700);
    assert_eq!(mode("ca/root.pem") & 0o777, 0o600);
    let copy = fs::read_to_string(state.path().join("ca/root.crt")).unwrap();
    assert!(copy.contains("BEGIN CERTIFICATE") && !copy.contains("KEY"), "{copy}");
}

#[test]
fn a_local_ca_that_cannot_be_read_is_not_replaced() {
    let state = tempfile::tempdir().unwrap();
    LocalCa::open(state.path()).unwrap();
    let path = state.path().join("ca/root.pem");
    fs::write(&path, "half a f").unwrap();

    let error = LocalCa::open(state.path()).err().expect("it is refused").to_string();

    assert!(error.contains("root.pem") && error.contains("remove it"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "half a f");
}

#[test]
fn a_local_ca_that_would_expire_before_its_leaves_is_replaced() {
    let state = tempfile::tempdir().unwrap();
    let old = LocalCa::open(state.path()).unwrap().root().clone();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(30);
    let expiring = params.self_signed(&key).unwrap();
    let pem = format!("{}{}", key.serialize_pem(), expiring.pem());
    fs::write(state.path().join("ca/root.pem"), pem).unwrap();

    let new = LocalCa::open(state.path()).unwrap();

    assert!(new.root() != expiring.der() && new.root() != &old);
    assert_eq!(LocalCa::open(state.path()).unwrap().root(), new.root());
}

#[test]
fn a_leaf_is_issued_once() {
    let ca = LocalCa::ephemeral().unwrap();
    let leaf = |name: &str| ca.leaf(&[name.to_owned()]).unwrap();
    assert!(Arc::ptr_eq(&leaf("a.test"), &leaf("a.test")));
    assert!(!Arc::ptr_eq(&leaf("a.test"), &leaf("b.test")));
    assert_eq!(names(&leaf("*.a.test")), "DNSName(*.a.test)");
}
