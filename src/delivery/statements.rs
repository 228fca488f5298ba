//! The statements that steps share, and what becomes of the others when one source makes such a statement fail.

use std::collections::HashMap;

use uuid::Uuid;

use super::batcher::BatchError;
use crate::domain::call::SOURCE_KIND;
use crate::store::block::StoredBlock;
use crate::store::connection::Connection;
use crate::store::forgotten_user;
use crate::store::is_of_one_source;
use crate::store::lease::{self, Lease};
use crate::store::settlement::{self, Settled, Settlement};

/// What a step begins with.
pub struct Acquired {
    pub lease: Lease,
    pub blocks: Vec<StoredBlock>,
    /// Where the log goes on, if the event after the cursor is not in `blocks`.
    pub next_seq: Option<i64>,
    /// Of a source of calls: users who are forgotten, and up to which number.
    pub forgotten: HashMap<Uuid, i64>,
}

/// By source: what was asked for, or why it failed for this source alone.
pub type Each<T> = HashMap<Uuid, Result<T, BatchError>>;

/// Leases sources, each with how many events are to be read. Where that fails because of one of them, each is leased
/// alone.
pub async fn acquire(db: &mut Connection, sources: &[(Uuid, i64)], holder: i32) -> sqlx::Result<Each<Acquired>> {
    match acquire_together(db, sources, holder).await {
        Err(error) if is_of_one_source(&error) => {
            let mut each = HashMap::new();
            for source in sources {
                let alone = acquire_together(db, std::slice::from_ref(source), holder).await;
                add(&mut each, source.0, alone)?;
            }
            Ok(each)
        }
        batcher => Ok(batcher?.into_iter().map(|(source, acquired)| (source, Ok(acquired))).collect()),
    }
}

async fn acquire_together(
    db: &mut Connection,
    sources: &[(Uuid, i64)],
    holder: i32,
) -> sqlx::Result<HashMap<Uuid, Acquired>> {
    let acquired = db.run(async |db| lease::acquire(db, sources, holder).await).await?;
    // What the log lacks is looked for again before it counts as missing.
    let lacking: Vec<_> = acquired
        .values()
        .filter(|(lease, blocks)| blocks.first().is_none_or(|block| block.first_seq() > lease.cursor + 1))
        .map(|(lease, _)| (lease.source_id, lease.cursor))
        .collect();
    let mut next_seqs = HashMap::new();
    if !lacking.is_empty() {
        next_seqs = db.run(async |db| lease::next_seqs(db, &lacking).await).await?;
    }
    let of_calls: Vec<_> = acquired
        .values()
        .filter(|(lease, _)| lease.kind == SOURCE_KIND)
        .map(|(lease, _)| (lease.source_id, lease.cursor))
        .collect();
    let mut forgotten = HashMap::new();
    if !of_calls.is_empty() {
        forgotten = db.run(async |db| forgotten_user::forgotten_after(db, &of_calls).await).await?;
    }
    let acquired = acquired.into_iter().map(|(source, (lease, blocks))| {
        let (next_seq, forgotten) = (next_seqs.remove(&source), forgotten.remove(&source).unwrap_or_default());
        (source, Acquired { lease, blocks, next_seq, forgotten })
    });
    Ok(acquired.collect())
}

/// Settles leases; those whose lease was not ours any more are left out. Where it fails because of one of them, each is settled alone.
pub async fn settle(db: &mut Connection, settlements: &[Settlement]) -> sqlx::Result<Each<Settled>> {
    match settle_together(db, settlements).await {
        Err(error) if is_of_one_source(&error) => {
            let mut each = HashMap::new();
            for settlement in settlements {
                let alone = settle_together(db, std::slice::from_ref(settlement)).await;
                add(&mut each, settlement.source_id, alone)?;
            }
            Ok(each)
        }
        batcher => Ok(batcher?.into_iter().map(|(source, settled)| (source, Ok(settled))).collect()),
    }
}

async fn settle_together(db: &mut Connection, settlements: &[Settlement]) -> sqlx::Result<HashMap<Uuid, Settled>> {
    let mut settled = db.run(async |db| settlement::settle(db, settlements).await).await?;
    // Where an answer was lost, and it was asked again.
    let unsettled = |done: &&Settlement| done.cursor > done.before && !settled.contains_key(&done.source_id);
    let unsettled: Vec<&Settlement> = settlements.iter().filter(unsettled).collect();
    if !unsettled.is_empty() {
        settled.extend(db.run(async |db| settlement::find_written(db, &unsettled).await).await?);
    }
    Ok(settled)
}

fn add<T>(each: &mut Each<T>, source: Uuid, alone: sqlx::Result<HashMap<Uuid, T>>) -> sqlx::Result<()> {
    match alone {
        Err(error) if is_of_one_source(&error) => {
            each.insert(source, Err(error.into()));
        }
        alone => each.extend(alone?.into_iter().map(|(source, answer)| (source, Ok(answer)))),
    }
    Ok(())
}
