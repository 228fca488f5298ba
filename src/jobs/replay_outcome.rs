//! What became of a batch of a replay, once the cursor is behind it.
//!
//! A request tells how many events it had, not which: those between its first and its last that died or were erased before
//! are not among them. Where a request is wholly of the batch, that number is all there is to know. Where it has others as
//! well, it is looked up which of the numbers outside the batch were not sent. An erasure leaves the same mark whether the
//! event was sent before or not, so the request's own count comes first.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::store::connection::Connection;
use crate::store::replay_job::BatchOutcome;
use crate::store::replay_outcome::{self, Delivered};

/// Looks what became of the events of a source that have these numbers, the first and the last.
pub async fn find(db: &mut Connection, source: Uuid, batch: [i64; 2]) -> sqlx::Result<BatchOutcome> {
    let [from, to] = batch;
    let sent = db.run(async |db| replay_outcome::list_delivered(db, source, batch).await).await?;
    let refused = db.run(async |db| replay_outcome::list_dead(db, source, batch).await).await?;
    let mut n_sent = 0;
    for request in &sent {
        let n_unsent_outside = match outside(request, batch) {
            parts if parts.is_empty() || n_unsent(request) == 0 => 0,
            parts => n_not_sent(db, source, &parts).await?,
        };
        n_sent += n_sent_of(request, batch, n_unsent_outside);
    }
    let n_refused = to_i64(refused.len());
    // Where the cursor was set back (a part of the database was restored), some were sent twice.
    let n_sent = n_sent.min(to - from + 1 - n_refused);
    let n_others = to - from + 1 - n_refused - n_sent;
    let n_missing = if n_others == 0 { 0 } else { n_missing(db, source, batch).await?.min(n_others) };
    Ok(BatchOutcome { n_sent, n_refused, n_erased: n_others - n_missing, n_missing })
}

/// How many numbers between a request's first and last event were not in it.
fn n_unsent(request: &Delivered) -> i64 {
    request.to_seq - request.from_seq + 1 - request.n_events
}

/// The numbers of a request that are no part of the batch.
fn outside(request: &Delivered, [from, to]: [i64; 2]) -> Vec<[i64; 2]> {
    let parts = [[request.from_seq, from - 1], [to + 1, request.to_seq]];
    parts.into_iter().filter(|[first, last]| first <= last).collect()
}

/// How many events of the batch a request had, where so many of its numbers outside the batch were not sent.
fn n_sent_of(request: &Delivered, [from, to]: [i64; 2], n_unsent_outside: i64) -> i64 {
    let n_inside = request.to_seq.min(to) - request.from_seq.max(from) + 1;
    (n_inside - (n_unsent(request) - n_unsent_outside).max(0)).max(0)
}

/// How many of these numbers died, were erased, or have no event.
async fn n_not_sent(db: &mut Connection, source: Uuid, parts: &[[i64; 2]]) -> sqlx::Result<i64> {
    let mut n = 0;
    for part in parts {
        let dead = db.run(async |db| replay_outcome::list_dead(db, source, *part).await).await?;
        let dead: BTreeSet<i64> = dead.into_iter().collect();
        let alive = left(db, source, *part).await?;
        let is_sent = |seq: &i64| alive.contains(seq) && !dead.contains(seq);
        n += to_i64((part[0]..=part[1]).filter(|seq| !is_sent(seq)).count());
    }
    Ok(n)
}

/// Which of these numbers have an event that was not erased.
async fn left(db: &mut Connection, source: Uuid, part: [i64; 2]) -> sqlx::Result<BTreeSet<i64>> {
    let blocks = db.run(async |db: &mut PgConnection| replay_outcome::list_blocks(db, source, part).await).await?;
    let mut left = BTreeSet::new();
    for stored in &blocks {
        // What cannot be read was not sent.
        let Ok(block) = stored.read() else { continue };
        let records = (stored.first_seq()..).zip(block.records());
        left.extend(records.filter(|(_, event)| !event.is_erased()).map(|(seq, _)| seq));
    }
    Ok(left)
}

/// How many of these numbers have no event.
async fn n_missing(db: &mut Connection, source: Uuid, [from, to]: [i64; 2]) -> sqlx::Result<i64> {
    let blocks = db.run(async |db| replay_outcome::list_blocks(db, source, [from, to]).await).await?;
    let there: i64 = blocks.iter().map(|block| block.last_seq.min(to) - block.first_seq().max(from) + 1).sum();
    Ok((to - from + 1 - there).max(0))
}

fn to_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_how_many_of_a_batch_it_had() {
        let request = |from_seq, to_seq, n_events| Delivered { from_seq, to_seq, n_events };
        let batch = [11, 20];
        for (request, n_unsent_outside, expected) in [
            (request(11, 20, 10), 0, 10),
            (request(11, 20, 7), 0, 7),
            // With live events before and behind it.
            (request(1, 30, 30), 0, 10),
            (request(1, 30, 28), 2, 10),
            (request(1, 30, 28), 0, 8),
            (request(6, 15, 9), 1, 5),
            // Outside, somebody was erased after it was sent.
            (request(6, 15, 10), 3, 5),
            (request(6, 15, 9), 3, 5),
        ] {
            assert_eq!(n_sent_of(&request, batch, n_unsent_outside), expected, "{request:?}");
        }
        assert_eq!(outside(&request(1, 30, 30), batch), [[1, 10], [21, 30]]);
        assert!(outside(&request(12, 20, 9), batch).is_empty());
    }
}
