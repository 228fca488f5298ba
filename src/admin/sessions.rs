//! Signing in, and what a session knows.

use std::net::IpAddr;
use std::time::Duration;

use secrecy::SecretString;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::opaque_token::{OpaqueToken, digest};
use super::passwords::Busy;
use super::{Admin, AdminError, new_id};
use crate::domain::email_address::EmailAddress;
use crate::domain::password::Password;
use crate::domain::text::visible;
use crate::domain::timestamp::rfc3339;
use crate::store::person::{self, Role};
use crate::store::session;

/// How long after the password was given what is hard to undo may be done without giving it again.
const PASSWORD_IS_FRESH: time::Duration = time::Duration::minutes(30);
/// How much of a browser's name is kept, in characters.
const MAX_USER_AGENT_CHARS: usize = 200;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client<'a> {
    /// The sender's address.
    pub address: Option<IpAddr>,
    /// What the browser calls itself.
    pub user_agent: Option<&'a str>,
}

/// Why somebody was not let in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// It does not say which of the two.
    #[error("the address or the password is wrong")]
    Wrong,
    /// 429, with what remains to be waited.
    #[error("too many tries; wait {} s and try again", .0.as_secs().max(1))]
    Throttled(Duration),
    /// 503.
    #[error("the service is busy with other people who sign in; try again in a few seconds")]
    Busy,
    /// It was used, is too old, or never was one.
    #[error("this link has been used already, or is older than a day; ask for a new one")]
    LinkIsVoid,
    /// It did not answer. Try again.
    #[error("the database")]
    Database(#[from] sqlx::Error),
}

impl From<Busy> for SignInError {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

/// A session that has just begun.
#[derive(Debug)]
pub struct NewSession {
    /// What proves it, for the cookie.
    pub token: OpaqueToken,
    /// Who was let in.
    pub person_id: Uuid,
}

/// A person who is signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The session.
    pub session_id: Uuid,
    /// The person.
    pub person_id: Uuid,
    /// The person's address.
    pub email: String,
    /// Whether all accounts are the person's to see and change.
    pub is_operator: bool,
    /// The accounts that the person belongs to, by name.
    pub memberships: Vec<Membership>,
    /// When the session began.
    pub created_at: OffsetDateTime,
    /// When the password was given last.
    pub password_given_at: OffsetDateTime,
}

/// An account that a person belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The account.
    pub account_id: Uuid,
    /// Its name.
    pub account_name: String,
    /// What the person may do there.
    pub role: Role,
}

impl SignedIn {
    /// What the person may do in an account; `None`: it is none of his. Of an operator, it does not say whether there is
    /// such an account.
    #[must_use]
    pub fn role_in(&self, account: Uuid) -> Option<Role> {
        if self.is_operator {
            return Some(Role::Admin);
        }
        self.memberships.iter().find(|membership| membership.account_id == account).map(|membership| membership.role)
    }

    /// Whether the password was given recently enough for what is hard to undo.
    #[must_use]
    pub fn is_password_fresh(&self, now: OffsetDateTime) -> bool {
        now - self.password_given_at < PASSWORD_IS_FRESH
    }
}

/// A session as its person sees it.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    /// Its id.
    pub session_id: Uuid,
    /// When it began.
    pub created_at: String,
    /// When it was used last, to the minute.
    pub last_seen_at: String,
    /// Where it began.
    pub address: Option<String>,
    /// What the browser calls itself.
    pub user_agent: Option<String>,
}

impl Admin {
    /// Lets a person in who knows the password. An address that nobody has takes as long.
    ///
    /// # Errors
    /// [`SignInError`].
    pub async fn sign_in(
        &self,
        email: &str,
        password: &SecretString,
        client: Client<'_>,
    ) -> Result<NewSession, SignInError> {
        self.throttle.try_from(client.address).map_err(SignInError::Throttled)?;
        let email = EmailAddress::parse(email).ok();
        let address = client.address.map(|address| address.to_canonical().to_string());
        let found = match &email {
            Some(email) => {
                let find = async |db: &mut _| person::find_credentials(db, email.as_str(), address.as_deref()).await;
                self.db(find).await?
            }
            None => None,
        };
        if let Some(email) = &email
            && !found.as_ref().is_some_and(|found| found.is_known_there)
        {
            self.throttle.try_for(email.as_str()).map_err(SignInError::Throttled)?;
        }
        let hash = found.as_ref().and_then(|found| found.password_hash.as_deref());
        let is_right = self.passwords.verify(password, hash).await?;
        let (Some(found), Some(hash), true) = (&found, hash, is_right) else { return Err(SignInError::Wrong) };
        let begun = Begun::new(client);
        let insert = async |db: &mut _| session::insert(db, found.id, hash, &begun.row()).await;
        // The password may have been changed, or the person removed, in this moment.
        if !self.db(insert).await? {
            return Err(SignInError::Wrong);
        }
        Ok(begun.session_of(found.id))
    }

    /// The session that a cookie proves, if it counts. Notes that it was used, at most once a minute.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn session(&self, token: &str) -> Result<Option<SignedIn>, AdminError> {
        let Some(hash) = digest(token) else { return Ok(None) };
        let rows = self.db(async |db| session::find(db, &hash).await).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        if first.is_stale {
            let id = first.id;
            self.db(async |db| session::touch(db, id).await).await?;
        }
        Ok(Some(SignedIn {
            session_id: first.id,
            person_id: first.person_id,
            email: first.email.clone(),
            is_operator: first.is_operator,
            created_at: first.created_at,
            password_given_at: first.password_given_at,
            memberships: rows
                .into_iter()
                .filter_map(|row| {
                    let (account_id, account_name, role) = (row.account_id?, row.account_name?, row.role?);
                    Some(Membership { account_id, account_name, role })
                })
                .collect(),
        }))
    }

    /// Notes that a person has given the password again.
    ///
    /// # Errors
    /// [`SignInError`].
    pub async fn confirm_password(
        &self,
        signed_in: &SignedIn,
        password: &SecretString,
        client: Client<'_>,
    ) -> Result<(), SignInError> {
        self.verify_own(signed_in, password, client).await?;
        Ok(self.db(async |db| session::update_password_given(db, signed_in.session_id).await).await?)
    }

    /// Gives a person another password, who knows the one before. All his other sessions end.
    ///
    /// # Errors
    /// [`SignInError`].
    pub async fn change_password(
        &self,
        signed_in: &SignedIn,
        before: &SecretString,
        new: &Password,
        client: Client<'_>,
    ) -> Result<(), SignInError> {
        self.verify_own(signed_in, before, client).await?;
        let hash = self.passwords.hash(new).await?;
        let (person, session) = (signed_in.person_id, signed_in.session_id);
        let is_there = self.db(async |db| person::update_password(db, person, &hash, session).await).await?;
        if is_there { Ok(()) } else { Err(SignInError::Wrong) }
    }

    async fn verify_own(
        &self,
        signed_in: &SignedIn,
        password: &SecretString,
        client: Client<'_>,
    ) -> Result<(), SignInError> {
        self.throttle.try_from(client.address).map_err(SignInError::Throttled)?;
        // Not counted with the tries of strangers: who has a session is not kept out by them.
        self.throttle.try_for(&signed_in.session_id.to_string()).map_err(SignInError::Throttled)?;
        let person = signed_in.person_id;
        let hash = self.db(async |db| person::find_password_hash(db, person).await).await?;
        if self.passwords.verify(password, hash.as_deref()).await? { Ok(()) } else { Err(SignInError::Wrong) }
    }

    /// A person's sessions, the one that was used last first.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn list_sessions(&self, person: Uuid) -> Result<Vec<SessionView>, AdminError> {
        let sessions = self.db(async |db| session::list(db, person).await).await?;
        let view = |session: session::Session| SessionView {
            session_id: session.id,
            created_at: rfc3339(session.created_at),
            last_seen_at: rfc3339(session.last_seen_at),
            address: session.address,
            user_agent: session.user_agent,
        };
        Ok(sessions.into_iter().map(view).collect())
    }

    /// Ends one of a person's sessions. Says whether it was there.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn sign_out(&self, person: Uuid, session: Uuid) -> Result<bool, AdminError> {
        Ok(self.db(async |db| session::delete(db, person, Some(session)).await).await? > 0)
    }

    /// Ends all of a person's sessions. Returns how many there were.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn sign_out_everywhere(&self, person: Uuid) -> Result<u64, AdminError> {
        Ok(self.db(async |db| session::delete(db, person, None).await).await?)
    }
}

/// A session that is about to be stored.
pub(super) struct Begun {
    id: Uuid,
    token: OpaqueToken,
    token_hash: [u8; 32],
    address: Option<String>,
    user_agent: Option<String>,
}

impl Begun {
    pub fn new(client: Client<'_>) -> Self {
        let token = OpaqueToken::random::<16>("");
        let user_agent = client.user_agent.map(|text| visible(text).chars().take(MAX_USER_AGENT_CHARS).collect());
        Self {
            id: new_id(),
            token_hash: token.digest(),
            token,
            address: client.address.map(|address| address.to_canonical().to_string()),
            user_agent,
        }
    }

    pub fn row(&self) -> session::NewSession<'_> {
        session::NewSession {
            id: self.id,
            token_hash: &self.token_hash,
            address: self.address.as_deref(),
            user_agent: self.user_agent.as_deref(),
        }
    }

    pub fn session_of(self, person_id: Uuid) -> NewSession {
        NewSession { token: self.token, person_id }
    }
}
