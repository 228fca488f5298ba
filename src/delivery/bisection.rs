//! Which event of a refused batch is the bad one?

/// Halves a refused batch until the bad event stands alone. The good ones before it are delivered on the way. The event
/// after it goes alone as well: where everything is refused, that is soon known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bisection(Option<Suspects>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspects {
    /// How many events to send next.
    limit: usize,
    /// The bad event is at this place of the log, or before.
    until: i64,
}

impl Bisection {
    /// The most events to send next; `None`: as many as fit.
    #[must_use]
    pub fn limit(self) -> Option<usize> {
        self.0.map(|suspects| suspects.limit)
    }

    /// A batch of `n_events`, more than one, was refused; its last event is at `until`.
    pub fn refused(&mut self, n_events: usize, until: i64) {
        self.0 = Some(Suspects { limit: (n_events / 2).max(1), until });
    }

    /// Everything up to `cursor` is settled.
    pub fn settled(&mut self, cursor: i64) {
        self.0 = self.0.filter(|suspects| cursor < suspects.until).map(|suspects| Suspects {
            // The bad event is in what is left, which is as large as what was just delivered: halve that.
            limit: (suspects.limit / 2).max(1),
            ..suspects
        });
    }

    /// The bad event is found, at this place of the log.
    pub fn found(&mut self, at: i64) {
        self.0 = Some(Suspects { limit: 1, until: at });
    }

    /// Whatever was known of the events says nothing any more.
    pub fn reset(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Delivers events 1 to `n` to a Segment that refuses every batch with one of `bad`; returns the dead ones and the
    /// number of requests.
    fn deliver(n: i64, bad: &[i64]) -> (Vec<i64>, usize) {
        let (mut bisection, mut cursor, mut dead, mut n_requests) = (Bisection::default(), 0, vec![], 0);
        while cursor < n {
            let n_left = usize::try_from(n - cursor).expect("positive");
            let n_events = bisection.limit().unwrap_or(usize::MAX).min(n_left);
            let last = cursor + i64::try_from(n_events).expect("small");
            n_requests += 1;
            if !bad.iter().any(|seq| (cursor + 1..=last).contains(seq)) {
                cursor = last;
                bisection.settled(cursor);
            } else if n_events == 1 {
                dead.push(last);
                cursor = last;
                bisection.found(last);
            } else {
                bisection.refused(n_events, last);
            }
        }
        (dead, n_requests)
    }

    #[test]
    fn one_bad_event_of_a_thousand_is_found_in_a_dozen_requests() {
        for bad in [1, 2, 500, 501, 999, 1000] {
            let (dead, n_requests) = deliver(1000, &[bad]);
            assert_eq!(dead, [bad]);
            assert!(n_requests <= 22, "{bad}: {n_requests}");
        }
    }

    #[test]
    fn where_all_are_refused_ten_stand_alone_soon() {
        let (mut bisection, mut cursor, mut n_alone, mut n_requests) = (Bisection::default(), 0, 0, 0);
        while n_alone < 10 {
            n_requests += 1;
            match bisection.limit().unwrap_or(1_000) {
                1 => {
                    n_alone += 1;
                    cursor += 1;
                    bisection.found(cursor);
                }
                n => bisection.refused(n, cursor + i64::try_from(n).expect("small")),
            }
        }
        assert!(n_requests <= 20, "{n_requests}");
    }

    proptest! {
        #[test]
        fn exactly_the_bad_events_are_found(n in 1i64..300, bad in proptest::collection::btree_set(1i64..300, 0..20)) {
            let bad: Vec<i64> = bad.into_iter().filter(|seq| *seq <= n).collect();
            let (dead, n_requests) = deliver(n, &bad);
            prop_assert_eq!(&dead, &bad);
            prop_assert!(n_requests <= 1 + bad.len() * 20);
        }
    }
}
