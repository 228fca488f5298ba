//! One step of an account's delivery.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::TryStreamExt;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::bisection::Bisection;
use super::sweep::HolderNumber;
use crate::accounts::open_write_key;
use crate::config::Endpoints;
use crate::domain::account::UnsubscribeEvent;
use crate::domain::event::Kind;
use crate::domain::region::Region;
use crate::domain::retry;
use crate::domain::track::TrackTooLarge;
use crate::metrics::{EventFate, Metrics, Tally};
use crate::random;
use crate::segment::{Answer, Batch, Client, Destination, Outcome};
use crate::store::lease::{self, Attempt, Lease, Settlement};
use crate::store::log;
use crate::vault::Vault;

/// How many events are read at a time: of usual size, as many as fit into a batch.
const READ: usize = 1_000;
/// How long to leave an account alone whose log and counters disagree.
const DISAGREEMENT: Duration = Duration::from_mins(1);

/// Takes accounts' events to Segment, a step at a time.
pub struct Courier {
    /// The database.
    pub pool: PgPool,
    /// Opens write keys.
    pub vault: Arc<Vault>,
    /// Sends.
    pub client: Client,
    /// Where to.
    pub endpoints: Endpoints,
    /// The age at which an event is not sent any more.
    pub max_age: Duration,
    /// The number to lease under.
    pub holder: HolderNumber,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// What to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing waits, or it is not for us to deliver.
    Rest,
    /// More waits.
    Go,
    /// More waits, but not before this time is over: the step failed.
    Retry(Duration),
    /// More waits, and nothing can be done about it for so long, unless an admin does something.
    Sleep(Duration),
}

/// What was read: the events to send, and those that cannot be sent any more.
#[derive(Default)]
struct Reading {
    batch: Batch,
    kinds: Vec<Kind>,
    first_sent: Option<i64>,
    oldest: Option<OffsetDateTime>,
    last: Option<i64>,
    dead: Vec<(i64, String)>,
    /// When the first event after it becomes too old, where the account cannot send.
    next_expiry: Option<OffsetDateTime>,
}

impl Courier {
    /// Takes the next events of `account` to Segment, if there are any, and settles what came of it.
    ///
    /// # Errors
    /// The database's trouble. What was sent and could not be settled will be sent again.
    pub async fn step(&self, account: Uuid, bisection: &mut Bisection) -> sqlx::Result<Next> {
        let Some(lease) = lease::acquire(&self.pool, account, self.holder.get()).await? else {
            return Ok(Next::Rest);
        };
        let destination = self.destination(&lease);
        let reading = self.read(&lease, destination.is_some(), bisection.limit()).await?;
        let n_unsent = reading.dead.len();
        let kinds = reading.kinds.clone();
        let oldest = reading.oldest;

        let (settlement, delivered) = match destination {
            Some(destination) if !reading.batch.is_empty() => self.send(&lease, &destination, reading, bisection).await,
            _ => (settle_unsent(&lease, reading), false),
        };
        let n_dead = settlement.dead.len();
        let wait = settlement.wait;
        let is_failed = settlement.n_attempts > 0 && settlement.attempt.is_some();
        let is_paused = settlement.pause.is_some();

        let Some(more) = lease::settle(&self.pool, &lease, settlement).await? else {
            tracing::warn!(account.id = %account, "the lease was taken over; its batch may be delivered twice");
            return Ok(Next::Rest);
        };
        let mut tally = Tally::default();
        if delivered {
            for kind in kinds {
                tally.add(Some(kind), EventFate::Delivered, 1);
            }
            if let Some(oldest) = oldest {
                self.metrics.delivery_seconds.observe((OffsetDateTime::now_utc() - oldest).as_seconds_f64());
            }
        }
        tally.add(None, EventFate::DeadLettered, n_dead);
        self.metrics.events(tally);
        if n_unsent > 0 {
            tracing::warn!(account.id = %account, events = n_unsent, "events were too old (or too large) to deliver");
        }
        Ok(match more {
            true if is_paused => Next::Go,
            false => Next::Rest,
            true if is_failed => Next::Retry(wait),
            true if wait > Duration::ZERO => Next::Sleep(wait),
            true => Next::Go,
        })
    }

    /// Where the account's events go; `None` where they must wait for an admin.
    fn destination(&self, lease: &Lease) -> Option<Destination> {
        if lease.is_paused {
            return None;
        }
        let sealed = lease.write_key.as_deref()?;
        match open_write_key(&self.vault, lease.account_id, sealed) {
            Ok(write_key) => {
                let region: Region = lease.region.parse().ok()?;
                Some(Destination { endpoint: self.endpoints.of(region).clone(), write_key })
            }
            Err(error) => {
                tracing::error!(account.id = %lease.account_id, %error, "a write key cannot be opened");
                None
            }
        }
    }

    /// Reads what comes next: a batch, unless it cannot be sent, and what has expired before and among it.
    async fn read(&self, lease: &Lease, can_send: bool, limit: Option<usize>) -> sqlx::Result<Reading> {
        let unsubscribe = lease.unsubscribe_event.parse().unwrap_or(UnsubscribeEvent::EmailUnsubscribed);
        let deadline = OffsetDateTime::now_utc() - self.max_age;
        let mut reading = Reading::default();
        let n = limit.unwrap_or(READ).min(READ);
        let mut events = std::pin::pin!(log::read_after(
            &self.pool,
            lease.account_id,
            lease.cursor,
            i64::try_from(n).unwrap_or(i64::MAX)
        ));
        while let Some(event) = events.try_next().await? {
            if event.since <= deadline {
                let reason = format!("expired: not delivered in {} s", self.max_age.as_secs());
                reading.dead.push((event.seq, reason));
            } else if !can_send {
                reading.next_expiry = Some(event.since + self.max_age);
                break;
            } else if reading.batch.push(event.message_id, event.kind.segment_event(unsubscribe), &event.track) {
                reading.kinds.push(event.kind);
                reading.first_sent.get_or_insert(event.seq);
                reading.oldest.get_or_insert(event.since);
            } else if reading.batch.is_empty() {
                // Accepted by a version that put less around it; it must not hold up what comes after it.
                reading.dead.push((event.seq, TrackTooLarge.to_string()));
            } else {
                break;
            }
            reading.last = Some(event.seq);
        }
        Ok(reading)
    }

    async fn send(
        &self,
        lease: &Lease,
        destination: &Destination,
        reading: Reading,
        bisection: &mut Bisection,
    ) -> (Settlement, bool) {
        let Reading { batch, first_sent, last, dead: unsent, .. } = reading;
        let last = last.unwrap_or(lease.cursor);
        let n_events = batch.len();
        let (sent_at, began) = (SystemTime::now(), Instant::now());
        let answer = self.client.send(destination, batch, sent_at).await;
        let duration = began.elapsed();
        self.metrics.segment_answer(answer.status);
        self.metrics.segment_seconds.observe(duration.as_secs_f64());
        let attempt = |outcome| Attempt {
            from_seq: first_sent.unwrap_or(last),
            to_seq: last,
            n_events: i32::try_from(n_events).unwrap_or(i32::MAX),
            started_at: sent_at.into(),
            duration,
            status: answer.status,
            outcome,
            reason: answer.reason.clone(),
        };
        log_answer(lease, &answer, n_events);

        let stay = |outcome| Settlement { attempt: Some(attempt(outcome)), ..Settlement::stay(lease) };
        let pass = |n_delivered, dead: Vec<(i64, String)>, outcome| Settlement {
            cursor: last,
            n_delivered,
            dead: [unsent.clone(), dead].concat(),
            n_attempts: 0,
            wait: Duration::ZERO,
            ..stay(outcome)
        };
        let reason = || answer.reason.clone().unwrap_or_default();
        match answer.outcome {
            Outcome::Delivered => {
                bisection.settled(last);
                (pass(to_i64(n_events), vec![], "delivered"), true)
            }
            Outcome::Refused if n_events == 1 => {
                bisection.found();
                (pass(0, vec![(first_sent.unwrap_or(last), reason())], "refused"), false)
            }
            Outcome::Refused => {
                bisection.refused(n_events, last);
                (Settlement { n_attempts: 0, ..stay("refused") }, false)
            }
            Outcome::Retry { after } => {
                let n_attempts = lease.n_attempts.saturating_add(1);
                let wait = retry::wait(n_attempts.unsigned_abs(), after, random::fraction());
                (Settlement { n_attempts, wait, ..stay("retry") }, false)
            }
            Outcome::Pause => (Settlement { pause: Some(reason()), ..stay("paused") }, false),
        }
    }
}

/// Settles a step in which nothing was to be sent.
fn settle_unsent(lease: &Lease, reading: Reading) -> Settlement {
    let wait = match reading.next_expiry {
        Some(at) => Duration::try_from(at - OffsetDateTime::now_utc()).unwrap_or_default() + Duration::from_secs(1),
        None if reading.dead.is_empty() => {
            tracing::error!(account.id = %lease.account_id, "events are counted, but not there");
            DISAGREEMENT
        }
        None => Duration::ZERO,
    };
    Settlement { cursor: reading.last.unwrap_or(lease.cursor), dead: reading.dead, wait, ..Settlement::stay(lease) }
}

fn log_answer(lease: &Lease, answer: &Answer, n_events: usize) {
    let reason = answer.reason.as_deref().unwrap_or_default();
    match answer.outcome {
        Outcome::Delivered => tracing::debug!(account.id = %lease.account_id, n_events, "delivered"),
        Outcome::Retry { .. } => {
            tracing::info!(account.id = %lease.account_id, n_events, reason, attempts = lease.n_attempts + 1, "to be sent again");
        }
        Outcome::Refused => tracing::warn!(account.id = %lease.account_id, n_events, reason, "refused"),
        Outcome::Pause => tracing::warn!(account.id = %lease.account_id, n_events, reason, "delivery paused"),
    }
}

fn to_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
