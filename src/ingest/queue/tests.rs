use proptest::prelude::*;

use super::*;

fn queue() -> CommitQueue<u32> {
    CommitQueue::new(1_000)
}

fn queued(source: u8, n_events: usize, webhook: u32) -> Queued<u32> {
    let peer = Some(([127, 0, 0, 1], source.into()).into());
    Queued { source: Uuid::from_u128(source.into()), peer, n_events, n_bytes: 100, webhook }
}

fn commit(work: Option<Work<u32>>) -> Commit<u32> {
    match work {
        Some(Work::Commit(commit)) => commit,
        other => panic!("no commit: {other:?}"),
    }
}

fn names(commit: &Commit<u32>) -> Vec<u32> {
    commit.webhooks.iter().map(|queued| queued.webhook).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the queue lends its webhooks")]
fn never(_: &u32) -> bool {
    false
}

#[test]
fn a_small_load_shares_one_commit_and_waits_for_it() {
    let (mut queue, now) = (queue(), Instant::now());
    for n in 0..8 {
        queue.push(queued(n, 1, n.into()), now);
    }
    assert_eq!(commit(queue.take(now, never)).webhooks.len(), 8);
    queue.push(queued(1, 1, 8), now);
    assert!(queue.take(now, never).is_none(), "while a commit is in flight");
    queue.finish();
    assert_eq!(names(&commit(queue.take(now, never))), [8]);
}

#[test]
fn what_waits_for_company_is_taken_when_there_is_enough_or_it_is_time() {
    let (mut queue, now) = (queue(), Instant::now());
    let mut at = now;
    for n in 0..100 {
        at = now + n * Duration::from_millis(1);
        queue.push(queued(u8::try_from(n % 2).expect("small"), 1, n), at);
    }
    assert_eq!(commit(queue.take(at, never)).webhooks.len(), 100);
    queue.push(queued(2, 1, 100), at);
    assert!(queue.next_timer(at).is_none(), "while a commit is in flight");
    queue.finish();
    assert!(queue.take(at, never).is_some(), "so many need no company");
    queue.push(queued(1, 1, 101), at);
    queue.push(queued(2, 1, 102), at);
    queue.finish();
    let timer = queue.next_timer(at).expect("others are to come");
    assert!(timer > at && queue.take(at, never).is_none() && !queue.has_commit(at));
    queue.push(queued(2, ENOUGH_EVENTS, 103), at);
    assert_eq!(names(&commit(queue.take(at, never))), [101, 102, 103], "that is enough");
    queue.finish();
    queue.push(queued(1, 1, 104), at);
    let timer = queue.next_timer(at).expect("others are to come");
    assert_eq!(names(&commit(queue.take(timer, never))), [104], "nobody came");
    queue.finish();
    assert_eq!(queue.next_timer(timer), None, "nobody waits");
}

#[test]
fn a_large_load_is_split_over_the_lanes() {
    let (mut queue, now) = (queue(), Instant::now());
    for n in 0..8 {
        queue.push(queued(n % 4, MAX_COMMIT_EVENTS / 2, n.into()), now);
    }
    let (first, second) = (commit(queue.take(now, never)), commit(queue.take(now, never)));
    assert_eq!((first.webhooks.len(), second.webhooks.len()), (2, 2));
    assert!(first.lanes.iter().all(|lane| !second.lanes.contains(lane)));
}

#[test]
fn a_commit_is_bounded_in_bytes_as_well() {
    let (mut queue, now) = (queue(), Instant::now());
    for n in 0..20 {
        queue.push(Queued { n_bytes: 1 << 20, ..queued(0, 1, n) }, now);
    }
    assert_eq!(commit(queue.take(now, never)).webhooks.len(), 8);
}

#[test]
fn a_held_source_delays_nobody_and_keeps_its_order() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.push(queued(0, 1, 1), now);
    let taken = commit(queue.take(now, never));
    queue.push(queued(0, 1, 2), now);
    queue.push(queued(4, 1, 3), now);
    assert!(queue.hold(taken.webhooks, now).is_empty());
    queue.finish();
    queue.push(queued(0, 1, 4), now);
    assert_eq!(names(&commit(queue.take(now, never))), [3], "of the same lane");
    queue.finish();
    assert!(queue.take(now, never).is_none());
    let at = queue.next_probe().expect("it is looked at again");
    for at in [at, at + PROBE_INTERVAL] {
        let probe = queue.take(at, never);
        assert!(matches!(probe, Some(Work::Probe(sources)) if sources == [Uuid::nil()]), "whatever came of it");
    }
    let mut late = vec![queued(0, 1, 5), queued(1, 1, 6)];
    assert!(queue.hold_back(&mut late).is_empty());
    assert_eq!(late.iter().map(|queued| queued.webhook).collect::<Vec<_>>(), [6]);
    queue.release(Uuid::nil());
    assert_eq!(names(&commit(queue.take(at, never))), [1, 2, 4, 5]);
    assert!(queue.next_probe().is_none());
}

#[test]
fn held_sources_do_not_take_all_the_room() {
    let (mut queue, now) = (CommitQueue::new(2), Instant::now());
    let refused = queue.hold((0..3).map(|n| queued(0, 1, n)).collect(), now);
    assert_eq!(refused.len(), 1);
    assert!(queue.push(queued(0, 1, 3), now).is_some());
    assert!(queue.push(queued(1, 1, 4), now).is_none(), "of another source");
}

#[test]
fn it_is_exhausted_when_nobody_waits_any_more() {
    let (mut queue, now) = (queue(), Instant::now());
    queue.push(queued(0, 1, 1), now);
    queue.push(queued(1, 1, 2), now);
    let taken = commit(queue.take(now, never));
    queue.hold(taken.webhooks, now);
    queue.finish();
    queue.close();
    assert!(!queue.is_exhausted());
    let later = now + PROBE_INTERVAL;
    let Some(Work::Probe(sources)) = queue.take(later, |_| true) else { panic!("no probe") };
    for source in sources {
        queue.release(source);
    }
    assert!(queue.is_exhausted());
}

proptest! {
    #[test]
    fn no_webhook_is_lost_or_overtakes_another_of_its_source(
        steps in proptest::collection::vec((0u8..6, 1usize..700, 0u8..4), 1..200)
    ) {
        let (mut queue, mut now) = (queue(), Instant::now());
        let (mut n, mut done) = (0u32, Vec::new());
        let mut work = |queue: &mut CommitQueue<u32>, now: Instant, fails: bool| -> bool {
            match queue.take(now, never) {
                None => return false,
                Some(Work::Probe(sources)) if !fails => sources.into_iter().for_each(|source| queue.release(source)),
                Some(Work::Probe(_)) => {}
                Some(Work::Commit(commit)) => {
                    if fails {
                        assert!(queue.hold(commit.webhooks, now).is_empty());
                    } else {
                        done.extend(commit.webhooks.into_iter().map(|queued| (queued.source, queued.webhook)));
                    }
                    queue.finish();
                }
            }
            true
        };
        for (source, n_events, action) in steps {
            n += 1;
            prop_assert!(queue.push(queued(source, n_events, n), now).is_none());
            now += PROBE_INTERVAL / 3;
            if action > 0 {
                work(&mut queue, now, action == 2);
            }
        }
        queue.close();
        while !queue.is_exhausted() {
            if !work(&mut queue, now, false) {
                now += PROBE_INTERVAL;
            }
        }
        prop_assert_eq!(done.len(), usize::try_from(n).expect("small"));
        for source in (0..6u8).map(|source| Uuid::from_u128(source.into())) {
            let of_source: Vec<u32> = done.iter().filter(|(s, _)| *s == source).map(|(_, n)| *n).collect();
            prop_assert!(of_source.is_sorted());
        }
    }
}
