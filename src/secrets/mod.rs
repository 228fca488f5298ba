//! Keys and secrets: encrypted at rest, and decrypted for those who need them.

mod activity;
mod cache;
mod ingest_keys;
pub mod vault;

pub use activity::WebhookActivity;
pub use cache::{Source, SourceCache, SourceCacheError};

use uuid::Uuid;

use crate::domain::call;
use crate::domain::identity_key::{IdentityKey, InvalidIdentityKey};
use crate::domain::nudgespot_key::{InvalidNudgespotKey, NudgespotKey};
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
    /// It opens to something that is no Nudgespot key.
    #[error("a stored Nudgespot key is damaged")]
    NudgespotKey(#[from] InvalidNudgespotKey),
    /// It opens to something that is no identity key.
    #[error("a stored identity key is damaged")]
    IdentityKey(#[from] InvalidIdentityKey),
}

/// The key that a source sends with.
#[derive(Debug)]
pub enum DestinationKey {
    /// Of Segment, or of a compatible API.
    Segment(WriteKey),
    /// Of Nudgespot.
    Nudgespot(NudgespotKey),
}

impl DestinationKey {
    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Segment(key) => key.expose(),
            Self::Nudgespot(key) => key.expose(),
        }
    }

    /// All that is ever shown of it.
    #[must_use]
    pub fn last4(&self) -> &str {
        match self {
            Self::Segment(key) => key.last4(),
            Self::Nudgespot(key) => key.last4(),
        }
    }
}

/// Opens the key that a source sends with; `None`: it has none yet.
///
/// # Errors
/// [`DecryptError`].
pub fn decrypt_destination_key(vault: &Vault, source: &SealedSource) -> Result<Option<DestinationKey>, DecryptError> {
    let Some(sealed) = &source.write_key else { return Ok(None) };
    Ok(Some(if source.kind == call::SOURCE_KIND {
        DestinationKey::Nudgespot(decrypt_nudgespot_key(vault, source.id, sealed)?)
    } else {
        DestinationKey::Segment(decrypt_write_key(vault, source.id, sealed)?)
    }))
}

/// Opens a write key.
///
/// # Errors
/// [`DecryptError`].
pub fn decrypt_write_key(vault: &Vault, source: Uuid, sealed: &[u8]) -> Result<WriteKey, DecryptError> {
    Ok(WriteKey::parse(&vault.open(source, Field::WriteKey, sealed)?)?)
}

/// Opens the key of a source whose destination is Nudgespot. It is stored where the others have their write key.
///
/// # Errors
/// [`DecryptError`].
pub fn decrypt_nudgespot_key(vault: &Vault, source: Uuid, sealed: &[u8]) -> Result<NudgespotKey, DecryptError> {
    Ok(NudgespotKey::parse(&vault.open(source, Field::WriteKey, sealed)?)?)
}

/// Opens an account's identity key.
///
/// # Errors
/// [`DecryptError`].
pub fn decrypt_identity_key(vault: &Vault, account: Uuid, sealed: &[u8]) -> Result<IdentityKey, DecryptError> {
    Ok(IdentityKey::parse(&vault.open(account, Field::IdentityKey, sealed)?)?)
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
