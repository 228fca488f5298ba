//! Where a list goes on, as text that nobody needs to understand.

use std::fmt;
use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use time::OffsetDateTime;
use uuid::Uuid;

/// Where a list of events goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventCursor {
    /// With the events of the log before this number.
    pub(super) before_seq: i64,
    /// With those beside the log that came before this time, or at it, with a lesser digest.
    pub(super) quarantine: (OffsetDateTime, Uuid),
}

/// The text is not one that a list gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is none that this list gave; leave it out to begin anew")]
pub struct InvalidCursor;

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (received_at, digest) = self.quarantine;
        let micros = received_at.unix_timestamp_nanos() / 1_000;
        f.write_str(&encode(format_args!("{}.{micros}.{}", self.before_seq, digest.simple())))
    }
}

impl FromStr for EventCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let [before_seq, micros, digest] = decode(text)?;
        let nanos = micros.parse::<i128>().map_err(|_| InvalidCursor)?.checked_mul(1_000).ok_or(InvalidCursor)?;
        let received_at = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| InvalidCursor)?;
        let digest = Uuid::parse_str(&digest).map_err(|_| InvalidCursor)?;
        Ok(Self { before_seq: before_seq.parse().map_err(|_| InvalidCursor)?, quarantine: (received_at, digest) })
    }
}

/// Where a list began: how much there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListPlace {
    pub(super) head_seq: i64,
    pub(super) n_quarantined: i64,
}

impl fmt::Display for ListPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(format_args!("{}.{}", self.head_seq, self.n_quarantined)))
    }
}

impl FromStr for ListPlace {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let [head_seq, n_quarantined] = decode(text)?;
        let number = |text: String| text.parse().map_err(|_| InvalidCursor);
        Ok(Self { head_seq: number(head_seq)?, n_quarantined: number(n_quarantined)? })
    }
}

fn encode(parts: fmt::Arguments<'_>) -> String {
    URL_SAFE_NO_PAD.encode(parts.to_string())
}

fn decode<const N: usize>(text: &str) -> Result<[String; N], InvalidCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
    let parts = String::from_utf8(bytes).map_err(|_| InvalidCursor)?;
    let parts: Vec<String> = parts.split('.').map(str::to_owned).collect();
    parts.try_into().map_err(|_| InvalidCursor)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn cursors_survive_the_way_through_a_url_and_anything_else_is_none() {
        let quarantine = (datetime!(2026-01-02 03:04:05.678901 UTC), Uuid::from_u128(7));
        let cursor = EventCursor { before_seq: 42, quarantine };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        let place = ListPlace { head_seq: 42, n_quarantined: 7 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", "x", "%00", &place.to_string(), &URL_SAFE_NO_PAD.encode("1.99999999999999999999999999.0")] {
            assert_eq!(text.parse::<EventCursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
