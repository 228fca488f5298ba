//! One step of an account's delivery.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;
use uuid::Uuid;

use super::bisection::Bisection;
use super::poller::HolderNumber;
use super::scheduler::StepOutcome;
use super::together::{Together, Trouble};
use crate::accounts::open_write_key;
use crate::config::Endpoints;
use crate::domain::account::UnsubscribeEvent;
use crate::domain::event::{Kind, MessageId};
use crate::domain::region::Region;
use crate::domain::retry;
use crate::domain::track::TrackTooLarge;
use crate::metrics::{EventFate, Metrics, Tally};
use crate::random;
use crate::segment::{Answer, Batch, Client, Destination, Outcome};
use crate::store::block::{Block, UnreadableBlock};
use crate::store::connection::KeptConnection;
use crate::store::lease::{self, Lease, StoredBlock};
use crate::store::settlement::{self, Attempt, Dead, Settlement};
use crate::vault::Vault;

/// How many events are read at a time: of usual size, as many as fit into a batch.
const READ: usize = 1_000;
/// A batch of so many events is worth its request.
const WORTHWHILE: usize = 100;
/// How long to leave an account alone whose log and counters disagree.
const DISAGREEMENT: Duration = Duration::from_mins(1);

/// Takes accounts' events to Segment, a step at a time.
pub struct Courier {
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
    /// Leases that are asked for.
    pub leases: Together<Uuid, (Uuid, i64), (Lease, Vec<StoredBlock>)>,
    /// Settlements that are to be written.
    pub settlements: Together<Uuid, Settlement, bool>,
}

/// What was read: the events to send, and those that cannot be sent any more.
#[derive(Default)]
struct Reading {
    batch: Batch,
    kinds: Vec<Kind>,
    first_sent: Option<i64>,
    /// Since when the first of the batch waits.
    since: Option<OffsetDateTime>,
    last: Option<i64>,
    unsent: Vec<Dead>,
    /// The first of the batch, in case that it stands alone and is refused.
    suspect: Option<Dead>,
    /// When the first event after it becomes too old, where the account cannot send.
    next_expiry: Option<OffsetDateTime>,
}

/// What came of a step, to be settled.
struct Done {
    settlement: Settlement,
    /// The events that Segment took.
    delivered: Vec<Kind>,
    /// Since when the first of them waited.
    since: Option<OffsetDateTime>,
    /// What to do if more waits.
    next: StepOutcome,
}

impl Courier {
    /// Takes the next events of `account` to Segment, if there are any, and settles what came of it.
    ///
    /// # Errors
    /// The database's trouble. What was sent and could not be settled will be sent again.
    pub async fn step(&self, account: Uuid, bisection: &mut Bisection) -> Result<StepOutcome, Trouble> {
        let n_events = bisection.limit().unwrap_or(READ).min(READ);
        let acquire = async |db: &mut KeptConnection, accounts: Vec<_>| {
            db.run(async |db| lease::acquire(db, &accounts, self.holder.get()).await).await
        };
        let acquired = self.leases.ask(account, (account, to_i64(n_events)), acquire).await?;
        let Some((lease, blocks)) = acquired else {
            return Ok(StepOutcome::Idle);
        };
        let destination = self.destination(&lease);
        let reading = self.read(&lease, &blocks, destination.is_some(), n_events).map_err(|error| {
            tracing::error!(account.id = %account, %error, "the log cannot be read");
            sqlx::Error::Decode(error.into())
        })?;
        drop(blocks);
        let n_unsent = reading.unsent.len();

        let done = match destination {
            Some(destination) if !reading.batch.is_empty() => self.send(&lease, &destination, reading, bisection).await,
            _ => settle_unsent(&lease, reading),
        };
        let n_dead = done.settlement.dead.len();

        let settle = async |db: &mut KeptConnection, settlements| {
            db.run(async |db| settlement::settle(db, settlements).await).await
        };
        let Some(more) = self.settlements.ask(account, done.settlement, settle).await? else {
            tracing::warn!(account.id = %account, "the lease was taken over; its batch may be delivered twice");
            return Ok(StepOutcome::Idle);
        };
        let mut tally = Tally::default();
        for kind in done.delivered {
            tally.add(Some(kind), EventFate::Delivered, 1);
        }
        tally.add(None, EventFate::DeadLettered, n_dead);
        self.metrics.events(tally);
        if let Some(since) = done.since {
            self.metrics.delivery_seconds.observe((OffsetDateTime::now_utc() - since).as_seconds_f64());
        }
        if n_unsent > 0 {
            tracing::warn!(account.id = %account, events = n_unsent, "events were too old (or too large) to deliver");
        }
        Ok(if more { done.next } else { StepOutcome::Idle })
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
    fn read(
        &self,
        lease: &Lease,
        blocks: &[StoredBlock],
        can_send: bool,
        n_events: usize,
    ) -> Result<Reading, UnreadableBlock> {
        let unsubscribe = lease.unsubscribe_event.parse().unwrap_or(UnsubscribeEvent::EmailUnsubscribed);
        let deadline = OffsetDateTime::now_utc() - self.max_age;
        let end = lease.cursor.saturating_add(to_i64(n_events));
        let mut reading = Reading::default();
        for stored in blocks {
            let block = Block::decompress(&stored.events)?;
            let first = stored.last_seq - to_i64(block.len()) + 1;
            let waiting = (first..=end).zip(block.records()).filter(|(seq, _)| *seq > lease.cursor);
            for (seq, event) in waiting {
                let dead = |reason| Dead {
                    seq,
                    kind: event.kind,
                    event_id: event.event_id.to_owned(),
                    received_at: event.received_at,
                    track: String::from_utf8_lossy(event.track).into_owned(),
                    reason,
                };
                if stored.since <= deadline {
                    reading.unsent.push(dead(format!("expired: not delivered in {} s", self.max_age.as_secs())));
                } else if !can_send {
                    reading.next_expiry = Some(stored.since + self.max_age);
                    return Ok(reading);
                } else {
                    let message_id = MessageId::new(lease.account_id, event.event_id);
                    if reading.batch.push(message_id, event.kind.segment_event(unsubscribe), event.track) {
                        if reading.batch.len() == 1 {
                            reading.first_sent = Some(seq);
                            reading.since = Some(stored.since);
                            reading.suspect = Some(dead(String::new()));
                        }
                        reading.kinds.push(event.kind);
                    } else if reading.batch.is_empty() {
                        // Accepted by a version that put less around it; it must not hold up what comes after it.
                        reading.unsent.push(dead(TrackTooLarge.to_string()));
                    } else {
                        return Ok(reading);
                    }
                }
                reading.last = Some(seq);
            }
        }
        Ok(reading)
    }

    async fn send(
        &self,
        lease: &Lease,
        destination: &Destination,
        reading: Reading,
        bisection: &mut Bisection,
    ) -> Done {
        let Reading { batch, kinds, first_sent, since, last, unsent, suspect, .. } = reading;
        let last = last.unwrap_or(lease.cursor);
        let n_events = batch.len();
        let (sent_at, began) = (SystemTime::now(), Instant::now());
        let answer = self.client.send(destination, batch, sent_at).await;
        let duration = began.elapsed();
        self.metrics.segment_answer(answer.status);
        self.metrics.segment_seconds.observe(duration.as_secs_f64());
        log_answer(lease, &answer, n_events);

        let attempt = Attempt {
            from_seq: first_sent.unwrap_or(last),
            to_seq: last,
            n_events: i32::try_from(n_events).unwrap_or(i32::MAX),
            started_at: sent_at.into(),
            duration,
            status: answer.status,
            outcome: answer.outcome.as_str(),
            reason: answer.reason.clone(),
        };
        let reason = answer.reason.unwrap_or_default();
        let stay = Settlement { attempt: Some(attempt), ..Settlement::stay(lease) };
        let go = |settlement| Done { settlement, delivered: vec![], since: None, next: StepOutcome::Continue };
        match answer.outcome {
            Outcome::Delivered => {
                bisection.settled(last);
                let pass =
                    Settlement { cursor: last, n_delivered: to_i64(n_events), dead: unsent, n_attempts: 0, ..stay };
                let is_small = n_events < WORTHWHILE && bisection.limit().is_none();
                Done {
                    delivered: kinds,
                    since,
                    next: if is_small { StepOutcome::Debounce } else { StepOutcome::Continue },
                    ..go(pass)
                }
            }
            Outcome::Refused if n_events == 1 => {
                bisection.found();
                let dead = unsent.into_iter().chain(suspect.map(|suspect| Dead { reason, ..suspect })).collect();
                go(Settlement { cursor: last, dead, n_attempts: 0, ..stay })
            }
            Outcome::Refused => {
                bisection.refused(n_events, last);
                go(Settlement { n_attempts: 0, ..stay })
            }
            Outcome::Retry { after } => {
                let n_attempts = lease.n_attempts.saturating_add(1);
                let wait = retry::wait(n_attempts.unsigned_abs(), after, random::fraction());
                Done { next: StepOutcome::Backoff(wait), ..go(Settlement { n_attempts, wait, ..stay }) }
            }
            Outcome::Pause => go(Settlement { pause: Some(reason), ..stay }),
        }
    }
}

/// Settles a step in which nothing was to be sent.
fn settle_unsent(lease: &Lease, reading: Reading) -> Done {
    let wait = match reading.next_expiry {
        Some(at) => Duration::try_from(at - OffsetDateTime::now_utc()).unwrap_or_default() + Duration::from_secs(1),
        None if reading.unsent.is_empty() => {
            tracing::error!(account.id = %lease.account_id, "events are counted, but not there");
            DISAGREEMENT
        }
        None => Duration::ZERO,
    };
    let cursor = reading.last.unwrap_or(lease.cursor);
    Done {
        settlement: Settlement { cursor, dead: reading.unsent, wait, ..Settlement::stay(lease) },
        delivered: vec![],
        since: None,
        next: if wait > Duration::ZERO { StepOutcome::Park(wait) } else { StepOutcome::Continue },
    }
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
