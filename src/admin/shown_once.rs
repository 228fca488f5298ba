//! Secrets that are shown once: the page that a form leads to may be loaded again, kept in a history, or shared. So the
//! secret is not in its address, and it is there for one look.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Admin, AdminError, new_id};
use crate::secrets::DecryptError;
use crate::secrets::vault::Field;
use crate::store::shown_once::{self, ShownOnce};

/// For how long a secret waits to be looked at: a redirect takes a moment.
const WAITS: Duration = Duration::minutes(10);

impl Admin {
    /// Keeps a secret of a source for one look by this person. Returns where.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn keep_for_one_look(
        &self,
        source: Uuid,
        person: Uuid,
        secret: &str,
        now: OffsetDateTime,
    ) -> Result<Uuid, AdminError> {
        let id = new_id();
        let sealed = self.seal(id, Field::ShownOnce, secret);
        let kept = ShownOnce { id, source_id: source, person_id: person, sealed: &sealed, expires_at: now + WAITS };
        self.db(async |db| shown_once::insert(db, &kept).await).await?;
        Ok(id)
    }

    /// The one look. `None`: somebody has had it, or it is not for this person.
    ///
    /// # Errors
    /// [`AdminError::Database`], [`AdminError::Decrypt`].
    pub async fn look_once(
        &self,
        source: Uuid,
        id: Uuid,
        person: Uuid,
        now: OffsetDateTime,
    ) -> Result<Option<String>, AdminError> {
        let taken = async |db: &mut _| shown_once::take(db, source, id, person, now).await;
        // Once: where the answer is lost, so is the secret.
        let sealed = self.connection().await.run_once(taken).await?;
        let open = |sealed: Vec<u8>| self.vault.open(id, Field::ShownOnce, &sealed).map_err(DecryptError::from);
        Ok(sealed.map(open).transpose()?)
    }
}
