//! One step of a replay: looks what became of the dead letters that were put back last, and puts back some more.
//!
//! They go behind what waits, and the next ones only when those before them are settled: live events never wait for more
//! than one batch.

use std::time::Duration;

use sqlx::PgConnection;

use super::replay_outcome;
use crate::store::connection::Connection;
use crate::store::replay_job::{self, DeliveryState, ReplayJob};
use crate::store::{dead_letter, replay};
use crate::wakeups::{WakeReason, Wakeups};

/// How many dead letters are put back at a time.
const BATCH: i64 = 500;
/// With more events waiting than this, theirs is the turn.
const MAX_WAITING: i64 = 1_000;
/// How soon to look again where events are on their way.
const SOON: Duration = Duration::from_millis(250);
/// How soon to look again where somebody has to do something first.
const LATER: Duration = Duration::from_secs(2);
/// The same for a job that has ended, and is only to be counted: it takes no turns from others.
const MUCH_LATER: Duration = Duration::from_secs(10);

/// Does the next step. Says whether there is more to do at once.
pub async fn step(db: &mut Connection, wakeups: &Wakeups, job: &ReplayJob) -> sqlx::Result<bool> {
    let Some(state) = db.run(async |db| replay_job::delivery_state(db, job.source_id).await).await? else {
        // Deleted with its jobs.
        return Ok(false);
    };
    let is_cancelled = job.state == "cancelling";
    if let (Some(batch_from), Some(batch_to)) = (job.batch_from, job.batch_to) {
        if state.cursor_seq >= batch_to {
            let outcome = replay_outcome::find(db, job.source_id, [batch_from, batch_to]).await?;
            db.run(async |db| replay_job::count_batch(db, job, outcome).await).await?;
        } else if is_cancelled && blocked(&state).is_some() {
            // Nobody knows when those on their way will be settled: they are counted then, and others may begin.
            return end(db, job, "cancelled").await;
        } else {
            return release(db, job, blocked(&state)).await;
        }
    }
    if job.ended_at.is_some() {
        return release(db, job, None).await;
    }
    if is_cancelled {
        return end(db, job, "cancelled").await;
    }
    if let Some(blocked) = blocked(&state) {
        return release(db, job, Some(blocked)).await;
    }
    if state.head_seq - state.cursor_seq > MAX_WAITING {
        return release(db, job, Some("the events that wait go first")).await;
    }
    let filter = job.filter();
    let next =
        async |db: &mut PgConnection| dead_letter::list_after(db, job.source_id, &filter, job.after_seq, BATCH).await;
    let letters = db.run(next).await?;
    let seqs: Vec<i64> = letters.iter().map(|letter| letter.seq).filter(|seq| *seq <= job.last_seq).collect();
    let Some(last) = seqs.last().copied() else { return end(db, job, "done").await };
    if replay::replay_batch(db, job, &seqs).await? > 0 {
        wakeups.wake(WakeReason::NewEvents, [job.source_id]);
    } else {
        // Somebody else has put them back, or forgotten them.
        db.run(async |db| replay_job::pass(db, job, last).await).await?;
    }
    release(db, job, None).await
}

/// Why events are not sent, in words; `None`: they are.
fn blocked(state: &DeliveryState) -> Option<&'static str> {
    if state.is_paused {
        Some("the source is paused")
    } else if state.has_write_key {
        None
    } else {
        Some("the source has no write key")
    }
}

async fn release(db: &mut Connection, job: &ReplayJob, waits_for: Option<&str>) -> sqlx::Result<bool> {
    let wait = match (waits_for, job.ended_at) {
        (None, _) => SOON,
        (Some(_), None) => LATER,
        (Some(_), Some(_)) => MUCH_LATER,
    };
    db.run(async |db| replay_job::release(db, job, wait, waits_for).await).await?;
    Ok(false)
}

async fn end(db: &mut Connection, job: &ReplayJob, state: &str) -> sqlx::Result<bool> {
    db.run(async |db| replay_job::end(db, job, state).await).await?;
    tracing::info!(source.id = %job.source_id, state, "a replay ended");
    Ok(false)
}
