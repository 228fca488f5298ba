//! Calls through kills under load: nothing acknowledged is lost, each user's calls keep their order, and no more is sent
//! again than the delivery had under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nudgespot_source::sandbox::{NudgespotRequest, Sandbox};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{Context, PATIENCE, sender};

const KILLS: usize = 4;
/// How many requests are under way at a time, each about users of its own.
const SENDERS: usize = 8;
const USERS_PER_SENDER: usize = 5;
/// So many calls are delivered between two settlements at most, and so many may be sent again after a kill.
const CALLS_PER_STEP: usize = 128;
/// How long a sender waits before it sends again what was not acknowledged.
const BACKOFF: Duration = Duration::from_millis(20);

/// Senders that post calls, and the same ones again until they are acknowledged: each user's in order.
#[derive(Clone)]
struct Load {
    /// Where the service is; it has another port after each start.
    url: watch::Receiver<String>,
    webhook_path: String,
    ingest_key: String,
    stop: Arc<AtomicBool>,
    n_unanswered: Arc<AtomicUsize>,
}

impl Load {
    /// Posts a call of each of its users at a time, in all the ways there are. Returns how many of each were acknowledged.
    async fn send(self, sender: usize) -> usize {
        let http = sender::http();
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return n;
            }
            let users = (0..USERS_PER_SENDER).map(|user| format!("{sender}-{user}"));
            let calls: Vec<Value> = users.map(|user| call(&user, n)).collect();
            match n % 3 {
                0 => self.acknowledged(&http, &self.webhook_path, &json!(calls)).await,
                1 => self.acknowledged(&http, "/v1/batch", &json!({"batch": calls})).await,
                _ => {
                    for call in calls {
                        let path = format!("/v1/{}", call["type"].as_str().expect("text"));
                        self.acknowledged(&http, &path, &call).await;
                    }
                }
            }
        }
        unreachable!("it is told to stop")
    }

    async fn acknowledged(&self, http: &reqwest::Client, path: &str, body: &Value) {
        loop {
            let url = format!("{}{path}", *self.url.borrow());
            let request = http.post(url).basic_auth(&self.ingest_key, Some("")).body(body.to_string());
            match request.send().await.map(|response| response.status().as_u16()) {
                Ok(200) => return,
                Ok(status) => assert_eq!(status, 503),
                Err(_) => {}
            }
            self.n_unanswered.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(BACKOFF).await;
        }
    }
}

/// The nth call about a user.
fn call(user: &str, n: usize) -> Value {
    let about = json!({"n": n});
    match n % 10 {
        0 => json!({"type": "identify", "userId": user, "messageId": format!("{user}-{n}"), "traits": about}),
        _ => {
            json!({"type": "track", "userId": user, "messageId": format!("{user}-{n}"), "event": "e", "properties": about})
        }
    }
}

fn n_arrived(sandbox: &Sandbox) -> usize {
    sandbox.nudgespot_requests_after(usize::MAX).1
}

/// The calls that Nudgespot was sent of each user, in order: which, and when.
fn by_user(sandbox: &Sandbox) -> BTreeMap<String, Vec<(usize, OffsetDateTime)>> {
    let mut users: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for NudgespotRequest { method, uid, body, at, status, .. } in sandbox.nudgespot_requests() {
        if method == "POST" {
            assert_eq!(status, Some(200), "{body}");
            let body: Value = serde_json::from_str(&body).expect("JSON");
            let n = ["subscriber", "activity"].iter().find_map(|what| body[what]["properties"]["n"].as_u64());
            let n = usize::try_from(n.expect("a number")).expect("small");
            users.entry(uid.expect("a user")).or_default().push((n, at));
        }
    }
    users
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_no_acknowledged_call_is_lost_and_only_what_was_under_way_is_sent_again() {
    let context = Context::new().await;
    let mut service = context.serve().await;
    let create = ["account", "create", "--name", "acme", "--kind", "segment", "--nudgespot-key", "rest-key"];
    let created = context.run(&create).await;
    let text = |field: &str| created[field].as_str().unwrap_or_else(|| panic!("{field}: {created}")).to_owned();
    let (moved, url) = watch::channel(service.url.clone());
    let load = Load {
        url,
        webhook_path: text("webhook_path"),
        ingest_key: text("ingest_key"),
        stop: Arc::default(),
        n_unanswered: Arc::default(),
    };
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let load = load.clone();
        senders.spawn(async move { (sender, load.send(sender).await) });
    }

    let mut kills = Vec::new();
    for _ in 0..KILLS {
        let n_before = n_arrived(&context.segment);
        context.segment_has(|sandbox| n_arrived(sandbox) >= n_before + 300).await;
        let killed_at = OffsetDateTime::now_utc();
        service.kill().await;
        service = context.serve().await;
        // What was sent before the kill may be read by the stand-in after it, but long before the next service calls.
        kills.push((killed_at, OffsetDateTime::now_utc()));
        moved.send_replace(service.url.clone());
    }
    load.stop.store(true, Ordering::Relaxed);
    let acknowledged: BTreeMap<usize, usize> =
        timeout(PATIENCE, senders.join_all()).await.expect("in time").into_iter().collect();
    assert!(load.n_unanswered.load(Ordering::Relaxed) >= KILLS, "the load went on through the kills");

    let n_all: usize = acknowledged.values().map(|n| n * USERS_PER_SENDER).sum();
    let shown = context.source_is("acme/segment", |shown| shown["waiting"] == 0).await;
    assert_eq!((&shown["delivered"], &shown["held"], &shown["dead_letters"]), (&json!(n_all), &json!(0), &json!(0)));
    let (mut n_repeats, users) = (0, by_user(&context.segment));
    assert_eq!(users.len(), SENDERS * USERS_PER_SENDER);
    for (user, sent) in users {
        let mut times: Vec<OffsetDateTime> = Vec::new();
        let mut next = 0;
        for (n, at) in sent {
            // A repeat begins again somewhere, and goes on in order.
            assert!(n <= next, "{user}: {n} instead of {next}");
            next = n + 1;
            match times.get_mut(n) {
                None => times.push(at),
                Some(before) => {
                    let (first, again) = (std::mem::replace(before, at), at);
                    let is_needed = kills.iter().any(|(killed, again_there)| first < *again_there && *killed < again);
                    assert!(is_needed, "{user}: {n} again without need");
                    n_repeats += 1;
                }
            }
        }
        let sender = user.split('-').next().and_then(|sender| sender.parse().ok()).expect("a number");
        assert_eq!((next, times.len()), (acknowledged[&sender], acknowledged[&sender]), "{user}: the end is missing");
    }
    println!("{n_repeats} of {n_all} calls were sent again, after {KILLS} kills");
    assert!(n_repeats <= KILLS * CALLS_PER_STEP, "{n_repeats} are more than were under way");
    assert!(timeout(PATIENCE, service.terminate()).await.expect("in time").success());
}
