//! The certificates as operators see them: for which host, from whom, until when.

use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Certificates, Source, name};
use crate::config::{Host, HostPattern};

/// The certificate of one host or wildcard.
pub struct Listed {
    pub host: HostPattern,
    pub from: ListedFrom,
    /// Absent where the local CA issues it at the first handshake, or it cannot be read.
    pub details: Option<Details>,
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedFrom {
    /// The operator's file.
    File,
    /// An authority that speaks ACME.
    Acme,
    /// The local CA.
    Local,
}

/// What a certificate says.
pub struct Details {
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    pub issuer: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl Certificates {
    /// Every certificate that there is, and those that the local CA has yet to issue.
    pub fn listed(&self) -> Vec<Listed> {
        let listed = |host: &HostPattern, from, certificate: Option<&CertifiedKey>| Listed {
            host: host.clone(),
            from,
            details: certificate.and_then(Details::of),
        };
        let given = self.given.iter().map(|(host, it)| listed(host, ListedFrom::File, Some(it)));
        let kept = self
            .kept
            .iter()
            .map(|(host, it)| listed(host, ListedFrom::Acme, Some(&it.certificate)));
        let local = self.served.iter().filter(|(_, is_served)| **is_served);
        let local = local.filter_map(|(host, _)| {
            let names = match host {
                HostPattern::Exact(exact) if self.is_known(exact) => return None,
                HostPattern::Exact(exact) => vec![name(exact).to_owned()],
                HostPattern::Wildcard(_) if self.has_own(host) => return None,
                HostPattern::Wildcard(domain) => vec![format!("*.{}", domain.as_str())],
                HostPattern::Any if self.has_own(host) => return None,
                HostPattern::Any => self.unnamed_names(),
            };
            let issued = self.ca.issued(&names);
            Some(listed(host, ListedFrom::Local, issued.as_deref()))
        });
        given.chain(kept).chain(local).collect()
    }

    /// The certificate that clients of `host` are shown. None is issued for that.
    pub fn of_host(&self, host: &Host) -> Option<Listed> {
        let listed = |host: HostPattern, from, certificate: Option<&CertifiedKey>| Listed {
            host,
            from,
            details: certificate.and_then(Details::of),
        };
        let given = |it: HostPattern| {
            let certificate = self.given.get(&it)?;
            Some(listed(it, ListedFrom::File, Some(certificate)))
        };
        let kept = |it: HostPattern| {
            let kept = self.kept.get(&it)?;
            Some(listed(it, ListedFrom::Acme, Some(&kept.certificate)))
        };
        let found = host.patterns().find_map(given).or_else(|| host.patterns().find_map(kept));
        found.or_else(|| {
            let Source::Issued(issued) = self.source(host)? else { return None };
            let pattern = host.patterns().find(|pattern| self.served.contains_key(pattern))?;
            let certificate = self.ca.issued(&[issued]);
            Some(listed(pattern, ListedFrom::Local, certificate.as_deref()))
        })
    }

    fn has_own(&self, host: &HostPattern) -> bool {
        self.given.contains_key(host) || self.kept.contains_key(host)
    }
}

impl Details {
    fn of(certificate: &CertifiedKey) -> Option<Details> {
        let (_, x509) = X509Certificate::from_der(certificate.end_entity_cert().ok()?).ok()?;
        let names = x509.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.iter().filter_map(text).collect());
        let date = |at: x509_parser::time::ASN1Time| {
            OffsetDateTime::from_unix_timestamp(at.timestamp()).ok()
        };
        Some(Details {
            names: names.unwrap_or_default(),
            issuer: x509.issuer().to_string(),
            not_before: date(x509.validity().not_before)?,
            not_after: date(x509.validity().not_after)?,
        })
    }
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => {
                let v6 = <[u8; 16]>::try_from(*bytes).ok()?;
                Some(std::net::Ipv6Addr::from(v6).to_string())
            }
        },
        _ => None,
    }
}
