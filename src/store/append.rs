//! Events that are to be appended to the log: sorted by source, packed into blocks.

use std::collections::{HashMap, HashSet};

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::block::{Block, CountsByKind, FULL_BYTES};
use super::call_effects::Effects;
use crate::domain::event::Kind;

/// The most events of a block.
pub const MAX_BLOCK_EVENTS: usize = 1_000;

/// Events that came in together, by source, each source's in order.
#[derive(Debug, Default)]
pub struct Events {
    parts: Vec<Part>,
    places: HashMap<Uuid, usize>,
}

/// The events of one source.
#[derive(Debug)]
struct Part {
    source: Uuid,
    /// When the first was received.
    since: OffsetDateTime,
    blocks: Vec<Block>,
}

impl Events {
    /// Adds events of `source`; returns the source's place among all here.
    pub fn push(&mut self, source: Uuid, received_at: OffsetDateTime, events: &Block) -> usize {
        let place = *self.places.entry(source).or_insert(self.parts.len());
        if place == self.parts.len() {
            self.parts.push(Part { source, since: received_at, blocks: Vec::new() });
        }
        let blocks = &mut self.parts[place].blocks;
        let fits = |block: &Block, more: &Block| {
            block.n_bytes() + more.n_bytes() <= FULL_BYTES && block.len() + more.len() <= MAX_BLOCK_EVENTS
        };
        match blocks.last_mut() {
            Some(last) if fits(last, events) => last.append(events),
            None if fits(&Block::default(), events) => blocks.push(events.clone()),
            _ => events.records().for_each(|event| match blocks.last_mut() {
                Some(last) if last.n_bytes() < FULL_BYTES && last.len() < MAX_BLOCK_EVENTS => last.push(event),
                _ => {
                    let mut block = Block::default();
                    block.push(event);
                    blocks.push(block);
                }
            }),
        }
        place
    }

    /// The sources, each once.
    #[must_use]
    pub fn sources(&self) -> Vec<Uuid> {
        self.parts.iter().map(|part| part.source).collect()
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes out the events that are in the log already, or here before. Says of each event whether it stays, by place
    /// and in order.
    ///
    /// # Errors
    /// The database did not answer; try again.
    pub async fn filter_duplicates(&self, db: impl PgExecutor<'_>) -> sqlx::Result<(Self, Vec<Vec<bool>>)> {
        let (source_ids, event_ids) = self.ids();
        let known = sqlx::query!(
            r#"select source_id as "source_id!", event_id as "event_id!"
            from known_event join unnest($1::uuid[], $2::bytea[]) as asked (source_id, event_id)
                using (source_id, event_id)
            -- What is left of a deleted source's events knows nothing any more.
            join log_head using (source_id)"#,
            &source_ids,
            &event_ids as _,
        )
        .fetch_all(db)
        .await?;
        let known: Vec<(Uuid, Vec<u8>)> = known.into_iter().map(|row| (row.source_id, row.event_id)).collect();
        let mut seen: HashSet<(Uuid, &[u8])> = known.iter().map(|(source, id)| (*source, id.as_slice())).collect();
        let (mut new, mut stays) = (Self::default(), Vec::new());
        for part in &self.parts {
            let mut block = Block::default();
            let mut of_part = Vec::new();
            for event in part.blocks.iter().flat_map(Block::records) {
                let is_new = seen.insert((part.source, event.event_id));
                if is_new {
                    block.push(event);
                }
                of_part.push(is_new);
            }
            if !block.is_empty() {
                new.push(part.source, part.since, &block);
            }
            stays.push(of_part);
        }
        Ok((new, stays))
    }

    pub(super) fn ids(&self) -> (Vec<Uuid>, Vec<&[u8]>) {
        let (mut source_ids, mut event_ids) = (Vec::with_capacity(self.len()), Vec::with_capacity(self.len()));
        for part in &self.parts {
            for event in part.blocks.iter().flat_map(Block::records) {
                source_ids.push(part.source);
                event_ids.push(event.event_id);
            }
        }
        (source_ids, event_ids)
    }
}

impl Part {
    fn len(&self) -> usize {
        self.blocks.iter().map(Block::len).sum()
    }

    fn counts_by_kind(&self) -> CountsByKind {
        let mut counts = CountsByKind::default();
        for block in &self.blocks {
            counts.iter_mut().zip(block.counts_by_kind()).for_each(|(count, n)| *count += n);
        }
        counts
    }
}

/// Events, made ready to be appended.
#[derive(Debug, Default)]
pub struct Append {
    events: Events,
    /// The events' blocks, compressed.
    stored: Vec<Vec<u8>>,
    /// The blocks' filters.
    filters: Vec<Vec<u8>>,
    /// How many events were left out, as the log has them already.
    n_duplicates: HashMap<Uuid, i64>,
    /// What its calls do beside being appended.
    pub(super) effects: Effects,
}

/// The blocks of an [`Append`], column by column.
#[derive(Default)]
pub(super) struct Columns {
    /// Each source once, with the number of its events, and of all those of the sources before it.
    pub(super) sources: Vec<Uuid>,
    pub(super) counts: Vec<i64>,
    pub(super) n_before: Vec<i64>,
    /// By kind, then by source.
    pub(super) counts_by_kind: [Vec<i64>; Kind::ALL.len()],
    pub(super) n_duplicates: Vec<i64>,
    pub(super) block_sources: Vec<Uuid>,
    /// The place of a block's last event among those of its source, from 1.
    pub(super) last_places: Vec<i64>,
    pub(super) sizes: Vec<i32>,
    pub(super) since: Vec<OffsetDateTime>,
}

impl Append {
    /// Compresses the events.
    #[must_use]
    pub fn new(events: Events, effects: Effects) -> Self {
        let blocks = || events.parts.iter().flat_map(|part| &part.blocks);
        let (stored, filters) = (blocks().map(Block::compress).collect(), blocks().map(Block::filter).collect());
        Self { events, stored, filters, n_duplicates: HashMap::new(), effects }
    }

    /// What is left of `all` when its duplicates are taken out, as [`Events::filter_duplicates`] says. The duplicates are
    /// counted.
    #[must_use]
    pub fn without_duplicates(all: &Self, new: Events, stays: &[Vec<bool>]) -> Self {
        let n_duplicates = all.events.parts.iter().zip(stays).map(|(part, stays)| {
            let n = stays.iter().filter(|stays| !**stays).count();
            (part.source, i64::try_from(n).unwrap_or(i64::MAX))
        });
        let mut effects = all.effects.clone();
        if !effects.lessons.is_empty() {
            let (source_ids, event_ids) = new.ids();
            let is_new: HashSet<_> = source_ids.into_iter().zip(event_ids).collect();
            // One that came again tells nothing new.
            effects.lessons.retain(|lesson| is_new.contains(&(lesson.source_id, lesson.event_id.as_slice())));
        }
        Self { n_duplicates: n_duplicates.filter(|(_, n)| *n > 0).collect(), ..Self::new(new, effects) }
    }

    /// The blocks, as they are stored.
    pub(super) fn stored(&self) -> &[Vec<u8>] {
        &self.stored
    }

    /// The filters of the blocks.
    pub(super) fn filters(&self) -> &[Vec<u8>] {
        &self.filters
    }

    pub(super) fn columns(&self) -> Columns {
        let mut columns = Columns::default();
        let mut n_before = 0;
        for part in &self.events.parts {
            let mut place = 0;
            for block in &part.blocks {
                place += i64::try_from(block.len()).unwrap_or(i64::MAX);
                columns.block_sources.push(part.source);
                columns.last_places.push(place);
                columns.sizes.push(i32::try_from(block.len()).unwrap_or(i32::MAX));
                columns.since.push(part.since);
            }
            let n_duplicates = self.n_duplicates.get(&part.source).copied().unwrap_or_default();
            columns.push(part.source, [place, n_before, n_duplicates], part.counts_by_kind());
            n_before += place;
        }
        for (source, n_duplicates) in &self.n_duplicates {
            if !self.events.places.contains_key(source) {
                columns.push(*source, [0, n_before, *n_duplicates], CountsByKind::default());
            }
        }
        columns
    }

    /// Takes out the blocks, for whoever delivers them: of each source, since when they wait and the blocks, in order.
    pub fn take_blocks(&mut self) -> impl Iterator<Item = (Uuid, OffsetDateTime, Vec<Block>)> {
        std::mem::take(&mut self.events.parts).into_iter().map(|part| (part.source, part.since, part.blocks))
    }

    /// What is to be appended.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }
}

impl Columns {
    fn push(&mut self, source: Uuid, [n, n_before, n_duplicates]: [i64; 3], counts_by_kind: CountsByKind) {
        self.sources.push(source);
        self.counts.push(n);
        self.n_before.push(n_before);
        self.n_duplicates.push(n_duplicates);
        self.counts_by_kind.iter_mut().zip(counts_by_kind).for_each(|(column, n)| column.push(n.into()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::event::Kind;
    use crate::store::block::Record;

    proptest! {
        #[test]
        fn blocks_keep_the_order_of_their_events_and_stay_within_their_bounds(
            webhooks in proptest::collection::vec((0u8..3, 1usize..300, 1usize..32_000), 1..30)
        ) {
            let (mut events, mut expected, mut n) = (Events::default(), HashMap::<Uuid, Vec<u64>>::new(), 0u64);
            for (source, n_events, size) in webhooks {
                let source = Uuid::from_u128(source.into());
                // A webhook is not larger than a few MiB.
                let n_events = n_events.min(3_000_000 / size).max(1);
                let mut block = Block::default();
                for _ in 0..n_events {
                    n += 1;
                    expected.entry(source).or_default().push(n);
                    let (event_id, track) = (n.to_le_bytes(), vec![b'x'; size]);
                    let received_at = OffsetDateTime::UNIX_EPOCH;
                    block.push(Record { kind: Kind::Opened, received_at, event_id: &event_id, track: &track, keys: None });
                }
                events.push(source, OffsetDateTime::UNIX_EPOCH, &block);
            }
            prop_assert_eq!(events.len(), expected.values().map(Vec::len).sum::<usize>());
            for part in &events.parts {
                let mut ids = Vec::new();
                for block in &part.blocks {
                    prop_assert!(block.len() <= MAX_BLOCK_EVENTS && block.n_bytes() < FULL_BYTES + 33_000);
                    ids.extend(block.records().map(|e| u64::from_le_bytes(e.event_id.try_into().expect("8 bytes"))));
                }
                prop_assert_eq!(Some(&ids), expected.get(&part.source));
            }
        }
    }
}
