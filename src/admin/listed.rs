//! Lists that are read page by page.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;
use uuid::Uuid;

/// A part of a list, in its order.
#[derive(Clone, Debug)]
pub struct Listed<T, C> {
    /// What is in it.
    pub data: Vec<T>,
    /// After what the next part begins; `None`: this is the last.
    pub next: Option<C>,
}

impl<T, C> Listed<T, C> {
    /// The first `limit` of what was found, which is one more where there is another part.
    pub(super) fn cut(mut found: Vec<T>, limit: usize, place: impl FnOnce(&T) -> C) -> Self {
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).map(place);
        Self { data: found, next }
    }

    /// The same, seen otherwise.
    pub(super) fn map<U>(self, view: impl FnMut(T) -> U) -> Listed<U, C> {
        Listed { data: self.data.into_iter().map(view).collect(), next: self.next }
    }
}

/// How many to ask the database for, to know whether there are more than `limit`.
pub(super) fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

/// A place in a list that begins with what was made last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MadeAt {
    /// When.
    pub at: OffsetDateTime,
    /// Of those that were made at the same time, which.
    pub id: Uuid,
}

impl fmt::Display for MadeAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.unix_timestamp_nanos() / 1000, self.id.simple())
    }
}

/// It is no such place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

impl FromStr for MadeAt {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (microseconds, id) = text.split_once('.').ok_or(NoPlace)?;
        // None that the database cannot write.
        let microseconds: u64 = microseconds.parse().map_err(|_| NoPlace)?;
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1000).map_err(|_| NoPlace)?;
        Ok(Self { at, id: id.parse().map_err(|_| NoPlace)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_764_115_200_123_456_000).expect("a time");
        let place = MadeAt { at, id: Uuid::from_u128(7) };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", ".", "1", "1.x", "-1.00000000000000000000000000000007", "99999999999999999999.0", "é.é"] {
            assert_eq!(text.parse::<MadeAt>(), Err(NoPlace), "{text}");
        }
    }

    #[test]
    fn a_part_says_where_the_next_one_begins() {
        let cut = |n: u32, limit| Listed::cut((0..n).collect(), limit, |last| *last);
        assert_eq!((cut(3, 2).data, cut(3, 2).next), (vec![0, 1], Some(1)));
        assert_eq!((cut(2, 2).data, cut(2, 2).next), (vec![0, 1], None));
        assert_eq!(cut(0, 2).next, None);
    }
}
