//! Keys and secrets: encrypted at rest, and decrypted for those who need them.

mod activity;
mod cache;
pub mod vault;

pub use activity::WebhookActivity;
pub use cache::{Source, SourceCache, SourceCacheError};

use uuid::Uuid;

use crate::domain::secret::{InvalidSecret, SigningSecret};
use crate::domain::write_key::{InvalidWriteKey, WriteKey};
use crate::store::source::SealedSource;
use vault::{CannotDecrypt, Field, Vault};

/// A sealed value that does not open, or not to what it should be.
#[derive(Debug, thiserror::Error)]
pub enum DecryptError {
    /// No master key fits.
    #[error(transparent)]
    CannotDecrypt(#[from] CannotDecrypt),
    /// It opens to something that is no signing secret.
    #[error("a stored signing secret is damaged")]
    Secret(#[from] InvalidSecret),
    /// It opens to something that is no write key.
    #[error("a stored write key is damaged")]
    WriteKey(#[from] InvalidWriteKey),
}

/// Opens a write key.
///
/// # Errors
/// [`DecryptError`].
pub fn decrypt_write_key(vault: &Vault, source: Uuid, sealed: &[u8]) -> Result<WriteKey, DecryptError> {
    Ok(WriteKey::parse(&vault.open(source, Field::WriteKey, sealed)?)?)
}

/// Opens a signing secret; `None`: the customer has not entered it yet.
///
/// # Errors
/// [`DecryptError`].
pub fn decrypt_secret(vault: &Vault, source: &SealedSource) -> Result<Option<SigningSecret>, DecryptError> {
    let Some(sealed) = &source.secret else { return Ok(None) };
    Ok(Some(SigningSecret::parse(&vault.open(source.id, Field::Secret, sealed)?)?))
}

/// Opens the signing secret before the last rotation, if there is one.
///
/// # Errors
/// [`DecryptError`].
pub fn decrypt_previous_secret(vault: &Vault, source: &SealedSource) -> Result<Option<SigningSecret>, DecryptError> {
    let Some(sealed) = &source.previous_secret else { return Ok(None) };
    Ok(Some(SigningSecret::parse(&vault.open(source.id, Field::PreviousSecret, sealed)?)?))
}
