//! Nothing acknowledged is ever lost: not when the program is killed, not when the database is.

use std::collections::BTreeSet;
use std::thread::available_parallelism;

use nudgespot_source::sources::signature::SigningScheme;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Context, Load, OwnCluster, assert_delivered};

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_and_started_again_everything_acknowledged_is_delivered() {
    let context = Context::new().await;
    let source = context.source("acme").await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let service = context.serve().await;
        let load = Load::start(&service, &source, round * 1_000_000);
        load.reach(300).await;
        service.kill().await;
        acknowledged.extend(load.end().await.acknowledged);
    }
    assert!(acknowledged.len() >= 900);
    let _service = context.serve().await;
    assert_delivered(&context, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_under_load_it_drains_and_loses_nothing() {
    let context = Context::new().await;
    let source = context.source("acme").await;
    let service = context.serve().await;
    let load = Load::start(&service, &source, 0);
    load.reach(300).await;
    let status = service.terminate().await;
    assert!(status.success(), "{status}");
    let acknowledged = load.end().await.acknowledged;
    let n_stored: i64 =
        sqlx::query_scalar("select sum(n_events) from event_block").fetch_one(&context.pool).await.expect("counted");
    assert_eq!(usize::try_from(n_stored).ok(), Some(acknowledged.len()), "what was stored was answered as well");
    let _service = context.serve().await;
    assert_delivered(&context, &acknowledged).await;
    let n_sent: usize = context.segment.requests().iter().map(|request| request.n_events).sum();
    assert_eq!(n_sent, acknowledged.len(), "and what was sent was settled: nothing is sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_answers_what_is_on_its_way_and_waits_for_no_idle_connection() {
    let context = Context::new().await;
    let source = context.source("acme").await;
    let service = context.serve().await;
    let connect = async || TcpStream::connect(service.url.trim_start_matches("http://")).await.expect("up");
    let request = |id: &str| {
        let body = json!({"id": id, "event": "opened", "uid": "u"}).to_string();
        let headers = source.sign(SigningScheme::Standard, &body);
        let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<Vec<_>>().concat();
        format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{headers}\r\n{body}", source.path, body.len())
    };
    // One for each thread of the server, which are told to stop one after the other.
    let (mut idle, mut answer) = (Vec::new(), vec![0; 4_096]);
    for n in 0..available_parallelism().expect("known").get() {
        let mut connection = connect().await;
        connection.write_all(request(&format!("idle-{n}")).as_bytes()).await.expect("sent");
        let n = connection.read(&mut answer).await.expect("answered");
        assert!(answer[..n].starts_with(b"HTTP/1.1 200"), "{answer:?}");
        idle.push(connection);
    }
    let mut slow = connect().await;
    let whole = request("slow");
    let (begin, rest) = whole.split_at(whole.len() - 9);
    slow.write_all(begin.as_bytes()).await.expect("sent");
    service.signal("TERM");
    for mut connection in idle {
        assert_eq!(connection.read(&mut answer).await.expect("closed"), 0);
    }
    slow.write_all(rest.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.expect("answered, and closed");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    assert!(service.into_end().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_database_stopped_in_the_middle_of_commits_nothing_acknowledged_is_lost() {
    let mut cluster = OwnCluster::start().await;
    let context = Context::on(&cluster.options).await;
    let source = context.source("acme").await;
    let service = context.serve().await;
    let load = Load::start(&service, &source, 0);
    for round in 1..=3 {
        load.reach(300 * round).await;
        cluster.signal("QUIT");
        cluster.restart().await;
    }
    load.reach(1_200).await;
    let acknowledged = load.end().await.acknowledged;
    assert_delivered(&context, &acknowledged).await;
    context.source_is("acme", |shown| shown["waiting"] == 0).await;
    assert!(service.terminate().await.success());
    drop(context);
}
