use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-05-03 14:02:11 UTC);

fn healthy() -> SourceFacts {
    SourceFacts {
        has_write_key: true,
        has_secret: true,
        last_event_at: Some(NOW - Duration::from_secs(3)),
        accepted_today: 1_204,
        ..SourceFacts::default()
    }
}

fn judged(facts: &SourceFacts) -> (SourceState, String, bool) {
    let Judgement { state, sentence, is_ok, .. } = facts.judge(NOW);
    (state, sentence, is_ok)
}

#[test]
fn a_source_of_calls_speaks_of_nudgespot() {
    let of = |facts: SourceFacts| SourceFacts { are_calls: true, has_secret: true, ..facts }.judge(NOW).sentence;
    assert_eq!(of(SourceFacts::default()), "No REST key yet.");
    let with_key = || SourceFacts { has_write_key: true, ..SourceFacts::default() };
    assert_eq!(of(with_key()), "No call has come yet.");
    let paused = Some(("Nudgespot answered 401: no".to_owned(), None));
    assert_eq!(
        of(SourceFacts { paused, waiting: 1, ..with_key() }),
        "Nudgespot refused the REST key (401). 1 call waits; nothing is lost."
    );
    let late = SourceFacts { waiting: 2, oldest_waiting_since: Some(NOW - Duration::from_mins(5)), ..with_key() };
    assert_eq!(of(late), "2 calls wait, the oldest for 5 min; they are tried again and again.");
}

#[test]
fn each_state_says_what_is_the_matter() {
    let minutes = |n: u64| Some(NOW - Duration::from_mins(n));
    let refused = |n, verified| SeenWebhooks {
        last_verified_at: verified,
        n_refused_since_verified: n,
        likely_fault: Some("another secret signs them".to_owned()),
        ..SeenWebhooks::default()
    };
    let paused = Some(("Segment answered 401: {\"success\":false}".to_owned(), Some(datetime!(2026-05-03 14:01 UTC))));
    let gap = Some(Duration::from_hours(5));
    let quiet = SourceFacts { last_event_at: minutes(3 * 24 * 60), longest_gap: gap, ..healthy() };
    for (facts, state, sentence, is_ok) in [
        (healthy(), SourceState::Delivering, "Last event 3 s ago; 1,204 today; none waiting.", true),
        (
            SourceFacts { webhooks: refused(38, Some(datetime!(2026-05-03 06:35 UTC))), ..healthy() },
            SourceState::Refusing,
            "No webhook verified since 06:35; 38 refused: another secret signs them.",
            false,
        ),
        (
            SourceFacts { webhooks: refused(1, None), last_event_at: None, ..healthy() },
            SourceState::Refusing,
            "No webhook verified yet; 1 refused: another secret signs them.",
            false,
        ),
        (
            SourceFacts {
                webhooks: SeenWebhooks { has_other_faults: true, ..refused(5, None) },
                last_event_at: None,
                ..healthy()
            },
            SourceState::Refusing,
            "No webhook verified yet; 5 refused for several reasons, the last: another secret signs them.",
            false,
        ),
        (
            SourceFacts { paused: Some((PAUSED_BY_ADMIN.to_owned(), minutes(1))), waiting: 2, ..healthy() },
            SourceState::Paused,
            "Since 14:01: an admin paused it. 2 events wait; nothing is lost.",
            false,
        ),
        (
            SourceFacts { paused: paused.clone(), waiting: 312, ..healthy() },
            SourceState::Paused,
            "Since 14:01: Segment refused the write key (401). 312 events wait; nothing is lost.",
            false,
        ),
        (
            SourceFacts {
                waiting: 312,
                oldest_waiting_since: minutes(4),
                last_error: Some("no answer".into()),
                ..healthy()
            },
            SourceState::Behind,
            "312 events wait, the oldest for 4 min; they are tried again and again. Last error: no answer.",
            false,
        ),
        (
            quiet.clone(),
            SourceState::Quiet,
            "Nothing for 3 days; the longest gap of the 14 days before was 5 h.",
            false,
        ),
        (
            SourceFacts { quiet_acknowledged_at: minutes(1), ..quiet.clone() },
            SourceState::Quiet,
            "Nothing for 3 days; the longest gap of the 14 days before was 5 h. Somebody has said that nothing is to come.",
            true,
        ),
        (
            SourceFacts { has_write_key: false, waiting: 1, ..healthy() },
            SourceState::NotSetUp,
            "No write key yet. 1 event waits; nothing is lost.",
            false,
        ),
        (SourceFacts { last_event_at: None, ..healthy() }, SourceState::NotSetUp, "No webhook has come yet.", false),
    ] {
        assert_eq!(judged(&facts), (state, sentence.to_owned(), is_ok));
    }
}

#[test]
fn what_segment_said_is_not_for_everybody() {
    let said = "400: no such user ann@example.com".to_owned();
    let paused = SourceFacts { paused: Some((said.clone(), Some(NOW))), waiting: 2, ..healthy() };
    let behind = SourceFacts {
        last_error: Some(said),
        waiting: 1,
        oldest_waiting_since: Some(NOW - Duration::from_mins(5)),
        ..healthy()
    };
    let public = [paused, behind].map(|facts| facts.judge(NOW).public_sentence);
    assert_eq!(
        public,
        [
            "Delivery is paused since 14:02. 2 events wait; nothing is lost.",
            "One event waits for 5 min; it is tried again and again.",
        ]
    );
}

#[test]
fn a_write_key_that_segment_does_not_know_is_never_green() {
    let dropped = SourceFacts { is_write_key_unknown: true, ..healthy() };
    let unheard_of = SourceFacts { last_event_at: None, ..dropped.clone() };
    for facts in [&dropped, &unheard_of] {
        let (state, sentence, is_ok) = judged(facts);
        assert_eq!((state, is_ok, facts.judge(NOW).loses_events), (SourceState::NotSetUp, false, true));
        assert!(sentence.starts_with("Segment does not know the write key"), "{sentence}");
    }
    let paused = SourceFacts { paused: Some(("paused by an admin".into(), None)), ..dropped.clone() }.judge(NOW);
    assert_eq!((paused.state, paused.loses_events), (SourceState::Paused, false), "nothing is sent meanwhile");
    let replaced = SourceFacts { has_write_key: false, ..dropped }.judge(NOW);
    assert_eq!((replaced.sentence.as_str(), replaced.loses_events), ("No write key yet.", false));
}

#[test]
fn the_worst_comes_first() {
    let mut facts = SourceFacts {
        paused: Some(("paused by an admin".into(), None)),
        waiting: 5,
        oldest_waiting_since: Some(NOW - Duration::from_hours(50)),
        last_event_at: Some(NOW - Duration::from_hours(50)),
        webhooks: SeenWebhooks { n_refused_since_verified: 2, ..SeenWebhooks::default() },
        ..healthy()
    };
    let mut states = vec![facts.judge(NOW).state];
    facts.webhooks.n_refused_since_verified = 0;
    states.push(facts.judge(NOW).state);
    facts.paused = None;
    states.push(facts.judge(NOW).state);
    facts.waiting = 0;
    states.push(facts.judge(NOW).state);
    facts.last_event_at = Some(NOW);
    states.push(facts.judge(NOW).state);
    let words: Vec<_> = states.iter().map(|state| state.as_str()).collect();
    assert_eq!(words, ["Refusing", "Paused", "Behind", "Quiet", "Delivering"]);
    assert!(states.is_sorted());
}

#[test]
fn one_bad_webhook_among_good_ones_is_no_state() {
    let seen = |n| SeenWebhooks {
        last_verified_at: Some(NOW - Duration::from_secs(5)),
        n_refused_since_verified: n,
        ..SeenWebhooks::default()
    };
    let state = |n| SourceFacts { webhooks: seen(n), ..healthy() }.judge(NOW).state;
    assert_eq!(
        (state(1), state(2), state(3)),
        (SourceState::Delivering, SourceState::Delivering, SourceState::Refusing)
    );
}

#[test]
fn who_sends_once_a_week_is_not_quiet_after_two_days() {
    let facts =
        |gap| SourceFacts { last_event_at: Some(NOW - Duration::from_hours(48)), longest_gap: gap, ..healthy() };
    assert_eq!(facts(Some(Duration::from_hours(7 * 24))).judge(NOW).state, SourceState::Delivering);
    assert_eq!(facts(None).judge(NOW).state, SourceState::Quiet);
    assert_eq!(facts(Some(Duration::from_hours(23))).judge(NOW).state, SourceState::Quiet);
}
