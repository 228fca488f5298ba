//! The beat to which everything that looks at the database from time to time does so: together, as it costs the program more
//! to wake up than to look.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A change elsewhere, such as an admin's, is seen after this time at most.
pub const TICK: Duration = Duration::from_millis(500);

/// Waits for the next tick: for as long as [`TICK`], or less.
pub async fn next() {
    after(Duration::ZERO).await;
}

/// Waits for the first tick when this time is over: for as long as [`TICK`] more, or less.
pub async fn after(time: Duration) {
    sleep_until(next_after(Instant::now() + time)).await;
}

/// The next tick after this time.
#[must_use]
pub fn next_after(now: Instant) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(|| now);
    let n_ticks = now.saturating_duration_since(first).as_nanos() / TICK.as_nanos() + 1;
    first + TICK.saturating_mul(u32::try_from(n_ticks).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_wait_for_the_same_time() {
        let now = Instant::now();
        let tick = next_after(now);
        assert!(tick > now && tick <= now + TICK);
        assert_eq!(next_after(tick - Duration::from_nanos(1)), tick);
        assert_eq!(next_after(tick), tick + TICK, "who has looked waits for the next");
    }
}
