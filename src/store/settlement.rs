//! What came of a step of delivery, as it is written down.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::attempt::{Attempt, Attempts};
use super::lease::{LEASE, Lease};
use super::storable;
use crate::domain::event::Kind;

/// What came of a lease.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The source.
    pub source_id: Uuid,
    /// The lease's number: where it is not the source's any more, nothing is settled.
    pub lease: i64,
    /// Where the cursor stood.
    pub before: i64,
    /// Where the cursor moves to.
    pub cursor: i64,
    /// Since when the events waited that the log has there: what tells them from others under the same numbers, which a server
    /// may have that lacked them when it took over. `None` where the log has none there.
    pub since: Option<OffsetDateTime>,
    /// The numbers beyond that whose calls are done as well.
    pub done_ahead: Vec<i64>,
    /// The kinds of the events that the destination took.
    pub delivered: Vec<Kind>,
    /// Those that were given up.
    pub dead: Vec<NewDeadLetter>,
    /// The numbers that the cursor passes and that have no event.
    pub n_missing: i64,
    /// How many events turned out to be erased.
    pub n_erased: i64,
    /// Failed attempts in a row, from now.
    pub n_attempts: i32,
    /// Events refused one by one in a row, from now.
    pub n_refused: i32,
    /// How long to leave the source alone: [`LONGEST_WAIT`](crate::domain::retry::LONGEST_WAIT) at most.
    pub wait: Duration,
    /// Why the request failed, where it is to be made again. Kept until one succeeds or the source is paused.
    pub last_error: Option<String>,
    /// Pause the source.
    pub pause: Option<Pause>,
    /// The requests that were made.
    pub attempts: Vec<Attempt>,
    /// Whether the lease is to last from now on, for the source's next step. Only for one whose cursor moves.
    pub keep: bool,
}

/// How a source stands after it was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Whether more events wait.
    pub more: bool,
    /// Whether the lease is kept: it was asked for, and nobody has changed the source meanwhile.
    pub is_kept: bool,
}

impl Settlement {
    /// A settlement of `lease` that changes nothing.
    #[must_use]
    pub fn stay(lease: &Lease) -> Self {
        Self {
            source_id: lease.source_id,
            lease: lease.number,
            before: lease.cursor,
            cursor: lease.cursor,
            since: None,
            done_ahead: lease.done_ahead.clone(),
            delivered: Vec::new(),
            dead: Vec::new(),
            n_missing: 0,
            n_erased: 0,
            n_attempts: lease.n_attempts,
            n_refused: lease.n_refused,
            wait: Duration::ZERO,
            last_error: None,
            pause: None,
            attempts: Vec::new(),
            keep: false,
        }
    }

    /// Whether it tells of nothing but success, so that it may as well be written later, with the next.
    #[must_use]
    pub fn can_wait(&self) -> bool {
        self.keep && self.cursor > self.before && self.dead.is_empty()
    }

    /// This settlement and the one of the lease's step before, which [can wait](Self::can_wait), in one.
    #[must_use]
    pub fn after(self, mut earlier: Self) -> Self {
        earlier.delivered.extend(self.delivered);
        Self {
            before: earlier.before,
            since: self.since.or(earlier.since),
            delivered: earlier.delivered,
            n_erased: earlier.n_erased + self.n_erased,
            attempts: Attempt::joined(earlier.attempts.into_iter().chain(self.attempts)),
            ..self
        }
    }
}

/// Why a source is paused, in words for its admin or the operator.
#[derive(Clone, Debug)]
pub enum Pause {
    /// Segment does not take its events, or Nudgespot its calls. Stored as `segment`, for both.
    Destination(String),
    /// The block at its cursor cannot be read.
    Log(String),
}

/// An event that is given up.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns of dead_letter, which migrations/0001_init.sql explains")]
pub struct NewDeadLetter {
    pub seq: i64,
    pub kind: Kind,
    pub event_id: Vec<u8>,
    pub received_at: OffsetDateTime,
    pub track: String,
    pub reason: String,
}

/// Settlements, column by column.
#[derive(Default)]
struct Settlements {
    source_ids: Vec<Uuid>,
    leases: Vec<i64>,
    before: Vec<i64>,
    cursors: Vec<i64>,
    since: Vec<Option<OffsetDateTime>>,
    n_delivered: Vec<i64>,
    n_missing: Vec<i64>,
    n_erased: Vec<i64>,
    n_dead: Vec<i64>,
    n_attempts: Vec<i32>,
    n_refused: Vec<i32>,
    wait_seconds: Vec<f64>,
    last_errors: Vec<Option<String>>,
    pauses: Vec<Option<String>>,
    pause_authors: Vec<Option<String>>,
    /// As PostgreSQL writes arrays: there are none of arrays of different lengths.
    done_ahead: Vec<String>,
    keep: Vec<bool>,
}

/// Dead letters, column by column.
#[derive(Default)]
struct DeadLetters {
    source_ids: Vec<Uuid>,
    seqs: Vec<i64>,
    kinds: Vec<i16>,
    event_ids: Vec<Vec<u8>>,
    received_at: Vec<OffsetDateTime>,
    tracks: Vec<String>,
    reasons: Vec<String>,
}

impl Settlements {
    fn push(&mut self, settlement: &Settlement) {
        let (author, reason) = match &settlement.pause {
            None => (None, None),
            Some(Pause::Destination(reason)) => (Some("segment"), Some(reason)),
            Some(Pause::Log(reason)) => (Some("log"), Some(reason)),
        };
        self.source_ids.push(settlement.source_id);
        self.leases.push(settlement.lease);
        self.before.push(settlement.before);
        self.cursors.push(settlement.cursor);
        self.since.push(settlement.since);
        self.n_delivered.push(i64::try_from(settlement.delivered.len()).unwrap_or(i64::MAX));
        self.n_missing.push(settlement.n_missing);
        self.n_erased.push(settlement.n_erased);
        self.n_dead.push(i64::try_from(settlement.dead.len()).unwrap_or(i64::MAX));
        self.n_attempts.push(settlement.n_attempts);
        self.n_refused.push(settlement.n_refused);
        self.wait_seconds.push(settlement.wait.as_secs_f64());
        self.last_errors.push(settlement.last_error.as_deref().map(storable));
        self.pauses.push(reason.map(|reason| storable(reason)));
        self.pause_authors.push(author.map(str::to_owned));
        let ahead = settlement.done_ahead.iter().filter(|seq| **seq > settlement.cursor);
        self.keep.push(settlement.keep && settlement.cursor > settlement.before);
        self.done_ahead.push(format!("{{{}}}", ahead.map(i64::to_string).collect::<Vec<_>>().join(",")));
    }
}

impl DeadLetters {
    fn push(&mut self, source: Uuid, dead: &NewDeadLetter) {
        self.source_ids.push(source);
        self.seqs.push(dead.seq);
        self.kinds.push(dead.kind.number().into());
        self.event_ids.push(dead.event_id.clone());
        self.received_at.push(dead.received_at);
        self.tracks.push(storable(&dead.track));
        self.reasons.push(storable(&dead.reason));
    }
}

/// Settles leases, and ends or renews them, one statement that commits by itself. Sources whose lease was not ours any more
/// are left out, and nothing of them has changed.
///
/// # Errors
/// Where it is not known to be committed.
#[expect(clippy::too_many_lines, reason = "one statement and its columns")]
pub async fn settle(db: impl PgExecutor<'_>, settlements: &[Settlement]) -> sqlx::Result<HashMap<Uuid, Settled>> {
    let (all, attempts, dead) = columns(settlements);
    let rows = sqlx::query!(
        r#"
        with settled as (
            update delivery
            set cursor_seq = done.cursor_seq, done_ahead = done.done_ahead::bigint[], n_delivered = delivery.n_delivered + done.n_delivered,
                n_missing = delivery.n_missing + done.n_missing, n_dead = delivery.n_dead + done.n_dead,
                n_erased = delivery.n_erased + done.n_erased,
                -- Where an admin has called since the lease, what failed with the settings of before says nothing.
                n_attempts = case when next_attempt_at > '-infinity' then delivery.n_attempts else done.n_attempts end,
                n_refused = case when next_attempt_at > '-infinity' then delivery.n_refused else done.n_refused end,
                next_attempt_at = case
                    when next_attempt_at > '-infinity' then next_attempt_at when wait > 0 then now() + wait * interval '1 second'
                    else '-infinity'
                end,
                waiting_since = now(),
                leased_until = case
                    when keep and next_attempt_at = '-infinity' then now() + $33 * interval '1 second' else '-infinity'
                end,
                last_error = case
                    when pause is not null then null
                    when done.n_delivered = 0 then coalesce(done.last_error, delivery.last_error)
                    else done.last_error
                end,
                paused_by = case
                    when pause is null or next_attempt_at > '-infinity' or paused_by = 'admin' then paused_by
                    else author::pause_author
                end,
                paused_reason = case
                    when pause is null or next_attempt_at > '-infinity' or paused_by = 'admin' then paused_reason
                    else pause
                end,
                paused_at = case
                    when pause is null or next_attempt_at > '-infinity' or paused_by = 'admin' then paused_at
                    else coalesce(paused_at, now())
                end
            from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::int[], $7::float8[],
                $8::text[], $25::text[], $26::bigint[], $27::int[], $28::text[], $29::bigint[], $30::bigint[],
                $31::text[], $32::bool[], $35::timestamptz[])
                as done (source_id, lease, before, cursor_seq, n_delivered, n_attempts, wait, pause, author, n_missing,
                    n_refused, last_error, n_dead, n_erased, done_ahead, keep, since)
            where delivery.source_id = done.source_id and delivery.lease = done.lease and delivery.cursor_seq = before
                and delivery.leased_until > '-infinity' -- Run again, it finds the lease ended, or the cursor moved.
                -- On a server that lacked the last events when it took over, their numbers are others', or will be.
                and (done.since is null or done.since = (
                    select event_block.since from event_block
                    where event_block.source_id = done.source_id and last_seq >= done.cursor_seq order by last_seq limit 1
                ))
            returning delivery.source_id, delivery.cursor_seq, delivery.leased_until > '-infinity' as is_kept
        ),
        recorded as (
            insert into attempt (source_id, from_seq, to_seq, n_events, n_requests, started_at, duration_ms, status, outcome,
                reason)
            select source_id, from_seq, to_seq, n_events, n_requests, started_at, duration_ms, status,
                outcome::attempt_outcome, reason
            from unnest($9::uuid[], $10::bigint[], $11::bigint[], $12::int[], $13::timestamptz[], $14::int[],
                $15::smallint[], $16::text[], $17::text[], $34::int[])
                as attempt (source_id, from_seq, to_seq, n_events, started_at, duration_ms, status, outcome, reason,
                    n_requests)
            join settled using (source_id)
        ),
        buried as (
            insert into dead_letter (source_id, seq, kind, event_id, received_at, track, reason)
            select source_id, seq, kind, event_id, received_at, track, reason
            from unnest($18::uuid[], $19::bigint[], $20::smallint[], $21::bytea[], $22::timestamptz[], $23::text[],
                $24::text[]) as dead (source_id, seq, kind, event_id, received_at, track, reason)
            join settled using (source_id)
            -- Where the cursor was set back (a part of the database was restored), its event has died before.
            on conflict (source_id, seq) do nothing
        )
        select source_id as "source_id!", cursor_seq < head_seq as "more!", is_kept as "is_kept!" from settled join log_head using (source_id)
        "#,
        &all.source_ids,
        &all.leases,
        &all.before,
        &all.cursors,
        &all.n_delivered,
        &all.n_attempts,
        &all.wait_seconds,
        &all.pauses as _,
        &attempts.source_ids,
        &attempts.from_seqs,
        &attempts.to_seqs,
        &attempts.n_events,
        &attempts.started_at,
        &attempts.duration_ms,
        &attempts.statuses as _,
        &attempts.outcomes,
        &attempts.reasons as _,
        &dead.source_ids,
        &dead.seqs,
        &dead.kinds,
        &dead.event_ids,
        &dead.received_at,
        &dead.tracks,
        &dead.reasons,
        &all.pause_authors as _,
        &all.n_missing,
        &all.n_refused,
        &all.last_errors as _,
        &all.n_dead,
        &all.n_erased,
        &all.done_ahead,
        &all.keep,
        LEASE.as_secs_f64(),
        &attempts.n_requests,
        &all.since as _,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.source_id, Settled { more: row.more, is_kept: row.is_kept })).collect())
}

/// Of settlements that moved a cursor and were found to be settled no more: those that are written, as is the case where they
/// were settled before and the answer was lost. When their leases were renewed is not known: none is kept.
///
/// # Errors
/// The database did not answer; nothing has changed.
pub async fn find_written(
    db: impl PgExecutor<'_>,
    settlements: &[&Settlement],
) -> sqlx::Result<HashMap<Uuid, Settled>> {
    let source_ids: Vec<Uuid> = settlements.iter().map(|done| done.source_id).collect();
    let leases: Vec<i64> = settlements.iter().map(|done| done.lease).collect();
    let cursors: Vec<i64> = settlements.iter().map(|done| done.cursor).collect();
    let rows = sqlx::query!(
        r#"select source_id, cursor_seq < head_seq as "more!"
        from delivery join log_head using (source_id)
        join unnest($1::uuid[], $2::bigint[], $3::bigint[]) as done (source_id, lease, cursor_seq)
            using (source_id, lease, cursor_seq)"#,
        &source_ids,
        &leases,
        &cursors,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.source_id, Settled { more: row.more, is_kept: false })).collect())
}

fn columns(settlements: &[Settlement]) -> (Settlements, Attempts, DeadLetters) {
    let (mut all, mut attempts, mut dead) = (Settlements::default(), Attempts::default(), DeadLetters::default());
    for settlement in settlements {
        all.push(settlement);
        settlement.attempts.iter().for_each(|attempt| attempts.push(settlement.source_id, attempt));
        settlement.dead.iter().for_each(|event| dead.push(settlement.source_id, event));
    }
    (all, attempts, dead)
}
