//! Whose turn it is: what hangs or fails holds up nobody else, and whatever is due comes up.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nudgespot_source::admin::NewSource;
use nudgespot_source::domain::name::Name;
use nudgespot_source::domain::region::Region;
use nudgespot_source::domain::write_key::WriteKey;
use nudgespot_source::sandbox::{Fault, Faults, Sandbox};
use nudgespot_source::sources::Kind;
use nudgespot_source::store::delivery;
use nudgespot_source::store::lease::{self, LeaseOwner};
use uuid::Uuid;

use crate::harness::{Context, Source, events, until};

/// More than one address gets steps at a time.
const MANY: usize = 200;

/// Creates sources, without starting the binary for each.
async fn many_sources(context: &Context, prefix: &str, region: Region) -> Vec<Source> {
    let admin = context.admin();
    let mut sources = Vec::new();
    for n in 0..MANY {
        let name = format!("{prefix}-{n}");
        let write_key = format!("key-of-{name}");
        let key = WriteKey::parse(&write_key).expect("a key");
        let first = NewSource { write_key: Some(key), region: Some(region), ..NewSource::of(Kind::Nudgespot) };
        let created = admin.create_account(&Name::parse(&name).expect("a name"), first).await.expect("created");
        let secret = created.signing_secret.expect("it is made");
        sources.push(Source { id: created.id.to_string(), name, write_key, path: created.webhook_path, secret });
    }
    sources
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sources_that_hang_delay_nobody_at_another_address_and_others_at_theirs_by_seconds_only() {
    let mut context = Context::new().await;
    let elsewhere = Sandbox::new(Faults::default());
    let (server, _, address) = elsewhere.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    tokio::spawn(server);
    context.set("SEGMENT_EU_URL", &format!("http://{address}/"));
    let eu = context.create("eu", &["--write-key", "key-of-eu", "--region", "eu"]).await;
    let us = context.source("us").await;
    let hanging = many_sources(&context, "hanging", Region::Us).await;
    for source in &hanging {
        context.segment.faults.always(&source.write_key, Some(Fault::Hang));
    }
    let service = context.serve().await;

    let events = events(0..1);
    for some in hanging.chunks(20) {
        join_all(some.iter().map(|source| source.accept(&service, &events))).await;
    }
    context.segment_has(|segment| segment.requests().len() >= MANY / 2).await;
    let began = Instant::now();
    eu.accept(&service, &events).await;
    us.accept(&service, &events).await;
    elsewhere.subscribe().wait_for(|_| elsewhere.messages().len() == 1).await.expect("alive");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    context.messages(1).await;
    assert!(began.elapsed() < Duration::from_secs(8), "well before a hanging request is given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_due_account_comes_up_page_by_page_but_those_that_another_process_is_at() {
    let context = Context::new().await;
    // Creates the tables.
    context.run(&["account", "list"]).await;
    let sources = many_sources(&context, "due", Region::Us).await;
    let ids: Vec<Uuid> = sources.iter().map(|source| Uuid::parse_str(&source.id).expect("an id")).collect();
    sqlx::query("update log_head set head_seq = 1").execute(&context.pool).await.expect("events wait");
    // Half has waited for ever, as far as the database can tell; the others' time has just come.
    sqlx::query("update delivery set next_attempt_at = now() where source_id = any($1)")
        .bind(&ids[..MANY / 2])
        .execute(&context.pool)
        .await
        .expect("set");
    let own = LeaseOwner::register(context.connection()).await.expect("up");
    let other = LeaseOwner::register(context.connection()).await.expect("up");
    for (holder, ids) in [(&own, &ids[..10]), (&other, &ids[10..20])] {
        let asked: Vec<_> = ids.iter().map(|id| (*id, 1)).collect();
        assert_eq!(lease::acquire(&context.pool, &asked, holder.number()).await.expect("up").len(), 10);
    }
    let number = own.number();
    let all_due = async || {
        let (mut seen, mut last, limit) = (Vec::new(), None, 17);
        loop {
            let page = delivery::list_due(&context.pool, number, last, limit).await.expect("up");
            seen.extend(page.iter().map(|due| due.source_id));
            last = page.last().map(|due| due.source_id);
            if page.len() < limit {
                return seen;
            }
        }
    };
    let sorted = |mut ids: Vec<Uuid>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(all_due().await, sorted([&ids[..10], &ids[20..]].concat()), "each once, in order");
    other.release().await;
    // Those of a process that has ended, too, once the server knows.
    let ids = sorted(ids);
    until(async || all_due().await == ids).await;
    own.release().await;
}
