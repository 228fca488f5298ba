//! Several programs on one database, and writers and workers that stall.

use std::time::Duration;

use nudgespot_source::domain::event::Kind;
use nudgespot_source::sandbox::Fault;
use nudgespot_source::store::append::{Append, Events};
use nudgespot_source::store::block::{Block, Record};
use nudgespot_source::store::call_effects::Effects;
use nudgespot_source::store::lease::{self, Lease, LeaseOwner};
use nudgespot_source::store::log::{self, Lane};
use nudgespot_source::store::settlement::{self, Settled, Settlement};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::harness::{Context, Source, events, texts, until};

/// An event as another replica would append it.
fn append_of(source: &Source, id: &str) -> Append {
    let source_id = Uuid::parse_str(&source.id).expect("an id");
    let track =
        format!(r#"{{"userId":"{id}","timestamp":"2016-01-27T09:15:00.000Z","properties":{{}},"context":{{}}}}"#);
    let mut block = Block::default();
    let received_at = OffsetDateTime::now_utc();
    let record =
        Record { kind: Kind::Opened, received_at, event_id: id.as_bytes(), track: track.as_bytes(), keys: None };
    block.push(record);
    let mut events = Events::default();
    events.push(source_id, received_at, &block);
    Append::new(events, Effects::default())
}

fn lane(source: &Source) -> Lane {
    Lane::of(Uuid::parse_str(&source.id).expect("an id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_stalls_before_its_commit_is_not_passed_by() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let mut stalled = context.pool.begin().await.expect("a transaction");
    log::append(&mut *stalled, &[lane(&source)], &append_of(&source, "stalled")).await.expect("appended");

    let post = {
        let (source, service) = (source.clone(), &service);
        async move { source.post(service, &events(0..1)).await }
    };
    let release = async {
        // The service's own append waits for the stalled one: neither is visible, so nothing can be skipped.
        until_blocked(&context, "locktype = 'advisory'").await;
        assert!(context.segment.requests().is_empty());
        stalled.commit().await.expect("committed");
    };
    let (answer, ()) = tokio::join!(post, release);
    assert_eq!(answer.status, 200);
    assert_eq!(texts(&context.messages(2).await, "/userId"), ["stalled", "u0"], "in the order of commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_the_work_and_deliver_each_event_once_and_in_order() {
    let context = Context::new().await;
    let replicas = [context.serve().await, context.serve().await];
    let mut sources = Vec::new();
    for n in 0..4 {
        sources.push(context.source(&format!("acme-{n}")).await);
    }
    for n in 0..50 {
        for source in &sources {
            source.accept(&replicas[usize::try_from(n).expect("small") % 2], &events(n..=n)).await;
        }
    }
    let messages = context.messages(200).await;
    for source in &sources {
        let own: Vec<_> = messages.iter().filter(|m| m["writeKey"] == source.write_key.as_str()).cloned().collect();
        assert_eq!(texts(&own, "/userId"), (0..50).map(|n| format!("u{n}")).collect::<Vec<_>>());
        context.source_is(&source.name, |shown| shown["delivered"] == 50 && shown["waiting"] == 0).await;
    }
    let n_sent: usize = context.segment.requests().iter().map(|request| request.n_events).sum();
    assert_eq!(n_sent, 200, "none was sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_get_the_same_webhooks_store_each_event_once() {
    let context = Context::new().await;
    let replicas = [context.serve().await, context.serve().await];
    let sources = [context.source("a").await, context.source("b").await, context.source("c").await];
    let batch = events(0..100);
    let posts = (0..30).map(|n| sources[n % 3].post(&replicas[n / 3 % 2], &batch));
    let answers = futures_util::future::join_all(posts).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let sum = |field: &str| answers.iter().map(|a| a.body[field].as_u64().expect("a number")).sum::<u64>();
    assert_eq!((sum("accepted"), sum("duplicates")), (300, 2_700));
    for source in &sources {
        context.source_is(&source.name, |shown| shown["delivered"] == 100 && shown["waiting"] == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replicas_accounts_are_taken_over_at_once() {
    let context = Context::new().await;
    let source = context.source("acme").await;
    let first = context.serve().await;
    context.segment.faults.plan(&source.write_key, [Fault::Hang]);
    source.accept(&first, &events(0..1)).await;
    context.segment_has(|segment| segment.requests().len() == 1).await;
    let _second = context.serve().await;
    first.kill().await;
    context.messages(1).await;
    let [killed, taken_over] = &context.segment.requests()[..] else { panic!("two attempts") };
    assert!(taken_over.at - killed.at < lease::LEASE, "not only when the lease runs out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_slept_past_its_lease_changes_nothing() {
    let context = Context::new().await;
    let source = context.source("acme").await;
    let sleeper = context.serve().await;
    context.segment.faults.plan(&source.write_key, [Fault::Hang]);
    source.accept(&sleeper, &events(0..3)).await;
    context.segment_has(|segment| segment.requests().len() == 1).await;
    sleeper.signal("STOP");
    sqlx::query("update delivery set leased_until = now()").execute(&context.pool).await.expect("the minute passes");
    let other = context.serve().await;
    context.messages(3).await;
    source.accept(&other, &events(3..5)).await;
    context.messages(5).await;
    context.source_is("acme", |shown| shown["delivered"] == 5 && shown["waiting"] == 0).await;
    sleeper.signal("CONT");
    until(async || sleeper.log().contains("the lease was taken over")).await;
    let shown = context.show("acme").await;
    assert_eq!((&shown["delivered"], &shown["waiting"], &shown["paused_reason"]), (&json!(5), &json!(0), &json!(null)));
    assert_eq!(context.segment.messages().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fencing_number_keeps_a_cursor_from_moving_back_and_forth() {
    let context = Context::new().await;
    let source = context.source("acme").await;
    let id = Uuid::parse_str(&source.id).expect("an id");
    for event in ["a", "b", "c"] {
        log::append(&context.pool, &[lane(&source)], &append_of(&source, event)).await.expect("appended");
    }
    let register = async || LeaseOwner::register(context.connection()).await.expect("up");
    let (early, late) = (register().await, register().await);
    let acquire = async |holder: &LeaseOwner| {
        let mut acquired = lease::acquire(&context.pool, &[(id, 1)], holder.number()).await.expect("up");
        acquired.remove(&id)
    };
    let (first, _) = acquire(&early).await.expect("due");
    assert!(acquire(&late).await.is_none(), "leased");
    sqlx::query("update delivery set leased_until = now()").execute(&context.pool).await.expect("the minute passes");
    let (second, blocks) = acquire(&late).await.expect("free again");
    assert_eq!(blocks.iter().map(|block| block.last_seq).collect::<Vec<_>>(), [1], "no more than asked for");
    let settle = async |lease: &Lease, cursor| {
        let delivered = vec![Kind::Opened; usize::try_from(cursor).expect("few")];
        let settlement = Settlement { cursor, delivered, ..Settlement::stay(lease) };
        settlement::settle(&context.pool, &[settlement]).await.expect("up").remove(&id)
    };
    assert_eq!(settle(&first, 1).await, None, "fenced off");
    assert_eq!(settle(&second, 3).await, Some(Settled { more: false, is_kept: false }));
    assert_eq!(settle(&first, 1).await, None, "still");
    log::append(&context.pool, &[lane(&source)], &append_of(&source, "d")).await.expect("appended");
    assert!(acquire(&early).await.is_some());
    assert!(acquire(&late).await.is_none(), "leased");
    let set_back = "update delivery set leased_until = leased_until + interval '1 hour'";
    sqlx::query(set_back).execute(&context.pool).await.expect("the clock goes back");
    let (fourth, _) = acquire(&late).await.expect("no lease is longer than a lease");
    assert_eq!(settle(&fourth, 4).await, Some(Settled { more: false, is_kept: false }));
    let shown = context.show("acme").await;
    assert_eq!((&shown["delivered"], &shown["waiting"]), (&json!(7), &json!(0)));
    early.release().await;
    late.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_elsewhere_is_acted_on_within_a_second() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.create("acme", &[]).await;
    assert_eq!(source.post(&service, &events(0..1)).await.status, 200, "a new account works at once");
    context.run(&["source", "set", "acme", "--write-key", "first-key"]).await;
    let set_at = OffsetDateTime::now_utc();
    context.messages(1).await;
    let arrived = context.segment.requests()[0].at;
    assert!(arrived - set_at < Duration::from_secs(1), "{}", arrived - set_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_key_that_is_set_while_the_account_is_put_to_sleep_wakes_it() {
    let context = Context::new().await;
    let source = context.create("acme", &[]).await;
    set_write_key_while_a_step_settles(&context, &source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_key_that_is_set_while_the_last_one_is_refused_is_tried() {
    let context = Context::new().await;
    let source = context.create("acme", &["--write-key", "wrong-key"]).await;
    context.segment.faults.always("wrong-key", Some(Fault::Status(401, None)));
    set_write_key_while_a_step_settles(&context, &source).await;
    assert_eq!(context.show("acme").await["paused_reason"], Value::Null);
}

/// An event comes in, which the source's settings do not let through; these are mended while that is written down, and
/// the event arrives.
async fn set_write_key_while_a_step_settles(context: &Context, source: &Source) {
    let service = context.serve().await;
    let mut stall = context.pool.begin().await.expect("a transaction");
    // Steps lease and send, but cannot settle.
    sqlx::query("lock table attempt in exclusive mode").execute(&mut *stall).await.expect("locked");
    source.accept(&service, &events(0..1)).await;
    until_blocked(context, "relation = 'attempt'::regclass").await;
    context.run(&["source", "set", &source.name, "--write-key", "right-key"]).await;
    stall.commit().await.expect("released");
    assert_eq!(texts(&context.messages(1).await, "/userId"), ["u0"]);
}

/// Waits until somebody waits for such a lock.
pub async fn until_blocked(context: &Context, lock: &'static str) {
    let blocked = format!(
        "select count(*) > 0 from pg_locks
        where not granted and {lock} and database = (select oid from pg_database where datname = current_database())"
    );
    let is_blocked = async || {
        sqlx::query_scalar(sqlx::AssertSqlSafe(blocked.as_str())).fetch_one(&context.pool).await.expect("counted")
    };
    until(is_blocked).await;
}
