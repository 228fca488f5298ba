//! One source's trouble is no other's, at intake or at delivery; and what is gone is not acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nudgespot_source::sandbox::{Faults, Sandbox};
use nudgespot_source::sources::signature::SigningScheme;
use sqlx::{Connection, PgConnection, Postgres, Transaction};
use tokio::time::timeout;
use uuid::Uuid;

use crate::harness::{
    Context, Proxy, Source, assert_refused_in_time, events, execute, send_signal, texts, timed_post, until,
    until_stored,
};

/// Sources that have nothing to do with a trouble go on within this time.
const UNCONCERNED: Duration = Duration::from_secs(2);
/// A source that was held up goes on within this time after its trouble is over.
const RELEASED: Duration = Duration::from_secs(5);

/// A session of somebody who began something and forgot it.
async fn forgotten<'a>(session: &'a mut PgConnection, statement: &'static str, id: Uuid) -> Transaction<'a, Postgres> {
    let mut transaction = session.begin().await.expect("begun");
    sqlx::query(statement).bind(id).execute(&mut *transaction).await.expect("locked");
    transaction
}

/// Sources enough that one of them shares whatever there is to be shared with any other.
async fn sources(context: &Context) -> Vec<Source> {
    let mut sources = Vec::new();
    for n in 0..10 {
        sources.push(context.source(&format!("acme-{n}")).await);
    }
    sources
}

fn id(source: &Source) -> Uuid {
    Uuid::parse_str(&source.id).expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_row_is_locked_by_a_forgotten_session_holds_up_no_other() {
    // An id that the session has stored, but not committed, holds up who sends it again.
    for lock in [
        "select from log_head where source_id = $1 for update",
        "insert into known_event (source_id, seq, event_id) values ($1, 100, 'e100')",
    ] {
        let context = Context::waiting().await;
        let service = context.serve().await;
        let sources = sources(&context).await;
        let (locked, others) = sources.split_first().expect("ten");
        let mut session = PgConnection::connect_with(&context.options).await.expect("up");
        let transaction = forgotten(&mut session, lock, id(locked)).await;
        // More than there are connections.
        let held_up = (0..32).map(async |_| timed_post(locked, &service, &events(100..101)).await);
        let unconcerned = async {
            for round in 0..20 {
                let posts =
                    others.iter().map(async |source| timed_post(source, &service, &events(round..=round)).await);
                for (answer, took) in futures_util::future::join_all(posts).await {
                    assert!(answer.status == 200 && took < UNCONCERNED, "{lock}: {} after {took:?}", answer.status);
                }
            }
            context.messages(20 * others.len()).await;
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(held_up), unconcerned);
        for (answer, took) in answers {
            assert_refused_in_time(&answer, took);
        }
        assert_eq!(service.get("/readyz").await, 200, "the database answers");
        transaction.rollback().await.expect("released");
        let took = until_stored(locked, &service, 100).await;
        assert!(took < RELEASED, "{took:?}");
        let shown = context.source_is(&locked.name, |shown| shown["delivered"] == 1).await;
        assert_eq!(shown["waiting"], 0);
        for other in others {
            context.source_is(&other.name, |shown| shown["delivered"] == 20).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_session_holds_up_no_other_sources_delivery() {
    for lock in ["select from delivery where source_id = $1 for update", "select from source where id = $1 for update"]
    {
        let context = Context::waiting().await;
        let service = context.serve().await;
        let sources = sources(&context).await;
        let (locked, others) = sources.split_first().expect("ten");
        let mut session = PgConnection::connect_with(&context.options).await.expect("up");
        let transaction = forgotten(&mut session, lock, id(locked)).await;
        for round in 0..3 {
            for source in &sources {
                let (answer, took) = timed_post(source, &service, &events(round..=round)).await;
                assert!(answer.status == 200 && took < UNCONCERNED, "{lock}: {} after {took:?}", answer.status);
            }
            let arrived = |segment: &Sandbox| {
                let keys = texts(&segment.messages(), "/writeKey");
                let n_expected = usize::try_from(round).expect("small") + 1;
                others.iter().all(|other| keys.iter().filter(|key| **key == other.write_key).count() == n_expected)
            };
            let delivered = timeout(RELEASED, context.segment_has(arrived)).await;
            assert!(delivered.is_ok(), "{lock}: others' events were not delivered in time");
        }
        transaction.rollback().await.expect("released");
        context.source_is(&locked.name, |shown| shown["delivered"] == 3 && shown["waiting"] == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_silent_delays_no_other() {
    let mut context = Context::waiting().await;
    let elsewhere = Sandbox::new(Faults::default());
    let (server, _, address) = elsewhere.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    tokio::spawn(server);
    let proxy = Proxy::before(address).await;
    context.set("SEGMENT_EU_URL", &format!("http://{}", proxy.address));
    let service = context.serve().await;
    let mut silent = Vec::new();
    for n in 0..5 {
        let name = format!("eu-{n}");
        silent.push(context.create(&name, &["--write-key", "some-write-key", "--region", "eu"]).await);
    }
    let unconcerned = context.source("us").await;
    // Connections are open when the silence begins.
    silent[0].accept(&service, &events(0..1)).await;
    elsewhere.subscribe().wait_for(|n| *n == 1).await.expect("alive");
    proxy.freeze();
    for source in &silent {
        source.accept(&service, &events(1..101)).await;
    }
    for n in 0..20 {
        let began = Instant::now();
        unconcerned.accept(&service, &events(n..=n)).await;
        context.messages(usize::try_from(n).expect("small") + 1).await;
        assert!(began.elapsed() < UNCONCERNED, "{:?}", began.elapsed());
    }
    proxy.pass();
    let all = elsewhere.subscribe().wait_for(|_| elsewhere.messages().len() == 501).await.map(|_| ());
    all.expect("alive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_suspended_holds_up_nobody() {
    const N_LETTERS: i32 = 20_000;
    let context = Context::waiting().await;
    let service = context.serve().await;
    let sources = sources(&context).await;
    let (replayed, others) = sources.split_first().expect("ten");
    let letters = "insert into dead_letter (source_id, seq, kind, event_id, received_at, track, reason)
        select $1, n, $2, convert_to('d' || n, 'UTF8'), now(),
            format('{\"userId\":\"d%s\",\"timestamp\":\"2016-01-27T09:15:00.000Z\",\"properties\":{},\"context\":{}}', n), 'old'
        from generate_series(1, $3) as n";
    let kind = i16::from(nudgespot_source::domain::event::Kind::Opened.number());
    let written = sqlx::query(letters).bind(id(replayed)).bind(kind).bind(N_LETTERS).execute(&context.pool).await;
    assert_eq!(written.expect("written").rows_affected(), 20_000);

    let mut replay = tokio::process::Command::new(env!("CARGO_BIN_EXE_nudgespot-source"))
        .args(["dead-letters", "replay", "--source", &replayed.name])
        .env_clear()
        .envs(context.env.iter().map(|(name, value)| (name, value)))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary");
    let pid = replay.id().expect("it runs");
    let has_begun = async || {
        let n = sqlx::query_scalar::<_, i64>("select count(*) from dead_letter").fetch_one(&context.pool).await;
        n.expect("counted") < N_LETTERS.into()
    };
    until(has_begun).await;
    let mut round = 0;
    while replay.try_wait().expect("a state").is_none() {
        // Wherever it is just now.
        send_signal(&[pid], "STOP");
        let posts = others.iter().map(async |source| timed_post(source, &service, &events(round..=round)).await);
        let answers = futures_util::future::join_all(posts).await;
        send_signal(&[pid], "CONT");
        for (answer, took) in answers {
            assert!(answer.status == 200 && took < UNCONCERNED, "{} after {took:?}", answer.status);
        }
        round += 1;
    }
    assert!(replay.wait().await.expect("an end").success());
    let n_replayed = usize::try_from(N_LETTERS).expect("small");
    context.source_is(&replayed.name, |shown| shown["delivered"] == n_replayed && shown["dead_letters"] == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_a_source_that_is_deleted_while_it_is_stored_is_not_acknowledged() {
    let context = Context::waiting().await;
    let service = context.serve().await;
    let (doomed, other) = (context.source("doomed").await, context.source("other").await);
    let mut session = PgConnection::connect_with(&context.options).await.expect("up");
    let lock = "select from log_head where source_id = $1 for update";
    let mut transaction = forgotten(&mut session, lock, id(&doomed)).await;
    let is_answered = AtomicBool::new(false);
    let webhook = async {
        let status = doomed.post(&service, &events(0..1)).await.status;
        is_answered.store(true, Ordering::Relaxed);
        status
    };
    let deletion = async {
        // The webhook waits for the row, or was refused because of it.
        let is_decided = async || {
            let waits = "select exists (
                select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";
            let waits: bool = sqlx::query_scalar(waits).fetch_one(&context.pool).await.expect("read");
            waits || is_answered.load(Ordering::Relaxed)
        };
        until(is_decided).await;
        let deleted = sqlx::query("delete from source where id = $1").bind(id(&doomed)).execute(&mut *transaction);
        deleted.await.expect("deleted");
        transaction.commit().await.expect("committed");
    };
    let (status, ()) = tokio::join!(webhook, deletion);
    assert!(status == 401 || status == 503, "{status}");
    until(async || doomed.post(&service, &events(1..2)).await.status == 401).await;
    other.accept(&service, &events(0..1)).await;
    context.messages(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_sources_webhooks_are_never_acknowledged() {
    let context = Context::new().await;
    let service = context.serve().await;
    for n in 0..5 {
        let doomed = context.create(&format!("acme-{n}"), &[]).await;
        doomed.accept(&service, &events(0..1)).await;
        execute(&context.options, &[&format!("delete from source where id = '{}'", doomed.id)]).await;
        let status = doomed.post(&service, &events(1..2)).await.status;
        assert!(status == 401 || status == 503, "{status}");
    }
}

/// Rows that the program does not write, but that somebody with `psql` may: times that are none.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_no_task_can_read_ends_the_program_or_concerns_its_source_alone() {
    let of_account = "update source set previous_secret = secret, previous_secret_until = 'infinity' where id = $1";
    let of_block = "update event_block set since = 'infinity' where source_id = $1";
    for unreadable in [of_account, of_block] {
        let context = Context::waiting().await;
        let mut service = context.serve().await;
        let (strange, other) = (context.source("strange").await, context.source("other").await);
        context.run(&["source", "pause", "strange"]).await;
        context.run(&["source", "set", "other", "--allow-untimestamped", "true"]).await;
        let body = events(0..1).to_string();
        let by_body = other.sign(SigningScheme::Body, &body);
        assert_eq!(other.post_signed(&service, &body, &by_body).await.status, 200);
        strange.accept(&service, &events(0..1)).await;
        let resume = "update delivery set paused_by = null, paused_reason = null where source_id = $1";
        for statement in [unreadable, resume] {
            sqlx::query(statement).bind(id(&strange)).execute(&context.pool).await.expect("written");
        }
        context.run(&["source", "set", "other", "--allow-untimestamped", "false"]).await;
        // Either the others' changes are acted on, and their events delivered, or the program ends, and says why.
        let ended = timeout(Duration::from_secs(30), async {
            loop {
                if let Some(status) = service.ended() {
                    return Some(status);
                }
                let answer = other.try_post(&service, &body, &by_body).await;
                if answer.is_ok_and(|answer| answer.status == 401) {
                    return None;
                }
            }
        });
        if let Some(status) = ended.await.unwrap_or_else(|_| panic!("half alive: {unreadable}")) {
            assert!(!status.success() && service.log().contains("error: "), "{}", service.log());
            continue;
        }
        for n in 1..50 {
            other.accept(&service, &events(n..=n)).await;
            context.messages(usize::try_from(n).expect("small") + 1).await;
        }
        assert!(service.terminate().await.success());
    }
}
