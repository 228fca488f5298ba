//! Group commit: one statement for all webhooks that wait.
//!
//! A webhook is answered when **all** its events are committed. What arrives while a commit is in flight goes into the
//! next one, so a lone webhook waits for nobody, and a flood shares its commits. One loop a lane of the log; nothing
//! cancels a loop, least of all a sender that hangs up.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::domain::event::{EventId, Kind};
use crate::domain::payload::{Element, Fate};
use crate::due::{Call, Due};
use crate::metrics::{EventFate, Metrics};
use crate::store::log::{self, Append, Lane, NewEvent};
use crate::store::set_aside::{self, SetAside, Why};

/// A commit takes no further webhooks once it has so many events: larger statements are not faster, only later.
const MAX_COMMIT_EVENTS: usize = 4_096;

/// The events of one webhook, to be committed together.
#[derive(Debug)]
pub struct Webhook {
    account: Uuid,
    received_at: OffsetDateTime,
    events: Vec<NewEvent>,
    set_aside: Vec<(Why, String)>,
    receipt: Receipt,
}

/// What became of a webhook's events: the body of the 200.
#[derive(Debug, Default, Serialize)]
pub struct Receipt {
    /// New events, to be forwarded.
    pub accepted: usize,
    /// Events that the account has sent before.
    pub duplicates: usize,
    /// Events that Segment has no name for.
    pub ignored: usize,
    /// Events that cannot be used.
    pub rejected: Vec<RejectedElement>,
}

/// An element of a webhook's body that cannot be used.
#[derive(Debug, Serialize)]
pub struct RejectedElement {
    /// Its place in the body, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a webhook's events are not known to be stored. The sender should send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// More webhooks wait than may.
    #[error("too many webhooks wait to be stored")]
    TooManyWaiting,
    /// The database did not commit.
    #[error("the events could not be stored")]
    Database,
    /// The program is about to end.
    #[error("the service is stopping")]
    Stopping,
}

impl Webhook {
    /// Sorts a body's elements into what is appended and what is set aside.
    #[must_use]
    pub fn new(account: Uuid, received_at: OffsetDateTime, elements: Vec<Element<'_>>) -> Self {
        let mut webhook = Self {
            account,
            received_at,
            events: Vec::with_capacity(elements.len()),
            set_aside: Vec::new(),
            receipt: Receipt::default(),
        };
        for (index, element) in elements.into_iter().enumerate() {
            match element.fate {
                Fate::Event(kind, id, track) => webhook.push_event(kind, &id, track.into_json()),
                Fate::Ignored { name } => {
                    webhook.receipt.ignored += 1;
                    webhook.set_aside.push((Why::Ignored { name: name.into_owned() }, element.raw.to_owned()));
                }
                Fate::Rejected(rejection) => {
                    let reason = rejection.to_string();
                    webhook.receipt.rejected.push(RejectedElement { index, reason: reason.clone() });
                    webhook.set_aside.push((Why::Rejected { reason }, element.raw.to_owned()));
                }
            }
        }
        webhook
    }

    fn push_event(&mut self, kind: Kind, id: &EventId<'_>, track: String) {
        self.events.push(NewEvent::new(self.account, kind, id, track));
    }
}

struct Waiting {
    webhook: Webhook,
    answer: oneshot::Sender<Result<Receipt, NotStored>>,
    _place: OwnedSemaphorePermit,
}

/// Takes webhooks and commits them.
pub struct Ingest {
    lanes: Vec<mpsc::UnboundedSender<Waiting>>,
    places: Arc<Semaphore>,
}

/// The loops that commit. They end when every [`Ingest`] is dropped and all that was taken is answered.
pub struct CommitLoops(JoinSet<()>);

impl CommitLoops {
    /// Waits for their end.
    pub async fn join(mut self) {
        while let Some(ended) = self.0.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a commit loop failed");
            }
        }
    }
}

impl Ingest {
    /// Starts the commit loops. At most `max_waiting` webhooks wait at a time.
    #[must_use]
    pub fn start(pool: &PgPool, max_waiting: usize, due: &Arc<Due>, metrics: &Arc<Metrics>) -> (Self, CommitLoops) {
        let mut loops = JoinSet::new();
        let lanes = Lane::all()
            .map(|lane| {
                let (sender, waiting) = mpsc::unbounded_channel();
                let commit_loop =
                    CommitLoop { lane, pool: pool.clone(), due: Arc::clone(due), metrics: Arc::clone(metrics) };
                loops.spawn(commit_loop.commit_what_waits(waiting));
                sender
            })
            .collect();
        (Self { lanes, places: Arc::new(Semaphore::new(max_waiting)) }, CommitLoops(loops))
    }

    /// Commits a webhook's events and returns what became of them.
    ///
    /// # Errors
    /// [`NotStored`]: the sender must send them again. Some may be stored all the same, and will then be duplicates.
    pub async fn accept(&self, webhook: Webhook) -> Result<Receipt, NotStored> {
        if webhook.events.is_empty() && webhook.set_aside.is_empty() {
            return Ok(webhook.receipt);
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| NotStored::TooManyWaiting)?;
        let (answer, answered) = oneshot::channel();
        let lane = &self.lanes[Lane::of(webhook.account).index()];
        lane.send(Waiting { webhook, answer, _place: place }).map_err(|_| NotStored::Stopping)?;
        answered.await.unwrap_or(Err(NotStored::Stopping))
    }
}

struct CommitLoop {
    lane: Lane,
    pool: PgPool,
    due: Arc<Due>,
    metrics: Arc<Metrics>,
}

impl CommitLoop {
    async fn commit_what_waits(self, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
        while let Some(first) = waiting.recv().await {
            let mut n_events = first.webhook.events.len() + first.webhook.set_aside.len();
            let mut group = vec![first];
            while n_events < MAX_COMMIT_EVENTS
                && let Ok(next) = waiting.try_recv()
            {
                n_events += next.webhook.events.len() + next.webhook.set_aside.len();
                group.push(next);
            }
            self.commit(group).await;
        }
        // All senders are gone and the queue is empty: nothing that was taken is left unanswered.
    }

    async fn commit(&self, mut group: Vec<Waiting>) {
        let mut append = Append::default();
        let mut set_aside = SetAside::default();
        let mut shape = Vec::with_capacity(group.len());
        for Waiting { webhook, .. } in &mut group {
            shape.push(webhook.events.iter().map(|event| event.kind).collect::<Vec<_>>());
            for event in webhook.events.drain(..) {
                append.push(webhook.account, webhook.received_at, event);
            }
            for (why, payload) in webhook.set_aside.drain(..) {
                set_aside.push(webhook.account, webhook.received_at, why, payload);
            }
        }
        let began = Instant::now();
        let new = self.store(&append, &set_aside).await;
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        self.metrics.commit_events.observe(u32::try_from(append.len()).map_or(f64::MAX, f64::from));
        match new {
            Ok(new) => {
                self.due.mark(
                    Call::Appended,
                    group.iter().zip(&shape).filter(|(_, kinds)| !kinds.is_empty()).map(|(w, _)| w.webhook.account),
                );
                self.answer(group, &shape, &append, new);
            }
            Err(error) => {
                tracing::error!(%error, webhooks = group.len(), events = append.len(), "not stored");
                for waiting in group {
                    answer(waiting.answer, Err(NotStored::Database));
                }
            }
        }
    }

    /// Stores what is set aside first: if the events' statement then fails, the webhook comes again, and sets aside
    /// nothing twice.
    async fn store(&self, append: &Append, set_aside: &SetAside) -> sqlx::Result<Option<Vec<Uuid>>> {
        if !set_aside.is_empty() {
            set_aside::insert(&self.pool, self.lane, set_aside).await?;
        }
        if append.is_empty() { Ok(None) } else { log::append(&self.pool, self.lane, append).await }
    }

    /// Answers each webhook. Of an event that came twice in one commit, the first was accepted.
    fn answer(&self, group: Vec<Waiting>, shape: &[Vec<Kind>], append: &Append, new: Option<Vec<Uuid>>) {
        let mut new: Option<HashSet<Uuid>> = new.map(HashSet::from_iter);
        let mut ids = append.message_ids().iter();
        for (waiting, kinds) in group.into_iter().zip(shape) {
            let mut receipt = waiting.webhook.receipt;
            for (kind, id) in kinds.iter().zip(&mut ids) {
                let is_new = new.as_mut().is_none_or(|new| new.remove(id));
                let (count, fate) = if is_new {
                    (&mut receipt.accepted, EventFate::Accepted)
                } else {
                    (&mut receipt.duplicates, EventFate::Duplicate)
                };
                *count += 1;
                self.metrics.events(Some(*kind), fate, 1);
            }
            self.metrics.events(None, EventFate::Ignored, count(receipt.ignored));
            self.metrics.events(None, EventFate::Rejected, count(receipt.rejected.len()));
            answer(waiting.answer, Ok(receipt));
        }
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Answers a webhook, whose sender may have hung up.
fn answer(sender: oneshot::Sender<Result<Receipt, NotStored>>, answer: Result<Receipt, NotStored>) {
    if sender.send(answer).is_err() {
        tracing::debug!("the sender of a webhook did not wait for its answer");
    }
}
