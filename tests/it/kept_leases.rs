//! A source's lease stays with the process that delivers for it, and what that process commits is sent from its memory:
//! nobody else's word counts less for it, and nothing is lost or sent in another order when the process ends.

use nudgespot_source::admin::Recipient;
use nudgespot_source::sandbox::Fault;
use serde_json::json;
use uuid::Uuid;

use crate::harness::sender::http;
use crate::harness::{Context, Load, Service, Source, events, texts, until};

/// How many steps of the delivery have looked for events there.
async fn n_steps(service: &Service, from: &str) -> u64 {
    let text = http().get(&service.metrics_url).send().await.expect("an answer").text().await.expect("text");
    let name = format!("nudgespot_source_delivery_steps_total{{from=\"{from}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |n| n.parse().expect("a number"))
}

/// Posts events, numbered from `first`, until one is sent from memory: from now on, the lease is kept. Returns the next number.
async fn with_kept_lease(context: &Context, source: &Source, service: &Service, first: u32) -> u32 {
    let n_before = n_steps(service, "memory").await;
    let mut n = first;
    // The search for what other processes store may look between a commit and its news, and then the log is asked.
    while n_steps(service, "memory").await == n_before || !is_leased(context, source).await {
        source.accept(service, &events(n..=n)).await;
        n += 1;
        context.messages(usize::try_from(n).expect("few")).await;
    }
    n
}

/// The recipients of the first `n` events, in order.
fn users(n: u32) -> Vec<String> {
    (0..n).map(|n| format!("u{n}")).collect()
}

async fn is_leased(context: &Context, source: &Source) -> bool {
    let sql = "select leased_until > now() and cursor_seq > 0 from delivery where source_id = $1";
    sqlx::query_scalar(sql).bind(id_of(source)).fetch_one(&context.pool).await.expect("a row")
}

fn id_of(source: &Source) -> Uuid {
    source.id.parse().expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_while_events_flow_is_sent_from_memory_in_order_and_the_lease_ends_when_they_do_not() {
    let context = Context::waiting().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let n = with_kept_lease(&context, &source, &service, 0).await;
    for n in n..50 {
        source.accept(&service, &events(n..=n)).await;
    }
    assert_eq!(texts(&context.messages(50).await, "/userId"), users(50));
    until(async || !is_leased(&context, &source).await).await;
    let shown = context.show("acme").await;
    assert_eq!((&shown["delivered"], &shown["waiting"]), (&json!(50), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_counts_for_all_that_comes_after_it() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let n = with_kept_lease(&context, &source, &service, 0).await;
    context.run(&["source", "pause", &source.id]).await;
    let n_before = n_steps(&service, "log").await;
    source.accept(&service, &events(n..=n)).await;
    until(async || n_steps(&service, "log").await > n_before).await;
    let shown = context.source_is("acme", |shown| shown["waiting"] == 1).await;
    assert_eq!((&shown["delivered"], &shown["paused_reason"]), (&json!(n), &json!("paused by an admin")));
    assert_eq!(texts(&context.segment.messages(), "/userId"), users(n));
    context.run(&["source", "resume", &source.id]).await;
    assert_eq!(texts(&context.messages(usize::try_from(n + 1).expect("few")).await, "/userId"), users(n + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_and_another_name_count_for_all_that_comes_after_them() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let n = with_kept_lease(&context, &source, &service, 0).await;
    let n_messages = usize::try_from(n).expect("few");
    let (status, _, error) =
        context.try_run(&["source", "set", &source.id, "--write-key", "-"], "another-write-key").await;
    assert_eq!(status, 0, "{error}");
    source.accept(&service, &events(n..=n)).await;
    assert_eq!(context.messages(n_messages + 1).await[n_messages]["writeKey"], "another-write-key");
    let n = with_kept_lease(&context, &source, &service, n + 1).await;
    context.run(&["source", "set", &source.id, "--unsubscribe-event", "Unsubscribed"]).await;
    let unsubscribed = json!({"id": "x", "event": "unsubscribed", "subscriber": {"uid": "u"}});
    source.accept(&service, &unsubscribed).await;
    let n_messages = usize::try_from(n).expect("few");
    assert_eq!(context.messages(n_messages + 1).await[n_messages]["event"], "Unsubscribed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_counts_for_what_is_in_memory() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let n = with_events_in_memory(&context, &source, &service).await;
    context.run(&["source", "pause", &source.id]).await;
    // The one that hangs is given up after a while, and would be sent again with the others.
    context.source_is("acme", |shown| shown["last_error"].is_null() && shown["waiting"] == 10).await;
    let n_requests = context.segment.requests().len();
    let paused_for = async || n_steps(&service, "log").await;
    let n_before = paused_for().await;
    until(async || paused_for().await > n_before).await;
    assert_eq!(context.segment.requests().len(), n_requests);
    context.run(&["source", "resume", &source.id]).await;
    assert_eq!(texts(&context.messages(usize::try_from(n).expect("few")).await, "/userId"), users(n));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_replica_stores_is_delivered_by_the_one_that_has_the_lease() {
    let context = Context::new().await;
    let holder = context.serve().await;
    let source = context.source("acme").await;
    // Alone, or the other could be the one that takes the lease.
    let n = with_kept_lease(&context, &source, &holder, 0).await;
    let other = context.serve().await;
    for n in n..n + 30 {
        let replica = if n % 3 == 0 { &holder } else { &other };
        source.accept(replica, &events(n..=n)).await;
    }
    let n_messages = usize::try_from(n + 30).expect("few");
    assert_eq!(texts(&context.messages(n_messages).await, "/userId"), users(n + 30));
    let n_sent: usize = context.segment.requests().iter().map(|request| request.n_events).sum();
    assert_eq!(n_sent, n_messages, "none was sent twice");
}

/// A step of the next event hangs, and others are committed behind it. Returns how many events there are in all.
async fn with_events_in_memory(context: &Context, source: &Source, service: &Service) -> u32 {
    let n = with_kept_lease(context, source, service, 0).await;
    context.source_is("acme", |shown| shown["waiting"] == 0).await;
    let n_requests = context.segment.requests().len();
    context.segment.faults.plan(&source.write_key, [Fault::Hang]);
    source.accept(service, &events(n..=n)).await;
    context.segment_has(|segment| segment.requests().len() > n_requests).await;
    for n in n + 1..n + 10 {
        source.accept(service, &events(n..=n)).await;
    }
    n + 10
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_had_in_memory_is_delivered_by_the_next_in_order() {
    let context = Context::new().await;
    let first = context.serve().await;
    let source = context.source("acme").await;
    let n = with_events_in_memory(&context, &source, &first).await;
    first.kill().await;
    let second = context.serve().await;
    source.accept(&second, &events(n..=n)).await;
    let messages = context.messages(usize::try_from(n + 1).expect("few")).await;
    assert_eq!(texts(&messages, "/userId"), users(n + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_had_in_memory_when_it_slept_past_its_lease_is_not_sent_by_it() {
    let context = Context::waiting().await;
    let sleeper = context.serve().await;
    let source = context.source("acme").await;
    let n = with_events_in_memory(&context, &source, &sleeper).await;
    sleeper.signal("STOP");
    context.execute("update delivery set leased_until = now()").await;
    let other = context.serve().await;
    context.messages(usize::try_from(n).expect("few")).await;
    sleeper.signal("CONT");
    until(async || sleeper.log().contains("the lease was taken over")).await;
    for n in n..n + 10 {
        source.accept(if n % 2 == 0 { &sleeper } else { &other }, &events(n..=n)).await;
    }
    let n_messages = usize::try_from(n + 10).expect("few");
    assert_eq!(texts(&context.messages(n_messages).await, "/userId"), users(n + 10));
    context.source_is("acme", |shown| shown["delivered"] == n + 10 && shown["waiting"] == 0).await;
    let n_sent: usize = context.segment.requests().iter().map(|request| request.n_events).sum();
    assert_eq!(n_sent, n_messages + 1, "only what hung was sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_ends_although_the_lease_is_kept_all_the_time() {
    let context = Context::new().await;
    let (service, admin) = (context.serve().await, context.admin());
    let source = context.source("acme").await;
    with_kept_lease(&context, &source, &service, 0).await;
    let account = context.show(&source.id).await["account_id"].as_str().expect("text").parse().expect("an id");
    let load = Load::start(&service, &source, 100);
    load.reach(20).await;
    let recipient = Recipient::uid("u0").expect("an id");
    let erasure = admin.erase(account, &recipient, "ann").await.expect("a job");
    let look = async || admin.erasure(account, erasure.erasure_id).await.expect("an answer").expect("a job");
    until(async || !look().await.goes_on()).await;
    assert_eq!(look().await.removed.events, 1);
    load.end().await;
    let lease: i64 = sqlx::query_scalar("select lease from delivery").fetch_one(&context.pool).await.expect("a row");
    assert!(lease > 1, "another was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_answers_cannot_be_stored_holds_up_no_others_nor_at_the_stop() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (bad, good) = (context.source("bad").await, context.source("good").await);
    let n_bad = with_kept_lease(&context, &bad, &service, 0).await;
    let mut n = with_kept_lease(&context, &good, &service, n_bad).await;
    context.source_is("bad", |shown| shown["delivered"] == n_bad).await;
    let check = format!("source_id <> '{}' or n_delivered <= {n_bad}", bad.id);
    context.execute(&format!("alter table delivery add constraint no check ({check})")).await;
    let sent = async |source: &Source, n: &mut u32| {
        source.accept(&service, &events(*n..=*n)).await;
        *n += 1;
        context.messages(usize::try_from(*n).expect("few")).await;
    };
    sent(&bad, &mut n).await;
    until(async || service.log().contains("an answer could not be stored yet")).await;
    for _ in 0..3 {
        sent(&good, &mut n).await;
        context.source_is("good", |shown| shown["delivered"] == n - n_bad - 1).await;
    }
    sent(&good, &mut n).await;
    service.signal("TERM");
    context.source_is("good", |shown| shown["delivered"] == n - n_bad - 1).await;
    assert!(!service.log().contains("what it was about is sent again"), "it is tried all the while");
    service.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_is_not_in_the_log_any_more_is_not_settled() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let n = with_kept_lease(&context, &source, &service, 0).await;
    context.source_is("acme", |shown| shown["delivered"] == n).await;
    // As after a switch-over to a server that lacked the event, and has taken another since.
    let mut stall = context.pool.begin().await.expect("a transaction");
    // Until then, nothing is settled.
    sqlx::query("lock table attempt in exclusive mode").execute(&mut *stall).await.expect("locked");
    source.accept(&service, &events(n..=n)).await;
    let n_sent = usize::try_from(n + 1).expect("few");
    context.messages(n_sent).await;
    let n_requests = context.segment.requests().len();
    let other = "update event_block set since = since + interval '1 second' where source_id = $1 and last_seq = $2";
    let other = sqlx::query(other).bind(id_of(&source)).bind(i64::from(n) + 1).execute(&mut *stall).await;
    assert_eq!(other.expect("changed").rows_affected(), 1);
    stall.commit().await.expect("released");
    // It is read from the log, and sent, before it counts as delivered. (The stand-in drops repeats as Segment does.)
    until(async || service.log().contains("another server lacks these events")).await;
    context.source_is("acme", |shown| shown["delivered"] == n + 1).await;
    assert_eq!(context.segment.requests().len(), n_requests + 1);
}
