//! One order: the authority is asked, the host is proved ours, the certificate fetched and kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, Error, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::failure::{Failure, Of, kind};
use super::proof::{Proof, Prover};
use crate::certificates::kept::{self, Kept};
use crate::config::HostPattern;

/// How long an authority has to check a host, and again to issue the certificate.
const DECISION_TIMEOUT: Duration = Duration::from_secs(150);

/// How often it is asked meanwhile: at once, and less and less often.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LOOK_BACKOFF: f32 = 1.5;

/// What is to be had, and where it goes.
pub struct Wanted {
    pub host: HostPattern,
    /// The authority's directory in `state_dir`.
    pub dir: PathBuf,
    /// The certificate that the new one takes the place of, where the authority wants to know.
    pub replaces: Option<CertificateIdentifier<'static>>,
}

/// Gets a certificate, and keeps it. Ends soon after `stop`, but not before its record is out of the DNS.
///
/// # Errors
/// When there is none; what was kept before is kept still.
pub async fn obtain(
    account: Account,
    wanted: Wanted,
    prover: Arc<Prover>,
    stop: CancellationToken,
) -> Result<Kept, Failure> {
    let mut proofs = Vec::new();
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => Err(Failure::of_host("stopped before it was done")),
        outcome = request(&account, &wanted, &prover, &mut proofs) => outcome,
    };
    for proof in proofs {
        proof.withdraw(&prover).await;
    }
    let (key, chain) = outcome?;
    let host = wanted.host;
    super::blocking(move || keep(&wanted.dir, &host, &key, &chain)).await
}

/// A certificate's key and chain, both in PEM.
async fn request(
    account: &Account,
    wanted: &Wanted,
    prover: &Prover,
    proofs: &mut Vec<Proof>,
) -> Result<(String, String), Failure> {
    let name = wanted.host.to_string();
    let mut order = place(account, &name, wanted.replaces.as_ref()).await?;
    prove(&mut order, &wanted.host, prover, proofs).await?;

    let (key, csr) = csr(name).map_err(|error| {
        Failure::of_host(format!("cannot make a key and a request for the certificate: {error}"))
    })?;
    order.finalize_csr(&csr).await?;
    let chain = order.poll_certificate(&patience()).await?;
    Ok((key, chain))
}

/// Asks for a certificate for `name`.
async fn place(
    account: &Account,
    name: &str,
    replaces: Option<&CertificateIdentifier<'static>>,
) -> Result<Order, Error> {
    let identifiers = [Identifier::Dns(name.to_owned())];
    if let Some(replaced) = replaces {
        let new = NewOrder::new(&identifiers).replaces(replaced.clone());
        match account.new_order(&new).await {
            // That it does not know the old one is no reason to go without a new one.
            Err(Error::Api(problem))
                if matches!(kind(problem.r#type.as_deref()), "malformed" | "alreadyReplaced") => {}
            placed => return placed,
        }
    }
    account.new_order(&NewOrder::new(&identifiers)).await
}

/// Has the authority check that the host is ours, unless it knows that already.
async fn prove(
    order: &mut Order,
    host: &HostPattern,
    prover: &Prover,
    proofs: &mut Vec<Proof>,
) -> Result<(), Failure> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            status => {
                return Err(Failure::of_host(format!(
                    "the authority's check of the host is {status:?} before it began"
                )));
            }
        }
        let offered: Vec<_> =
            authorization.challenges.iter().map(|it| format!("{:?}", it.r#type)).collect();
        let challenge = authorization.challenge(prover.kind());
        let Some(mut challenge) = challenge else {
            return Err(Failure::of_host(format!(
                "the authority offers no {} for this host, but {}",
                prover.name(),
                offered.join(", ")
            ))
            .with_help("choose another tls.acme.challenge"));
        };
        let proof = challenge.key_authorization();
        prover.offer(host, challenge.token.clone(), &proof, proofs).await?;
        info!(%host, challenge = prover.name(), "the authority is asked to check the host");
        challenge.set_ready().await?;
    }
    let failure = match order.poll_ready(&patience()).await {
        Ok(OrderStatus::Ready) => return Ok(()),
        Ok(_) => Failure::of_host("the authority refused the order, and does not say why")
            .with_help(prover.help(host)),
        Err(error) => error.into(),
    };
    match failure.of {
        // The order does not say what was wrong with the host.
        Of::Host => Err(refusal(order, host, prover).await.unwrap_or(failure)),
        Of::Account | Of::Authority => Err(failure),
    }
}

/// What the authority found when it checked the host.
async fn refusal(order: &mut Order, host: &HostPattern, prover: &Prover) -> Option<Failure> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await.ok()?;
        if let Some(problem) = state.challenges.iter().find_map(|it| it.error.as_ref()) {
            let failure = Failure::of_problem(problem, None);
            return Some(match kind(problem.r#type.as_deref()) {
                "connection" | "unauthorized" | "tls" | "incorrectResponse" | "dns"
                | "malformed" => failure.with_help(prover.help(host)),
                _ => failure,
            });
        }
    }
    None
}

fn patience() -> RetryPolicy {
    RetryPolicy::new().initial_delay(FIRST_LOOK).backoff(LOOK_BACKOFF).timeout(DECISION_TIMEOUT)
}

/// A new key in PEM, and the request for its certificate in DER.
fn csr(name: String) -> Result<(String, Vec<u8>), rcgen::Error> {
    let mut params = CertificateParams::new([name])?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate()?;
    let csr = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), csr.der().to_vec()))
}

/// Writes what was issued, once it is known to be of use.
fn keep(dir: &Path, host: &HostPattern, key: &str, chain: &str) -> Result<Kept, Failure> {
    let parsed = Kept::parse(format!("{key}{chain}").as_bytes(), host);
    let kept = parsed.map_err(|error| {
        Failure::of_host(format!("what the authority has issued cannot be used: {error}"))
    })?;
    kept::write(dir, host, key, chain).map_err(|error| {
        let path = kept::file(dir, host);
        Failure::of_host(format!("cannot write {}: {error}", path.display()))
            .with_help("make room there, and look at its owner and mode")
    })?;
    Ok(kept)
}
