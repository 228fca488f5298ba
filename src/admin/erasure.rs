//! Erasing a recipient: all that is kept of them in an account, as a job.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::audit::erased_recipient;
use super::listed::{Listed, MadeAt, one_more};
use super::{Admin, AdminError, new_id};
use crate::domain::call::user_hash;
use crate::domain::timestamp::rfc3339;
use crate::secrets::decrypt_identity_key;
use crate::store::erase_job::{self, EraseJob, NewEraseJob};
use crate::store::{account, forgotten_user};

/// How many erasures of an account are listed.
const LISTED: i64 = 50;
/// The longest address or id.
const MAX_BYTES: usize = 512;

/// Who is to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(Named);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    Email(String),
    Uid(String),
}

/// Why a text names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecipient {
    /// It is no address.
    #[error("an email address reads `name@example.com`")]
    Email,
    /// It is no id.
    #[error("a uid is a text of 1 to {MAX_BYTES} bytes, as the sender gives it")]
    Uid,
}

impl Recipient {
    /// By email address, whatever the case.
    ///
    /// # Errors
    /// [`InvalidRecipient::Email`].
    pub fn email(text: &str) -> Result<Self, InvalidRecipient> {
        let address = text.trim().to_lowercase();
        let is_address = address.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
        let is_wrong = |c: char| c.is_whitespace() || c.is_control();
        if is_address && address.len() <= MAX_BYTES && !address.contains(is_wrong) {
            Ok(Self(Named::Email(address)))
        } else {
            Err(InvalidRecipient::Email)
        }
    }

    /// By the id that the sender has for them, exactly; white space around it is none of it.
    ///
    /// # Errors
    /// [`InvalidRecipient::Uid`].
    pub fn uid(text: &str) -> Result<Self, InvalidRecipient> {
        let uid = text.trim();
        if uid.is_empty() || uid.len() > MAX_BYTES || uid.contains('\0') {
            return Err(InvalidRecipient::Uid);
        }
        Ok(Self(Named::Uid(uid.to_owned())))
    }

    /// So that only who knows them recognises them: for the audit log.
    #[must_use]
    pub fn masked(&self) -> String {
        match &self.0 {
            Named::Email(text) | Named::Uid(text) => erased_recipient(text),
        }
    }
}

/// An erasure as people see it: a receipt, once it has ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErasureView {
    /// The job.
    pub erasure_id: Uuid,
    /// The account.
    pub account_id: Uuid,
    /// Whom, so that only who knows them recognises them.
    pub recipient: String,
    /// Who asked for it.
    pub asked_by: String,
    /// When.
    pub created_at: String,
    /// When it ended; null: it goes on.
    pub ended_at: Option<String>,
    /// `running` or `done`.
    pub state: &'static str,
    /// How many of the account's sources are done.
    pub sources_done: i32,
    /// What was removed so far.
    pub removed: Removed,
    /// Blocks of the log that cannot be read, and may hold such events.
    pub unreadable_blocks: i64,
    /// What stays, and for how long.
    pub stays: Vec<&'static str>,
    /// What the program cannot reach.
    pub out_of_reach: Vec<&'static str>,
}

/// What was removed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Removed {
    /// Events of the log: delivered, waiting or given up.
    pub events: i64,
    /// Of these, those that waited. They are not sent any more; those that were on their way may have been.
    pub waiting: i64,
    /// Dead letters.
    pub dead_letters: i64,
    /// Events that were ignored or rejected.
    pub ignored_or_rejected: i64,
    /// Webhooks that were refused.
    pub refused_webhooks: i64,
    /// Answers of Segment that named them.
    pub answers: i64,
}

/// What stays, and for how long.
const STAYS: [&str; 3] = [
    "The ids and times of the events, without anything else of them, until events are forgotten (after 30 days, unless the operator set \
     another), and for 7 days at least: so an event that is sent again stays out.",
    "A hash of the recipient, with the first letter and the host of an address, in this receipt and in the audit log.",
    "What a sender reports of the recipient from now on. Stop it there first.",
];
/// What the program cannot reach.
const OUT_OF_REACH: [&str; 3] = [
    "What Segment or Nudgespot has received, and what Segment's destinations have: ask them for a deletion as well.",
    "Backups and replicas of the database, and what PostgreSQL overwrites only later (its write-ahead log, and pages until \
     the next vacuum).",
    "What the sender has.",
];

impl Admin {
    /// What calls told of a recipient, and those of their calls that wait to be told more.
    async fn forget_identity(
        &self,
        account_id: Uuid,
        email: Option<&str>,
        uid: Option<&str>,
    ) -> Result<(), AdminError> {
        let keys = self.db(async |db| account::list_identity_keys(db, Some(account_id)).await).await?;
        let Some(sealed) = keys.into_iter().next() else { return Ok(()) };
        let key = decrypt_identity_key(&self.vault, account_id, &sealed.identity_key)?;
        let (address_hash, user_hash) = (email.map(|email| key.address_hash(email)), uid.map(user_hash));
        self.db(async |db| forgotten_user::erase(db, account_id, user_hash, address_hash, email).await).await?;
        Ok(())
    }

    /// Asks for the erasure of a recipient: of all that is kept of them in an account.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn erase(&self, account: Uuid, recipient: &Recipient, asked_by: &str) -> Result<ErasureView, AdminError> {
        let (email, uid) = match recipient.0.clone() {
            Named::Email(email) => (Some(email), None),
            Named::Uid(uid) => (None, Some(uid)),
        };
        self.forget_identity(account, email.as_deref(), uid.as_deref()).await?;
        let new = NewEraseJob {
            id: new_id(),
            account_id: account,
            asked_by: asked_by.to_owned(),
            email,
            uid,
            recipient: recipient.masked(),
        };
        self.db(async |db| erase_job::insert(db, &new).await).await?;
        self.erasure(account, new.id).await?.ok_or(AdminError::Conflict)
    }

    /// An erasure of an account.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn erasure(&self, account: Uuid, id: Uuid) -> Result<Option<ErasureView>, AdminError> {
        Ok(self.db(async |db| erase_job::list(db, account, Some(id), None, 1).await).await?.pop().map(view))
    }

    /// The last erasures of an account, the newest first.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn erasures(&self, account: Uuid) -> Result<Vec<ErasureView>, AdminError> {
        let jobs = self.db(async |db| erase_job::list(db, account, None, None, LISTED).await).await?;
        Ok(jobs.into_iter().map(view).collect())
    }

    /// So many erasures of an account at most, the newest first, after a place in the list.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn erasures_after(
        &self,
        account: Uuid,
        after: Option<MadeAt>,
        limit: usize,
    ) -> Result<Listed<ErasureView, MadeAt>, AdminError> {
        let before = after.map(|place| (place.at, place.id));
        let found = self.db(async |db| erase_job::list(db, account, None, before, one_more(limit)).await).await?;
        Ok(Listed::cut(found, limit, |job| MadeAt { at: job.created_at, id: job.id }).map(view))
    }
}

impl ErasureView {
    /// Whether it goes on.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.ended_at.is_none()
    }
}

fn view(job: EraseJob) -> ErasureView {
    ErasureView {
        erasure_id: job.id,
        account_id: job.account_id,
        recipient: job.recipient,
        asked_by: job.asked_by,
        created_at: rfc3339(job.created_at),
        state: if job.ended_at.is_some() { "done" } else { "running" },
        ended_at: job.ended_at.map(rfc3339),
        sources_done: job.n_sources_done,
        removed: Removed {
            events: job.n_events,
            waiting: job.n_waiting,
            dead_letters: job.n_dead_letters,
            ignored_or_rejected: job.n_quarantined,
            refused_webhooks: job.n_refused_webhooks,
            answers: job.n_texts,
        },
        unreadable_blocks: job.n_unreadable_blocks,
        stays: STAYS.to_vec(),
        out_of_reach: OUT_OF_REACH.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_an_address_or_an_id() {
        let recipient = Recipient::email(" Jane@Example.com ").expect("an address");
        assert_eq!(recipient, Recipient::email("jane@example.com").expect("an address"));
        let masked = recipient.masked();
        assert!(masked.starts_with("j…@example.com (SHA-256 ") && !masked.contains("jane"), "{masked}");
        for wrong in ["", "jane", "@x", "x@", "a b@x", "a\0@x"] {
            assert_eq!(Recipient::email(wrong), Err(InvalidRecipient::Email), "{wrong}");
        }
        for wrong in ["", " ", "a\0b", &"x".repeat(513)] {
            assert_eq!(Recipient::uid(wrong), Err(InvalidRecipient::Uid), "{wrong}");
        }
        assert_eq!(Recipient::uid(" 019mr8mf4r\n"), Recipient::uid("019mr8mf4r"));
        assert!(Recipient::uid("019mr8mf4r").is_ok());
    }
}
