//! Bearer tokens of the API.

use serde::Serialize;
use time::{OffsetDateTime, UtcOffset};
use utoipa::ToSchema;
use uuid::Uuid;

use super::listed::{Listed, MadeAt, one_more};
use super::opaque_token::{OpaqueToken, digest};
use super::{Admin, AdminError, new_id, violates};
use crate::domain::name::Name;
use crate::domain::timestamp::rfc3339;
use crate::store::api_token::{self, ApiToken, NewApiToken};
pub use crate::store::api_token::{TokenIdentity, TokensOf};

/// How tokens begin, so that people, and programs that look for secrets in the wrong place, know one.
pub const TOKEN_PREFIX: &str = "nss_";

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// What it is for.
    pub name: Name,
    /// `None`: all accounts, as an operator.
    pub account: Option<Uuid>,
    /// Whether it may change anything.
    pub may_write: bool,
    /// Until when it counts; `None`: until it is revoked.
    pub expires_at: Option<OffsetDateTime>,
}

impl TokenRequest {
    /// What the audit log says of it.
    #[must_use]
    pub fn describe(&self) -> String {
        let until =
            self.expires_at.map_or_else(String::new, |at| format!(", until {}", at.to_offset(UtcOffset::UTC).date()));
        format!("{} ({}{until})", self.name.as_str(), access(self.may_write))
    }
}

fn access(may_write: bool) -> &'static str {
    if may_write { "write" } else { "read" }
}

/// A token that has just been made.
#[derive(Debug)]
pub struct NewToken {
    /// Its id.
    pub token_id: Uuid,
    /// The token, which is shown only now.
    pub token: OpaqueToken,
}

/// A token as people see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TokenView {
    /// Its id.
    pub token_id: Uuid,
    /// What it is for.
    pub name: String,
    /// `None`: all accounts.
    pub account_id: Option<Uuid>,
    /// The name of its account.
    pub account_name: Option<String>,
    /// `read` or `write`.
    pub access: &'static str,
    /// When it was made.
    pub created_at: String,
    /// By whom.
    pub created_by: String,
    /// When it was used last, to the minute.
    pub last_used_at: Option<String>,
    /// Until when it counts; `None`: until it is revoked.
    pub expires_at: Option<String>,
    /// Whether its time is up.
    pub is_expired: bool,
}

impl Admin {
    /// Makes a token.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`], [`AdminError::Database`].
    pub async fn create_token(&self, request: &TokenRequest, created_by: &str) -> Result<NewToken, AdminError> {
        let (token_id, token) = (new_id(), OpaqueToken::random::<32>(TOKEN_PREFIX));
        let token_hash = token.digest();
        let row = NewApiToken {
            id: token_id,
            account_id: request.account,
            token_hash: &token_hash,
            name: request.name.as_str(),
            may_write: request.may_write,
            created_by,
            expires_at: request.expires_at,
        };
        self.db(async |db| api_token::insert(db, &row).await).await.map_err(|error| match request.account {
            Some(account) if violates(&error, "api_token_account_id_fkey") => {
                AdminError::NoSuchAccount(account.to_string())
            }
            _ => error.into(),
        })?;
        Ok(NewToken { token_id, token })
    }

    /// Whom a bearer token stands for, if it counts. Notes that it was used, at most once a minute.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn api_token(&self, token: &str) -> Result<Option<TokenIdentity>, AdminError> {
        let Some(hash) = digest(token).filter(|_| token.starts_with(TOKEN_PREFIX)) else { return Ok(None) };
        let found = self.db(async |db| api_token::find(db, &hash).await).await?;
        if let Some(id) = found.as_ref().filter(|found| found.is_stale()).map(|found| found.token_id) {
            self.db(async |db| api_token::touch(db, id).await).await?;
        }
        Ok(found)
    }

    /// Tokens, newest first.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn list_tokens(&self, which: TokensOf) -> Result<Vec<TokenView>, AdminError> {
        let tokens = self.db(async |db| api_token::list(db, which, None, None).await).await?;
        Ok(tokens.into_iter().map(view).collect())
    }

    /// So many tokens at most, newest first, after a place in the list.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn tokens_after(
        &self,
        which: TokensOf,
        after: Option<MadeAt>,
        limit: usize,
    ) -> Result<Listed<TokenView, MadeAt>, AdminError> {
        let before = after.map(|place| (place.at, place.id));
        let found = self.db(async |db| api_token::list(db, which, before, Some(one_more(limit))).await).await?;
        Ok(Listed::cut(found, limit, |token| MadeAt { at: token.created_at, id: token.id }).map(view))
    }

    /// Revokes a token: of that account, where one is named. Returns its name, and its account.
    ///
    /// # Errors
    /// [`AdminError::NoSuchToken`], [`AdminError::Database`].
    pub async fn revoke_token(&self, id: Uuid, account: Option<Uuid>) -> Result<(String, Option<Uuid>), AdminError> {
        let revoked = self.db(async |db| api_token::delete(db, id, account).await).await?;
        revoked.ok_or_else(|| AdminError::NoSuchToken(id.to_string()))
    }
}

fn view(token: ApiToken) -> TokenView {
    TokenView {
        token_id: token.id,
        name: token.name,
        account_id: token.account_id,
        account_name: token.account_name,
        access: access(token.may_write),
        created_at: rfc3339(token.created_at),
        created_by: token.created_by,
        last_used_at: token.last_used_at.map(rfc3339),
        expires_at: token.expires_at.map(rfc3339),
        is_expired: token.is_expired,
    }
}
