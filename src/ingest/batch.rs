//! Webhooks that are committed together, and what they are told.

use std::collections::HashSet;

use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::IngestError;
use super::queue::Queued;
use super::reply::{Replies, ReplyChannel};
use super::webhook::Webhook;
use crate::metrics::{EventDisposition, Metrics, Tally};
use crate::store::append::{Append, Events};
use crate::store::quarantine::Quarantine;

/// A webhook that waits for its commit.
#[derive(Debug)]
pub struct PendingWebhook {
    pub webhook: Webhook,
    pub reply: ReplyChannel,
    /// Its permits to wait and to take memory, held until it is answered.
    pub(super) _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

/// The events of several webhooks, as the store takes them.
pub struct CommitBatch {
    pub append: Append,
    pub quarantine: Quarantine,
    /// The place of each webhook's source in `append`.
    part_indexes: Vec<usize>,
}

/// What became of a batch.
#[derive(Default)]
pub struct Stored {
    /// Which of the events are new, by the place of their source; `None`: all.
    pub new: Option<Vec<Vec<bool>>>,
    /// Sources that were deleted meanwhile. Nothing of theirs is stored.
    pub gone: HashSet<Uuid>,
}

impl CommitBatch {
    /// A batch of these webhooks.
    pub fn new(webhooks: &[Queued<PendingWebhook>]) -> Self {
        let (mut appended, mut quarantine) = (Events::default(), Quarantine::default());
        let mut part_indexes = Vec::with_capacity(webhooks.len());
        for queued in webhooks {
            let Webhook { source, received_at, events, quarantine: aside, .. } = &queued.webhook.webhook;
            part_indexes.push(if events.is_empty() { 0 } else { appended.push(*source, *received_at, events) });
            for (why, payload) in aside {
                quarantine.push(*source, *received_at, why.clone(), payload.clone());
            }
        }
        Self { append: Append::new(appended), quarantine, part_indexes }
    }

    /// Replies to each webhook.
    pub fn reply(self, webhooks: Vec<Queued<PendingWebhook>>, stored: Stored, metrics: &Metrics) {
        let mut new: Option<Vec<_>> = stored.new.map(|new| new.into_iter().map(Vec::into_iter).collect());
        let (mut tally, mut replies) = (Tally::default(), Replies::default());
        for (queued, part_index) in webhooks.into_iter().zip(self.part_indexes) {
            let PendingWebhook { webhook, reply, .. } = queued.webhook;
            if stored.gone.contains(&queued.source) {
                replies.push(reply, Err(IngestError::SourceGone));
                continue;
            }
            let mut receipt = webhook.receipt;
            let mut new = new.as_mut().and_then(|new| new.get_mut(part_index));
            for kind in webhook.kinds {
                let is_new = new.as_mut().and_then(Iterator::next).unwrap_or(true);
                let (count, disposition) = if is_new {
                    (&mut receipt.accepted, EventDisposition::Accepted)
                } else {
                    (&mut receipt.duplicates, EventDisposition::Duplicate)
                };
                *count += 1;
                tally.add(Some(kind), disposition, 1);
            }
            tally.add(None, EventDisposition::Ignored, receipt.ignored);
            tally.add(None, EventDisposition::Rejected, receipt.rejected.len());
            replies.push(reply, Ok(receipt));
        }
        replies.send();
        metrics.events(tally);
    }
}

/// The sources that may have something to deliver now.
pub fn appended_sources(webhooks: &[Queued<PendingWebhook>]) -> impl Iterator<Item = Uuid> {
    webhooks.iter().filter(|queued| !queued.webhook.webhook.kinds.is_empty()).map(|queued| queued.source)
}

/// Tells each sender to send its webhook again.
pub fn refuse(webhooks: impl IntoIterator<Item = Queued<PendingWebhook>>, reason: IngestError) {
    let mut replies = Replies::default();
    for queued in webhooks {
        replies.push(queued.webhook.reply, Err(reason));
    }
    replies.send();
}
