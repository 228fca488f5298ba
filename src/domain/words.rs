//! Numbers and times in the words of sentences.

use std::time::Duration;

use time::OffsetDateTime;

/// A number with its thousands apart: `1,204`.
#[must_use]
pub fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::from(if n < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many of something: `1 event`, `1,204 events`.
#[must_use]
pub fn count(n: i64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// A time span, roughly: `3 s`, `4 min`, `5 h`, `3 days`.
#[must_use]
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How long ago it was; no time at all where it lies ahead.
#[must_use]
pub fn since(at: OffsetDateTime, now: OffsetDateTime) -> Duration {
    Duration::try_from(now - at).unwrap_or_default()
}

/// A time in UTC: `14:02` on the same day, else `3 May, 14:02`, and with its year where that is another.
#[must_use]
pub fn clock(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let [at, now] = [at, now].map(|time| time.to_offset(time::UtcOffset::UTC));
    let clock = format!("{:02}:{:02}", at.hour(), at.minute());
    if at.date() == now.date() {
        return clock;
    }
    let month = at.month().to_string();
    let day = format!("{} {}", at.day(), &month[..3]);
    if at.year() == now.year() { format!("{day}, {clock}") } else { format!("{day} {}, {clock}", at.year()) }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567"), (-12_345, "-12,345")];
        for (n, expected) in cases {
            assert_eq!(grouped(n), expected);
        }
        assert_eq!((count(1, "event", "events"), count(0, "event", "events")), ("1 event".into(), "0 events".into()));
    }

    #[test]
    fn spans_are_rough() {
        for (seconds, expected) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_599, "59 min"), (172_799, "47 h"), (259_200, "3 days")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_clock_says_the_day_where_it_is_another() {
        let now = datetime!(2026-05-04 00:10 UTC);
        for (at, expected) in [
            (datetime!(2026-05-04 00:05 UTC), "00:05"),
            (datetime!(2026-05-03 23:59:59 UTC), "3 May, 23:59"),
            (datetime!(2025-12-31 23:59 UTC), "31 Dec 2025, 23:59"),
            (datetime!(2026-05-04 02:05 +2), "00:05"),
        ] {
            assert_eq!(clock(at, now), expected);
        }
    }
}
