//! What an admin does with accounts. Works on the database alone; running programs take notice by themselves.

use std::sync::Arc;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{OpenError, open_previous_secret, open_secret, open_write_key};
use crate::domain::account::{AccountName, TOKEN_BYTES, UnsubscribeEvent};
use crate::domain::region::Region;
use crate::domain::secret::SigningSecret;
use crate::domain::text::with_causes;
use crate::domain::write_key::WriteKey;
use crate::random;
use crate::store::account::{self, Changes, SealedAccount, Standing};
use crate::store::block::UnreadableBlock;
use crate::store::connection::Connection;
use crate::store::delivery;
use crate::store::unreadable::{self, BlockAtCursor};
use crate::vault::{Field, Vault};

/// How long the previous secret verifies after a rotation.
const OVERLAP: Duration = Duration::from_hours(24);
/// How often an account is sealed anew that somebody else changes in the same moment.
const REKEY_ATTEMPTS: u32 = 10;

/// Administers accounts.
pub struct Admin {
    db: Mutex<Connection>,
    vault: Arc<Vault>,
}

/// Why an account could not be administered, in words for the admin.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no account of that id or name.
    #[error("there is no account `{0}`; `account list` shows them all")]
    NoSuchAccount(String),
    /// Another account has the name.
    #[error("there is an account `{0}` already; choose another name")]
    NameTaken(String),
    /// Somebody else changed the account in the same moment.
    #[error("the account was changed by somebody else at the same time; look at it, and try again")]
    Conflict,
    /// There is nothing to skip.
    #[error("the account's next events can be read; nothing was skipped")]
    Readable,
    /// The events are those of a newer program.
    #[error(
        "the account's next events were written by a newer version of the program, which can read them; use that one"
    )]
    NewerVersion,
    /// The master keys do not fit the database.
    #[error("MASTER_KEY")]
    Open(#[from] OpenError),
    /// The database's trouble.
    #[error("the database")]
    Database(#[from] sqlx::Error),
}

/// What became of the accounts that were to be sealed anew.
#[derive(Debug, Default)]
pub struct Rekeyed {
    /// How many are sealed under the first master key now.
    pub n_sealed: usize,
    /// Those that are not.
    pub failed: Vec<NotSealed>,
}

/// An account that is sealed as before.
#[derive(Debug)]
pub struct NotSealed {
    /// The account.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Why, in words for the operator.
    pub reason: String,
}

/// A new account.
#[derive(Debug)]
#[expect(missing_docs, reason = "contract, section 4")]
pub struct Created {
    pub id: Uuid,
    pub token: String,
    pub secret: SigningSecret,
}

/// A rotated secret.
#[derive(Debug)]
pub struct Rotated {
    /// The secret that signs from now on.
    pub secret: SigningSecret,
    /// Until when the one before verifies as well.
    pub previous_until: OffsetDateTime,
}

/// What to change of an account; `None` leaves a setting as it is.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "contract, section 4")]
pub struct Edit {
    pub name: Option<AccountName>,
    pub write_key: Option<WriteKey>,
    pub region: Option<Region>,
    pub unsubscribe_event: Option<UnsubscribeEvent>,
    pub allow_untimestamped: Option<bool>,
}

impl Admin {
    /// Administers the accounts of a database.
    #[must_use]
    pub fn new(connection: Connection, vault: Arc<Vault>) -> Self {
        Self { db: Mutex::new(connection), vault }
    }

    async fn db<T>(&self, statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T> + Copy) -> sqlx::Result<T> {
        self.db.lock().await.run(statement).await
    }

    /// Creates an account, with a token and a secret of its own.
    ///
    /// # Errors
    /// [`AdminError::NameTaken`], or the database's trouble.
    pub async fn create(
        &self,
        name: &AccountName,
        write_key: Option<&WriteKey>,
        region: Region,
    ) -> Result<Created, AdminError> {
        let id = uuid::Builder::from_random_bytes(random::bytes()).into_uuid();
        let (token, secret) = (new_token(), SigningSecret::from_random(random::bytes()));
        let account = SealedAccount {
            id,
            name: name.as_str().to_owned(),
            token: token.clone(),
            region: region.as_str().to_owned(),
            write_key: write_key.map(|key| self.seal(id, Field::WriteKey, key.expose())),
            secret: self.seal(id, Field::Secret, secret.expose()),
            previous_secret: None,
            previous_secret_until: None,
            unsubscribe_event: UnsubscribeEvent::EmailUnsubscribed.as_str().to_owned(),
            allow_untimestamped: false,
        };
        self.db(async |db| account::insert(db, &account).await).await.map_err(|error| name_taken(error, name))?;
        Ok(Created { id, token, secret })
    }

    /// The account of that id or name.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`], or the database's trouble.
    pub async fn find(&self, id_or_name: &str) -> Result<SealedAccount, AdminError> {
        let found = self.db(async |db| account::find(db, id_or_name).await).await?;
        found.ok_or_else(|| AdminError::NoSuchAccount(id_or_name.to_owned()))
    }

    /// The account of that id or name, or all, each with how it stands.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`], or the database's trouble.
    pub async fn survey(&self, only: Option<&str>) -> Result<Vec<(SealedAccount, Standing)>, AdminError> {
        let accounts = match only {
            Some(id_or_name) => vec![self.find(id_or_name).await?],
            None => self.db(async |db| account::list(db, None).await).await?,
        };
        let id = only.and(accounts.first()).map(|account| account.id);
        let standings = self.db(async |db| account::standings(db, id).await).await?;
        let mut standings: std::collections::HashMap<_, _> = standings.into_iter().map(|s| (s.id, s)).collect();
        Ok(accounts.into_iter().filter_map(|a| standings.remove(&a.id).map(|standing| (a, standing))).collect())
    }

    /// The last characters of an account's write key; `None`: it has none yet.
    ///
    /// # Errors
    /// [`AdminError::Open`].
    pub fn write_key_last4(&self, account: &SealedAccount) -> Result<Option<String>, AdminError> {
        let Some(sealed) = &account.write_key else { return Ok(None) };
        Ok(Some(open_write_key(&self.vault, account.id, sealed)?.last4().to_owned()))
    }

    /// Changes settings. A new write key or region is tried at once.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn edit(&self, id_or_name: &str, edit: &Edit) -> Result<(), AdminError> {
        let id = self.find(id_or_name).await?.id;
        let changes = Changes {
            name: edit.name.as_ref().map(|name| name.as_str().to_owned()),
            region: edit.region.map(|region| region.as_str().to_owned()),
            write_key: edit.write_key.as_ref().map(|key| self.seal(id, Field::WriteKey, key.expose())),
            unsubscribe_event: edit.unsubscribe_event.map(|event| event.as_str().to_owned()),
            allow_untimestamped: edit.allow_untimestamped,
        };
        let updated =
            self.db(async |db| account::update(db, id, &changes).await).await.map_err(|error| match &edit.name {
                Some(name) => name_taken(error, name),
                None => error.into(),
            });
        there_is(updated?, id_or_name)
    }

    /// Stops delivery; webhooks are taken as ever.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn pause(&self, id_or_name: &str) -> Result<(), AdminError> {
        let id = self.find(id_or_name).await?.id;
        there_is(self.db(async |db| delivery::pause(db, id).await).await?, id_or_name)
    }

    /// Lets events flow again.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn resume(&self, id_or_name: &str) -> Result<(), AdminError> {
        let id = self.find(id_or_name).await?.id;
        there_is(self.db(async |db| delivery::resume(db, id).await).await?, id_or_name)
    }

    /// Gives up the events at an account's cursor that cannot be read, so that those behind them flow. Returns how many
    /// they were.
    ///
    /// # Errors
    /// [`AdminError::Readable`] and [`AdminError::NewerVersion`] where there is nothing to give up; others.
    pub async fn skip_unreadable(&self, id_or_name: &str) -> Result<i64, AdminError> {
        let id = self.find(id_or_name).await?.id;
        let found = self.db(async |db| unreadable::find_at_cursor(db, id).await).await?;
        let BlockAtCursor { cursor, block } = found.ok_or_else(|| AdminError::NoSuchAccount(id_or_name.to_owned()))?;
        let block = block.ok_or(AdminError::Readable)?;
        match block.read() {
            Ok(_) => Err(AdminError::Readable),
            Err(UnreadableBlock::NewerVersion) => Err(AdminError::NewerVersion),
            Err(why @ UnreadableBlock::Damaged) => {
                let is_done = self.db(async |db| unreadable::skip(db, id, cursor, &block, why).await).await?;
                if is_done { Ok(block.last_seq - cursor) } else { Err(AdminError::Conflict) }
            }
        }
    }

    /// Gives the account a new signing secret. The one before verifies for another 24 hours.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn rotate_secret(&self, id_or_name: &str, now: OffsetDateTime) -> Result<Rotated, AdminError> {
        let account = self.find(id_or_name).await?;
        let current = open_secret(&self.vault, &account)?;
        let secret = SigningSecret::from_random(random::bytes());
        let previous_until = now + OVERLAP;
        let rotated = SealedAccount {
            secret: self.seal(account.id, Field::Secret, secret.expose()),
            previous_secret: Some(self.seal(account.id, Field::PreviousSecret, current.expose())),
            previous_secret_until: Some(previous_until),
            ..account.clone()
        };
        self.reseal(&account, &rotated).await?;
        Ok(Rotated { secret, previous_until })
    }

    /// Gives the account a new webhook URL; the one before is dead at once. Returns the new token.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn rotate_url(&self, id_or_name: &str) -> Result<String, AdminError> {
        let token = new_token();
        let id = self.find(id_or_name).await?.id;
        there_is(self.db(async |db| account::update_token(db, id, &token).await).await?, id_or_name)?;
        Ok(token)
    }

    /// Deletes the account and all that is kept of it.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn delete(&self, id_or_name: &str) -> Result<(), AdminError> {
        let id = self.find(id_or_name).await?.id;
        Ok(account::delete(&mut *self.db.lock().await, id).await?)
    }

    /// Seals all keys and secrets anew, under the first master key. An account that cannot be is no obstacle to the
    /// others; a database that is away is.
    ///
    /// # Errors
    /// [`AdminError::Database`] where the accounts cannot be listed. What becomes of each is in the answer.
    pub async fn rekey(&self) -> Result<Rekeyed, AdminError> {
        let mut rekeyed = Rekeyed::default();
        let mut away: Option<String> = None;
        for account in self.db(async |db| account::list(db, None).await).await? {
            let (id, name) = (account.id, account.name.clone());
            let reason = match &away {
                Some(reason) => format!("not tried: {reason}"),
                None => match self.rekey_one(account).await {
                    Ok(is_there) => {
                        rekeyed.n_sealed += usize::from(is_there);
                        continue;
                    }
                    Err(error) => {
                        let reason = with_causes(&error);
                        if matches!(error, AdminError::Database(cause) if cause.as_database_error().is_none()) {
                            away = Some(reason.clone());
                        }
                        reason
                    }
                },
            };
            rekeyed.failed.push(NotSealed { id, name, reason });
        }
        Ok(rekeyed)
    }

    /// Says whether the account is still there.
    async fn rekey_one(&self, mut account: SealedAccount) -> Result<bool, AdminError> {
        for _ in 0..REKEY_ATTEMPTS {
            let write_key = match &account.write_key {
                Some(sealed) => Some(open_write_key(&self.vault, account.id, sealed)?),
                None => None,
            };
            let resealed = SealedAccount {
                secret: self.seal(account.id, Field::Secret, open_secret(&self.vault, &account)?.expose()),
                previous_secret: open_previous_secret(&self.vault, &account)?
                    .map(|secret| self.seal(account.id, Field::PreviousSecret, secret.expose())),
                write_key: write_key.map(|key| self.seal(account.id, Field::WriteKey, key.expose())),
                ..account.clone()
            };
            if self.db(async |db| account::reseal(db, &account, &resealed).await).await? {
                return Ok(true);
            }
            // Changed or deleted since it was read.
            match self.db(async |db| account::list(db, Some(&[account.id])).await).await?.pop() {
                Some(changed) => account = changed,
                None => return Ok(false),
            }
        }
        Err(AdminError::Conflict)
    }

    async fn reseal(&self, account: &SealedAccount, new: &SealedAccount) -> Result<(), AdminError> {
        if self.db(async |db| account::reseal(db, account, new).await).await? {
            Ok(())
        } else {
            Err(AdminError::Conflict)
        }
    }

    fn seal(&self, account: Uuid, field: Field, text: &str) -> Vec<u8> {
        self.vault.seal(account, field, text, random::bytes())
    }
}

/// What was changed may have been deleted since it was found.
fn there_is(is_there: bool, id_or_name: &str) -> Result<(), AdminError> {
    if is_there { Ok(()) } else { Err(AdminError::NoSuchAccount(id_or_name.to_owned())) }
}

fn new_token() -> String {
    URL_SAFE_NO_PAD.encode(random::bytes::<TOKEN_BYTES>())
}

fn name_taken(error: sqlx::Error, name: &AccountName) -> AdminError {
    match error.as_database_error().and_then(sqlx::error::DatabaseError::constraint) {
        Some("account_name_unique") => AdminError::NameTaken(name.as_str().to_owned()),
        _ => error.into(),
    }
}
