//! Who did what, when, and from where.
//!
//! Entries hold no secret. Use cases do not know who asks for them: the edge records what it has had done.

use std::net::IpAddr;

use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Admin, AdminError};
use crate::domain::email_address::masked;
use crate::domain::timestamp::rfc3339;
use crate::store::audit::{self, AuditRow, NewAuditEntry};

/// How many entries a page has at most.
pub const AUDIT_PAGE: usize = 100;
/// The longest detail that is kept, in characters.
const MAX_DETAIL_CHARS: usize = 500;

/// Who acts.
#[derive(Clone, Debug)]
pub struct Actor {
    /// A person's address, a token's name, or `command line`.
    pub name: String,
    /// What that is.
    pub kind: ActorKind,
    /// The person or token.
    pub id: Option<Uuid>,
    /// From where.
    pub address: Option<IpAddr>,
}

impl Actor {
    /// Whoever may run commands.
    #[must_use]
    pub fn command_line() -> Self {
        Self { name: "command line".to_owned(), kind: ActorKind::CommandLine, id: None, address: None }
    }

    /// The program itself.
    #[must_use]
    pub fn system() -> Self {
        Self { name: "the service".to_owned(), kind: ActorKind::System, id: None, address: None }
    }
}

/// What acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorKind {
    /// Somebody in the console.
    Person,
    /// A program that uses the API.
    Token,
    /// Whoever may run commands.
    CommandLine,
    /// The program itself.
    System,
}

impl ActorKind {
    /// Its name in the database and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Token => "token",
            Self::CommandLine => "command_line",
            Self::System => "system",
        }
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $words:literal;)*) => {
        /// What was done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Action {
            $(#[doc = $words] $variant,)*
        }

        impl Action {
            /// Its name in the database and in the API.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        /// What an action is called on pages; `None`: a newer version of the program wrote it.
        fn words(action: &str) -> Option<&'static str> {
            match action { $($name => Some($words),)* _ => None }
        }
    };
}

actions! {
    SignedIn = "session.begin", "Signed in";
    SignedOut = "session.end", "Signed out";
    SignedOutEverywhere = "session.end_all", "Signed out everywhere";
    PasswordSet = "password.set", "Chose a password by a one-time link";
    PasswordChanged = "password.change", "Changed the password";
    PersonInvited = "person.invite", "Invited a person";
    LinkMade = "person.link", "Made a one-time link for a person";
    RoleChanged = "person.role", "Changed a person's role";
    PersonRemoved = "person.remove", "Removed a person";
    AccountLeft = "person.leave", "Left the account";
    OperatorInvited = "operator.invite", "Invited an operator";
    OperatorRemoved = "operator.remove", "Removed an operator";
    TokenCreated = "token.create", "Created a token";
    TokenRevoked = "token.revoke", "Revoked a token";
    AccountCreated = "account.create", "Created the account";
    AccountRenamed = "account.rename", "Renamed the account";
    AccountDeleted = "account.delete", "Deleted the account";
    Rekeyed = "account.rekey", "Encrypted keys and secrets anew";
    SourceCreated = "source.create", "Created a source";
    SourceChanged = "source.change", "Changed settings";
    SourceDeleted = "source.delete", "Deleted a source";
    SourcePaused = "source.pause", "Paused delivery";
    SourceResumed = "source.resume", "Resumed delivery";
    SecretRotated = "source.rotate_secret", "Made a new signing secret";
    PreviousSecretEnded = "source.end_previous_secret", "Ended the previous signing secret";
    SecretShown = "source.show_secret", "Looked at the signing secret";
    UrlRotated = "source.rotate_url", "Replaced the webhook URL";
    StatusAddressReplaced = "source.rotate_status", "Replaced the status address";
    QuietAcknowledged = "source.acknowledge_quiet", "Acknowledged that the source is quiet";
    TestEventsSent = "source.test", "Sent test events";
    UnreadableSkipped = "source.skip_unreadable", "Gave up events that cannot be read";
    AccountLookedAt = "account.look", "Looked at the account as operator";
    EventsLookedAt = "events.look", "Looked at events as operator";
    EventsExported = "events.export", "Exported events";
    ReplayStarted = "replay.start", "Started a replay";
    ReplayCancelled = "replay.cancel", "Cancelled a replay";
    RecipientErased = "recipient.erase", "Erased a recipient";
}

/// An entry as people see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// Its place in the log; later ones are greater.
    pub id: i64,
    /// When.
    pub at: String,
    /// Where it concerns one account.
    pub account_id: Option<Uuid>,
    /// The name of that account, while it is there.
    pub account_name: Option<String>,
    /// What acted: `person`, `token`, `command_line` or `system`.
    pub actor_kind: String,
    /// A person's address, a token's name, or `command line`.
    pub actor: String,
    /// From where.
    pub address: Option<String>,
    /// What was done, as one word for programs.
    pub action: String,
    /// What was done, for people.
    pub words: String,
    /// To what, and how.
    pub detail: String,
}

/// Entries, and where the next ones begin.
#[derive(Clone, Debug)]
pub struct AuditPage {
    /// Newest first.
    pub entries: Vec<AuditView>,
    /// Hand it to [`Admin::audit_log`] for those before; `None`: there are none.
    pub next: Option<i64>,
}

impl Admin {
    /// Records what was done. `detail` says to what, and holds no secret.
    ///
    /// # Errors
    /// [`AdminError::Database`]: it is done, but not recorded.
    pub async fn record(
        &self,
        actor: &Actor,
        account: Option<Uuid>,
        action: Action,
        detail: &str,
    ) -> Result<(), AdminError> {
        let address = address(actor);
        let entry = entry(actor, account, action, address.as_deref(), detail);
        Ok(self.db(async |db| audit::insert(db, &entry).await).await?)
    }

    /// Records that somebody looked at an account: once an hour, however often it was.
    ///
    /// # Errors
    /// [`AdminError::Database`]: it is not recorded.
    pub async fn record_look(
        &self,
        actor: &Actor,
        account: Uuid,
        action: Action,
        detail: &str,
    ) -> Result<(), AdminError> {
        let address = address(actor);
        let entry = entry(actor, Some(account), action, address.as_deref(), detail);
        Ok(self.db(async |db| audit::insert_once_an_hour(db, &entry).await).await?)
    }

    /// A page of the audit log: of an account, or of all. `before` is where the page before it ended.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn audit_log(
        &self,
        account: Option<Uuid>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<AuditPage, AdminError> {
        let limit = limit.clamp(1, AUDIT_PAGE);
        let n = i64::try_from(limit).unwrap_or(i64::MAX);
        // One more tells whether there is another page.
        let mut rows = self.db(async |db| audit::list(db, account, before, n + 1).await).await?;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| has_more).map(|row| row.id);
        Ok(AuditPage { entries: rows.into_iter().map(view).collect(), next })
    }
}

fn address(actor: &Actor) -> Option<String> {
    actor.address.map(|address| address.to_canonical().to_string())
}

fn entry<'a>(
    actor: &'a Actor,
    account_id: Option<Uuid>,
    action: Action,
    address: Option<&'a str>,
    detail: &'a str,
) -> NewAuditEntry<'a> {
    NewAuditEntry {
        account_id,
        actor_kind: actor.kind.as_str(),
        actor_name: &actor.name,
        actor_id: actor.id,
        address,
        action: action.as_str(),
        detail: detail.char_indices().nth(MAX_DETAIL_CHARS).map_or(detail, |(end, _)| &detail[..end]),
    }
}

fn view(row: AuditRow) -> AuditView {
    AuditView {
        id: row.id,
        at: rfc3339(row.at),
        account_id: row.account_id,
        account_name: row.account_name,
        actor_kind: row.actor_kind,
        actor: row.actor_name,
        address: row.address,
        words: words(&row.action).map_or_else(|| row.action.clone(), str::to_owned),
        action: row.action,
        detail: row.detail,
    }
}

/// An erased recipient (an address or a uid) as the audit log may name him: a hash, by which who knows him can find the entry,
/// and `j…@example.com`.
#[must_use]
pub fn erased_recipient(recipient: &str) -> String {
    let recipient = recipient.trim().to_lowercase();
    let hash = hex::encode(&Sha256::digest(&recipient)[..8]);
    format!("{} (SHA-256 {hash}…)", masked(&recipient))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erased_recipient_is_named_by_a_hash_and_one_letter() {
        let named = erased_recipient(" Jane.Doe@Example.com");
        assert_eq!(named, erased_recipient("jane.doe@example.com"));
        assert!(named.starts_with("j…@example.com (SHA-256 ") && !named.contains("jane"), "{named}");
    }

    #[test]
    fn an_action_of_a_newer_version_is_shown_by_its_name() {
        assert_eq!(words(Action::SourcePaused.as_str()), Some("Paused delivery"));
        assert_eq!(words("source.fly"), None);
    }
}
