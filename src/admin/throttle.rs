//! How often a password may be tried: by one address, and for one person.
//!
//! Nobody is locked out: whoever waits may try again, and who has signed in from an address before is not made to wait there
//! because strangers try the same person's password elsewhere.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// From one address: so many at once, and one more each second.
const ADDRESS_BURST: NonZeroU32 = NonZeroU32::new(40).expect("not 0");
const ADDRESS_PERIOD: Duration = Duration::from_secs(1);
/// For one person: so many at once, and one more in so long.
const PERSON_BURST: NonZeroU32 = NonZeroU32::new(10).expect("not 0");
const PERSON_PERIOD: Duration = Duration::from_secs(6);
/// After so many tries, keys that have long been quiet are forgotten.
const CLEAN_EVERY: u32 = 1_000;

/// Counts tries.
pub(super) struct Throttle {
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    people: DefaultKeyedRateLimiter<String>,
    clock: DefaultClock,
    n_tries: AtomicU32,
}

impl Throttle {
    pub fn new() -> Self {
        let quota = |period, burst| Quota::with_period(period).expect("not 0").allow_burst(burst);
        Self {
            addresses: RateLimiter::keyed(quota(ADDRESS_PERIOD, ADDRESS_BURST)),
            people: RateLimiter::keyed(quota(PERSON_PERIOD, PERSON_BURST)),
            clock: DefaultClock::default(),
            n_tries: AtomicU32::new(0),
        }
    }

    /// Counts a try from an address. `Err`: it is one too many; the next may be made after that.
    pub fn try_from(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        if self.n_tries.fetch_add(1, Ordering::Relaxed) % CLEAN_EVERY == CLEAN_EVERY - 1 {
            self.addresses.retain_recent();
            self.people.retain_recent();
        }
        let Some(address) = address else { return Ok(()) };
        self.addresses.check_key(&network(address)).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Counts a try for a person. `Err`: as of [`try_from`](Self::try_from).
    pub fn try_for(&self, person: &str) -> Result<(), Duration> {
        self.people.check_key(&person.to_owned()).map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle").finish_non_exhaustive()
    }
}

/// Of IPv6, a customer has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_counted_by_person_and_by_network() {
        let throttle = Throttle::new();
        let n_allowed = (0..100).filter(|_| throttle.try_for("jane@example.com").is_ok()).count();
        assert_eq!(n_allowed, 10);
        let wait = throttle.try_for("jane@example.com").expect_err("too many");
        assert!(wait <= PERSON_PERIOD && !wait.is_zero(), "{wait:?}");
        assert!(throttle.try_for("john@example.com").is_ok());

        let from = |text: &str| throttle.try_from(Some(text.parse().expect("an address"))).is_ok();
        assert_eq!((0..100).filter(|n| from(&format!("2001:db8::{n}"))).count(), 40);
        assert!(from("2001:db8:0:1::1") && from("192.0.2.1"));
        assert_eq!((0..100).filter(|_| from("::ffff:192.0.2.1")).count(), 39, "the same as 192.0.2.1");
    }
}
