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
        NextStep::Ask => None,
    }
}

/// A tail whose lease, with this number, is kept; everything up to 10 is sent.
fn kept(number: i64, now: Instant) -> Tail {
    let tail = Tail::default();
    assert_eq!(begin(&tail, 1_000, now), None, "the first step asks");
    tail.leased(&lease(number, 0, 10), 10);
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
    tail.leased(&lease(3, 0, 10), 10);
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
    while_asked.leased(&lease(3, 0, 10), 10);
    while_asked.keep(lease(3, 10, 10), now, now);
    assert_eq!(begin(&while_asked, 1_000, now), None, "11 is missing");
}

#[test]
fn the_log_is_asked_where_it_was_not_read_to_its_end_or_something_happened_elsewhere() {
    let now = Instant::now();
    let tail = Tail::default();
    assert_eq!(begin(&tail, 1_000, now), None);
    tail.leased(&lease(3, 0, 5_000), 1_000);
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
    tail.leased(&lease(3, 0, 10), 10);
    tail.push(SOURCE, committed(1, 11, 3, false));
    tail.keep(lease(3, 5, 10), now, now);
    assert!(!tail.knows(SOURCE, 10), "6 to 10 are to be found");
    assert_eq!(begin(&tail, 1_000, now), None);
    tail.leased(&lease(4, 5, 11), 11);
    tail.keep(lease(4, 11, 11), now, now);
    assert_eq!(begin(&tail, 1_000, now), Some(vec![]));
}

#[test]
fn a_lease_that_may_have_ended_is_not_relied_on() {
    let now = Instant::now();
    let tail = kept(3, now);
    tail.push(SOURCE, committed(1, 11, 3, false));
    assert_eq!(begin(&tail, 1_000, now + MAX_LEASE_AGE), None, "the process slept");
    tail.leased(&lease(5, 10, 11), 11);
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
