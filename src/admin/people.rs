//! Who may see and change which account.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::listed::{Listed, one_more};
use super::opaque_token::OpaqueToken;
use super::{Admin, AdminError, new_id, violates};
use crate::domain::email_address::EmailAddress;
use crate::domain::timestamp::rfc3339;
pub use crate::store::one_time_link::Inviter;
use crate::store::one_time_link::{self, Invitation};
pub use crate::store::person::Role;
use crate::store::person::{self, Changed, Member, Operator};

impl Role {
    /// Its name in the API and in forms.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }
}

/// It is no role.
#[derive(Debug, thiserror::Error)]
#[error("a role is `admin` or `viewer`")]
pub struct UnknownRole;

impl std::str::FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        [Self::Viewer, Self::Admin].into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// What an invitation came to.
#[derive(Debug)]
pub struct Invited {
    /// The person.
    pub person_id: Uuid,
    /// The token of a one-time link for the person.
    pub link: OpaqueToken,
}

/// Somebody who may use an account, as people see him.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PersonView {
    /// The person.
    pub person_id: Uuid,
    /// The address.
    pub email: String,
    /// `admin` or `viewer`.
    pub role: String,
    /// Whether the person may see all accounts.
    pub is_operator: bool,
    /// Whether the person has chosen a password.
    pub has_password: bool,
    /// When the person was invited.
    pub added_at: String,
    /// When the person used the console last, while a session of his is there.
    pub last_seen_at: Option<String>,
    /// Until when the one-time link counts that was made for the person; `None`: there is none.
    pub link_expires_at: Option<String>,
}

/// An operator, as people see him.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OperatorView {
    /// The person.
    pub person_id: Uuid,
    /// The address.
    pub email: String,
    /// Whether the person has chosen a password.
    pub has_password: bool,
    /// When the person was invited.
    pub added_at: String,
    /// When the person used the console last, while a session of his is there.
    pub last_seen_at: Option<String>,
}

/// What the audit log says of an invitation.
#[must_use]
pub fn describe_invited(email: &EmailAddress, role: Role) -> String {
    format!("{} as {}", email.as_str(), role.as_str())
}

impl Admin {
    /// Lets a person see an account. Who is there already keeps his role, and gets a new link: that is the way back in for
    /// those who forgot their password. An account's admin lets nobody in who has access to anything else: by the link he
    /// could enter there.
    ///
    /// # Errors
    /// [`AdminError::NoSuchAccount`], [`AdminError::BelongsElsewhere`], [`AdminError::Database`].
    pub async fn invite(
        &self,
        account: Uuid,
        email: &EmailAddress,
        role: Role,
        by: Inviter,
    ) -> Result<Invited, AdminError> {
        self.invite_to(email, Invitation::Account(account, role), by).await.map_err(|error| match error {
            AdminError::Database(error) if violates(&error, "membership_account_id_fkey") => {
                AdminError::NoSuchAccount(account.to_string())
            }
            error => error,
        })
    }

    /// Lets a person see and change all accounts; one who does already gets a new link.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn invite_operator(&self, email: &EmailAddress) -> Result<Invited, AdminError> {
        self.invite_to(email, Invitation::Operator, Inviter::Operator).await
    }

    async fn invite_to(&self, email: &EmailAddress, to: Invitation, by: Inviter) -> Result<Invited, AdminError> {
        let (id, token) = (new_id(), OpaqueToken::random::<32>(""));
        let hash = token.digest();
        let invited = self.db(async |db| one_time_link::invite(db, id, email.as_str(), to, by, &hash).await).await?;
        let person_id = invited.ok_or_else(|| AdminError::BelongsElsewhere(email.as_str().to_owned()))?;
        Ok(Invited { person_id, link: token })
    }

    /// The people of an account, by address.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn list_people(&self, account: Uuid) -> Result<Vec<PersonView>, AdminError> {
        let members = self.db(async |db| person::list_members(db, account, "", None).await).await?;
        Ok(members.into_iter().map(person_view).collect())
    }

    /// So many people of an account at most, by address, from the one after `after`.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn people_after(
        &self,
        account: Uuid,
        after: &str,
        limit: usize,
    ) -> Result<Listed<PersonView, String>, AdminError> {
        let list = async |db: &mut _| person::list_members(db, account, after, Some(one_more(limit))).await;
        Ok(Listed::cut(self.db(list).await?, limit, |member| member.email.clone()).map(person_view))
    }

    /// Gives a person another role in an account.
    ///
    /// # Errors
    /// [`AdminError::NoSuchPerson`], [`AdminError::LastAdmin`], [`AdminError::Database`].
    pub async fn change_role(&self, account: Uuid, person: Uuid, role: Role) -> Result<(), AdminError> {
        let changed = self.db(async |db| person::update_role(db, account, person, role).await).await?;
        done(changed, person, AdminError::LastAdmin)
    }

    /// Takes an account away from a person. One who has no other is forgotten, with all sessions.
    ///
    /// # Errors
    /// [`AdminError::NoSuchPerson`], [`AdminError::LastAdmin`], [`AdminError::Database`].
    pub async fn remove_person(&self, account: Uuid, person: Uuid) -> Result<(), AdminError> {
        let changed = self.db(async |db| person::remove_member(db, account, person).await).await?;
        done(changed, person, AdminError::LastAdmin)
    }

    /// The operators, by address.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn list_operators(&self) -> Result<Vec<OperatorView>, AdminError> {
        let operators = self.db(async |db| person::list_operators(db, "", None).await).await?;
        Ok(operators.into_iter().map(operator_view).collect())
    }

    /// So many operators at most, by address, from the one after `after`.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn operators_after(&self, after: &str, limit: usize) -> Result<Listed<OperatorView, String>, AdminError> {
        let list = async |db: &mut _| person::list_operators(db, after, Some(one_more(limit))).await;
        Ok(Listed::cut(self.db(list).await?, limit, |operator| operator.email.clone()).map(operator_view))
    }

    /// The operator of that address.
    ///
    /// # Errors
    /// [`AdminError::NoSuchPerson`], [`AdminError::Database`].
    pub async fn find_operator(&self, email: &EmailAddress) -> Result<Uuid, AdminError> {
        let operators = self.db(async |db| person::list_operators(db, "", None).await).await?;
        let found = operators.iter().find(|operator| operator.email == email.as_str());
        found.map(|operator| operator.id).ok_or_else(|| AdminError::NoSuchPerson(email.as_str().to_owned()))
    }

    /// Makes an operator an ordinary person; one who belongs to no account is forgotten, with all sessions.
    ///
    /// # Errors
    /// [`AdminError::NoSuchPerson`], [`AdminError::LastOperator`], [`AdminError::Database`].
    pub async fn remove_operator(&self, person: Uuid) -> Result<(), AdminError> {
        let changed = self.db(async |db| person::remove_operator(db, person).await).await?;
        done(changed, person, AdminError::LastOperator)
    }
}

fn done(changed: Changed, person: Uuid, is_last: AdminError) -> Result<(), AdminError> {
    match changed {
        Changed::Done => Ok(()),
        Changed::NotFound => Err(AdminError::NoSuchPerson(person.to_string())),
        Changed::IsLast => Err(is_last),
    }
}

fn operator_view(operator: Operator) -> OperatorView {
    OperatorView {
        person_id: operator.id,
        email: operator.email,
        has_password: operator.has_password,
        added_at: rfc3339(operator.created_at),
        last_seen_at: operator.last_seen_at.map(rfc3339),
    }
}

fn person_view(member: Member) -> PersonView {
    PersonView {
        person_id: member.id,
        email: member.email,
        role: member.role.as_str().to_owned(),
        is_operator: member.is_operator,
        has_password: member.has_password,
        added_at: rfc3339(member.added_at),
        last_seen_at: member.last_seen_at.map(rfc3339),
        link_expires_at: member.link_expires_at.map(rfc3339),
    }
}
