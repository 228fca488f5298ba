//! A log that is not as the program left it: blocks that cannot be read, and events that are gone.

use std::time::Duration;

use crc::{CRC_32_ISCSI, Crc};
use nudgespot_source::sandbox::Fault;
use nudgespot_source::store::{delivery, retention};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::harness::{Context, Service, Source, events, sender, texts, until};
use crate::replicas::until_blocked;

/// An source with three blocks of three events each, which wait for a write key.
async fn three_blocks(context: &Context, service: &Service, name: &str) -> Source {
    let source = context.create(name, &[]).await;
    for n in [0, 3, 6] {
        source.accept(service, &events(n..n + 3)).await;
    }
    source
}

async fn execute(context: &Context, statement: &'static str) -> u64 {
    sqlx::query(statement).execute(&context.pool).await.expect("executed").rows_affected()
}

async fn set_key(context: &Context, source: &Source) {
    context.run(&["source", "set", &source.name, "--write-key", &source.write_key]).await;
}

async fn metrics(service: &Service) -> String {
    sender::http().get(&service.metrics_url).send().await.expect("up").text().await.expect("text")
}

const DAMAGE: &str = "update event_block set events = set_byte(events, 9, get_byte(events, 9) # 4) where last_seq = 6";

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_pauses_its_account_until_it_is_skipped() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = three_blocks(&context, &service, "acme").await;
    assert_eq!(execute(&context, DAMAGE).await, 1);
    set_key(&context, &source).await;
    let shown = context.source_is("acme", |shown| !shown["paused_reason"].is_null()).await;
    let reason = shown["paused_reason"].as_str().expect("text");
    for part in ["from event 4 to 6", "damaged", &format!("source skip-unreadable {}", source.id)] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert_eq!((&shown["delivered"], &shown["waiting"]), (&json!(3), &json!(6)));

    // Others go on, and a new key is no remedy.
    let other = context.source("other").await;
    other.accept(&service, &events(0..3)).await;
    context.messages(6).await;
    set_key(&context, &source).await;
    assert!(!context.show("acme").await["paused_reason"].is_null());
    context.run(&["source", "resume", "acme"]).await;
    context.source_is("acme", |shown| !shown["paused_reason"].is_null()).await;
    let rests = "select next_attempt_at > now() + interval '50 minutes' from delivery where source_id::text = $1";
    until(async || sqlx::query_scalar(rests).bind(&source.id).fetch_one(&context.pool).await.expect("read")).await;

    assert_eq!(context.run(&["source", "skip-unreadable", "acme"]).await, json!({"skipped": 3}));
    let shown = context.source_is("acme", |shown| shown["waiting"] == 0).await;
    assert_eq!((&shown["delivered"], &shown["missing"]), (&json!(6), &json!(3)));
    assert!(shown["paused_reason"].is_null());
    let own: Vec<_> =
        context.messages(9).await.into_iter().filter(|m| m["writeKey"] == source.write_key.as_str()).collect();
    assert_eq!(texts(&own, "/userId"), ["u0", "u1", "u2", "u6", "u7", "u8"]);
    assert!(context.show("other").await.get("missing").is_none(), "nothing is missing there");

    let kept: Vec<(i64, i32, String)> = sqlx::query_as("select last_seq, n_events, reason from unreadable_block")
        .fetch_all(&context.pool)
        .await
        .expect("read");
    assert_eq!(kept, [(6, 3, "its bytes are damaged".to_owned())]);
    assert!(metrics(&service).await.contains(r#"unreadable_blocks_total{cause="damaged"}"#));
    let (code, _, stderr) = context.try_run(&["source", "skip-unreadable", "acme"], "").await;
    assert!(code == 1 && stderr.contains("can be read"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_is_not_skipped() {
    let context = Context::new().await;
    let service = context.serve().await;
    three_blocks(&context, &service, "acme").await;
    assert_eq!(execute(&context, DAMAGE).await, 1);
    // The damage is not at the cursor.
    let (code, _, stderr) = context.try_run(&["source", "skip-unreadable", "acme"], "").await;
    assert!(code == 1 && stderr.contains("can be read; nothing was skipped"), "{stderr}");
    assert_eq!(context.show("acme").await["waiting"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_a_newer_version_is_left_to_that() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = three_blocks(&context, &service, "acme").await;
    let (version, rest) = (2, b"who knows");
    let mut block = rest.to_vec();
    let crc = Crc::<u32>::new(&CRC_32_ISCSI);
    block.extend_from_slice(&crc.checksum(&[&rest[..], &[version]].concat()).to_le_bytes());
    block.push(version);
    let swap = "update event_block new set events = $1 from event_block old
        where new.last_seq = 3 and old.source_id = new.source_id and old.last_seq = 3 returning old.events";
    let ours: Vec<u8> = sqlx::query_scalar(swap).bind(&block).fetch_one(&context.pool).await.expect("swapped");
    set_key(&context, &source).await;
    until(async || metrics(&service).await.contains(r#"unreadable_blocks_total{cause="newer_version"}"#)).await;
    is_free(&context).await;
    assert!(service.log().contains("a newer version of the program wrote it"));
    let (code, _, stderr) = context.try_run(&["source", "skip-unreadable", "acme"], "").await;
    assert!(code == 1 && stderr.contains("newer version"), "{stderr}");
    let _: Vec<u8> = sqlx::query_scalar(swap).bind(&ours).fetch_one(&context.pool).await.expect("swapped");
    context.messages(9).await;
}

/// Nobody has leased the only source, and nothing keeps whoever can from delivering its events now.
async fn is_free(context: &Context) {
    let state = "select paused_by is null and next_attempt_at = '-infinity' and leased_until <= now() from delivery";
    until(async || sqlx::query_scalar(state).fetch_one(&context.pool).await.expect("read")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_damaged_block_is_set_aside_and_the_others_are_forgotten() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = three_blocks(&context, &service, "acme").await;
    set_key(&context, &source).await;
    context.source_is("acme", |shown| shown["delivered"] == 9).await;
    assert_eq!(execute(&context, DAMAGE).await, 1);
    let later = OffsetDateTime::now_utc() + time::Duration::days(31);
    let month = Duration::from_hours(30 * 24);
    let forgotten = retention::forget(&mut context.connection(), later, month).await.expect("forgotten");
    assert_eq!(forgotten.n_damaged, 1);
    let counts: Vec<i64> =
        sqlx::query_scalar("select count(*) from event_block union all select count(*) from unreadable_block")
            .fetch_all(&context.pool)
            .await
            .expect("counted");
    assert_eq!(counts, [0, 1]);
    assert_eq!(context.show("acme").await.get("missing"), None, "they had been delivered");
    context.run(&["account", "delete", "acme", "--yes"]).await;
    let left: i64 =
        sqlx::query_scalar("select count(*) from unreadable_block").fetch_one(&context.pool).await.expect("counted");
    assert_eq!(left, 0, "with the account goes what is kept of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_gone_are_counted_logged_and_shown() {
    let context = Context::new().await;
    let service = context.serve().await;
    let middle = three_blocks(&context, &service, "middle").await;
    assert_eq!(execute(&context, "delete from event_block where last_seq = 6").await, 1);
    let end = three_blocks(&context, &service, "end").await;
    execute(
        &context,
        "delete from event_block where last_seq = 9 and source_id = (select id from source where account_id = (select id from account where name = 'end'))",
    )
    .await;
    let all = three_blocks(&context, &service, "all").await;
    execute(&context, "delete from event_block where source_id = (select id from source where account_id = (select id from account where name = 'all'))").await;
    for (source, delivered, missing) in [(middle, 6, 3), (end, 6, 3), (all, 0, 9)] {
        set_key(&context, &source).await;
        let shown = context.source_is(&source.name, |shown| shown["waiting"] == 0).await;
        assert_eq!((&shown["delivered"], &shown["missing"]), (&json!(delivered), &json!(missing)), "{shown}");
        // What comes then flows as ever.
        source.accept(&service, &events(9..10)).await;
        context.source_is(&source.name, |shown| shown["delivered"] == delivered + 1).await;
    }
    assert!(service.log().contains("events are missing from the log"));
    assert!(metrics(&service).await.contains("nudgespot_source_missing_events_total 15"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_was_set_back_repeats_and_goes_on() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    context.segment.faults.always(&source.write_key, Some(Fault::Status(400, None)));
    source.accept(&service, &events(0..1)).await;
    context.source_is("acme", |shown| shown["dead_letters"] == 1).await;
    // As after a restore of the table `delivery` alone. The event is refused as before, and is a dead letter already.
    execute(&context, "update delivery set cursor_seq = 0").await;
    context.segment_has(|segment| segment.requests().len() == 2).await;
    context.source_is("acme", |shown| shown["waiting"] == 0).await;
    context.segment.faults.always(&source.write_key, None);
    source.accept(&service, &events(1..2)).await;
    let shown = context.source_is("acme", |shown| shown["delivered"] == 1).await;
    assert_eq!((&shown["dead_letters"], &shown["waiting"]), (&json!(1), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_was_set_back_is_raised_before_events_are_taken() {
    let context = Context::new().await;
    let service = context.serve().await;
    let [flows, waits] = [context.source("flows").await, context.create("waits", &[]).await];
    for source in [&flows, &waits] {
        source.accept(&service, &events(0..3)).await;
        source.accept(&service, &events(3..6)).await;
    }
    context.source_is("flows", |shown| shown["delivered"] == 6).await;
    assert!(service.terminate().await.success());
    // As after a restore of the table `log_head` alone.
    execute(&context, "update log_head set head_seq = 3").await;
    let service = context.serve().await;
    assert!(service.log().contains("lay behind its log"));
    for source in [&flows, &waits] {
        source.accept(&service, &events(6..7)).await;
    }
    set_key(&context, &waits).await;
    for source in [&flows, &waits] {
        let shown = context.source_is(&source.name, |shown| shown["waiting"] == 0).await;
        assert_eq!((&shown["delivered"], shown.get("missing")), (&json!(7), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_row_cannot_be_written_does_not_hold_up_those_that_settle_with_it() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (first, bad, good) = (context.source("first").await, context.source("bad").await, context.source("good").await);
    let check = format!("alter table delivery add constraint no check (source_id <> '{}' or n_delivered = 0)", bad.id);
    sqlx::query(sqlx::AssertSqlSafe(check)).execute(&context.pool).await.expect("altered");
    // The first one's settlement is held up; the others' wait, and go together.
    let mut stall = context.pool.begin().await.expect("a transaction");
    sqlx::query("lock table attempt in exclusive mode").execute(&mut *stall).await.expect("locked");
    first.accept(&service, &events(0..1)).await;
    until_blocked(&context, "relation = 'attempt'::regclass").await;
    bad.accept(&service, &events(0..1)).await;
    good.accept(&service, &events(0..1)).await;
    context.messages(3).await;
    stall.commit().await.expect("released");
    context.source_is("good", |shown| shown["delivered"] == 1).await;
    let shown = context.show("bad").await;
    assert_eq!((&shown["delivered"], &shown["waiting"]), (&json!(0), &json!(1)));
    let requests = context.segment.requests();
    let of_good = requests.iter().filter(|request| request.write_key.as_ref() == Some(&good.write_key));
    assert_eq!(of_good.count(), 1, "settled at the first time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_key_that_one_replica_cannot_open_is_delivered_by_another() {
    let mut context = Context::new().await;
    let old = context.serve().await;
    let source = context.source("acme").await;
    let new = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    source.accept(&old, &events(0..1)).await;
    context.messages(1).await;
    context.run(&["source", "pause", "acme"]).await;
    source.accept(&old, &events(1..2)).await;
    context.set("MASTER_KEY", &format!("{new},{}", crate::harness::MASTER_KEY));
    context.run(&["account", "rekey"]).await;
    context.run(&["source", "resume", "acme"]).await;
    until(async || metrics(&old).await.contains(r#"unopened_secrets_total{what="write_key"}"#)).await;
    is_free(&context).await;
    assert!(old.log().contains("a write key cannot be opened"));
    let began = OffsetDateTime::now_utc();
    let _new = context.serve().await;
    context.messages(2).await;
    assert!(OffsetDateTime::now_utc() - began < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_of_a_newer_version_is_left_to_that() {
    let context = Context::new().await;
    let service = context.serve().await;
    for (what, check, unknown, known) in [
        ("region", "source_region_check", "region = 'ap'", "region = 'us'"),
        (
            "unsubscribe_event",
            "source_unsubscribe_event_check",
            "unsubscribe_event = 'Gone'",
            "unsubscribe_event = 'Unsubscribed'",
        ),
    ] {
        execute(&context, "delete from source").await;
        let source = context.source(what).await;
        let statements =
            [format!("alter table source drop constraint {check}"), format!("update source set {unknown}")];
        for statement in statements {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&context.pool).await.expect("changed");
        }
        source.accept(&service, &events(0..1)).await;
        until(async || metrics(&service).await.contains(&format!(r#"unknown_settings_total{{what="{what}"}}"#))).await;
        is_free(&context).await;
        let mend = format!("update source set {known}");
        sqlx::query(sqlx::AssertSqlSafe(mend)).execute(&context.pool).await.expect("changed");
        context.source_is(what, |shown| shown["delivered"] == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_prolongs_no_wait() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let fault = Fault::Status(503, Some("3600".to_owned()));
    context.segment.faults.plan(&source.write_key, [fault]);
    source.accept(&service, &events(0..1)).await;
    context.source_is("acme", |shown| shown["last_error"].is_string()).await;
    let other = context.source("other").await;
    other.accept(&service, &events(0..1)).await;
    context.messages(1).await;
    assert_eq!(context.segment.requests().len(), 2, "it waits");
    // An hour back: what was written down lies as much later.
    execute(
        &context,
        "update delivery set waiting_since = waiting_since + interval '1 hour',
            next_attempt_at = next_attempt_at + interval '1 hour', leased_until = leased_until + interval '1 hour'",
    )
    .await;
    context.messages(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_gone_is_neither_paused_nor_resumed() {
    let context = Context::new().await;
    let source = context.source("acme").await;
    let id = Uuid::parse_str(&source.id).expect("an id");
    assert!(delivery::pause(&context.pool, id).await.expect("up"));
    assert!(delivery::resume(&context.pool, id).await.expect("up"));
    context.run(&["account", "delete", "acme", "--yes"]).await;
    assert!(!delivery::pause(&context.pool, id).await.expect("up"));
    assert!(!delivery::resume(&context.pool, id).await.expect("up"));
}
