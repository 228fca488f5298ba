//! All keys and secrets, sealed anew.

use uuid::Uuid;

use super::{Admin, AdminError};
use crate::domain::text::with_causes;
use crate::secrets::vault::Field;
use crate::secrets::{decrypt_previous_secret, decrypt_secret, decrypt_write_key};
use crate::store::source::{self, SealedSource};

/// How often a source is sealed anew that somebody else changes in the same moment.
const REKEY_ATTEMPTS: u32 = 10;

/// What became of the sources that were to be sealed anew.
#[derive(Debug, Default)]
pub struct Rekeyed {
    /// How many are sealed under the first master key now.
    pub n_sealed: usize,
    /// Those that are not.
    pub failed: Vec<NotSealed>,
}

/// A source that is sealed as before.
#[derive(Debug)]
pub struct NotSealed {
    /// The source.
    pub id: Uuid,
    /// The names of account and source.
    pub name: String,
    /// Why, in words for the operator.
    pub reason: String,
}

impl Admin {
    /// Seals all keys and secrets anew, under the first master key. A source that cannot be is no obstacle to the others; a
    /// database that is away is.
    ///
    /// # Errors
    /// [`AdminError::Database`] where the sources cannot be listed. What becomes of each is in the answer.
    pub async fn rekey(&self) -> Result<Rekeyed, AdminError> {
        let mut rekeyed = Rekeyed::default();
        let mut away: Option<String> = None;
        for source in self.db(async |db| source::list(db, None, None).await).await? {
            let (id, name) = (source.id, format!("{}/{}", source.account_name, source.name));
            let reason = match &away {
                Some(reason) => format!("not tried: {reason}"),
                None => match self.rekey_one(source).await {
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

    /// Says whether the source is still there.
    async fn rekey_one(&self, mut source: SealedSource) -> Result<bool, AdminError> {
        for _ in 0..REKEY_ATTEMPTS {
            let id = source.id;
            let write_key = source.write_key.as_deref();
            let write_key = write_key.map(|sealed| decrypt_write_key(&self.vault, id, sealed)).transpose()?;
            let secret = decrypt_secret(&self.vault, &source)?;
            let previous = decrypt_previous_secret(&self.vault, &source)?;
            let resealed = SealedSource {
                secret: secret.map(|secret| self.seal(id, Field::Secret, secret.expose())),
                previous_secret: previous.map(|secret| self.seal(id, Field::PreviousSecret, secret.expose())),
                write_key: write_key.map(|key| self.seal(id, Field::WriteKey, key.expose())),
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
}
