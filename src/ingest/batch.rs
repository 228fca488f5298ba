//! Webhooks that are committed together, and what they are told.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::IngestError;
use super::calls::{self, CallEffects, CallSorter, Fate};
use super::queue::Queued;
use super::reply::{Replies, ReplyChannel};
use super::webhook::Webhook;
use crate::domain::event::Kind;
use crate::metrics::{EventDisposition, Metrics, Tally};
use crate::store::append::{Append, Events};
use crate::store::call_effects::Users;
use crate::store::calls::{Holds, KnownUsers, identities, known_calls, known_users};
use crate::store::log::Appended;
use crate::store::quarantine::Quarantine;
use crate::wakeups::CommittedBlock;

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
    /// Calls that are to wait.
    pub holds: Holds,
    /// Users to forget, with their accounts.
    pub forgotten: (Vec<Uuid>, Users),
    /// What becomes of each webhook's events.
    sorted: Vec<Sorted>,
}

/// Where the events of a webhook are.
struct Sorted {
    /// The place of its source in what is appended.
    part_index: usize,
    /// Of calls: what becomes of each.
    fates: Vec<Fate>,
}

/// What became of a batch.
#[derive(Default)]
pub struct Stored {
    /// Which of the events are new, by the place of their source; `None`: all.
    pub new: Option<Vec<Vec<bool>>>,
    /// The calls that wait and did not before.
    pub held: HashSet<(Uuid, Vec<u8>)>,
    /// Sources that were deleted meanwhile. Nothing of theirs is stored.
    pub gone: HashSet<Uuid>,
    /// Where the events are in the log, as they are in the batch; none where some were there before.
    pub appended: Vec<Appended>,
}

/// What the database knows of those whom webhooks are about.
#[derive(Default)]
pub struct People {
    /// Whose addresses are, by account and address.
    users_of: HashMap<(Uuid, Uuid), String>,
    /// Of calls.
    known: KnownUsers,
    /// Calls to forget users that came before.
    known_deletions: HashSet<(Uuid, Vec<u8>)>,
}

impl People {
    /// Whether anything need be known for these webhooks.
    pub fn concern(webhooks: &[Queued<PendingWebhook>]) -> bool {
        let concern = |webhook: &Webhook| {
            !(webhook.unidentified.is_empty() && webhook.calls.is_empty() && webhook.release.is_empty())
        };
        webhooks.iter().any(|queued| concern(&queued.webhook.webhook))
    }

    /// Those whom these webhooks are about.
    pub async fn find(db: &mut PgConnection, webhooks: &[Queued<PendingWebhook>]) -> sqlx::Result<Self> {
        let all = || webhooks.iter().map(|queued| &queued.webhook.webhook);
        let mut people = Self::default();
        let addresses = all().flat_map(|webhook| webhook.unidentified.iter().map(|(_, hash)| (webhook.account, *hash)));
        let (accounts, hashes): (Vec<Uuid>, Vec<Uuid>) = addresses.unzip();
        if !accounts.is_empty() {
            people.users_of = identities(&mut *db, &accounts, &hashes).await?;
        }
        let users = calls::users(all());
        if !users.is_empty() {
            people.known = known_users(&mut *db, &users).await?;
        }
        let deletions = all().flat_map(|webhook| webhook.calls.iter().map(|call| (webhook.source, call)));
        let deletions = deletions.filter(|(_, call)| call.is_delete()).map(|(source, call)| (source, call.event_id()));
        let (sources, event_ids): (Vec<Uuid>, Vec<&[u8]>) = deletions.unzip();
        if !sources.is_empty() {
            people.known_deletions = known_calls(db, &sources, &event_ids).await?;
        }
        Ok(people)
    }
}

impl CommitBatch {
    /// A batch of these webhooks.
    pub fn new(webhooks: &[Queued<PendingWebhook>], people: People) -> Self {
        let (mut appended, mut quarantine) = (Events::default(), Quarantine::default());
        let mut all = Vec::with_capacity(webhooks.len());
        let People { users_of, known, known_deletions } = people;
        let mut call_sorter =
            CallSorter::new(known, known_deletions, webhooks.iter().map(|queued| &queued.webhook.webhook));
        for queued in webhooks {
            let webhook = &queued.webhook.webhook;
            let Webhook { source, account, received_at, quarantine: aside, .. } = webhook;
            let (mut part_index, mut fates) = (0, Vec::new());
            if !webhook.events.is_empty() {
                let identified = webhook.identified(|hash| users_of.get(&(*account, hash)).cloned());
                part_index = appended.push(*source, *received_at, identified.as_ref().unwrap_or(&webhook.events));
            }
            if !(webhook.calls.is_empty() && webhook.release.is_empty()) {
                let calls = call_sorter.sort(webhook);
                fates = calls.fates;
                if !calls.events.is_empty() {
                    part_index = appended.push(*source, *received_at, &calls.events);
                }
                for (why, payload) in calls.quarantine {
                    quarantine.push(*source, *received_at, why, payload);
                }
            }
            for (why, payload) in aside {
                quarantine.push(*source, *received_at, why.clone(), payload.clone());
            }
            all.push(Sorted { part_index, fates });
        }
        let CallEffects { holds, effects, forgotten } = call_sorter.finish();
        Self { append: Append::new(appended, effects), quarantine, holds, forgotten, sorted: all }
    }

    /// The sources of all that is to be stored, each once.
    pub fn sources(&self) -> Vec<Uuid> {
        let mut sources = self.quarantine.sources();
        sources.extend(self.append.events().sources());
        sources.extend(self.holds.sources());
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// Takes out the blocks that were appended, with their numbers.
    pub fn take_committed(&mut self, appended: &[Appended]) -> Vec<(Uuid, CommittedBlock)> {
        let appended: HashMap<Uuid, &Appended> =
            appended.iter().map(|appended| (appended.source_id, appended)).collect();
        let mut committed = Vec::with_capacity(appended.len());
        for (source, since, blocks) in self.append.take_blocks() {
            let Some(Appended { base, lease, .. }) = appended.get(&source) else { continue };
            let mut last_seq = *base;
            for block in blocks {
                last_seq += i64::try_from(block.len()).unwrap_or(i64::MAX);
                committed
                    .push((source, CommittedBlock { last_seq, since, block: block.without_keys(), lease: *lease }));
            }
        }
        committed
    }

    /// Replies to each webhook.
    pub fn reply(self, webhooks: Vec<Queued<PendingWebhook>>, stored: Stored, metrics: &Metrics) {
        let Stored { new, mut held, gone, .. } = stored;
        let mut new: Option<Vec<_>> = new.map(|new| new.into_iter().map(Vec::into_iter).collect());
        let (mut tally, mut replies, mut n_to_delete) = (Tally::default(), Replies::default(), 0);
        for (queued, Sorted { part_index, fates }) in webhooks.into_iter().zip(self.sorted) {
            let PendingWebhook { webhook, reply, .. } = queued.webhook;
            if gone.contains(&queued.source) {
                replies.push(reply, Err(IngestError::SourceGone));
                continue;
            }
            let mut receipt = webhook.receipt;
            let mut new = new.as_mut().and_then(|new| new.get_mut(part_index));
            let mut is_new = || new.as_mut().and_then(Iterator::next).unwrap_or(true);
            let mut count = |kind, is_new| {
                let (count, disposition) = if is_new {
                    (&mut receipt.accepted, EventDisposition::Accepted)
                } else {
                    (&mut receipt.duplicates, EventDisposition::Duplicate)
                };
                *count += 1;
                tally.add(Some(kind), disposition, 1);
            };
            for kind in webhook.kinds {
                count(kind, is_new());
            }
            let (mut n_held, mut n_ignored, mut n_released) = (0, 0, 0);
            for fate in fates {
                match fate {
                    Fate::Appended(kind) => count(kind, is_new()),
                    Fate::Released => n_released += usize::from(is_new()),
                    // Where it is there twice, it is held once.
                    Fate::Held(id) => {
                        if held.remove(&(queued.source, id)) {
                            n_held += 1;
                        } else {
                            count(Kind::Track, false);
                        }
                    }
                    Fate::Forgotten => count(Kind::Track, true),
                    Fate::Ignored => n_ignored += 1,
                    Fate::Duplicate => count(Kind::Track, false),
                    Fate::Deletion => {
                        is_new();
                        n_ignored += 1;
                        n_to_delete += 1;
                    }
                }
            }
            receipt.ignored += n_ignored;
            receipt.held = receipt.held.map(|held| held + n_held);
            tally.add(Some(Kind::Track), EventDisposition::Held, n_held);
            tally.add(Some(Kind::Track), EventDisposition::Released, n_released);
            tally.add(None, EventDisposition::Ignored, receipt.ignored);
            tally.add(None, EventDisposition::Rejected, receipt.rejected.len());
            replies.push(reply, Ok(receipt));
        }
        replies.send();
        metrics.events(tally);
        metrics.users_to_delete.inc_by(n_to_delete);
    }
}

/// The sources that may have something to deliver now.
pub fn appended_sources(webhooks: &[Queued<PendingWebhook>]) -> impl Iterator<Item = Uuid> {
    let appends =
        |webhook: &Webhook| !(webhook.kinds.is_empty() && webhook.calls.is_empty() && webhook.release.is_empty());
    webhooks.iter().filter(move |queued| appends(&queued.webhook.webhook)).map(|queued| queued.source)
}

/// Tells each sender to send its webhook again.
pub fn refuse(webhooks: impl IntoIterator<Item = Queued<PendingWebhook>>, reason: IngestError) {
    let mut replies = Replies::default();
    for queued in webhooks {
        replies.push(queued.webhook.reply, Err(reason));
    }
    replies.send();
}
