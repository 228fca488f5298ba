//! Events that were given up.

use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Admin, AdminError};
use crate::domain::event::{Kind, MessageId};
use crate::domain::timestamp::rfc3339;
use crate::domain::unsubscribe_event::UnsubscribeEvent;
pub use crate::store::dead_letter::Filter as DeadLetterFilter;
use crate::store::dead_letter::{self, DeadLetter};
use crate::store::replay;

/// How many are read or replayed at a time.
const PAGE: i64 = 500;

/// A dead letter as people see it.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "docs/contract.md, Command line")]
pub struct DeadLetterView {
    pub event_id: String,
    pub message_id: String,
    pub event: String,
    pub reason: String,
    pub received_at: String,
    pub dead_at: String,
}

/// A source's dead letters as they were when this was made, page by page. What dies (again) afterwards has a number in the
/// log after all of them, and is left alone: a letter is not replayed twice.
pub struct DeadLetters<'a> {
    admin: &'a Admin,
    source: Uuid,
    unsubscribe: UnsubscribeEvent,
    filter: DeadLetterFilter,
    after: i64,
    last_seq: i64,
}

impl Admin {
    /// A source's dead letters.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn dead_letters(&self, source: &str, filter: DeadLetterFilter) -> Result<DeadLetters<'_>, AdminError> {
        let source = self.find_source(source).await?;
        let unsubscribe = source.unsubscribe_event.parse();
        let unsubscribe = unsubscribe.map_err(|_| AdminError::UnknownSetting(source.unsubscribe_event.clone()))?;
        let last_seq = self.db(async |db| dead_letter::last_seq(db, source.id).await).await?;
        Ok(DeadLetters { admin: self, source: source.id, unsubscribe, filter, after: 0, last_seq })
    }

    /// A page of a source's dead letters, in the order in which their events came, and where the next one begins; `after` is
    /// where the page before it ended.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::UnknownSetting`], [`AdminError::Database`].
    pub async fn list_dead_letters(
        &self,
        source: Uuid,
        filter: &DeadLetterFilter,
        after: i64,
        limit: usize,
    ) -> Result<(Vec<DeadLetterView>, Option<i64>), AdminError> {
        let letters = self.dead_letters(&source.to_string(), DeadLetterFilter::default()).await?;
        let n = i64::try_from(limit).unwrap_or(PAGE) + 1;
        let mut found = self.db(async |db| dead_letter::list_after(db, source, filter, after, n).await).await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().map(|letter| letter.seq).filter(|_| has_more);
        Ok((found.into_iter().map(|letter| letters.view(letter)).collect(), next))
    }
}

impl DeadLetters<'_> {
    /// How many there are.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn count(&self) -> Result<u64, AdminError> {
        let count =
            async |db: &mut PgConnection| dead_letter::count(db, self.source, &self.filter, self.last_seq).await;
        Ok(self.admin.db(count).await?.unsigned_abs())
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn next_page(&mut self) -> Result<Option<Vec<DeadLetterView>>, AdminError> {
        let page = self.next_letters().await?;
        Ok(page.map(|page| page.into_iter().map(|letter| self.view(letter)).collect()))
    }

    /// Puts the next page back into the log, to be sent again under the old message ids. Returns how many were on it, and
    /// how many of them were put back; `None` after the last.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn replay_page(&mut self) -> Result<Option<(usize, usize)>, AdminError> {
        let Some(page) = self.next_letters().await? else { return Ok(None) };
        let seqs: Vec<i64> = page.iter().map(|letter| letter.seq).collect();
        let n_replayed = replay::replay(&mut *self.admin.connection().await, self.source, &seqs).await?;
        Ok(Some((seqs.len(), n_replayed)))
    }

    async fn next_letters(&mut self) -> Result<Option<Vec<DeadLetter>>, AdminError> {
        let list_page = async |db: &mut PgConnection| {
            dead_letter::list_after(db, self.source, &self.filter, self.after, PAGE).await
        };
        let mut page = self.admin.db(list_page).await?;
        page.retain(|letter| letter.seq <= self.last_seq);
        let Some(last) = page.last() else { return Ok(None) };
        self.after = last.seq;
        Ok(Some(page))
    }

    fn view(&self, letter: DeadLetter) -> DeadLetterView {
        let kind = Kind::from_number(letter.kind);
        DeadLetterView {
            event: kind.map_or_else(String::new, |kind| kind.segment_event(self.unsubscribe).to_owned()),
            event_id: String::from_utf8_lossy(&letter.event_id).into_owned(),
            message_id: MessageId::new(self.source, &letter.event_id).to_string(),
            reason: letter.reason,
            received_at: rfc3339(letter.received_at),
            dead_at: rfc3339(letter.dead_at),
        }
    }
}
