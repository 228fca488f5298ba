use std::collections::BTreeSet;

use super::super::ENOUGH_EVENTS;
use super::*;

const COMMIT: Duration = Duration::from_micros(1_200);
const TICK: Duration = Duration::from_micros(100);

/// When a sender posts next: after its last webhook came, or after that was answered.
#[derive(Clone, Copy)]
enum Next {
    After(Duration),
    AfterAnswer(Duration),
}

/// What came of it: how many webhooks shared a commit, and how long each waited for its answer.
struct Outcome {
    n_commits: u32,
    waits: Vec<Duration>,
}

impl Outcome {
    fn webhooks_a_commit(&self) -> f64 {
        f64::from(u32::try_from(self.waits.len()).expect("few")) / f64::from(self.n_commits)
    }

    fn mean(&self) -> Duration {
        self.waits.iter().sum::<Duration>() / u32::try_from(self.waits.len()).expect("few")
    }

    /// That of all but one in a hundred.
    fn p99(&self) -> Duration {
        let mut sorted = self.waits.clone();
        sorted.sort_unstable();
        sorted[sorted.len() * 99 / 100]
    }
}

/// Ten seconds of senders; each posts over the connection and at the time that `next` says, given how many webhooks it has posted.
fn simulate(n_senders: u32, next: impl Fn(u32, u32) -> (u32, Next)) -> Outcome {
    let (began, mut pace) = (Instant::now(), Pace::new());
    // When which sender posts.
    let mut due: BTreeSet<(Instant, u32)> = BTreeSet::new();
    let mut n_posted = vec![0; usize::try_from(n_senders).expect("few")];
    let (mut waiting, mut in_flight) = (Vec::new(), None::<(Instant, Vec<(Instant, u32)>)>);
    let mut outcome = Outcome { n_commits: 0, waits: Vec::new() };
    let wait_of = |sender: u32, n: u32| match next(sender, n).1 {
        Next::After(time) | Next::AfterAnswer(time) => time,
    };
    (0..n_senders).for_each(|sender| {
        due.insert((began + wait_of(sender, 0), sender));
    });
    let mut now = began;
    while now < began + Duration::from_secs(10) {
        while let Some((at, sender)) = due.first().copied().filter(|(at, _)| *at <= now) {
            due.pop_first();
            let n = &mut n_posted[usize::try_from(sender).expect("few")];
            let port = u16::try_from(next(sender, *n).0).expect("a port");
            pace.came(Some(([127, 0, 0, 1], port).into()), now);
            *n += 1;
            waiting.push((now, sender));
            if let Next::After(time) = next(sender, *n).1 {
                due.insert((at + time, sender));
            }
        }
        if let Some((_, answered)) = in_flight.take_if(|(until, _)| *until <= now) {
            for (came, sender) in answered {
                outcome.waits.push(now - came);
                if let Next::AfterAnswer(time) = next(sender, n_posted[usize::try_from(sender).expect("few")]).1 {
                    due.insert((now + time, sender));
                }
            }
        }
        let has_enough = waiting.len() >= ENOUGH_EVENTS || pace.waits_until(now).is_none();
        if in_flight.is_none() && !waiting.is_empty() && has_enough {
            pace.began(waiting.len(), now);
            outcome.n_commits += 1;
            in_flight = Some((now + COMMIT, std::mem::take(&mut waiting)));
        }
        now += TICK;
    }
    outcome
}

/// From 0 to less than 1, the same for the same numbers.
fn chance(sender: u32, n: u32) -> f64 {
    let mixed = (u64::from(sender) << 32 | u64::from(n)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    f64::from(u32::try_from(mixed >> 32).expect("32 bits")) / (f64::from(u32::MAX) + 1.0)
}

#[test]
fn webhooks_of_many_senders_share_commits_and_wait_no_longer_than_that_is_worth() {
    // So many a second of 20 senders, evenly or by chance; how many share a commit at least, and how long but one in a hundred
    // wait at most.
    for (rate, least, p99) in [(200, 2.5, 27), (1_000, 3.0, 8), (4_000, 10.0, 8)] {
        let mean = Duration::from_secs(20) / rate;
        let evenly = simulate(20, |sender, n| (sender, Next::After(if n == 0 { mean * sender / 20 } else { mean })));
        let by_chance = simulate(20, |sender, n| (sender, Next::After(mean.mul_f64(-(1.0 - chance(sender, n)).ln()))));
        for (outcome, how) in [(evenly, "evenly"), (by_chance, "by chance")] {
            let shared = outcome.webhooks_a_commit();
            assert!(shared >= least, "{rate} a second, {how}: {shared}");
            assert!(outcome.p99() <= Duration::from_millis(p99), "{rate} a second, {how}: {:?}", outcome.p99());
        }
    }
}

#[test]
fn who_posts_alone_waits_for_nobody() {
    for gap in [0, 1, 5, 30, 1_000].map(Duration::from_millis) {
        let outcome = simulate(1, |_, _| (0, Next::AfterAnswer(gap)));
        assert_eq!(outcome.p99(), COMMIT, "over one connection, {gap:?} after the answer");
        let outcome = simulate(1, |_, n| (n, Next::AfterAnswer(gap)));
        assert!(
            gap + outcome.mean() < (gap + COMMIT) * 11 / 10,
            "over another each time, {gap:?} after the answer: {:?}",
            outcome.mean()
        );
    }
    let outcome = simulate(3, |sender, n| {
        (sender, Next::After(Duration::from_millis(if n == 0 { 1 + 25 * u64::from(sender) } else { 75 })))
    });
    assert_eq!(outcome.p99(), COMMIT, "less than fifty a second");
    let outcome = simulate(3, |sender, n| {
        let time = if n == 0 { Duration::from_millis(sender.into()) } else { Duration::from_secs(2) };
        (sender, Next::After(time))
    });
    assert!(outcome.p99() < 2 * COMMIT, "three together, once in a while: {:?}", outcome.p99());
}

#[test]
fn senders_who_wait_for_their_answers_are_held_up_by_little() {
    for n in [2, 3, 4, 6, 8, 12] {
        let outcome = simulate(n, |sender, _| (sender, Next::AfterAnswer(Duration::from_micros(200))));
        assert!(outcome.mean() < 2 * COMMIT, "{n} senders: {:?}", outcome.mean());
    }
}
