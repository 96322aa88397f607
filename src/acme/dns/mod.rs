//! Records that prove a host ours: put into the DNS and taken out again, by a hook or by updates.

mod hook;
mod update;

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::config::{Dns, DnsEditor};

/// From the first packet or the start of a hook until a record is there, or gone.
const EDIT_TIMEOUT: Duration = Duration::from_secs(120);

/// A TXT record that is there until [`Record::remove`].
#[derive(Clone)]
pub struct Record {
    name: String,
    value: String,
}

/// What is done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    Add,
    Remove,
}

impl Record {
    pub fn new(name: String, value: String) -> Record {
        Record { name, value }
    }

    /// Puts it there, and waits until all name servers should have it.
    ///
    /// # Errors
    /// What the hook or the name server said. Parts of it may be done: it is to be removed all the same.
    pub async fn add(&self, dns: &Dns) -> Result<(), String> {
        self.edit(dns, Edit::Add)
            .await
            .map_err(|error| format!("cannot add the record {}: {error}", self.name))?;
        sleep(dns.wait).await;
        Ok(())
    }

    /// Takes it away. One that stays harms nobody, but whoever looks at the zone wonders.
    pub async fn remove(self, dns: &Dns) {
        if let Err(error) = self.edit(dns, Edit::Remove).await {
            warn!(
                name = self.name,
                value = self.value,
                error,
                "cannot remove the record of a challenge: remove it by hand"
            );
        }
    }

    async fn edit(&self, dns: &Dns, edit: Edit) -> Result<(), String> {
        let done = async {
            match &dns.editor {
                DnsEditor::Hook(command) => {
                    hook::run(&command.value, edit, &self.name, &self.value).await
                }
                DnsEditor::Update { server, key } => {
                    update::run(*server, key, edit, &self.name, &self.value).await
                }
            }
        };
        let late = |_| format!("it took more than {EDIT_TIMEOUT:?}");
        timeout(EDIT_TIMEOUT, done).await.map_err(late)?
    }
}
