//! One step of an erasure.
//!
//! Source by source: what is in quarantine and what was refused; then the log, whose events are replaced by a mark; then,
//! as a step of the delivery may have read some of them before, its end is waited for; and then the dead letters and the
//! answers of Segment, among which it may have left one. A dead letter that was put back into the log meanwhile is found
//! there: then it goes on from the log's part that is new.

use std::time::Duration;

use sqlx::PgConnection;

use crate::domain::mention::Person;
use crate::domain::search_key::{SearchField, SearchKey};
use crate::store::block::Block;
use crate::store::connection::Connection;
use crate::store::erase_job::{self, EraseJob};
use crate::store::erasure::{self, BLOCKS, LogState, QUARANTINED, ROWS};

/// How soon to look again whether a step of the delivery has ended.
const SOON: Duration = Duration::from_millis(250);

/// Does the next step. Says whether there is more to do at once.
pub async fn step(db: &mut Connection, job: &EraseJob) -> sqlx::Result<bool> {
    let person = match (&job.email, &job.uid) {
        (Some(email), _) => Person::Email(email.clone()),
        (None, Some(uid)) => Person::Uid(uid.clone()),
        (None, None) => return end(db, job).await,
    };
    let mut next = job.clone();
    let wait = match job.phase.as_str() {
        "quarantine" => quarantine(db, &mut next, &person).await?,
        "others" => others(db, &mut next, &person).await?,
        "log" => log(db, &mut next, &person).await?,
        "delivery" => delivery(db, &mut next).await?,
        "dead_letters" => dead_letters(db, &mut next, &person).await?,
        _ => {
            let found = db.run(async |db| erasure::next_source(db, job.account_id, job.source_id).await).await?;
            let Some(source) = found else { return end(db, job).await };
            next = EraseJob {
                source_id: source,
                phase: "quarantine".to_owned(),
                log_seq: 0,
                after_seq: 0,
                after_digest: uuid::Uuid::nil(),
                wait_lease: None,
                ..next
            };
            Duration::ZERO
        }
    };
    db.run(async |db| erase_job::save(db, &next, wait).await).await?;
    Ok(wait.is_zero())
}

async fn end(db: &mut Connection, job: &EraseJob) -> sqlx::Result<bool> {
    db.run(async |db| erase_job::end(db, job).await).await?;
    tracing::info!(account.id = %job.account_id, "an erasure ended");
    Ok(false)
}

async fn quarantine(db: &mut Connection, job: &mut EraseJob, person: &Person) -> sqlx::Result<Duration> {
    let next = async |db: &mut PgConnection| erasure::list_quarantined(db, job.source_id, job.after_digest).await;
    let page = db.run(next).await?;
    let is_meant = |text: &erasure::QuarantinedText| {
        let named = [&text.event_name, &text.reason].into_iter().flatten().any(|text| person.is_named_in(text));
        named || person.is_in(&text.payload)
    };
    let digests: Vec<_> = page.iter().filter(|text| is_meant(text)).map(|text| text.digest).collect();
    if !digests.is_empty() {
        db.run(async |db| erasure::empty_quarantined(db, job, &digests).await).await?;
    }
    match page.last() {
        Some(last) if is_full(page.len(), QUARANTINED) => job.after_digest = last.digest,
        _ => "others".clone_into(&mut job.phase),
    }
    Ok(Duration::ZERO)
}

async fn others(db: &mut Connection, job: &mut EraseJob, person: &Person) -> sqlx::Result<Duration> {
    let refused = db.run(async |db| erasure::list_refused(db, job.source_id).await).await?;
    let ids: Vec<i64> = refused
        .iter()
        .filter(|(_, body, headers)| person.is_in(&String::from_utf8_lossy(body)) || person.is_named_in(headers))
        .map(|(id, ..)| *id)
        .collect();
    if !ids.is_empty() {
        db.run(async |db| erasure::delete_refused(db, job, &ids).await).await?;
    }
    job.n_unreadable_blocks += db.run(async |db| erasure::count_unreadable(db, job.source_id).await).await?;
    "log".clone_into(&mut job.phase);
    Ok(Duration::ZERO)
}

async fn log(db: &mut Connection, job: &mut EraseJob, person: &Person) -> sqlx::Result<Duration> {
    // Before the blocks: what is committed later is no part of it.
    let Some(state) = db.run(async |db| erasure::log_state(db, job.source_id).await).await? else {
        return Ok(leave(job));
    };
    // An address may stand anywhere, and all blocks are read for it; by ids, blocks can be told apart.
    let key = match person {
        Person::Uid(uid) => Some(SearchKey::new(SearchField::Recipient, uid).to_bytes()),
        Person::Email(_) => None,
    };
    let key = key.as_ref().map(<[u8; 2]>::as_slice);
    let blocks = db.run(async |db| erasure::list_blocks(db, job.source_id, job.log_seq, key).await).await?;
    for stored in &blocks {
        let Ok(block) = stored.read() else {
            job.n_unreadable_blocks += 1;
            continue;
        };
        let (mut left, mut n_erased, mut n_waiting) = (Block::default(), 0, 0);
        for (seq, event) in (stored.first_seq()..).zip(block.records()) {
            let is_meant =
                !event.is_erased() && std::str::from_utf8(event.track).is_ok_and(|track| person.is_in(track));
            if is_meant {
                n_erased += 1;
                n_waiting += i64::from(seq > state.cursor_seq);
            }
            left.push(if is_meant { event.erased() } else { event });
        }
        if n_erased > 0 {
            let replace = async |db: &mut PgConnection| {
                erasure::replace_block(db, job, stored, &left, [n_erased, n_waiting]).await
            };
            if !db.run(replace).await? {
                // Another job has changed it, or it was forgotten: it is looked at again.
                return Ok(Duration::ZERO);
            }
        }
        job.log_seq = stored.last_seq;
    }
    if let Some(last) = blocks.last().filter(|_| is_full(blocks.len(), BLOCKS)) {
        job.log_seq = last.last_seq;
    } else {
        job.log_seq = job.log_seq.max(state.head_seq);
        job.wait_lease = None;
        "delivery".clone_into(&mut job.phase);
    }
    Ok(Duration::ZERO)
}

/// Waits for the end of the step that may have read events before they were erased.
async fn delivery(db: &mut Connection, job: &mut EraseJob) -> sqlx::Result<Duration> {
    let source = job.source_id;
    let look = async |db: &mut PgConnection| match job.wait_lease {
        None => erasure::end_lease(db, source).await,
        Some(_) => erasure::log_state(db, source).await,
    };
    let Some(LogState { lease, is_leased, is_over, .. }) = db.run(look).await? else { return Ok(leave(job)) };
    match job.wait_lease {
        None if is_leased => job.wait_lease = Some(lease),
        Some(waited_for) if is_leased && waited_for == lease => {
            if is_over {
                db.run(async |db| erasure::void_lease(db, source, lease).await).await?;
            }
        }
        _ => {
            job.after_seq = 0;
            "dead_letters".clone_into(&mut job.phase);
            return Ok(Duration::ZERO);
        }
    }
    Ok(SOON)
}

async fn dead_letters(db: &mut Connection, job: &mut EraseJob, person: &Person) -> sqlx::Result<Duration> {
    let page = db.run(async |db| erasure::list_letters(db, job.source_id, job.after_seq).await).await?;
    let is_meant = |letter: &&erasure::LetterText| person.is_in(&letter.track) || person.is_named_in(&letter.reason);
    let seqs: Vec<i64> = page.iter().filter(is_meant).map(|letter| letter.seq).collect();
    if !seqs.is_empty() {
        db.run(async |db| erasure::delete_letters(db, job, &seqs).await).await?;
    }
    if let Some(last) = page.last().filter(|_| is_full(page.len(), ROWS)) {
        job.after_seq = last.seq;
        return Ok(Duration::ZERO);
    }
    // Whoever had read the events is done, and has written down what Segment said of them.
    if let Person::Email(email) = person {
        db.run(async |db| erasure::erase_reasons(db, job, email).await).await?;
    }
    let is_replayed = async |db: &mut PgConnection| erasure::is_replayed_after(db, job.source_id, job.log_seq).await;
    if db.run(is_replayed).await? {
        "log".clone_into(&mut job.phase);
        return Ok(Duration::ZERO);
    }
    job.n_sources_done += 1;
    Ok(leave(job))
}

/// On to the next source.
fn leave(job: &mut EraseJob) -> Duration {
    "next_source".clone_into(&mut job.phase);
    Duration::ZERO
}

fn is_full(n: usize, limit: i64) -> bool {
    i64::try_from(n).is_ok_and(|n| n >= limit)
}
