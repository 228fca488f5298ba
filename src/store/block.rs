//! Blocks: how the log keeps events.
//!
//! Events of one source that are committed together are written one after the other, and compressed as a whole. They
//! have most of their text in common, so a block is a small part of what its events would be as rows. A stored block ends,
//! in every version of the program, with a CRC-32C of all its other bytes and a byte for its version: so damage is told
//! from what a newer version writes. In this version LZ4 of these comes before that, integers with the low byte first:
//!
//! | bytes | |
//! |---|---|
//! | 1 | [`Kind::number`] |
//! | 8 | when it was received, in microseconds since 1970 |
//! | 2, 2 | the lengths of what follows |
//! | | the sender's event id, UTF-8 |
//! | | the part of the track call that differs from event to event, JSON; nothing where the event was erased |

use crc::{CRC_32_ISCSI, Crc, Table};
use time::OffsetDateTime;

use super::filter;
use crate::domain::event::Kind;
use crate::domain::search_key::{SearchKey, SearchKeys};

const VERSION: u8 = 1;
static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
const CRC_BYTES: usize = 4;
const HEAD_BYTES: usize = 13;
/// A block is as large as [`FULL_BYTES`] and one event at most; this is far beyond.
const MAX_BYTES: usize = 1 << 20;

/// The size, before it is compressed, from which on a block takes no further events.
pub const FULL_BYTES: usize = 256 << 10;

/// Events of one source, in order.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Well-formed: written by [`push`](Self::push), or checked by [`decompress`](Self::decompress).
    bytes: Vec<u8>,
    n_events: usize,
    /// Of each event, in order; none of a block that was decompressed.
    keys: Vec<SearchKeys>,
    n_by_kind: CountsByKind,
}

/// How many events there are of each kind, in the order of [`Kind::ALL`].
pub type CountsByKind = [u32; Kind::ALL.len()];

/// One event of a block.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What happened.
    pub kind: Kind,
    /// When the program received it; whole microseconds.
    pub received_at: OffsetDateTime,
    /// The sender's id of it.
    pub event_id: &'a [u8],
    /// Its track call (see [`Track::as_json`](crate::domain::track::Track::as_json)); empty where the event was erased.
    pub track: &'a [u8],
    /// By what it is searched for, where that is known already; else it is read from the track.
    pub keys: Option<SearchKeys>,
}

impl Record<'_> {
    /// What is left of an event that was erased: its number, its id, so that it is not taken again, and when it came.
    #[must_use]
    pub fn erased(self) -> Self {
        Record { track: &[], keys: None, ..self }
    }

    /// Whether the event was erased. A track is never empty otherwise.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.track.is_empty()
    }
}

/// Why a stored block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableBlock {
    /// Its bytes are not those that were written. It will never be readable, unless it is restored.
    #[error("its bytes are damaged")]
    Damaged,
    /// It is as it was written, but not by rules that this program knows: leave it to a newer one.
    #[error("a newer version of the program wrote it")]
    NewerVersion,
}

impl UnreadableBlock {
    /// Its name, for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::NewerVersion => "newer_version",
        }
    }
}

/// A block as the log holds it.
#[derive(Debug)]
pub struct StoredBlock {
    /// The number of its last event.
    pub last_seq: i64,
    /// How many events it should have.
    pub n_events: i32,
    /// Since when its events wait.
    pub since: OffsetDateTime,
    /// What [`Block::compress`] made.
    pub events: Vec<u8>,
}

impl StoredBlock {
    /// The number of its first event.
    #[must_use]
    pub fn first_seq(&self) -> i64 {
        self.last_seq - i64::from(self.n_events) + 1
    }

    /// Its events.
    ///
    /// # Errors
    /// [`UnreadableBlock`]. Nothing of it can be used then; the blocks around it can.
    pub fn read(&self) -> Result<Block, UnreadableBlock> {
        let block = Block::decompress(&self.events)?;
        let is_whole = i32::try_from(block.len()).is_ok_and(|n| n == self.n_events);
        if is_whole { Ok(block) } else { Err(UnreadableBlock::Damaged) }
    }
}

impl Block {
    /// Makes room for events, the tracks of which come to `n_bytes`.
    pub fn reserve(&mut self, n_events: usize, n_bytes: usize) {
        // An id is seldom longer than a UUID.
        self.bytes.reserve(n_bytes + n_events * (HEAD_BYTES + 36));
        self.keys.reserve(n_events);
    }

    /// Adds an event. Ids and tracks are far below 64 KiB, by the rules of the payload.
    pub fn push(&mut self, record: Record<'_>) {
        let micros = i64::try_from(record.received_at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).expect("checked by the payload's parser").to_le_bytes();
        self.bytes.reserve(HEAD_BYTES + record.event_id.len() + record.track.len());
        self.bytes.push(record.kind.number());
        self.bytes.extend_from_slice(&micros.to_le_bytes());
        self.bytes.extend_from_slice(&length(record.event_id));
        self.bytes.extend_from_slice(&length(record.track));
        self.bytes.extend_from_slice(record.event_id);
        self.bytes.extend_from_slice(record.track);
        self.n_events += 1;
        self.keys.push(record.keys.unwrap_or_else(|| SearchKeys::of(record.kind, record.track)));
        self.n_by_kind[usize::from(record.kind.number()) - 1] += 1;
    }

    /// Adds the events of another block.
    pub fn append(&mut self, other: &Self) {
        if other.keys.len() < other.n_events {
            return other.records().for_each(|event| self.push(event));
        }
        self.bytes.extend_from_slice(&other.bytes);
        self.n_events += other.n_events;
        self.keys.extend_from_slice(&other.keys);
        self.n_by_kind = std::array::from_fn(|at| self.n_by_kind[at] + other.n_by_kind[at]);
    }

    /// The block without what only [`filter`](Self::filter) needs, for it to be kept in memory.
    #[must_use]
    pub fn without_keys(self) -> Self {
        Self { keys: Vec::new(), ..self }
    }

    /// By what its events are searched for (see [`super::filter`]).
    #[must_use]
    pub fn filter(&self) -> Vec<u8> {
        let kinds = Kind::ALL.into_iter().zip(self.n_by_kind).filter(|(_, n)| *n > 0);
        let kinds = kinds.map(|(kind, _)| SearchKey::of_kind(kind));
        if self.keys.len() == self.n_events {
            return filter::of_keys(kinds.chain(self.keys.iter().flat_map(SearchKeys::iter)));
        }
        filter::of_keys(kinds.chain(self.records().flat_map(|event| SearchKeys::of(event.kind, event.track).iter())))
    }

    /// How many of its events are of each kind.
    #[must_use]
    pub fn counts_by_kind(&self) -> CountsByKind {
        self.n_by_kind
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n_events
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_events == 0
    }

    /// Its size before it is compressed.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The events, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let (mut rest, mut keys) = (self.bytes.as_slice(), self.keys.iter());
        std::iter::from_fn(move || {
            let record = (!rest.is_empty()).then(|| split(&mut rest).expect("a block is well-formed"))?;
            Some(Record { keys: keys.next().copied(), ..record })
        })
    }

    /// The block as it is stored.
    #[must_use]
    pub fn compress(&self) -> Vec<u8> {
        seal(lz4_flex::block::compress_prepend_size(&self.bytes), VERSION)
    }

    /// The block that was stored so.
    ///
    /// # Errors
    /// [`UnreadableBlock`].
    pub fn decompress(stored: &[u8]) -> Result<Self, UnreadableBlock> {
        let (compressed, version) = unseal(stored).ok_or(UnreadableBlock::Damaged)?;
        // What is undamaged and yet not understood is not ours.
        let newer = UnreadableBlock::NewerVersion;
        if version != VERSION {
            return Err(newer);
        }
        let bytes = match lz4_flex::block::uncompressed_size(compressed) {
            Ok((size, compressed)) if size <= MAX_BYTES => lz4_flex::block::decompress(compressed, size).ok(),
            _ => None,
        };
        let bytes = bytes.ok_or(newer)?;
        let (mut rest, mut n_events, mut n_by_kind) = (bytes.as_slice(), 0, CountsByKind::default());
        while !rest.is_empty() {
            let record = split(&mut rest).ok_or(newer)?;
            n_by_kind[usize::from(record.kind.number()) - 1] += 1;
            n_events += 1;
        }
        Ok(Self { bytes, n_events, keys: Vec::new(), n_by_kind })
    }
}

/// Adds what every version of the program puts at the end of a block.
fn seal(mut bytes: Vec<u8>, version: u8) -> Vec<u8> {
    bytes.extend_from_slice(&checksum(&bytes, version).to_le_bytes());
    bytes.push(version);
    bytes
}

/// Takes it off; `None`: the block is damaged.
fn unseal(stored: &[u8]) -> Option<(&[u8], u8)> {
    let (&version, rest) = stored.split_last()?;
    let (bytes, crc) = rest.split_last_chunk::<CRC_BYTES>()?;
    (checksum(bytes, version) == u32::from_le_bytes(*crc)).then_some((bytes, version))
}

fn checksum(bytes: &[u8], version: u8) -> u32 {
    let mut digest = CRC.digest();
    digest.update(bytes);
    digest.update(&[version]);
    digest.finalize()
}

/// Takes the first event off.
fn split<'a>(rest: &mut &'a [u8]) -> Option<Record<'a>> {
    let (head, tail) = rest.split_first_chunk::<HEAD_BYTES>()?;
    let (kind, head) = head.split_first()?;
    let (micros, lengths) = head.split_first_chunk::<8>()?;
    let length = |at: usize| Some(usize::from(u16::from_le_bytes(*lengths.get(at..)?.first_chunk()?)));
    let (event_id, tail) = tail.split_at_checked(length(0)?)?;
    let (track, tail) = tail.split_at_checked(length(2)?)?;
    let nanos = i128::from(i64::from_le_bytes(*micros)) * 1_000;
    *rest = tail;
    Some(Record {
        kind: Kind::from_number((*kind).into())?,
        received_at: OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?,
        event_id,
        track,
        keys: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    proptest! {
        #[test]
        fn a_block_gives_back_what_was_put_into_it(
            events in proptest::collection::vec((1u8..=6, any::<Vec<u8>>(), any::<Vec<u8>>(), 1usize..300), 0..20)
        ) {
            let received_at = datetime!(2026-01-02 03:04:05.678901 UTC);
            let events: Vec<(u8, Vec<u8>, Vec<u8>)> =
                events.into_iter().map(|(kind, event_id, track, n)| (kind, event_id, track.repeat(n))).collect();
            let mut block = Block::default();
            for (kind, event_id, track) in &events {
                let kind = Kind::from_number((*kind).into()).expect("a kind");
                block.push(Record { kind, received_at, event_id, track, keys: None });
            }
            let again = Block::decompress(&block.compress()).expect("readable");
            prop_assert_eq!(again.len(), events.len());
            prop_assert_eq!(again.counts_by_kind(), block.counts_by_kind());
            for (record, (kind, event_id, track)) in again.records().zip(&events) {
                prop_assert_eq!((record.kind.number(), record.event_id, record.track), (*kind, &event_id[..], &track[..]));
                prop_assert_eq!(record.received_at, received_at);
            }
        }

        #[test]
        fn whatever_is_stored_is_read_or_refused(bytes: Vec<u8>, version in 0u8..3) {
            for stored in [bytes.clone(), seal(bytes.clone(), version), seal(lz4_flex::block::compress_prepend_size(&bytes), 1)] {
                if let Ok(block) = Block::decompress(&stored) {
                    prop_assert_eq!(block.records().count(), block.len());
                }
            }
        }
    }

    #[test]
    fn a_block_with_a_wrong_bit_anywhere_or_too_few_bytes_is_damaged() {
        let stored = block().compress();
        assert!(Block::decompress(&stored).is_ok());
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Block::decompress(&damaged).err(), Some(UnreadableBlock::Damaged), "bit {bit}");
        }
        for n in 0..stored.len() {
            assert_eq!(Block::decompress(&stored[..n]).err(), Some(UnreadableBlock::Damaged), "{n} bytes");
            assert_eq!(Block::decompress(&stored[n + 1..]).err(), Some(UnreadableBlock::Damaged), "all but {n} bytes");
        }
        let stored =
            |n_events| StoredBlock { last_seq: 7, n_events, since: OffsetDateTime::UNIX_EPOCH, events: stored.clone() };
        assert_eq!(stored(1).read().map(|block| block.len()), Ok(1));
        assert_eq!(stored(2).read().err(), Some(UnreadableBlock::Damaged), "another number of events");
    }

    #[test]
    fn a_block_by_other_rules_is_of_a_newer_version() {
        let newer = seal(b"whatever".to_vec(), VERSION + 1);
        let mut cut = block();
        cut.bytes.pop();
        let unknown_kind = Block { bytes: vec![0; HEAD_BYTES], n_events: 1, ..Block::default() };
        for stored in [newer, cut.compress(), unknown_kind.compress()] {
            assert_eq!(Block::decompress(&stored).err(), Some(UnreadableBlock::NewerVersion));
        }
    }

    fn block() -> Block {
        let mut block = Block::default();
        block.push(Record {
            kind: Kind::Opened,
            received_at: OffsetDateTime::UNIX_EPOCH,
            event_id: b"evt_1",
            track: br#"{"userId":"u"}"#,
            keys: None,
        });
        block
    }
}
