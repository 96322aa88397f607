//! The account with the authority: registered once, and kept with its key in a file of our own.

use std::io;
use std::path::{Path, PathBuf};

use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use rustls::RootCertStore;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::failure::{Failure, Of};
use super::http::Https;
use crate::certificates::authority;
use crate::config::{Acme, Problem};
use crate::http_client;
use crate::private;

/// The file, in the authority's directory.
const FILE: &str = "account.json";

/// An account, and what it was registered with.
#[derive(Serialize, Deserialize)]
struct Kept {
    account: AccountCredentials,
    email: Option<String>,
    key_id: Option<String>,
}

/// The account of these settings, registered where there is none yet.
///
/// # Errors
/// When the authority cannot be reached, or wants no such account.
pub async fn open(settings: &Acme, dir: &Path) -> Result<Account, Failure> {
    let (wanted, path) = (settings.clone(), dir.join(FILE));
    let own = dir.to_owned();
    let read = super::blocking(move || {
        // Nothing is asked for that could not be kept.
        private::create_dir(&own)
            .map_err(|error| of_authority(format!("cannot make {}: {error}", own.display())))?;
        Ok::<_, Failure>((Files::read(&wanted)?, read(&path)))
    });
    let (files, kept) = read.await?;
    let https = Https::new(files.roots)
        .map_err(|error| of_authority(format!("cannot set up TLS: {error}")))?;
    let builder = Account::builder_with_http(Box::new(https));
    let contact = settings.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.as_deref().into_iter().collect();
    let key_id = settings.external_account.as_ref().map(|account| &account.key_id);

    if let Some(kept) = kept.filter(|kept| kept.key_id.as_ref() == key_id) {
        let is_told = kept.email == settings.email;
        let again = serde_json::to_value(&kept.account);
        let account = builder.from_credentials(kept.account).await?;
        if !is_told {
            account.update_contacts(&contact).await?;
            // What was just used can be written once more.
            let again = again.and_then(serde_json::from_value);
            keep(dir, again.map_err(|error| of_authority(error.to_string()))?, settings).await;
            info!(email = settings.email, "told the authority the new address");
        }
        return Ok(account);
    }

    let wanted = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let directory = settings.directory.clone();
    let (account, credentials) =
        builder.create(&wanted, directory, files.external_account.as_ref()).await?;
    info!(
        directory = settings.directory,
        account = account.id(),
        "registered an account with the authority"
    );
    keep(dir, credentials, settings).await;
    Ok(account)
}

/// Drops the kept account: the authority does not know it.
pub async fn forget(dir: &Path) {
    let path = dir.join(FILE);
    let removed = super::blocking(move || match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err((path, error)),
        Ok(()) | Err(_) => Ok(()),
    });
    if let Err((path, error)) = removed.await {
        error!(path = %path.display(), %error, "cannot remove the account that the authority does not know: remove it by hand");
    }
}

/// An account that is not kept is good for as long as this process lives, and another is made after.
async fn keep(dir: &Path, account: AccountCredentials, settings: &Acme) {
    let key_id = settings.external_account.as_ref().map(|account| account.key_id.clone());
    let kept = Kept { account, email: settings.email.clone(), key_id };
    let path = dir.join(FILE);
    let written = super::blocking(move || {
        let text = serde_json::to_vec(&kept)?;
        private::write_whole(&path, &text)
    });
    if let Err(error) = written.await {
        let path = dir.join(FILE);
        error!(path = %path.display(), %error, "cannot keep the account with the authority: the next start registers another");
    }
}

fn read(path: &PathBuf) -> Option<Kept> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .inspect_err(|error| {
                warn!(path = %path.display(), %error, "the kept account cannot be read: another is registered");
            })
            .ok(),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(path = %path.display(), %error, "the kept account cannot be read: another is registered");
            }
            None
        }
    }
}

/// What the files that the manifest names hold now.
struct Files {
    roots: RootCertStore,
    external_account: Option<ExternalAccountKey>,
}

impl Files {
    fn read(settings: &Acme) -> Result<Files, Failure> {
        let problem = |problem: Problem| of_authority(problem.to_string());
        let roots = match &settings.ca_root {
            Some(file) => authority::root(file).map_err(problem)?,
            None => http_client::platform_roots(),
        };
        let external_account = match &settings.external_account {
            Some(account) => {
                let key = authority::hmac_key(account).map_err(problem)?;
                Some(ExternalAccountKey::new(account.key_id.clone(), &key))
            }
            None => None,
        };
        Ok(Files { roots, external_account })
    }
}

fn of_authority(reason: String) -> Failure {
    Failure { of: Of::Authority, ..Failure::of_host(reason) }
}
