//! Webhooks that are committed together.

use std::collections::HashSet;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

use super::NotStored;
use super::webhook::{Receipt, Webhook};
use crate::domain::event::Kind;
use crate::metrics::{EventFate, Metrics, Tally};
use crate::store::log::Append;
use crate::store::set_aside::SetAside;

/// A webhook that waits for its commit.
pub struct Waiting {
    pub webhook: Webhook,
    pub answer: oneshot::Sender<Result<Receipt, NotStored>>,
    /// Its place among the webhooks that may wait.
    pub place: OwnedSemaphorePermit,
}

/// The events of a group of webhooks, as the store takes them, and who waits for the answer.
#[derive(Default)]
pub struct Group {
    pub append: Append,
    pub set_aside: SetAside,
    members: Vec<Member>,
}

struct Member {
    account: Uuid,
    kinds: Vec<Kind>,
    receipt: Receipt,
    answer: oneshot::Sender<Result<Receipt, NotStored>>,
    _place: OwnedSemaphorePermit,
}

impl Group {
    /// A group of these webhooks.
    pub fn of(webhooks: Vec<Waiting>) -> Self {
        let mut group = Self::default();
        for Waiting { webhook, answer, place } in webhooks {
            let Webhook { account, received_at, events, set_aside, receipt } = webhook;
            let kinds = events.iter().map(|event| event.kind).collect();
            group.members.push(Member { account, kinds, receipt, answer, _place: place });
            for event in events {
                group.append.push(account, received_at, event);
            }
            for (why, payload) in set_aside {
                group.set_aside.push(account, received_at, why, payload);
            }
        }
        group
    }

    /// How many webhooks there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The accounts that may have something to deliver now.
    pub fn accounts(&self) -> impl Iterator<Item = Uuid> {
        self.members.iter().filter(|member| !member.kinds.is_empty()).map(|member| member.account)
    }

    /// Answers each webhook, given the ids of the events that were new (`None`: all). Of an event that came twice in
    /// the group, the first was accepted.
    pub fn answer(self, new: Option<Vec<Uuid>>, metrics: &Metrics) {
        let mut new: Option<HashSet<Uuid>> = new.map(HashSet::from_iter);
        let mut ids = self.append.message_ids().iter();
        let mut tally = Tally::default();
        for member in self.members {
            let mut receipt = member.receipt;
            for (kind, id) in member.kinds.into_iter().zip(&mut ids) {
                let is_new = new.as_mut().is_none_or(|new| new.remove(id));
                let (count, fate) = if is_new {
                    (&mut receipt.accepted, EventFate::Accepted)
                } else {
                    (&mut receipt.duplicates, EventFate::Duplicate)
                };
                *count += 1;
                tally.add(Some(kind), fate, 1);
            }
            tally.add(None, EventFate::Ignored, receipt.ignored);
            tally.add(None, EventFate::Rejected, receipt.rejected.len());
            answer(member.answer, Ok(receipt));
        }
        metrics.events(tally);
    }

    /// Tells each sender to send its webhook again.
    pub fn refuse(self) {
        for member in self.members {
            answer(member.answer, Err(NotStored::Database));
        }
    }
}

/// Answers a webhook, whose sender may have hung up.
fn answer(sender: oneshot::Sender<Result<Receipt, NotStored>>, answer: Result<Receipt, NotStored>) {
    if sender.send(answer).is_err() {
        tracing::debug!("the sender of a webhook did not wait for its answer");
    }
}
