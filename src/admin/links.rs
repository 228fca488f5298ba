//! One-time links: how people get in first, and again when they have forgotten their password.

use time::OffsetDateTime;

use super::opaque_token::{OpaqueToken, digest};
use super::sessions::{Begun, Client, NewSession, SignInError};
use super::{Admin, AdminError, new_id};
use crate::domain::email_address::EmailAddress;
use crate::domain::password::Password;
use crate::store::{one_time_link, person};

/// What a one-time link is for.
#[derive(Clone, Debug)]
pub struct LinkInfo {
    /// The person's address; `None`: the first operator's, who says it when he uses the link.
    pub email: Option<String>,
    /// Whether the person has a password, which the link replaces.
    pub has_password: bool,
    /// The account that the person belongs to, where it is just one.
    pub account_name: Option<String>,
    /// Until when it counts.
    pub expires_at: OffsetDateTime,
}

impl Admin {
    /// The URL of the page of a one-time link.
    #[must_use]
    pub fn link_url(&self, token: &OpaqueToken) -> String {
        format!("{}/links/{}", self.urls.console, token.expose())
    }

    /// How the console's URLs begin, without a slash at the end.
    #[must_use]
    pub fn console_url(&self) -> &str {
        &self.urls.console
    }

    /// Whether there is an operator who can sign in.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn has_operator(&self) -> Result<bool, AdminError> {
        Ok(self.db(async |db| person::has_operator(db).await).await?)
    }

    /// A link for the first operator, which counts for a day; `None`: there is one.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn first_operator_link(&self) -> Result<Option<OpaqueToken>, AdminError> {
        let token = OpaqueToken::random::<32>("");
        let hash = token.digest();
        let is_made = self.db(async |db| one_time_link::insert_first(db, &hash).await).await?;
        Ok(is_made.then_some(token))
    }

    /// What a link is for; `None`: it does not count (any more). Looking does not use it up.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn find_link(&self, token: &str) -> Result<Option<LinkInfo>, AdminError> {
        let Some(hash) = digest(token) else { return Ok(None) };
        let link = self.db(async |db| one_time_link::find(db, &hash).await).await?;
        Ok(link.map(|link| LinkInfo {
            email: link.email,
            has_password: link.has_password,
            account_name: link.account_name,
            expires_at: link.expires_at,
        }))
    }

    /// Uses a link up: sets the password, ends all sessions of the person, and signs him in. `email` is that of the first
    /// operator; of any other link it is not used.
    ///
    /// # Errors
    /// [`SignInError::LinkIsVoid`], also where the first operator's link comes without an address; others.
    pub async fn redeem_link(
        &self,
        token: &str,
        email: Option<&EmailAddress>,
        password: &Password,
        client: Client<'_>,
    ) -> Result<NewSession, SignInError> {
        self.throttle.try_from(client.address).map_err(SignInError::Throttled)?;
        let token_hash = digest(token).ok_or(SignInError::LinkIsVoid)?;
        // Only who has a link can have passwords hashed.
        let link = self.db(async |db| one_time_link::find(db, &token_hash).await).await?;
        let link = link.ok_or(SignInError::LinkIsVoid)?;
        let hash = self.passwords.hash(password).await?;
        let begun = Begun::new(client);
        let person = if link.email.is_some() {
            self.db(async |db| one_time_link::redeem(db, &token_hash, &hash, &begun.row()).await).await?
        } else {
            let id = new_id();
            let email = email.ok_or(SignInError::LinkIsVoid)?.as_str();
            let redeem =
                async |db: &mut _| one_time_link::redeem_first(db, &token_hash, (id, email), &hash, &begun.row()).await;
            self.db(redeem).await?
        };
        person.map(|person| begun.session_of(person)).ok_or(SignInError::LinkIsVoid)
    }
}
