//! All accounts, in memory, as webhooks are verified against them.
//!
//! A webhook never waits for the database to be recognised, whether its token exists or not. What changes elsewhere
//! arrives by notification, or within a second; and before a signature is refused, the directory makes sure that it
//! has seen every change there is, so that a secret works from the moment at which it is shown.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use sqlx::PgPool;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{OpenError, open_previous_secret, open_secret};
use crate::domain::region::Region;
use crate::domain::secret::SigningSecret;
use crate::domain::signature::Keyring;
use crate::store::account::{self, SealedAccount};
use crate::vault::Vault;

/// What is needed to take an account's webhooks.
#[derive(Debug)]
pub struct Account {
    /// The account.
    pub id: Uuid,
    /// What its webhooks are signed with.
    pub keyring: Keyring,
    /// Where its events go; `None`: to no region that this program knows.
    pub region: Option<Region>,
    token: String,
}

/// The accounts by token, current to within a second.
pub struct Directory {
    pool: PgPool,
    vault: Arc<Vault>,
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
    version: i64,
    began: Instant,
}

/// Why the directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The database's trouble.
    #[error("cannot read the accounts")]
    Database(#[from] sqlx::Error),
    /// The master keys do not fit the database.
    #[error("MASTER_KEY: {0}")]
    Open(#[from] OpenError),
}

impl Directory {
    /// Reads all accounts.
    ///
    /// # Errors
    /// [`DirectoryError`]; one account that does not open is enough.
    pub async fn load(pool: PgPool, vault: Arc<Vault>) -> Result<Self, DirectoryError> {
        // The version first: what changes between the two reads is read again, not missed.
        let version = account::latest_version(&pool).await?;
        let decoy = SigningSecret::from_random(crate::random::bytes());
        let directory = Self {
            refresh: Mutex::new(Refresh { version, began: Instant::now() }),
            accounts: RwLock::default(),
            decoy: Keyring {
                current: decoy.clone(),
                previous: decoy,
                previous_until: None,
                allow_untimestamped: false,
            },
            pool,
            vault,
        };
        for sealed in account::list(&directory.pool, None).await? {
            let account = directory.open(&sealed)?;
            directory.put(account);
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

    /// Sees to it that every change committed before this call is known. However many ask at once, the database is
    /// asked once.
    ///
    /// # Errors
    /// The database's trouble: what is known may be old.
    pub async fn refresh(&self) -> sqlx::Result<()> {
        let asked = Instant::now();
        let mut refresh = self.refresh.lock().await;
        if refresh.began > asked {
            return Ok(());
        }
        let began = Instant::now();
        let changes = account::changes_after(&self.pool, refresh.version).await?;
        let mut ids: Vec<Uuid> = changes.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        if let Some((version, _)) = changes.last() {
            let sealed = account::list(&self.pool, Some(&ids)).await?;
            for id in &ids {
                self.remove(*id);
            }
            for sealed in sealed {
                match self.open(&sealed) {
                    Ok(account) => self.put(account),
                    Err(error) => tracing::error!(account.id = %sealed.id, %error, "an account cannot be opened"),
                }
            }
            refresh.version = *version;
        }
        refresh.began = began;
        Ok(())
    }

    fn open(&self, sealed: &SealedAccount) -> Result<Account, OpenError> {
        let previous = open_previous_secret(&self.vault, sealed)?;
        Ok(Account {
            id: sealed.id,
            token: sealed.token.clone(),
            region: sealed.region.parse().ok(),
            keyring: Keyring {
                current: open_secret(&self.vault, sealed)?,
                previous_until: previous
                    .as_ref()
                    .and(sealed.previous_secret_until)
                    .map(time::OffsetDateTime::unix_timestamp),
                previous: previous.unwrap_or_else(|| self.decoy.previous.clone()),
                allow_untimestamped: sealed.allow_untimestamped,
            },
        })
    }

    fn put(&self, account: Account) {
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
