//! All keys and secrets, sealed anew.

use uuid::Uuid;

use super::{Admin, AdminError};
use crate::domain::text::with_causes;
use crate::secrets::vault::Field;
use crate::secrets::{decrypt_destination_key, decrypt_identity_key, decrypt_previous_secret, decrypt_secret};
use crate::store::account::{self, SealedIdentityKey};
use crate::store::source::{self, SealedSource};

/// How often something is sealed anew that somebody else changes in the same moment.
const REKEY_ATTEMPTS: u32 = 10;

/// What became of the sources that were to be sealed anew.
#[derive(Debug, Default)]
pub struct Rekeyed {
    /// How many sources are sealed under the first master key now.
    pub n_sealed: usize,
    /// Those that are not, and accounts whose identity key is not.
    pub failed: Vec<NotSealed>,
}

/// What is sealed as before.
#[derive(Debug)]
pub struct NotSealed {
    /// What it is.
    pub what: Sealed,
    /// The names of account and source, or of the account.
    pub name: String,
    /// Why, in words for the operator.
    pub reason: String,
}

/// Something that is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// The keys and secrets of the source of this id.
    Source(Uuid),
    /// The identity key of the account of this id.
    IdentityKey(Uuid),
}

impl Admin {
    /// Seals all keys and secrets anew, under the first master key. What cannot be is no obstacle to the others; a database
    /// that is away is.
    ///
    /// # Errors
    /// [`AdminError::Database`] where sources or accounts cannot be listed. What becomes of each is in the answer.
    pub async fn rekey(&self) -> Result<Rekeyed, AdminError> {
        let mut rekeyed = Rekeyed::default();
        let mut away: Option<String> = None;
        let sources = self.db(async |db| source::list(db, None, None).await).await?;
        let keys = self.db(async |db| account::list_identity_keys(db, None).await).await?;
        for source in sources {
            let (what, name) = (Sealed::Source(source.id), format!("{}/{}", source.account_name, source.name));
            let done = match not_tried(away.as_ref()) {
                Some(reason) => Err(reason),
                None => self.rekey_one(source).await.map_err(|error| reason(&error, &mut away)),
            };
            match done {
                Ok(is_there) => rekeyed.n_sealed += usize::from(is_there),
                Err(reason) => rekeyed.failed.push(NotSealed { what, name, reason }),
            }
        }
        for key in keys {
            let (what, name) = (Sealed::IdentityKey(key.account_id), key.account_name.clone());
            let done = match not_tried(away.as_ref()) {
                Some(reason) => Err(reason),
                None => self.rekey_identity_key(key).await.map_err(|error| reason(&error, &mut away)),
            };
            if let Err(reason) = done {
                rekeyed.failed.push(NotSealed { what, name, reason });
            }
        }
        Ok(rekeyed)
    }

    /// Says whether the source is still there.
    async fn rekey_one(&self, mut source: SealedSource) -> Result<bool, AdminError> {
        for _ in 0..REKEY_ATTEMPTS {
            let id = source.id;
            let key = decrypt_destination_key(&self.vault, &source)?;
            let secret = decrypt_secret(&self.vault, &source)?;
            let previous = decrypt_previous_secret(&self.vault, &source)?;
            let resealed = SealedSource {
                secret: secret.map(|secret| self.seal(id, Field::Secret, secret.expose())),
                previous_secret: previous.map(|secret| self.seal(id, Field::PreviousSecret, secret.expose())),
                write_key: key.map(|key| self.seal(id, Field::WriteKey, key.expose())),
                ..source.clone()
            };
            if self.db(async |db| source::reseal(db, &source, &resealed).await).await? {
                return Ok(true);
            }
            match self.db(async |db| source::list(db, Some(&[id]), None).await).await?.pop() {
                Some(changed) => source = changed,
                None => return Ok(false),
            }
        }
        Err(AdminError::Conflict)
    }

    async fn rekey_identity_key(&self, mut sealed: SealedIdentityKey) -> Result<(), AdminError> {
        for _ in 0..REKEY_ATTEMPTS {
            let id = sealed.account_id;
            let key = decrypt_identity_key(&self.vault, id, &sealed.identity_key)?;
            let new = self.seal(id, Field::IdentityKey, key.expose());
            if self.db(async |db| account::reseal_identity_key(db, &sealed, &new).await).await? {
                return Ok(());
            }
            match self.db(async |db| account::list_identity_keys(db, Some(id)).await).await?.pop() {
                Some(changed) => sealed = changed,
                None => return Ok(()),
            }
        }
        Err(AdminError::Conflict)
    }
}

fn not_tried(away: Option<&String>) -> Option<String> {
    Some(format!("not tried: {}", away?))
}

/// Why something is not sealed anew; what keeps all that follows from it is kept in `away`.
fn reason(error: &AdminError, away: &mut Option<String>) -> String {
    let reason = with_causes(error);
    if matches!(error, AdminError::Database(cause) if cause.as_database_error().is_none()) {
        *away = Some(reason.clone());
    }
    reason
}
