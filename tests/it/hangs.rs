//! A database that answers nothing is a database that is away: nothing waits for ever, and nothing is lost by it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{
    Context, Load, Proxy, REFUSED, Service, assert_delivered, assert_refused_in_time, events, new_dir, run_binary,
    send_signal, server_pid, timed_post, until, until_stored, url, with_children,
};

/// What has nothing to do with the database is answered at once.
const AT_ONCE: Duration = Duration::from_secs(2);
/// A program that is told to end has ended after this time, whatever hangs.
const ENDED: Duration = Duration::from_secs(35);
/// All recovers within this time once the database answers again, on the same connections.
const THAWED: Duration = Duration::from_secs(5);
/// All recovers within this time once new connections work.
const REPLACED: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_silent_webhooks_are_refused_in_time_and_after_it_all_goes_on() {
    let context = Context::waiting().await;
    let source = context.source("acme").await;
    let proxy = Proxy::before_database(&context.options).await;
    let service = context.serve_through(&proxy).await;
    let load = Load::start(&service, &source, 1_000);
    load.reach(100).await;
    let mut refused = Vec::new();
    for round in 0..2 {
        proxy.freeze();
        // In the first round another webhook comes when the first is given up: whatever it meets, it waits no longer.
        for n in 10 * round..=9 * round + 1 {
            let (answer, took) = timed_post(&source, &service, &events(n..=n)).await;
            assert_refused_in_time(&answer, took);
            refused.push(n);
        }
        let readiness = timeout(REFUSED, until(async || service.get("/readyz").await == 503)).await;
        assert!(readiness.is_ok(), "ready without a database");
        let alive = timeout(AT_ONCE, service.get("/healthz")).await;
        assert_eq!(alive.expect("at once"), 200, "it is not the process that is ill");
        proxy.pass();
        let took = until_stored(&source, &service, 500 + round).await;
        assert!(took < THAWED, "{took:?}");
        until(async || service.get("/readyz").await == 200).await;
        load.advance().await;
    }
    let sent = load.end().await;
    assert!(sent.slowest < REFUSED, "{:?}", sent.slowest);
    // What was refused may have been stored all the same. Sent again, it is the same event.
    assert_eq!(source.post(&service, &events(refused.iter().copied())).await.status, 200);
    let mut acknowledged = sent.acknowledged;
    acknowledged.extend(refused.iter().chain(&[500, 501]).map(|n| format!("u{n}")));
    assert_delivered(&context, &acknowledged).await;
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_became_black_holes_are_replaced_and_all_goes_on() {
    let context = Context::waiting().await;
    let (source, idle) = (context.source("acme").await, context.source("idle").await);
    let proxy = Proxy::before_database(&context.options).await;
    let service = context.serve_through(&proxy).await;
    idle.accept(&service, &events(0..1)).await;
    let load = Load::start(&service, &source, 1_000);
    load.reach(200).await;
    proxy.black_hole_open();
    let lost_at = Instant::now();
    load.advance().await;
    assert!(lost_at.elapsed() < REPLACED, "{:?}", lost_at.elapsed());
    // Delivery goes on as well, also of what was about to be sent when the connections were lost: nobody waits for the
    // end of a lease whose session the server still believes in.
    let is_delivered = async |name: &str| context.show(name).await["waiting"] == 0;
    let sent = load.end().await;
    assert_delivered(&context, &sent.acknowledged).await;
    until(async || is_delivered("acme").await).await;
    let took = lost_at.elapsed();
    assert!(took < REPLACED + THAWED, "delivered only after {took:?}");
    assert!(sent.slowest < REFUSED, "{:?}", sent.slowest);
    assert_eq!(service.get("/readyz").await, 200);
    idle.accept(&service, &events(1..2)).await;
    context.source_is("idle", |shown| shown["delivered"] == 2).await;
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_admin_changes_is_heard_of_after_the_connections_became_black_holes() {
    let context = Context::waiting().await;
    let source = context.create("acme", &[]).await;
    let proxy = Proxy::before_database(&context.options).await;
    let service = context.serve_through(&proxy).await;
    source.accept(&service, &events(0..1)).await;
    proxy.black_hole_open();
    let lost_at = Instant::now();
    context.run(&["source", "set", "acme", "--write-key", "first-key"]).await;
    context.messages(1).await;
    assert!(lost_at.elapsed() < REPLACED + THAWED, "{:?}", lost_at.elapsed());
    let later = context.source("later").await;
    until(async || later.post(&service, &events(0..1)).await.status == 200).await;
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database_is_not_taken_for_a_silent_one() {
    let context = Context::waiting().await;
    let source = context.source("acme").await;
    let proxy = Proxy::before_database(&context.options).await;
    let service = context.serve_through(&proxy).await;
    proxy.delay(Duration::from_millis(100));
    let load = Load::start(&service, &source, 0);
    load.reach(50).await;
    let sent = load.end().await;
    assert_eq!(sent.n_refused, 0);
    assert_delivered(&context, &sent.acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_the_database_is_silent_it_ends() {
    let context = Context::waiting().await;
    let source = context.source("acme").await;
    let proxy = Proxy::before_database(&context.options).await;
    let service = context.serve_through(&proxy).await;
    let load = Load::start(&service, &source, 0);
    load.reach(100).await;
    proxy.freeze();
    let began = Instant::now();
    service.terminate().await;
    assert!(began.elapsed() < ENDED, "{:?}", began.elapsed());
    let acknowledged = load.end().await.acknowledged;
    let _service = context.serve().await;
    assert_delivered(&context, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_new_connections_are_refused_and_old_ones_silent_it_ends() {
    let context = Context::waiting().await;
    let source = context.source("acme").await;
    let proxy = Proxy::before_database(&context.options).await;
    let service = context.serve_through(&proxy).await;
    source.accept(&service, &events(0..1)).await;
    proxy.black_hole_open();
    proxy.refuse();
    until(async || service.get("/readyz").await == 503).await;
    let began = Instant::now();
    service.terminate().await;
    assert!(began.elapsed() < ENDED, "{:?}", began.elapsed());
}

/// A private cluster whose processes are stopped in the midst of whatever they do; gone when dropped.
struct Suspended {
    dir: PathBuf,
    processes: Vec<u32>,
}

impl Drop for Suspended {
    fn drop(&mut self) {
        send_signal(&self.processes, "KILL");
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_its_private_database_is_silent_it_ends() {
    let context = Context::waiting().await;
    // Before the service, so that it outlives it: the service would start its server again.
    let mut cluster = Suspended { dir: new_dir(), processes: Vec::new() };
    let mut env = context.env_with("DATA_DIR", cluster.dir.to_str().expect("UTF-8"));
    env.retain(|(name, _)| name != "DATABASE_URL" && name != "MASTER_KEY");
    let service = Service::start(&env).await;
    cluster.processes = with_children(server_pid(&cluster.dir).expect("it runs"));
    send_signal(&cluster.processes, "STOP");
    until(async || service.get("/readyz").await == 503).await;
    let began = Instant::now();
    service.terminate().await;
    assert!(began.elapsed() < ENDED, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_senders_and_segment_are_silent_it_ends() {
    let mut context = Context::waiting().await;
    let source = context.source("acme").await;
    let segment = context.env.iter().find(|(name, _)| name == "SEGMENT_US_URL").expect("set").1.clone();
    let proxy = Proxy::before(segment.trim_start_matches("http://").parse().expect("an address")).await;
    context.set("SEGMENT_US_URL", &format!("http://{}", proxy.address));
    proxy.freeze();
    let service = context.serve().await;
    source.accept(&service, &events(0..10)).await;
    until(async || proxy.n_accepted() > 0).await;
    let address = service.url.trim_start_matches("http://").to_owned();
    let mut senders = Vec::new();
    for said in ["", "POST ", &format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n[", source.path)] {
        let mut sender = TcpStream::connect(&address).await.expect("it listens");
        sender.write_all(said.as_bytes()).await.expect("written");
        senders.push(sender);
    }
    let began = Instant::now();
    assert!(service.terminate().await.success());
    assert!(began.elapsed() < ENDED, "{:?}", began.elapsed());
    proxy.pass();
    let _service = context.serve().await;
    context.messages(10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_it_starts_on_a_silent_database_it_ends() {
    let context = Context::waiting().await;
    let proxy = Proxy::before_database(&context.options).await;
    proxy.freeze();
    let mut starting = tokio::process::Command::new(env!("CARGO_BIN_EXE_nudgespot-source"))
        .env_clear()
        .envs(context.env_with("DATABASE_URL", &url(&proxy.options(&context.options))))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary");
    until(async || proxy.n_accepted() > 0).await;
    send_signal(&[starting.id().expect("it runs")], "TERM");
    let ended = timeout(ENDED, starting.wait()).await;
    assert!(ended.is_ok(), "it still starts");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_a_start_give_up_on_a_silent_database() {
    let context = Context::waiting().await;
    context.source("acme").await;
    let proxy = Proxy::before_database(&context.options).await;
    proxy.freeze();
    let env = context.env_with("DATABASE_URL", &url(&proxy.options(&context.options)));
    let commands: [&[&str]; 3] = [&["account", "list"], &["migrate"], &["serve"]];
    let ends = commands.map(async |args| {
        // Which fails where it takes longer than a minute.
        let (code, stdout, stderr) = run_binary(&env, args, "").await;
        assert_eq!((code, stdout.as_str()), (1, ""), "{args:?}: {stderr}");
        assert!(stderr.lines().any(|line| line.starts_with("error: ")), "{args:?}: {stderr}");
    });
    futures_util::future::join_all(ends).await;
}
