//! When an event happened: the spellings that senders use, and the one that Segment gets.

use time::OffsetDateTime;
use time::format_description::well_known::{Iso8601, Rfc3339};

/// From here on a number counts milliseconds: as seconds it would lie in the year 5138, as milliseconds in 1973.
const FIRST_MILLISECONDS: f64 = 1e11;

/// Reads ISO 8601 with a zone, or Unix seconds or milliseconds in digits. `None` where it is neither, or out of the
/// years 1 to 9999.
#[must_use]
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    let text = text.trim();
    // What nearly all senders write, and many times faster to read than all that ISO 8601 allows.
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return in_range(at.checked_to_offset(time::UtcOffset::UTC)?);
    }
    if let Ok(number) = text.parse::<f64>() {
        return from_unix(number);
    }
    // Ruby writes `2016-01-27 09:15:00 UTC`; ISO 8601 wants a T, and no blank before the zone.
    let iso = match text.split_once(' ') {
        Some((date, time)) => format!("{date}T{}", time.replace(" UTC", "Z").replace(' ', "")),
        None => text.to_owned(),
    };
    let at = OffsetDateTime::parse(&iso, &Iso8601::DEFAULT).ok()?;
    in_range(at.checked_to_offset(time::UtcOffset::UTC)?)
}

fn from_unix(number: f64) -> Option<OffsetDateTime> {
    let milliseconds = if number.abs() < FIRST_MILLISECONDS { number * 1e3 } else { number };
    // Beyond any year that is accepted, or not a number at all.
    if milliseconds.is_nan() || milliseconds.abs() > 1e15 {
        return None;
    }
    #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "at most 1e15, checked above")]
    let milliseconds = milliseconds.round() as i64;
    in_range(OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()?)
}

fn in_range(at: OffsetDateTime) -> Option<OffsetDateTime> {
    (1..=9999).contains(&at.year()).then_some(at)
}

/// RFC 3339 in UTC with milliseconds, as Segment documents it: `2016-01-27T09:15:00.000Z`.
#[must_use]
pub fn rfc3339(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |end: usize, n_digits: usize, mut number: u32| {
        for byte in text[end - n_digits..end].iter_mut().rev() {
            *byte += u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
    };
    put(4, 4, at.year().unsigned_abs());
    put(7, 2, u8::from(at.month()).into());
    put(10, 2, at.day().into());
    put(13, 2, at.hour().into());
    put(16, 2, at.minute().into());
    put(19, 2, at.second().into());
    put(23, 3, at.millisecond().into());
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_time_is_read() {
        for (text, expected) in [
            ("2016-01-27T09:15:00.000Z", "2016-01-27T09:15:00.000Z"),
            ("2016-01-27T09:15:00Z", "2016-01-27T09:15:00.000Z"),
            ("0001-02-03T04:05:06.007Z", "0001-02-03T04:05:06.007Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999Z"),
            ("2016-01-27T09:15Z", "2016-01-27T09:15:00.000Z"),
            ("2016-01-27T10:15:03+01:00", "2016-01-27T09:15:03.000Z"),
            ("2016-01-27T10:15:03+0100", "2016-01-27T09:15:03.000Z"),
            ("20160127T091500Z", "2016-01-27T09:15:00.000Z"),
            ("2016-01-27 09:15:00 UTC", "2016-01-27T09:15:00.000Z"),
            ("2016-01-27 09:15:00 -0500", "2016-01-27T14:15:00.000Z"),
            ("2016-01-27T09:15:00.123456789Z", "2016-01-27T09:15:00.123Z"),
            ("1453886100", "2016-01-27T09:15:00.000Z"),
            ("1453886102123", "2016-01-27T09:15:02.123Z"),
            ("1453886105.5", "2016-01-27T09:15:05.500Z"),
            ("1453886105.123", "2016-01-27T09:15:05.123Z"),
            ("1.4538861e9", "2016-01-27T09:15:00.000Z"),
            ("0", "1970-01-01T00:00:00.000Z"),
            ("-1", "1969-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(parse(text).map(rfc3339).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_guessed() {
        for text in [
            "",
            "now",
            "2016-01-27",
            "2016-01-27T09:15:00",
            "2016-13-27T09:15:00Z",
            "2016-02-30T09:15:00Z",
            "0000-12-31T23:59:59Z",
            "9999-12-31T23:59:59-01:00",
            "NaN",
            "inf",
            "1e300",
            "9999999999999999",
            "-99999999999999",
            "ü",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
