use super::*;
use crate::domain::event::Kind;
use crate::store::block::Record;

const SOURCE: Uuid = Uuid::from_u128(7);

fn lease(number: i64, cursor: i64, head_seq: i64) -> Lease {
    Lease::flowing(SOURCE, number, cursor, head_seq)
}

/// Events up to `last_seq`, whose commit saw this lease.
fn committed(n: usize, last_seq: i64, number: i64, is_changed: bool) -> CommittedBlock {
    let mut block = Block::default();
    for _ in 0..n {
        let (received_at, track) = (OffsetDateTime::UNIX_EPOCH, &[b'x'; 1_000]);
        block.push(Record { kind: Kind::Opened, received_at, event_id: b"e", track, keys: None });
    }
    let lease = LeaseSeen { number, is_changed };
    CommittedBlock { last_seq, since: OffsetDateTime::UNIX_EPOCH, block, lease }
}

/// What the next step is given: the numbers of the blocks' last events; `None`: the log is to be asked.
fn begin(tail: &Tail, n_events: usize, now: Instant) -> Option<Vec<i64>> {
    match tail.begin_step(SOURCE, n_events, now) {
        NextStep::Send(_, blocks) => Some(blocks.iter().map(|block| block.last_seq).collect()),
        NextStep::Nothing => Some(vec![]),
        NextStep::Ask | NextStep::Settle(_) => None,
    }
}

/// A tail whose lease, with this number, is kept; everything up to 10 is sent.
fn kept(number: i64, now: Instant) -> Tail {
    let tail = Tail::default();
    assert_eq!(begin(&tail, 1_000, now), None, "the first step asks");
    tail.leased(&lease(number, 0, 10), 10, now);
    tail.keep(lease(number, 10, 10), now, now);
    tail
}

#[test]
fn what_is_committed_under_a_kept_lease_is_sent_from_here_in_order() {
    let now = Instant::now();
    let tail = kept(3, now);
    assert_eq!(begin(&tail, 1_000, now), Some(vec![]), "nothing has come");
    tail.push(SOURCE, committed(1, 11, 3, false));
    tail.push(SOURCE, committed(2, 13, 3, false));
    assert_eq!(begin(&tail, 2, now), Some(vec![11, 13]), "what holds the next two");
    tail.push(SOURCE, committed(1, 14, 3, false));
    tail.keep(lease(3, 12, 10), now, now);
    assert_eq!(begin(&tail, 1_000, now), Some(vec![13, 14]), "a block that was sent in part stays");
    tail.keep(lease(3, 14, 10), now, now);
    assert_eq!(begin(&tail, 1_000, now), Some(vec![]));
    assert!(tail.knows(SOURCE, 14) && !tail.knows(SOURCE, 15));
}

#[test]
fn what_is_committed_while_a_lease_is_taken_follows_what_was_read_with_it() {
    let now = Instant::now();
    let tail = Tail::default();
    assert_eq!(begin(&tail, 1_000, now), None);
    // Read with the lease, or committed before it is seen that there is one.
    for (last_seq, number) in [(9, 2), (10, 2), (11, 2), (12, 3)] {
        tail.push(SOURCE, committed(1, last_seq, number, number == 2));
    }
    tail.leased(&lease(3, 0, 10), 10, now);
    tail.keep(lease(3, 10, 10), now, now);
    assert_eq!(begin(&tail, 1_000, now), Some(vec![11, 12]));
}

#[test]
fn the_log_is_asked_where_a_number_is_missing_the_lease_was_another_or_an_admin_changed_something() {
    let now = Instant::now();
    for block in [committed(1, 12, 3, false), committed(1, 11, 4, false), committed(1, 11, 3, true)] {
        let tail = kept(3, now);
        let why = format!("{block:?}");
        tail.push(SOURCE, block);
        assert_eq!(begin(&tail, 1_000, now), None, "{why}");
        tail.not_leased(SOURCE);
        tail.push(SOURCE, committed(1, 11, 3, false));
        assert_eq!(begin(&tail, 1_000, now), None, "until a lease was taken: {why}");
    }
    let while_asked = Tail::default();
    assert_eq!(begin(&while_asked, 1_000, now), None);
    while_asked.push(SOURCE, committed(1, 12, 3, false));
    while_asked.leased(&lease(3, 0, 10), 10, now);
    while_asked.keep(lease(3, 10, 10), now, now);
    assert_eq!(begin(&while_asked, 1_000, now), None, "11 is missing");
}

#[test]
fn the_log_is_asked_where_it_was_not_read_to_its_end_or_something_happened_elsewhere() {
    let now = Instant::now();
    let tail = Tail::default();
    assert_eq!(begin(&tail, 1_000, now), None);
    tail.leased(&lease(3, 0, 5_000), 1_000, now);
    tail.push(SOURCE, committed(1, 5_001, 3, false));
    tail.keep(lease(3, 1_000, 5_000), now, now);
    assert_eq!(begin(&tail, 1_000, now), None);
    let tail = kept(3, now);
    tail.distrust(SOURCE);
    assert_eq!(begin(&tail, 1_000, now), None);
}

#[test]
fn what_was_read_from_the_log_and_not_sent_is_read_again() {
    let now = Instant::now();
    let tail = Tail::default();
    assert_eq!(begin(&tail, 5, now), None);
    tail.leased(&lease(3, 0, 10), 10, now);
    tail.push(SOURCE, committed(1, 11, 3, false));
    tail.keep(lease(3, 5, 10), now, now);
    assert!(!tail.knows(SOURCE, 10), "6 to 10 are to be found");
    assert_eq!(begin(&tail, 1_000, now), None);
    tail.leased(&lease(4, 5, 11), 11, now);
    tail.keep(lease(4, 11, 11), now, now);
    assert_eq!(begin(&tail, 1_000, now), Some(vec![]));
}

#[test]
fn a_lease_that_may_have_ended_is_not_relied_on() {
    let now = Instant::now();
    let tail = kept(3, now);
    tail.push(SOURCE, committed(1, 11, 3, false));
    assert_eq!(begin(&tail, 1_000, now + MAX_LEASE_AGE), None, "the process slept");
    tail.leased(&lease(5, 10, 11), 11, now);
    tail.keep(lease(5, 11, 11), now, now);
    assert_eq!(begin(&tail, 1_000, now), Some(vec![]), "it was read with the lease");
}

#[test]
fn idle_leases_are_taken_out_once_and_those_of_steps_are_not() {
    let now = Instant::now();
    let tail = kept(3, now);
    assert!(tail.take_idle(now).is_empty());
    assert_eq!(tail.kept(), [SOURCE]);
    let later = now + MAX_IDLE;
    assert_eq!(tail.take_idle(later), [(SOURCE, 3)]);
    assert!(tail.take_idle(later).is_empty() && !tail.knows(SOURCE, 10));
    let tail = kept(3, now);
    tail.push(SOURCE, committed(1, 11, 3, false));
    assert_eq!(begin(&tail, 1_000, now), Some(vec![11]));
    assert!(tail.take_idle(later).is_empty() && tail.kept().is_empty(), "a step has it");
    // What could not be taken again is still to be given free.
    let tail = kept(3, now);
    tail.distrust(SOURCE);
    assert_eq!(begin(&tail, 1_000, now), None);
    tail.not_leased(SOURCE);
    assert_eq!(tail.take_idle(later), [(SOURCE, 3)]);
}

#[test]
fn memory_is_bounded_and_what_does_not_fit_is_read_from_the_log() {
    let now = Instant::now();
    let tail = kept(3, now);
    let mut last_seq = 10;
    while tail.knows(SOURCE, last_seq) {
        last_seq += 100;
        tail.push(SOURCE, committed(100, last_seq, 3, false));
        assert!(tail.lock().n_bytes <= MAX_SOURCE_BYTES);
    }
    assert!(last_seq > 3_000);
    assert_eq!(begin(&tail, 1_000, now), None);
    assert_eq!(tail.lock().n_bytes, 0);
}

/// What came of a step that took all up to `cursor`, one event after `before`.
fn success(before: i64, cursor: i64) -> Settlement {
    let delivered = vec![Kind::Opened; usize::try_from(cursor - before).expect("few")];
    Settlement { cursor, delivered, keep: true, ..Settlement::stay(&lease(3, before, cursor)) }
}

/// Sends the next event, number `seq`, and leaves for later what came of it.
fn sent(tail: &Tail, seq: i64, now: Instant) -> Deferred {
    tail.push(SOURCE, committed(1, seq, 3, false));
    assert_eq!(begin(tail, 1_000, now), Some(vec![seq]));
    tail.defer(&lease(3, seq - 1, 10), success(seq - 1, seq), now)
}

#[test]
fn what_came_of_steps_that_went_well_is_settled_later_in_one() {
    let now = Instant::now();
    let tail = kept(3, now);
    for seq in 11..=13 {
        assert!(matches!(sent(&tail, seq, now), Deferred::Later { more: false }));
        assert!(tail.knows(SOURCE, seq));
    }
    assert!(tail.take_idle(now + MAX_IDLE).is_empty(), "not before it is settled");
    let unsettled = tail.take_unsettled();
    let [(of, settlement)] = unsettled.as_slice() else { panic!("{unsettled:?}") };
    assert_eq!((of.cursor, settlement.before, settlement.cursor, settlement.delivered.len()), (13, 10, 13, 3));
    // Meanwhile no step begins, but nothing that comes is lost.
    tail.push(SOURCE, committed(1, 14, 3, false));
    assert_eq!(begin(&tail, 1_000, now), Some(vec![]));
    assert!(tail.take_unsettled().is_empty());
    assert!(tail.keep(lease(3, 13, 10), now, now), "there is more to do");
    assert_eq!(begin(&tail, 1_000, now), Some(vec![14]));
}

#[test]
fn what_went_wrong_is_settled_now_with_what_went_well_before() {
    let now = Instant::now();
    let tail = kept(3, now);
    sent(&tail, 11, now);
    tail.push(SOURCE, committed(1, 12, 3, false));
    assert_eq!(begin(&tail, 1_000, now), Some(vec![12]));
    let failed = Settlement { n_attempts: 1, ..Settlement::stay(&lease(3, 11, 10)) };
    let Deferred::Not(settlement) = tail.defer(&lease(3, 11, 10), failed, now) else { panic!("a failure waits") };
    assert_eq!((settlement.before, settlement.cursor, settlement.n_attempts), (10, 11, 1));
    assert_eq!(settlement.delivered.len(), 1);
    assert!(tail.take_unsettled().is_empty());
}

#[test]
fn before_the_log_is_asked_what_waits_is_settled() {
    let now = Instant::now();
    for sleeps in [false, true] {
        let tail = kept(3, now);
        sent(&tail, 11, now);
        let mut now = now;
        if sleeps {
            tail.push(SOURCE, committed(1, 12, 3, false));
            now += MAX_LEASE_AGE;
        } else {
            tail.distrust(SOURCE);
        }
        let NextStep::Settle(of) = tail.begin_step(SOURCE, 1_000, now) else { panic!("asks for a lease") };
        let Deferred::Not(settlement) = tail.defer(&of, Settlement::stay(&of), now) else { panic!("waits on") };
        assert_eq!((of.cursor, settlement.before, settlement.cursor, settlement.keep), (11, 10, 11, false));
        tail.forget(SOURCE);
        assert_eq!(begin(&tail, 1_000, now), None);
    }
}

#[test]
fn not_much_waits_nor_for_long_and_nothing_after_the_end() {
    let now = Instant::now();
    let tail = kept(3, now);
    let n = i64::try_from(MAX_UNSETTLED_EVENTS).expect("few");
    tail.push(SOURCE, committed(MAX_UNSETTLED_EVENTS, 10 + n, 3, false));
    assert_eq!(begin(&tail, 1_000, now), Some(vec![10 + n]));
    assert!(matches!(tail.defer(&lease(3, 10, 10), success(10, 10 + n), now), Deferred::Later { .. }));
    let Deferred::Not(settlement) = sent(&tail, 11 + n, now) else { panic!("too much waits") };
    assert_eq!((settlement.before, settlement.cursor), (10, 11 + n));
    assert!(settlement.keep, "only that it is settled now");

    let tail = kept(3, now);
    sent(&tail, 11, now);
    assert!(matches!(sent(&tail, 12, now + MAX_UNSETTLED_AGE), Deferred::Not(_)), "it waits for too long");

    let tail = kept(3, now);
    sent(&tail, 11, now);
    tail.end();
    assert!(tail.take_unsettled().iter().all(|(_, settlement)| !settlement.keep));
    let tail = kept(3, now);
    tail.end();
    assert_eq!(tail.take_idle(now), [(SOURCE, 3)], "nobody else waits for what is not needed any more");
    let tail = kept(3, now);
    tail.push(SOURCE, committed(1, 11, 3, false));
    assert_eq!(begin(&tail, 1_000, now), Some(vec![11]));
    tail.end();
    let Deferred::Not(settlement) = tail.defer(&lease(3, 10, 10), success(10, 11), now) else { panic!("waits") };
    assert!(!settlement.keep);
}

#[test]
fn what_could_not_be_settled_is_settled_by_the_next_step() {
    let now = Instant::now();
    let tail = kept(3, now);
    sent(&tail, 11, now);
    let (of, settlement) = tail.take_unsettled().pop().expect("one");
    tail.push(SOURCE, committed(1, 12, 3, false));
    tail.put_back(of, settlement, now);
    assert!(!tail.knows(SOURCE, 12), "the log is asked for what is to be sent");
    let NextStep::Settle(of) = tail.begin_step(SOURCE, 1_000, now) else { panic!("sends more") };
    let Deferred::Not(settlement) = tail.defer(&of, Settlement::stay(&of), now) else { panic!("waits on") };
    assert_eq!((settlement.before, settlement.cursor, settlement.delivered.len()), (10, 11, 1));
}
