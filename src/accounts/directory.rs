//! All accounts, in memory, as webhooks are verified against them.
//!
//! A webhook never waits for the database to be recognised, whether its token exists or not. What changes elsewhere is
//! looked for several times a second; and before a signature is refused, the directory makes sure that it has seen every
//! change there is, so that a secret works from the moment at which it is shown.
//!
//! An account whose secret this program's master keys do not open is kept as such: that is no fault of its sender, who
//! is asked to come again. It is looked at again when it changes.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{OpenError, open_previous_secret, open_secret};
use crate::domain::region::Region;
use crate::domain::secret::SigningSecret;
use crate::domain::signature::Keyring;
use crate::due::{WakeReason, Wakeups};
use crate::metrics::Metrics;
use crate::store::account::{self, SealedAccount};
use crate::store::connection::{Connection, Connector, Session};
use crate::vault::Vault;

/// How often changes are looked for.
const REFRESH: Duration = Duration::from_millis(300);

/// What is needed to take an account's webhooks.
#[derive(Debug)]
pub struct Account {
    /// The account.
    pub id: Uuid,
    /// What its webhooks are signed with; `None`: no master key of this program opens it.
    pub keyring: Option<Keyring>,
    /// Where its events go; `None`: to no region that this program knows.
    pub region: Option<Region>,
    token: String,
}

/// The accounts by token, current to within a second.
pub struct Directory {
    vault: Arc<Vault>,
    metrics: Arc<Metrics>,
    accounts: RwLock<Accounts>,
    refresh: Mutex<Refresh>,
    decoy: Keyring,
}

#[derive(Default)]
struct Accounts {
    by_token: HashMap<String, Arc<Account>>,
    token_of: HashMap<Uuid, String>,
}

struct Refresh {
    connection: Connection,
    version: i64,
    began: Instant,
}

/// Why the directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The database did not answer. Start again when it does.
    #[error("cannot read the accounts")]
    Database(#[from] sqlx::Error),
    /// The master keys open none of the accounts: they belong to another database. Mend `MASTER_KEY`.
    #[error("MASTER_KEY")]
    Open(#[from] OpenError),
}

impl Directory {
    /// Reads all accounts.
    ///
    /// # Errors
    /// [`DirectoryError`]. An account that does not open is an error only where none does.
    pub async fn load(
        connector: &Arc<Connector>,
        vault: Arc<Vault>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, DirectoryError> {
        let mut connection = Connection::new(connector, Session::LOOK_UP);
        // The version first: what changes between the two reads is read again, not missed.
        let version = connection.run(async |db| account::latest_version(db).await).await?;
        let all = connection.run(async |db| account::list(db, None).await).await?;
        let decoy = SigningSecret::from_random(crate::random::bytes());
        let directory = Self {
            refresh: Mutex::new(Refresh { connection, version, began: Instant::now() }),
            accounts: RwLock::default(),
            decoy: Keyring {
                current: decoy.clone(),
                previous: decoy,
                previous_until: None,
                allow_untimestamped: false,
            },
            vault,
            metrics,
        };
        if let Some(first) = all.first()
            && all.iter().all(|sealed| directory.open(sealed).is_err())
        {
            directory.open(first)?;
        }
        for sealed in &all {
            directory.put(sealed);
        }
        Ok(directory)
    }

    /// The account whose webhook URL holds `token`.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Arc<Account>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner).by_token.get(token).cloned()
    }

    /// The region of the account with this id; `None` where the account is not known (yet).
    #[must_use]
    pub fn region_of(&self, id: Uuid) -> Option<Region> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.by_token.get(accounts.token_of.get(&id)?)?.region
    }

    /// A keyring that verifies nothing, for tokens that do not exist: refusing them costs the same work.
    #[must_use]
    pub fn decoy(&self) -> &Keyring {
        &self.decoy
    }

    /// Looks for changes until `stop`, and wakes the delivery of what has changed.
    pub async fn watch(&self, due: &Wakeups, stop: CancellationToken) {
        let mut is_away = false;
        while stop.run_until_cancelled(tokio::time::sleep(REFRESH)).await.is_some() {
            let Some(refreshed) = stop.run_until_cancelled(self.refresh()).await else { return };
            match refreshed {
                Ok(changed) => {
                    is_away = false;
                    if !changed.is_empty() {
                        due.wake(WakeReason::AdminChange, changed);
                    }
                }
                Err(error) if !is_away => {
                    is_away = true;
                    tracing::warn!(%error, "cannot look for changed accounts");
                }
                Err(_) => {}
            }
        }
    }

    /// Sees to it that every change committed before this call is known, and returns the accounts that have changed since
    /// the last time. However many ask at once, the database is asked once.
    ///
    /// # Errors
    /// The database did not answer: what is known may be old. Ask again.
    pub async fn refresh(&self) -> sqlx::Result<Vec<Uuid>> {
        let asked = Instant::now();
        let mut refresh = self.refresh.lock().await;
        if refresh.began > asked {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        let version = refresh.version;
        let changes = refresh.connection.run(async |db| account::changes_after(db, version).await).await?;
        let mut ids: Vec<Uuid> = changes.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        if let Some((version, _)) = changes.last() {
            let sealed = refresh.connection.run(async |db| account::list(db, Some(&ids)).await).await?;
            for id in &ids {
                self.remove(*id);
            }
            for sealed in &sealed {
                self.put(sealed);
            }
            refresh.version = *version;
        }
        refresh.began = began;
        Ok(ids)
    }

    fn open(&self, sealed: &SealedAccount) -> Result<Keyring, OpenError> {
        let previous = open_previous_secret(&self.vault, sealed)?;
        Ok(Keyring {
            current: open_secret(&self.vault, sealed)?,
            previous_until: previous
                .as_ref()
                .and(sealed.previous_secret_until)
                .map(time::OffsetDateTime::unix_timestamp),
            previous: previous.unwrap_or_else(|| self.decoy.previous.clone()),
            allow_untimestamped: sealed.allow_untimestamped,
        })
    }

    fn put(&self, sealed: &SealedAccount) {
        let keyring = self.open(sealed);
        if let Err(error) = &keyring {
            self.metrics.unopened_secret("signing_secret");
            tracing::error!(account.id = %sealed.id, %error, "a signing secret cannot be opened; its webhooks are answered 503");
        }
        let account = Account {
            id: sealed.id,
            token: sealed.token.clone(),
            region: sealed.region.parse().ok(),
            keyring: keyring.ok(),
        };
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts.token_of.insert(account.id, account.token.clone());
        accounts.by_token.insert(account.token.clone(), Arc::new(account));
    }

    fn remove(&self, id: Uuid) {
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = accounts.token_of.remove(&id) {
            accounts.by_token.remove(&token);
        }
    }
}
