//! `tidegate explain`: who would answer a URL, and why.

use std::process::ExitCode;

use super::admin_client::{Ask, escaped};
use super::app::{answered, shown};
use super::show::paint::tame;
use crate::admin::shapes::{Certificate, CertificateSource, Explained, Listener};

pub fn explain(ask: &Ask, url: &str) -> ExitCode {
    answered(ask, |client| {
        let told: Explained = client.get(&format!("/v1/explain?url={}", escaped(url)))?;
        let text = text(&told);
        Ok(shown(ask, &told, text))
    })
}

fn text(told: &Explained) -> String {
    let mut lines = vec![told.url.clone()];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<12} {text}"));
    line("answer", tame(&told.answer));
    line("generation", told.generation.to_string());
    let listener = |it: &Listener| format!("{}://{}", it.scheme, it.address);
    line(
        "listener",
        match told.listeners.as_slice() {
            [] => "none".to_owned(),
            all => all.iter().map(listener).collect::<Vec<_>>().join(", "),
        },
    );
    let host = &told.host;
    line("host", format!("{}: {}", host.pattern.as_deref().unwrap_or("none"), host.why));
    if !host.near.is_empty() {
        line("near", host.near.join(", "));
    }
    if let Some(route) = &told.route {
        line("prefix", format!("{}: {}", route.prefix, route.why));
        if !route.duties.is_empty() {
            line("duties", route.duties.join(", "));
        }
        line("target", route.app.as_ref().map_or(route.target.clone(), |app| format!("app {app}")));
    }
    if let Some(app) = &told.app {
        let digest = app.digest.as_deref().and_then(|digest| digest.get(..12)).unwrap_or("none");
        line("component", format!("{} ({digest})", app.component));
        if let Some(fault) = &app.fault {
            let fault = tame(fault);
            line("fault", format!("its newest component cannot be served: {fault}"));
        }
        if app.drained {
            line("drained", format!("until `tidegate drain --undo {}`", app.name));
        }
    }
    line("certificate", told.certificate.as_ref().map_or("none".to_owned(), certificate));
    let policy = &told.policy;
    let needs_certificate = policy.client_certificate.as_deref() == Some("required");
    let plain = match policy.redirect_to_https {
        true => "sent to HTTPS",
        false if needs_certificate => "refused",
        false => "served",
    };
    line("plain HTTP", plain.to_owned());
    if let Some(asked) = &policy.client_certificate {
        line("clients", format!("their certificate is {asked}"));
    }
    if let Some(hsts) = &policy.hsts {
        line("hsts", hsts.clone());
    }
    lines.join("\n")
}

fn certificate(it: &Certificate) -> String {
    let from = match it.source {
        CertificateSource::File => "from the operator's file",
        CertificateSource::Acme => "from the ACME authority",
        CertificateSource::Local => "from tidegate's own authority",
    };
    match &it.expires {
        Some(expires) => format!("{} {from}, until {expires}", it.host),
        None => format!("{} {from}, issued at the first handshake", it.host),
    }
}
