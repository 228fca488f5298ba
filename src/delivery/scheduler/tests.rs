use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use StepOutcome::{Backoff, Continue, Debounce, Idle, Park, Withhold};
use WakeReason::{AdminChange, NewEvents, TimerElapsed};

const US: Address = Address(1);
const EU: Address = Address(2);
const MANY_FILES: usize = 65_536;
/// No request is in flight, or each is as large as may be.
const UNSENT: InFlight = InFlight { n_requests: 0, n_bytes: 0 };
/// So many requests are in flight, and all small.
const SMALL: InFlight = InFlight { n_requests: usize::MAX, n_bytes: 0 };
/// How long an attempt lasts that is not answered.
const HANG: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_millis(20);

fn source(n: usize) -> Uuid {
    Uuid::from_u128(u128::try_from(n).expect("small"))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A scheduler, and what time it is.
struct Scheduled {
    scheduler: Scheduler,
    began: Instant,
    now: Instant,
    in_flight: InFlight,
}

impl Scheduled {
    fn new(in_flight: InFlight) -> Self {
        let began = Instant::now();
        Self { scheduler: Scheduler::new(Limits::of_process(MANY_FILES)), began, now: began, in_flight }
    }

    fn wake(&mut self, n: usize, reason: WakeReason, address: Address) {
        self.scheduler.wake(source(n), reason, address, self.now);
    }

    fn end(&mut self, n: usize, outcome: StepOutcome) {
        self.scheduler.step_ended(source(n), outcome, self.now);
    }

    /// Lets time pass, and all timers fire at their times.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.scheduler.fire_timers(self.now);
    }

    /// All that is to be started now.
    fn start(&mut self) -> Vec<usize> {
        let started = std::iter::from_fn(|| self.scheduler.next_step(self.now, self.in_flight));
        started.map(|id| usize::try_from(id.as_u128()).expect("small")).collect()
    }

    /// Runs what is woken, each source's steps as `step` says, for so long; says when each source's first step ended.
    fn simulate(
        &mut self,
        time: Duration,
        step: impl Fn(usize) -> (Duration, StepOutcome),
    ) -> BTreeMap<usize, Duration> {
        let (end, mut running, mut ended) = (self.now + time, BTreeSet::new(), BTreeMap::new());
        loop {
            for n in self.start() {
                running.insert((self.now + step(n).0, n));
            }
            let timer = self.scheduler.next_timer(self.now);
            let first = running.first().map(|(at, _)| *at);
            let Some(next) = timer.into_iter().chain(first).min().filter(|next| *next <= end) else { return ended };
            self.now = self.now.max(next);
            self.scheduler.fire_timers(self.now);
            while let Some((at, n)) = running.first().copied().filter(|(at, _)| *at <= self.now) {
                running.remove(&(at, n));
                ended.entry(n).or_insert(self.now - self.began);
                self.end(n, step(n).1);
            }
        }
    }
}

/// Starts a step of source 1, and ends it with this outcome.
fn ended_with(outcome: StepOutcome) -> Scheduled {
    let mut it = Scheduled::new(SMALL);
    it.wake(1, NewEvents, US);
    assert_eq!(it.start(), [1]);
    it.end(1, outcome);
    it
}

#[test]
fn what_wakes_a_source_after_which_outcome() {
    let wait = Duration::from_mins(1);
    for (outcome, [events, timer, admin]) in [
        (Continue, [true, true, true]),
        (Backoff(wait), [false, true, true]),
        (Park(wait), [false, true, true]),
        (Withhold(wait), [false, false, true]),
        (Debounce, [false, false, true]),
        (Idle, [false, false, true]),
    ] {
        for (reason, expected) in [(NewEvents, events), (TimerElapsed, timer), (AdminChange, admin)] {
            let mut it = ended_with(outcome);
            it.wake(1, reason, US);
            assert_eq!(it.start() == [1], expected, "{outcome:?}, {reason:?}");
        }
    }
}

#[test]
fn after_which_time_a_source_gets_its_next_step_when_nothing_wakes_it() {
    let wait = Duration::from_mins(1);
    for (outcome, expected) in [
        (Continue, Some(Duration::ZERO)),
        (Backoff(wait), Some(wait)),
        (Park(wait), Some(wait)),
        (Withhold(wait), Some(wait)),
        (Debounce, Some(MIN_DEBOUNCE)),
        (Idle, None),
    ] {
        let mut it = ended_with(outcome);
        let ended_at = it.now;
        if let Some(before) = expected.and_then(|expected| expected.checked_sub(ms(1))) {
            it.pass(before);
            assert!(it.start().is_empty(), "{outcome:?}: too early");
        }
        let timer = it.scheduler.next_timer(it.now);
        it.pass(ended_at + expected.unwrap_or(MAX_DEBOUNCE) - it.now);
        assert!(outcome == Continue || timer.is_some_and(|timer| timer <= it.now), "{outcome:?}: no timer");
        assert_eq!(it.start() == [1], expected.is_some(), "{outcome:?}");
    }
}

#[test]
fn an_idle_source_is_forgotten() {
    let mut it = ended_with(Idle);
    it.pass(MIN_DEBOUNCE);
    assert!(it.scheduler.sources.is_empty() && it.scheduler.next_timer(it.now).is_none());
}

#[test]
fn what_comes_while_a_step_runs_gets_a_step_of_its_own() {
    for (reason, outcome, at_once) in [
        (NewEvents, Idle, false),
        (TimerElapsed, Idle, false),
        (AdminChange, Idle, true),
        (AdminChange, Backoff(HANG), true),
        (AdminChange, Park(HANG), true),
        (AdminChange, Withhold(HANG), true),
    ] {
        let mut it = Scheduled::new(SMALL);
        it.wake(1, NewEvents, US);
        assert_eq!(it.start(), [1]);
        it.wake(1, reason, US);
        assert!(it.start().is_empty(), "one step at a time");
        it.end(1, outcome);
        assert_eq!(it.start() == [1], at_once, "{reason:?}, {outcome:?}");
        it.pass(MIN_DEBOUNCE);
        assert_eq!(it.start() == [1], !at_once, "{reason:?}, {outcome:?}");
    }
}

#[test]
fn the_more_sources_are_served_the_longer_small_batches_are_put_off() {
    for (n_others, expected) in [(0, ms(5)), (5, ms(10)), (20, ms(28)), (200, ms(50)), (20_000, ms(2_000))] {
        let mut it = Scheduled::new(SMALL);
        for n in 0..=n_others {
            it.wake(n, NewEvents, US);
        }
        assert_eq!(it.start().first(), Some(&0));
        it.end(0, Debounce);
        let (until, _) = it.scheduler.timers.first().expect("a timer");
        assert_eq!(*until - it.now, expected, "{n_others}");
    }
}

#[test]
fn an_address_leaves_half_of_the_places_free_from_its_first_step_on() {
    let mut it = Scheduled::new(UNSENT);
    for n in 0..1_280 {
        it.wake(n, NewEvents, US);
    }
    assert_eq!(it.start().len(), MAX_CONCURRENT_STEPS / 2);
    for n in 2_000..3_000 {
        it.wake(n, NewEvents, EU);
    }
    assert_eq!(it.start(), (2_000..2_000 + MAX_CONCURRENT_STEPS / 2).collect::<Vec<_>>());
}

#[test]
fn the_failed_sources_of_an_address_leave_room_for_its_others_and_for_those_of_other_addresses() {
    let mut it = Scheduled::new(UNSENT);
    for round in 0..10 {
        for n in round * 100..(round + 1) * 100 {
            it.wake(n, NewEvents, US);
        }
        for n in it.start() {
            it.end(n, Backoff(ms(1)));
        }
    }
    it.wake(2_000, NewEvents, EU);
    assert_eq!(it.start(), [2_000]);
    it.end(2_000, Backoff(ms(1)));
    it.pass(ms(1));
    let retries = it.start();
    assert_eq!(retries.len(), MAX_CONCURRENT_RETRIES / 2 + 1);
    assert!(retries.contains(&2_000));
    it.wake(3_000, NewEvents, US);
    assert_eq!(it.start(), [3_000]);
}

#[test]
fn of_1280_that_begin_to_hang_the_others_notice_little() {
    let mut it = Scheduled::new(SMALL);
    for n in 0..1_280 {
        it.wake(n, NewEvents, US);
    }
    it.wake(2_000, NewEvents, US);
    it.wake(3_000, NewEvents, EU);
    let step = |n| if n < 1_280 { (HANG, Backoff(ms(500))) } else { (ANSWER, Idle) };
    let ended = it.simulate(Duration::from_mins(1), step);
    assert!(ended[&3_000] <= ANSWER, "of another address: {:?}", ended[&3_000]);
    assert!(ended[&2_000] <= Duration::from_secs(6), "of the same address: {:?}", ended[&2_000]);
    assert!(ended.len() == 1_282 && ended.values().all(|at| *at <= HANG + Duration::from_secs(6)), "{ended:?}");
}

#[test]
fn while_1280_hang_again_and_again_a_source_that_failed_once_is_retried_in_time() {
    let mut it = Scheduled::new(SMALL);
    for n in 0..1_280 {
        it.wake(n, NewEvents, US);
    }
    it.simulate(Duration::from_mins(2), |_| (HANG, Backoff(Duration::from_mins(5))));
    it.wake(2_000, NewEvents, US);
    assert_eq!(it.start(), [2_000]);
    it.end(2_000, Backoff(ms(500)));
    let failed_at = it.now;
    let step = |n| if n < 1_280 { (HANG, Backoff(Duration::from_mins(5))) } else { (ANSWER, Idle) };
    let retried = it.began + it.simulate(Duration::from_mins(5), step)[&2_000] - failed_at;
    assert!(retried < HANG, "{retried:?}");
}

#[test]
fn slow_steps_give_way_only_as_long_as_their_batches_fit_into_memory() {
    let mut it = Scheduled::new(UNSENT);
    for n in 0..1_280 {
        it.wake(n, NewEvents, US);
    }
    let mut n_running = it.start().len();
    for _ in 0..20 {
        it.pass(SLOW_AFTER);
        n_running += it.start().len();
    }
    assert_eq!(n_running, MAX_IN_FLIGHT_BYTES / MAX_BATCH_BYTES);
    for n in 2_000..3_000 {
        it.wake(n, NewEvents, EU);
    }
    assert_eq!(it.start(), (2_000..2_000 + MAX_CONCURRENT_STEPS / 2).collect::<Vec<_>>(), "the half of the others");
    it.pass(SLOW_AFTER);
    assert!(it.start().is_empty(), "no more, with so much in flight");
    it.in_flight = SMALL;
    it.now = it.scheduler.next_timer(it.now).expect("looked at again");
    assert!(!it.start().is_empty(), "it was less than feared");
}

#[test]
fn a_process_that_may_open_few_files_opens_few() {
    let mut it = Scheduled::new(SMALL);
    it.scheduler = Scheduler::new(Limits::of_process(1_024));
    for n in 0..5_000 {
        it.wake(n, NewEvents, Address(u64::try_from(n % 5).expect("small")));
    }
    let mut n_running = 0;
    for _ in 0..50 {
        n_running += it.start().len();
        it.pass(SLOW_AFTER);
    }
    assert!((MAX_CONCURRENT_STEPS..=1_024 / 2).contains(&n_running), "{n_running}");
}

#[test]
fn a_source_that_is_moved_to_another_address_does_not_wait_for_the_old_one() {
    let mut it = Scheduled::new(UNSENT);
    for n in 0..MAX_CONCURRENT_STEPS {
        it.wake(n, NewEvents, US);
    }
    let n_started = it.start().len();
    it.wake(n_started, AdminChange, EU);
    assert_eq!(it.start(), [n_started]);
    // While its step runs, it counts where it began.
    it.wake(0, AdminChange, EU);
    it.end(0, Idle);
    assert_eq!(it.start(), [n_started + 1, 0], "a place at the old address is free");
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Wake(usize, WakeReason, Address),
    /// The step that started first, of those that run, or another.
    End(usize, StepOutcome),
    Pass(Duration),
}

fn event() -> impl Strategy<Value = Event> {
    let reason = prop_oneof![Just(NewEvents), Just(TimerElapsed), Just(AdminChange)];
    let wait = (0u64..2_000).prop_map(ms);
    let outcome = prop_oneof![
        Just(Idle),
        Just(Continue),
        Just(Debounce),
        wait.clone().prop_map(Backoff),
        wait.clone().prop_map(Park),
        wait.clone().prop_map(Withhold),
    ];
    prop_oneof![
        4 => (0usize..40, reason, 0u64..4).prop_map(|(n, reason, at)| Event::Wake(n, reason, Address(at))),
        3 => (any::<usize>(), outcome).prop_map(|(n, outcome)| Event::End(n, outcome)),
        2 => wait.prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn no_source_is_lost_or_served_twice_at_a_time_and_the_limits_hold(
        events in proptest::collection::vec(event(), 1..300),
    ) {
        let limits = Limits {
            steps: PoolLimits::new(4, 6),
            retries: PoolLimits::new(2, 2),
            in_flight_bytes: MAX_IN_FLIGHT_BYTES,
        };
        let mut it = Scheduled::new(SMALL);
        it.scheduler = Scheduler::new(limits);
        // Sources that run, with the address of their step, and those that were woken since their last step began.
        let (mut running, mut woken) = (Vec::<(usize, Address)>::new(), BTreeSet::new());
        let mut addresses = BTreeMap::new();
        let drain = (0..2_000).map(|_| [Event::End(0, Idle), Event::Pass(ms(100))]).collect::<Vec<_>>();
        for event in events.into_iter().chain(drain.into_iter().flatten()) {
            match event {
                Event::Wake(n, reason, address) => {
                    it.wake(n, reason, address);
                    addresses.insert(n, address);
                    woken.insert(n);
                }
                Event::End(_, _) if running.is_empty() => {}
                Event::End(place, outcome) => {
                    let (n, _) = running.remove(place % running.len());
                    it.end(n, outcome);
                }
                Event::Pass(time) => it.pass(time),
            }
            for n in it.start() {
                prop_assert!(running.iter().all(|(other, _)| *other != n), "{n} has two steps at a time");
                woken.remove(&n);
                running.push((n, addresses[&n]));
            }
            prop_assert!(running.len() <= 4 + 6 + 2 + 2, "{running:?}");
            for at in 0..4 {
                let n_of_one = running.iter().filter(|(_, address)| *address == Address(at)).count();
                prop_assert!(n_of_one <= 2 + 3 + 1 + 1, "{running:?}");
            }
            let n_waiting = it.scheduler.steps.n_waiting() + it.scheduler.retries.n_waiting();
            let n_timed = it.scheduler.timers.len();
            prop_assert_eq!(n_waiting + n_timed + running.len(), it.scheduler.sources.len(), "each is somewhere");
            let timer = it.scheduler.next_timer(it.now);
            prop_assert!(timer.is_some() || n_waiting + n_timed == 0, "nobody looks again");
        }
        prop_assert!(woken.is_empty(), "never served: {woken:?}");
        prop_assert!(it.scheduler.sources.is_empty() && it.scheduler.n_debouncing == 0, "all are done");
    }
}
