//! Accounts with their keys opened: what the command line administers, and what webhooks are verified against.

mod admin;
mod directory;

pub use admin::{Admin, AdminError, Created, Edit, NotSealed, Rekeyed, Rotated};
pub use directory::{Account, Directory, DirectoryError};

use uuid::Uuid;

use crate::domain::secret::{InvalidSecret, SigningSecret};
use crate::domain::write_key::{InvalidWriteKey, WriteKey};
use crate::store::account::SealedAccount;
use crate::vault::{CannotOpen, Field, Vault};

/// A sealed value that does not open, or not to what it should be.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No master key fits.
    #[error(transparent)]
    CannotOpen(#[from] CannotOpen),
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
/// [`OpenError`].
pub fn open_write_key(vault: &Vault, account: Uuid, sealed: &[u8]) -> Result<WriteKey, OpenError> {
    Ok(WriteKey::parse(&vault.open(account, Field::WriteKey, sealed)?)?)
}

fn open_secret(vault: &Vault, account: &SealedAccount) -> Result<SigningSecret, OpenError> {
    Ok(SigningSecret::parse(&vault.open(account.id, Field::Secret, &account.secret)?)?)
}

fn open_previous_secret(vault: &Vault, account: &SealedAccount) -> Result<Option<SigningSecret>, OpenError> {
    let Some(sealed) = &account.previous_secret else { return Ok(None) };
    Ok(Some(SigningSecret::parse(&vault.open(account.id, Field::PreviousSecret, sealed)?)?))
}
