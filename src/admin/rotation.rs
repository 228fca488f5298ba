//! How far the rotation of a signing secret is.

use time::OffsetDateTime;
use uuid::Uuid;

use super::doctor::{Signer, WebhooksSeen};
use super::{Admin, AdminError};
use crate::store::rotation;

/// What is to be known before a signing secret is rotated.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Until when the secret before the current one verifies, while it does.
    pub previous_until: Option<OffsetDateTime>,
    /// What was seen of the source's webhooks.
    pub seen: WebhooksSeen,
}

impl Rotation {
    /// Whether the secret before the current one still works, and is still the one that signs: another rotation
    /// would stop it at once.
    #[must_use]
    pub fn ends_secret_in_use(&self) -> bool {
        self.previous_until.is_some() && self.seen.last_signed_with == Some(Signer::Previous)
    }

    /// Whether the current secret is the one that signs.
    #[must_use]
    pub fn is_current_seen(&self) -> bool {
        self.seen.last_signed_with == Some(Signer::Current)
    }
}

impl Admin {
    /// Ends the secret before the current one, which would verify for another while. Says whether there was one.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn end_previous_secret(&self, source: Uuid) -> Result<bool, AdminError> {
        Ok(self.db(async |db| rotation::end_previous_secret(db, source).await).await?)
    }

    /// How far the rotation of a source's signing secret is.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn rotation(&self, source: Uuid, now: OffsetDateTime) -> Result<Rotation, AdminError> {
        let sealed = self.sealed_source(source).await?;
        let previous_until = sealed.previous_secret_until.filter(|until| now < *until);
        Ok(Rotation { previous_until, seen: self.webhooks_seen(source).await? })
    }
}
