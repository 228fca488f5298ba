//! Blocks: how the log keeps events.
//!
//! Events of one account that are committed together are written one after the other, and compressed as a whole. They
//! have most of their text in common, so a block is a small part of what its events would be as rows. The layout is LZ4 of
//! these, integers with the low byte first, and then a byte for its version:
//!
//! | bytes | |
//! |---|---|
//! | 1 | [`Kind::number`] |
//! | 8 | when it was received, in microseconds since 1970 |
//! | 2, 2 | the lengths of what follows |
//! | | the sender's event id, UTF-8 |
//! | | the part of the track call that differs from event to event, JSON |

use time::OffsetDateTime;

use crate::domain::event::Kind;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 13;
/// A block is as large as [`FULL_BYTES`] and one event at most; this is far beyond.
const MAX_BYTES: usize = 1 << 20;

/// The size, before it is compressed, from which on a block takes no further events.
pub const FULL_BYTES: usize = 256 << 10;

/// Events of one account, in order.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Well-formed: written by [`push`](Self::push), or checked by [`decompress`](Self::decompress).
    bytes: Vec<u8>,
    n_events: usize,
}

/// One event of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What happened.
    pub kind: Kind,
    /// When the program received it; whole microseconds.
    pub received_at: OffsetDateTime,
    /// The sender's id of it.
    pub event_id: &'a [u8],
    /// Its track call (see [`Track::as_json`](crate::domain::track::Track::as_json)).
    pub track: &'a [u8],
}

/// A block that this program did not write.
#[derive(Debug, thiserror::Error)]
#[error("a block of the log cannot be read: {0}")]
pub struct UnreadableBlock(&'static str);

impl Block {
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
    }

    /// Adds the events of another block.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.n_events += other.n_events;
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
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || (!rest.is_empty()).then(|| split(&mut rest).expect("a block is well-formed")))
    }

    /// The block as it is stored.
    #[must_use]
    pub fn compress(&self) -> Vec<u8> {
        let mut stored = lz4_flex::block::compress_prepend_size(&self.bytes);
        stored.push(VERSION);
        stored
    }

    /// The block that was stored so.
    ///
    /// # Errors
    /// It was written by a newer program, or something else has changed it.
    pub fn decompress(stored: &[u8]) -> Result<Self, UnreadableBlock> {
        let Some((&VERSION, compressed)) = stored.split_last() else { return Err(UnreadableBlock("its version")) };
        let bytes = match lz4_flex::block::uncompressed_size(compressed) {
            Ok((size, compressed)) if size <= MAX_BYTES => lz4_flex::block::decompress(compressed, size).ok(),
            _ => None,
        };
        let bytes = bytes.ok_or(UnreadableBlock("its compression"))?;
        let (mut rest, mut n_events) = (bytes.as_slice(), 0);
        while !rest.is_empty() {
            split(&mut rest).ok_or(UnreadableBlock("its events"))?;
            n_events += 1;
        }
        Ok(Self { bytes, n_events })
    }
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
                block.push(Record { kind, received_at, event_id, track });
            }
            let again = Block::decompress(&block.compress()).expect("readable");
            prop_assert_eq!(again.len(), events.len());
            prop_assert!(again.records().eq(block.records()));
            for (record, (kind, event_id, track)) in again.records().zip(&events) {
                prop_assert_eq!((record.kind.number(), record.event_id, record.track), (*kind, &event_id[..], &track[..]));
                prop_assert_eq!(record.received_at, received_at);
            }
        }

        #[test]
        fn whatever_is_stored_is_read_or_refused(stored: Vec<u8>) {
            if let Ok(block) = Block::decompress(&stored) {
                prop_assert_eq!(block.records().count(), block.len());
            }
        }
    }

    #[test]
    fn a_block_that_was_cut_or_is_of_another_version_is_refused() {
        let mut block = Block::default();
        block.push(Record {
            kind: Kind::Opened,
            received_at: OffsetDateTime::UNIX_EPOCH,
            event_id: b"evt_1",
            track: br#"{"userId":"u"}"#,
        });
        let stored = block.compress();
        assert!(Block::decompress(&stored).is_ok());
        assert!(Block::decompress(&stored[1..]).is_err());
        assert!(Block::decompress(&stored[..stored.len() - 1]).is_err());
        let mut cut = Block { bytes: block.bytes[..block.bytes.len() - 1].to_vec(), n_events: 1 };
        assert!(Block::decompress(&cut.compress()).is_err());
        cut.bytes = vec![0; HEAD_BYTES];
        assert!(Block::decompress(&cut.compress()).is_err(), "no kind has the number 0");
    }
}
