//! How long to wait before a batch is sent again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
/// The longest wait that the program chooses by itself.
pub const LONGEST: Duration = Duration::from_mins(5);
/// The longest wait that Segment may ask for: beyond it, it is asked whether it still means it. Also the longest wait of
/// all: a source that cannot send is looked at as often. The database knows it too, see `is_due` in its schema.
pub const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// The wait after `n_failed` attempts in a row, of which the last asked for `retry_after`.
///
/// From 0.5 s, doubling to 5 min; `jitter`, evenly spread over 0 to 1, adds up to half of that, so that sources that
/// failed together do not come back together. A `Retry-After` goes before: Segment knows when it will be ready. One that
/// says "now" says nothing.
#[must_use]
pub fn wait(n_failed: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    if let Some(asked) = retry_after.filter(|asked| !asked.is_zero()) {
        return asked.clamp(FIRST, LONGEST_WAIT);
    }
    let doublings = n_failed.saturating_sub(1).min(16);
    let base = (FIRST * 2u32.pow(doublings)).min(LONGEST.mul_f64(1.0 / 1.5));
    base.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_from_half_a_second_to_five_minutes() {
        let waits: Vec<f64> = (1..=5).map(|n| wait(n, None, 0.0).as_secs_f64()).collect();
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0]);
        assert_eq!(wait(u32::MAX, None, 1.0), LONGEST);
        assert!(wait(u32::MAX, None, 0.0) < wait(u32::MAX, None, 0.5), "jitter at the longest too");
        assert_eq!(wait(0, None, 0.0), FIRST);
    }

    #[test]
    fn retry_after_goes_before() {
        assert_eq!(wait(9, Some(Duration::from_secs(3)), 1.0), Duration::from_secs(3));
        assert_eq!(wait(1, Some(Duration::ZERO), 0.0), FIRST, "never at once");
        assert_eq!(wait(4, Some(Duration::ZERO), 0.0), Duration::from_secs(4), "nor again and again");
        assert_eq!(wait(1, Some(Duration::MAX), 0.0), LONGEST_WAIT);
    }
}
