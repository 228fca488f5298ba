//! Nothing acknowledged is ever lost: not when the program is killed, not when the database is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nudgespot_source::domain::signature::SigningScheme;
use tokio::task::JoinSet;

use crate::harness::{Account, Context, OwnCluster, Service, events, sender, texts, until};

/// Senders that post one event after the other, and remember which were acknowledged.
struct Load {
    senders: JoinSet<BTreeSet<String>>,
    n_acknowledged: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Starts posting events numbered from `first`, eight at a time.
    fn start(service: &Service, account: &Account, first: u32) -> Self {
        let (n_acknowledged, stop, next) = (Arc::default(), Arc::default(), Arc::new(AtomicU32::new(first)));
        let mut senders = JoinSet::new();
        for _ in 0..8 {
            let url = format!("{}{}", service.url, account.path);
            let (account, next) = (account.clone(), Arc::clone(&next));
            let (n_acknowledged, stop): (Arc<AtomicU32>, Arc<AtomicBool>) =
                (Arc::clone(&n_acknowledged), Arc::clone(&stop));
            senders.spawn(async move {
                let (http, mut acknowledged) = (sender::http(), BTreeSet::new());
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let body = events(n..=n).to_string();
                    let mut request = http.post(&url).body(body.clone());
                    for (name, value) in account.sign(SigningScheme::Standard, &body) {
                        request = request.header(name, value);
                    }
                    match request.send().await {
                        Ok(response) if response.status() == 200 => {
                            acknowledged.insert(format!("u{n}"));
                            n_acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(response) => assert_eq!(response.status(), 503),
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
                acknowledged
            });
        }
        Self { senders, n_acknowledged, stop }
    }

    async fn reach(&self, n: u32) {
        until(async || self.n_acknowledged.load(Ordering::Relaxed) >= n).await;
    }

    /// Stops the senders; returns what was acknowledged.
    async fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.senders.join_all().await.into_iter().flatten().collect()
    }
}

async fn assert_delivered(context: &Context, acknowledged: &BTreeSet<String>) {
    let is_missing = |segment: &nudgespot_source::sandbox::Sandbox| {
        let arrived: BTreeSet<String> = texts(&segment.messages(), "/userId").into_iter().collect();
        acknowledged.difference(&arrived).count()
    };
    context.segment_has(|segment| is_missing(segment) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_and_started_again_everything_acknowledged_is_delivered() {
    let context = Context::new().await;
    let account = context.account("acme").await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let service = context.serve().await;
        let load = Load::start(&service, &account, round * 1_000_000);
        load.reach(300).await;
        service.kill().await;
        acknowledged.extend(load.end().await);
    }
    assert!(acknowledged.len() >= 900);
    let _service = context.serve().await;
    assert_delivered(&context, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_under_load_it_drains_and_loses_nothing() {
    let context = Context::new().await;
    let account = context.account("acme").await;
    let service = context.serve().await;
    let load = Load::start(&service, &account, 0);
    load.reach(300).await;
    let status = service.terminate().await;
    assert!(status.success(), "{status}");
    let acknowledged = load.end().await;
    let n_stored: i64 =
        sqlx::query_scalar("select sum(n_events) from event_block").fetch_one(&context.pool).await.expect("counted");
    assert_eq!(usize::try_from(n_stored).ok(), Some(acknowledged.len()), "what was stored was answered as well");
    let _service = context.serve().await;
    assert_delivered(&context, &acknowledged).await;
    let n_sent: usize = context.segment.requests().iter().map(|request| request.n_events).sum();
    assert_eq!(n_sent, acknowledged.len(), "and what was sent was settled: nothing is sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_database_stopped_in_the_middle_of_commits_nothing_acknowledged_is_lost() {
    let mut cluster = OwnCluster::start().await;
    let context = Context::on(&cluster.options).await;
    let account = context.account("acme").await;
    let service = context.serve().await;
    let load = Load::start(&service, &account, 0);
    for round in 1..=3 {
        load.reach(300 * round).await;
        cluster.signal("QUIT");
        cluster.restart().await;
    }
    load.reach(1_200).await;
    let acknowledged = load.end().await;
    assert_delivered(&context, &acknowledged).await;
    context.account_is("acme", |shown| shown["waiting"] == 0).await;
    assert!(service.terminate().await.success());
    drop(context);
}
