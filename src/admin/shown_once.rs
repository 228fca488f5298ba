//! Secrets that are shown once: the page that a form leads to may be loaded again, kept in a history, or shared. So the
//! secret is not in its address, nor in the answer to the form, and it is there for one look.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Admin, AdminError, new_id};
use crate::secrets::DecryptError;
use crate::secrets::vault::Field;
use crate::store::shown_once::{self, ShownOnce};

/// For how long a secret waits to be looked at: a redirect takes a moment.
const WAITS: Duration = Duration::minutes(10);

/// What is shown once. It is sealed as a whole, with the names beside the secret.
#[derive(Serialize, Deserialize)]
pub enum OneLook {
    /// A source's signing secret.
    SigningSecret(String),
    /// The URL of a one-time link.
    Link {
        /// Whose it is.
        email: String,
        /// The link.
        link: String,
        /// Where to go on from there: a path.
        onward: String,
    },
    /// A token of the API.
    Token {
        /// What it is for.
        name: String,
        /// The token.
        token: String,
    },
}

impl Admin {
    /// Keeps a secret for one look by this person: one of a source, an account, or (nil) the service. Returns where.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn keep_for_one_look(
        &self,
        about: Uuid,
        person: Uuid,
        look: &OneLook,
        now: OffsetDateTime,
    ) -> Result<Uuid, AdminError> {
        let id = new_id();
        let text = serde_json::to_string(look).expect("texts under fixed names");
        let sealed = self.seal(id, Field::ShownOnce, &text);
        let kept = ShownOnce { id, about, person_id: person, sealed: &sealed, expires_at: now + WAITS };
        self.db(async |db| shown_once::insert(db, &kept).await).await?;
        Ok(id)
    }

    /// The one look. `None`: somebody has had it, or it is not for this person.
    ///
    /// # Errors
    /// [`AdminError::Database`], [`AdminError::Decrypt`].
    pub async fn look_once(
        &self,
        about: Uuid,
        id: Uuid,
        person: Uuid,
        now: OffsetDateTime,
    ) -> Result<Option<OneLook>, AdminError> {
        let taken = async |db: &mut _| shown_once::take(db, about, id, person, now).await;
        // Once: where the answer is lost, so is the secret.
        let Some(sealed) = self.connection().await.run_once(taken).await? else { return Ok(None) };
        let text = self.vault.open(id, Field::ShownOnce, &sealed).map_err(DecryptError::from)?;
        // Of another version of the program: as if it had been looked at.
        Ok(serde_json::from_str(&text).ok())
    }
}
