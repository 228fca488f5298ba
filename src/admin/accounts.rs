//! Accounts.

use uuid::Uuid;

use super::source_options::NewSource;
use super::sources::Created;
use super::{Admin, AdminError, new_id, violates};
use crate::domain::name::Name;
use crate::store::account;
pub use crate::store::account::{Account, SourcePlace};
use crate::store::source::Owner;

impl Admin {
    /// Creates an account with its first source, both or neither.
    ///
    /// # Errors
    /// [`AdminError::AccountNameTaken`], [`AdminError::SecretIsMadeHere`], [`AdminError::NotOfKind`],
    /// [`AdminError::Database`].
    pub async fn create_account(&self, name: &Name, first: NewSource) -> Result<Created, AdminError> {
        self.insert_source((new_id(), name.as_str()), Owner::New, first).await
    }

    /// The account of that id or name.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`], [`AdminError::Database`].
    pub async fn find_account(&self, id_or_name: &str) -> Result<Account, AdminError> {
        let found = self.db(async |db| account::find(db, id_or_name).await).await?;
        found.ok_or_else(|| AdminError::NoSuchAccount(id_or_name.to_owned()))
    }

    /// The account of that id.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn account_by_id(&self, id: Uuid) -> Result<Option<Account>, AdminError> {
        Ok(self.db(async |db| account::by_id(db, id).await).await?)
    }

    /// Where a source is.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn source_place(&self, id: Uuid) -> Result<Option<SourcePlace>, AdminError> {
        Ok(self.db(async |db| account::of_source(db, id).await).await?)
    }

    /// Every account, by name.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn list_accounts(&self) -> Result<Vec<Account>, AdminError> {
        Ok(self.db(async |db| account::list(db).await).await?)
    }

    /// Gives an account another name.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`], [`AdminError::AccountNameTaken`], [`AdminError::Database`].
    pub async fn rename_account(&self, id_or_name: &str, name: &Name) -> Result<(), AdminError> {
        let id = self.find_account(id_or_name).await?.id;
        let renamed = self.db(async |db| account::rename(db, id, name.as_str()).await).await;
        let is_there = renamed.map_err(|error| name_taken(error, name.as_str()))?;
        if is_there { Ok(()) } else { Err(AdminError::NoSuchAccount(id_or_name.to_owned())) }
    }

    /// Deletes an account, its sources, and all that is kept of them.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`], [`AdminError::Database`].
    pub async fn delete_account(&self, id_or_name: &str) -> Result<(), AdminError> {
        let id = self.find_account(id_or_name).await?.id;
        Ok(account::delete(&mut *self.connection().await, id).await?)
    }
}

fn name_taken(error: sqlx::Error, name: &str) -> AdminError {
    if violates(&error, "account_name_unique") { AdminError::AccountNameTaken(name.to_owned()) } else { error.into() }
}
