//! Webhooks that are committed together.

use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::NotStored;
use super::answer::{Address, Answers};
use super::webhook::{Receipt, Webhook};
use crate::domain::event::Kind;
use crate::metrics::{EventFate, Metrics, Tally};
use crate::store::log::{Append, Events};
use crate::store::set_aside::SetAside;

/// A webhook that waits for its commit.
pub struct Waiting {
    pub webhook: Webhook,
    pub address: Address,
    /// Its permit to wait, held until it is answered.
    pub permit: OwnedSemaphorePermit,
}

/// The events of a group of webhooks, as the store takes them, and who waits for the answer.
pub struct Group {
    pub append: Append,
    pub set_aside: SetAside,
    members: Vec<Member>,
}

struct Member {
    account: Uuid,
    /// The account's place in `append`.
    place: usize,
    kinds: Vec<Kind>,
    receipt: Receipt,
    address: Address,
    _permit: OwnedSemaphorePermit,
}

impl Group {
    /// A group of these webhooks.
    pub fn of(webhooks: Vec<Waiting>) -> Self {
        let (mut appended, mut set_aside) = (Events::default(), SetAside::default());
        let mut members = Vec::with_capacity(webhooks.len());
        for Waiting { webhook, address, permit } in webhooks {
            let Webhook { account, received_at, events, kinds, set_aside: aside, receipt } = webhook;
            let place = if events.is_empty() { 0 } else { appended.push(account, received_at, events) };
            members.push(Member { account, place, kinds, receipt, address, _permit: permit });
            for (why, payload) in aside {
                set_aside.push(account, received_at, why, payload);
            }
        }
        Self { append: Append::new(appended), set_aside, members }
    }

    /// How many webhooks there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The accounts that may have something to deliver now.
    pub fn accounts(&self) -> impl Iterator<Item = Uuid> {
        self.members.iter().filter(|member| !member.kinds.is_empty()).map(|member| member.account)
    }

    /// Answers each webhook, given which of the events were new, by the account's place (`None`: all).
    pub fn answer(self, new: Option<Vec<Vec<bool>>>, metrics: &Metrics) {
        let mut new: Option<Vec<_>> = new.map(|new| new.into_iter().map(Vec::into_iter).collect());
        let (mut tally, mut answers) = (Tally::default(), Answers::default());
        for member in self.members {
            let mut receipt = member.receipt;
            let mut new = new.as_mut().and_then(|new| new.get_mut(member.place));
            for kind in member.kinds {
                let is_new = new.as_mut().and_then(Iterator::next).unwrap_or(true);
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
            answers.push(member.address, Ok(receipt));
        }
        answers.send();
        metrics.events(tally);
    }

    /// Tells each sender to send its webhook again.
    pub fn refuse(self) {
        let mut answers = Answers::default();
        for member in self.members {
            answers.push(member.address, Err(NotStored::Database));
        }
        answers.send();
    }
}
