//! Replays as jobs: dead letters that are sent again in the background.

use nudgespot_source::admin::events::{EventFilter, EventState};
use nudgespot_source::admin::{Admin, AdminError, DeadLetterFilter, Recipient, ReplayView};
use nudgespot_source::sandbox::{Fault, Faults, Odds, Sandbox};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::harness::{Context, Source, texts, until};

const N: i64 = 1_200;

/// Dead letters 1 to [`N`], as if their requests had been refused; of kind `opened`, but for the first, a click.
async fn bury(context: &Context, source: &Source) -> Uuid {
    let id = &source.id;
    context
        .execute(&format!(
            r#"insert into dead_letter (source_id, seq, kind, event_id, received_at, track, reason)
            select '{id}', n, case when n = 1 then 3 else 2 end, convert_to('e' || n, 'UTF8'), now(),
                '{{"userId":"u' || n || case when n = 700 then 'poison' else '' end || '","timestamp":"2026-01-01T00:00:00.000Z","properties":{{}},"context":{{}}}}',
                'Segment answered 400'
            from generate_series(1, {N}) as n;
            update log_head set head_seq = {N} where source_id = '{id}';
            update delivery set cursor_seq = {N}, n_dead = {N} where source_id = '{id}'"#
        ))
        .await;
    id.parse().expect("an id")
}

async fn ended(admin: &Admin, job: &ReplayView) -> ReplayView {
    let look = async || admin.replay(job.source_id, job.replay_id).await.expect("an answer").expect("a job");
    until(async || !look().await.goes_on()).await;
    look().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_sent_again_and_what_is_refused_again_is_told() {
    let mut context = Context::new().await;
    context.segment =
        Sandbox::new(Faults::by_chance(Odds { refuse: Some(("poison".to_owned(), 400)), ..Default::default() }));
    let (server, _, address) = context.segment.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    tokio::spawn(server);
    context.set("SEGMENT_US_URL", &format!("http://{address}"));
    let admin = context.admin();
    let id = bury(&context, &context.source("acme").await).await;
    let service = context.serve().await;
    let job = admin.start_replay(id, &DeadLetterFilter::default(), "ann@example.com").await.expect("a job");
    assert_eq!((job.total, job.state.as_str(), job.asked_by.as_str()), (N, "running", "ann@example.com"));
    let done = ended(&admin, &job).await;
    assert_eq!(
        (done.state.as_str(), done.sent, done.refused, done.in_flight, done.remaining),
        ("done", N - 1, 1, 0, 0)
    );
    assert_eq!(done.sentence(), "1,199 sent again, 1 refused again");
    let since = OffsetDateTime::parse(&done.created_at, &Rfc3339).ok();
    let refused = EventFilter { state: Some(EventState::GaveUp), since, ..EventFilter::default() };
    let page = admin.events(id, &refused, None, 10).await.expect("a page");
    assert_eq!(
        (page.data.len(), page.is_complete),
        (1, true),
        "what was refused again is found by when it was sent again"
    );
    let sent = texts(&context.messages(1_199).await, "/userId");
    assert_eq!(sent.len(), 1_199, "each once");
    assert_eq!(context.show("acme").await["dead_letters"], 1);
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_of_what_was_dead_when_it_was_asked_for() {
    let context = Context::new().await;
    let admin = context.admin();
    let source = context.source("acme").await;
    let id = bury(&context, &source).await;
    let clicks = DeadLetterFilter { kinds: vec![3], ..Default::default() };
    let none = DeadLetterFilter { reason: Some("nothing like this".to_owned()), ..Default::default() };
    assert!(matches!(admin.start_replay(id, &none, "a").await, Err(AdminError::NoDeadLetters)));
    let job = admin.start_replay(id, &clicks, "a").await.expect("a job");
    assert_eq!(job.total, 1);
    assert!(matches!(admin.start_replay(id, &clicks, "a").await, Err(AdminError::ReplayGoesOn)));
    // Of the same kind, but it died later.
    context
        .execute(&format!(
            r#"insert into dead_letter (source_id, seq, kind, event_id, received_at, track, reason)
            values ('{id}', {N} + 1, 3, 'later', now(), '{{"userId":"later","context":{{}}}}', 'x');
            update log_head set head_seq = {N} + 1; update delivery set cursor_seq = {N} + 1"#
        ))
        .await;
    let service = context.serve().await;
    let done = ended(&admin, &job).await;
    assert_eq!((done.sent, done.refused), (1, 0));
    assert_eq!(texts(&context.segment.messages(), "/userId"), ["u1"]);
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_waits_while_its_source_is_paused_and_outlives_the_program() {
    let context = Context::new().await;
    let admin = context.admin();
    let id = bury(&context, &context.source("acme").await).await;
    context.run(&["source", "pause", "acme"]).await;
    let service = context.serve().await;
    let job = admin.start_replay(id, &DeadLetterFilter::default(), "a").await.expect("a job");
    let look = async || admin.replay(id, job.replay_id).await.expect("an answer").expect("a job");
    until(async || look().await.waits_for.is_some()).await;
    assert_eq!(look().await.waits_for.as_deref(), Some("the source is paused"));
    assert_eq!((look().await.remaining, context.segment.messages().len()), (N, 0));
    assert!(service.terminate().await.success());
    context.run(&["source", "resume", "acme"]).await;
    let service = context.serve().await;
    let done = ended(&admin, &job).await;
    assert_eq!((done.sent, context.segment.messages().len()), (N, 1_200));
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_replay_keeps_what_is_not_sent() {
    let context = Context::new().await;
    let admin = context.admin();
    let id = bury(&context, &context.source("acme").await).await;
    context.run(&["source", "pause", "acme"]).await;
    let service = context.serve().await;
    let job = admin.start_replay(id, &DeadLetterFilter::default(), "a").await.expect("a job");
    assert!(admin.cancel_replay(id, job.replay_id).await.expect("an answer"));
    let done = ended(&admin, &job).await;
    assert_eq!((done.state.as_str(), done.sent, done.remaining), ("cancelled", 0, N));
    assert!(!admin.cancel_replay(id, job.replay_id).await.expect("an answer"), "it has ended");
    assert!(!admin.cancel_replay(Uuid::nil(), job.replay_id).await.expect("an answer"), "another source's");
    assert_eq!(context.show("acme").await["dead_letters"], N);
    let again = admin.start_replay(id, &DeadLetterFilter::default(), "a").await.expect("another job");
    assert_eq!(again.total, N);
    assert_eq!(admin.replays(id).await.expect("jobs").len(), 2);
    assert!(service.terminate().await.success());
}

/// A replay whose first batch is in the log while Segment does not want to be asked again.
async fn with_batch_on_its_way(
    context: &Context,
    admin: &Admin,
    source: &Source,
    which: &DeadLetterFilter,
) -> ReplayView {
    context.segment.faults.plan(&source.write_key, [Fault::Status(503, Some("600".to_owned()))]);
    let id = source.id.parse().expect("an id");
    let job = admin.start_replay(id, which, "a").await.expect("a job");
    context.segment_has(|segment| segment.requests().len() == 1).await;
    let look = async || admin.replay(id, job.replay_id).await.expect("an answer").expect("a job");
    until(async || context.show("acme").await["last_error"].is_string()).await;
    look().await
}

async fn erase(context: &Context, admin: &Admin, source: &Source, uid: &str) {
    let account = context.show(&source.id).await["account_id"].as_str().expect("text").parse().expect("an id");
    let asked = admin.erase(account, &Recipient::uid(uid).expect("an id"), "a").await.expect("a job");
    until(async || {
        let erasure = admin.erasure(account, asked.erasure_id).await.expect("an answer").expect("a job");
        !erasure.goes_on()
    })
    .await;
}

fn counted(job: &ReplayView) -> i64 {
    job.sent + job.refused + job.erased + job.missing + job.in_flight + job.remaining + job.gone
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_when_a_replay_is_cancelled_is_counted_in_the_end() {
    let context = Context::new().await;
    let admin = context.admin();
    let source = context.source("acme").await;
    let id = bury(&context, &source).await;
    let service = context.serve().await;
    let job = with_batch_on_its_way(&context, &admin, &source, &DeadLetterFilter::default()).await;
    assert_eq!((job.in_flight, job.remaining, counted(&job)), (500, N - 500, N));
    // They will go in one request with these.
    let live = |n: u32| serde_json::json!({"id": format!("live{n}"), "event": "opened", "uid": format!("live{n}")});
    source.accept(&service, &serde_json::json!([live(1), live(2), live(3)])).await;
    context.run(&["source", "pause", "acme"]).await;
    assert!(admin.cancel_replay(id, job.replay_id).await.expect("an answer"));
    let cancelled = ended(&admin, &job).await;
    assert_eq!((cancelled.in_flight, cancelled.remaining), (500, N - 500));
    assert!(cancelled.is_counting() && cancelled.sentence().contains("500 on their way"), "{}", cancelled.sentence());
    erase(&context, &admin, &source, "u5").await;
    erase(&context, &admin, &source, "u500").await;
    erase(&context, &admin, &source, "live2").await;
    // Another one may begin, and does not touch what the first has put back.
    let clicks = DeadLetterFilter { kinds: vec![3], ..Default::default() };
    assert!(matches!(admin.start_replay(id, &clicks, "a").await, Err(AdminError::NoDeadLetters)));
    let again = admin.start_replay(id, &DeadLetterFilter::default(), "a").await.expect("another job");
    context.run(&["source", "resume", "acme"]).await;
    let look = async || admin.replay(id, job.replay_id).await.expect("an answer").expect("a job");
    until(async || !look().await.is_counting()).await;
    let counted_job = look().await;
    assert_eq!((counted_job.sent, counted_job.erased, counted_job.in_flight), (498, 2, 0), "{counted_job:?}");
    assert_eq!((counted_job.state.as_str(), counted(&counted_job)), ("cancelled", N));
    assert_eq!(counted_job.sentence(), "498 sent again, 2 erased, 700 not sent");
    let again = ended(&admin, &again).await;
    assert_eq!((again.sent, counted(&again)), (N - 500, N - 500), "{again:?}");
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replay_finds_gone_is_not_counted_as_sent() {
    let context = Context::new().await;
    let admin = context.admin();
    let source = context.source("acme").await;
    let id = bury(&context, &source).await;
    let service = context.serve().await;
    // Lost with its block.
    let clicks = DeadLetterFilter { kinds: vec![3], ..Default::default() };
    let job = with_batch_on_its_way(&context, &admin, &source, &clicks).await;
    context.execute("delete from event_block").await;
    context.run(&["source", "resume", "acme"]).await;
    let lost = ended(&admin, &job).await;
    assert_eq!((lost.sent, lost.missing, counted(&lost)), (0, 1, 1), "{lost:?}");
    // Erased before their turn.
    context.run(&["source", "pause", "acme"]).await;
    let job = admin.start_replay(id, &DeadLetterFilter::default(), "a").await.expect("a job");
    erase(&context, &admin, &source, "u3").await;
    erase(&context, &admin, &source, "u900").await;
    context.run(&["source", "resume", "acme"]).await;
    let done = ended(&admin, &job).await;
    assert_eq!((done.total, done.sent, done.gone, counted(&done)), (N - 1, N - 3, 2, N - 1), "{done:?}");
    assert_eq!(done.sentence(), "1,197 sent again, 2 no longer there when their turn came");
    assert!(service.terminate().await.success());
}
