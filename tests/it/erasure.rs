//! Erasing a recipient: nothing of them is left, what others have is, and the numbers still add up.

use nudgespot_source::admin::{Admin, ErasureView, Recipient};
use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::sandbox::{Fault, Faults, Odds, Sandbox};
use nudgespot_source::sources::signature::{SigningScheme, sign};
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::harness::{Context, Source, texts, until};

const EMAIL: &str = "peter.gibbons@example.com";
const UID: &str = "019mr8mf4r-peter";

fn event(id: &str, email: &str) -> Value {
    json!({"id": id, "event": "opened", "subscriber": {"uid": format!("u-{id}"), "email": email}})
}

/// How many rows of any table hold this text, in whatever case; blocks of the log are read.
async fn n_traces(pool: &PgPool, text: &str) -> usize {
    let tables: Vec<String> =
        sqlx::query_scalar("select table_name::text from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE' and table_name <> 'event_block'")
            .fetch_all(pool)
            .await
            .expect("tables");
    let mut found = 0;
    for table in tables {
        let sql = format!("select to_jsonb(t)::text from {table} as t");
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.expect("rows");
        found += rows.iter().filter(|row| row.to_lowercase().contains(&text.to_lowercase())).count();
        // Bytes come as hex.
        let hex = hex::encode(text);
        found += rows.iter().filter(|row| row.contains(&hex)).count();
    }
    let blocks: Vec<Vec<u8>> =
        sqlx::query_scalar("select events from event_block").fetch_all(pool).await.expect("blocks");
    for block in blocks {
        let block = nudgespot_source::store::block::Block::decompress(&block).expect("readable");
        found += block.records().filter(|event| String::from_utf8_lossy(event.track).contains(text)).count();
    }
    found
}

async fn ended(admin: &Admin, erasure: &ErasureView) -> ErasureView {
    let look = async || admin.erasure(erasure.account_id, erasure.erasure_id).await.expect("an answer").expect("a job");
    until(async || !look().await.goes_on()).await;
    look().await
}

async fn account_of(context: &Context, source: &Source) -> Uuid {
    let shown = context.show(&source.id).await;
    shown["account_id"].as_str().expect("text").parse().expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_an_address_wherever_it_was_kept() {
    let mut context = Context::new().await;
    context.segment =
        Sandbox::new(Faults::by_chance(Odds { refuse: Some(("poison".to_owned(), 400)), ..Default::default() }));
    let (server, _, address) = context.segment.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    tokio::spawn(server);
    context.set("SEGMENT_US_URL", &format!("http://{address}"));
    let (service, admin) = (context.serve().await, context.admin());
    let source = context.source("acme").await;
    let account = account_of(&context, &source).await;
    let neighbour = context.source("neighbour").await;

    // Delivered; given up; ignored; rejected; refused; waiting: of them and of somebody else.
    let mut poison = event("poison", EMAIL);
    poison["properties"] = json!({"x": "poison"});
    source.accept(&service, &json!([event("d1", EMAIL), event("d2", "other@example.com"), poison])).await;
    context.source_is("acme", |shown| shown["delivered"] == 2 && shown["dead_letters"] == 1).await;
    let mut ignored = event("i1", "Peter.Gibbons@EXAMPLE.com");
    ignored["event"] = json!("enrolled");
    let mut rejected = event("r1", EMAIL);
    rejected["timestamp"] = json!(format!("at {EMAIL}"));
    let answer = source.post(&service, &json!([ignored, rejected])).await;
    assert_eq!((&answer.body["ignored"], answer.body["rejected"].as_array().map(Vec::len)), (&json!(1), Some(1)));
    let body = event("f1", EMAIL).to_string();
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let forged = sign(&SigningSecret::from_random([9; 32]), SigningScheme::Standard, "msg", now, body.as_bytes());
    assert_eq!(source.post_signed(&service, &body, &forged).await.status, 401);
    let source_id: Uuid = source.id.parse().expect("an id");
    until(async || !admin.refused_webhooks(source_id, None, 1).await.expect("a page").webhooks.is_empty()).await;
    context.run(&["source", "pause", "acme"]).await;
    let linked = json!({"id": "w2", "event": "clicked", "uid": "someone",
        "link_url": format!("https://x.test/?to=https%3A%2F%2Fy.test%2F%3Fe%3D{}", EMAIL.replace('@', "%2540"))});
    source.accept(&service, &json!([event("w1", EMAIL), linked, event("w3", "other@example.com")])).await;
    neighbour.accept(&service, &event("n1", EMAIL)).await;
    assert!(n_traces(&context.pool, EMAIL).await >= 6);

    let asked = admin.erase(account, &Recipient::email(EMAIL).expect("an address"), "ann").await.expect("a job");
    let receipt = ended(&admin, &asked).await;
    let removed = &receipt.removed;
    assert_eq!((removed.events, removed.waiting, removed.dead_letters), (4, 2, 1), "{receipt:?}");
    assert_eq!((removed.ignored_or_rejected, removed.refused_webhooks), (2, 1), "{receipt:?}");
    assert_eq!((receipt.sources_done, receipt.unreadable_blocks), (1, 0));
    assert!(receipt.recipient.starts_with("p…@example.com"), "{}", receipt.recipient);

    // The neighbour's account is another customer.
    assert_eq!(n_traces(&context.pool, EMAIL).await, 1);
    let shown = context.show("acme").await;
    assert_eq!((&shown["ignored"], &shown["rejected"], &shown["dead_letters"]), (&json!(1), &json!(1), &json!(0)));

    // Sent again, they stay out, also what was ignored and rejected.
    let again = source.post(&service, &json!([event("d1", EMAIL), event("w1", EMAIL), ignored, rejected])).await;
    assert_eq!((&again.body["accepted"], &again.body["duplicates"]), (&json!(0), &json!(2)));
    let traces = n_traces(&context.pool, EMAIL).await;
    assert_eq!(traces, 1, "a redelivery brings nothing back");

    // What waited and was erased is passed, and nothing is missing.
    context.run(&["source", "resume", "acme"]).await;
    let shown = context.source_is("acme", |shown| shown["waiting"] == 0).await;
    assert_eq!((&shown["delivered"], &shown["missing"]), (&json!(3), &Value::Null));
    let overview = admin.overview(source_id, OffsetDateTime::now_utc()).await.expect("an overview");
    let standing = &overview.standing;
    assert_eq!((standing.accepted, standing.erased), (6, 3));
    assert_eq!(standing.accepted, standing.delivered + standing.waiting + standing.gave_up + standing.erased);
    let sent = texts(&context.segment.messages(), "/userId");
    assert!(!sent.contains(&"u-w1".to_owned()) && sent.contains(&"u-w3".to_owned()), "{sent:?}");
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_uid_only_their_events_go() {
    let context = Context::new().await;
    let (service, admin) = (context.serve().await, context.admin());
    let source = context.source("acme").await;
    let of = |id: &str, uid: &str| json!({"id": id, "event": "opened", "uid": uid, "properties": {"link_id": UID}});
    source.accept(&service, &json!([of("a", UID), of("b", "someone else"), of("c", UID)])).await;
    context.messages(3).await;
    context.source_is("acme", |shown| shown["delivered"] == 3).await;
    let account = account_of(&context, &source).await;
    let asked = admin.erase(account, &Recipient::uid(UID).expect("an id"), "ann").await.expect("a job");
    let receipt = ended(&admin, &asked).await;
    assert_eq!((receipt.removed.events, receipt.removed.waiting), (2, 0));
    assert_eq!(n_traces(&context.pool, UID).await, 1, "as a property of somebody else's event");
    assert_eq!(context.show("acme").await["delivered"], 3);
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_waits_for_the_step_in_flight_and_outlives_the_program() {
    let context = Context::waiting().await;
    let (service, admin) = (context.serve().await, context.admin());
    let source = context.source("acme").await;
    let account = account_of(&context, &source).await;
    // Segment takes its time, and then refuses the event, which dies with all that it says.
    context.segment.faults.plan(&source.write_key, [Fault::Hang, Fault::Status(400, None)]);
    source.accept(&service, &event("e1", EMAIL)).await;
    context.segment_has(|segment| !segment.requests().is_empty()).await;
    let asked = admin.erase(account, &Recipient::email(EMAIL).expect("an address"), "ann").await.expect("a job");
    let log_is_done = async || {
        let phase: String =
            sqlx::query_scalar("select phase from erase_job").fetch_one(&context.pool).await.expect("a row");
        phase == "delivery"
    };
    until(log_is_done).await;
    assert!(admin.erasure(account, asked.erasure_id).await.expect("an answer").expect("a job").goes_on());
    service.kill().await;
    let service = context.serve().await;
    let receipt = ended(&admin, &asked).await;
    assert_eq!((receipt.removed.events, receipt.removed.waiting), (1, 1));
    assert_eq!(n_traces(&context.pool, EMAIL).await, 0);
    context.source_is("acme", |shown| shown["waiting"] == 0 && shown["dead_letters"] == 0).await;
    assert!(service.terminate().await.success());
}
