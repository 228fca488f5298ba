//! A steady load, and what must have become of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nudgespot_source::sources::signature::SigningScheme;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Answer, Context, PATIENCE, Service, Source, events, sender, texts, until};

/// How many webhooks are under way at a time.
const SENDERS: u32 = 8;
/// How long a sender that was refused waits before its next webhook.
const BACKOFF: Duration = Duration::from_millis(20);

/// Senders that post one event after the other, and remember which were acknowledged.
pub struct Load {
    senders: JoinSet<Sent>,
    n_acknowledged: watch::Sender<u32>,
    stop: Arc<AtomicBool>,
}

/// What became of the webhooks of a load.
#[derive(Debug, Default)]
pub struct Sent {
    /// The recipients of the events that were acknowledged, one each.
    pub acknowledged: BTreeSet<String>,
    /// How many webhooks were answered 503.
    pub n_refused: usize,
    /// The longest that a webhook waited for its answer.
    pub slowest: Duration,
}

impl Load {
    /// Starts posting events numbered from `first`.
    pub fn start(service: &Service, source: &Source, first: u32) -> Self {
        let (n_acknowledged, stop) = (watch::Sender::new(0), Arc::<AtomicBool>::default());
        let next = Arc::new(AtomicU32::new(first));
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            let url = format!("{}{}", service.url, source.path);
            let (source, next) = (source.clone(), Arc::clone(&next));
            let (n_acknowledged, stop) = (n_acknowledged.clone(), Arc::clone(&stop));
            senders.spawn(async move {
                let (http, mut sent) = (sender::http(), Sent::default());
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let body = events(n..=n).to_string();
                    let mut request = http.post(&url).body(body.clone());
                    for (name, value) in source.sign(SigningScheme::Standard, &body) {
                        request = request.header(name, value);
                    }
                    let began = Instant::now();
                    let status = request.send().await.map(|response| response.status().as_u16());
                    sent.slowest = sent.slowest.max(began.elapsed());
                    match status {
                        Ok(200) => {
                            sent.acknowledged.insert(format!("u{n}"));
                            n_acknowledged.send_modify(|n| *n += 1);
                            continue;
                        }
                        Ok(status) => {
                            assert_eq!(status, 503);
                            sent.n_refused += 1;
                        }
                        Err(_) => {}
                    }
                    tokio::time::sleep(BACKOFF).await;
                }
                sent
            });
        }
        Self { senders, n_acknowledged, stop }
    }

    /// Waits until so many events are acknowledged.
    pub async fn reach(&self, n: u32) {
        let mut n_acknowledged = self.n_acknowledged.subscribe();
        let reached = timeout(PATIENCE, n_acknowledged.wait_for(|acknowledged| *acknowledged >= n)).await;
        assert!(reached.is_ok_and(|heard| heard.is_ok()), "not in time");
    }

    /// Waits until an event is acknowledged whose webhook began after this call: all that were under way before it are
    /// fewer than there are senders.
    pub async fn advance(&self) {
        self.reach(self.n_acknowledged() + SENDERS + 1).await;
    }

    fn n_acknowledged(&self) -> u32 {
        *self.n_acknowledged.borrow()
    }

    /// Stops the senders; returns what became of their webhooks.
    pub async fn end(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Sent::default();
        for sent in self.senders.join_all().await {
            all.acknowledged.extend(sent.acknowledged);
            all.n_refused += sent.n_refused;
            all.slowest = all.slowest.max(sent.slowest);
        }
        all
    }
}

/// Waits until all that was acknowledged is delivered. An event has one recipient, so two messages to one would be an
/// event that was delivered under two ids.
pub async fn assert_delivered(context: &Context, acknowledged: &BTreeSet<String>) {
    let mut arrived = BTreeSet::new();
    let mut n_seen = 0;
    let mut requests = context.segment.subscribe();
    let all_arrived = requests.wait_for(|_| {
        let recipients = texts(&context.segment.messages(), "/userId");
        n_seen = recipients.len();
        arrived = recipients.into_iter().collect();
        acknowledged.is_subset(&arrived)
    });
    let in_time = timeout(PATIENCE, all_arrived).await.is_ok();
    let missing: Vec<_> = acknowledged.difference(&arrived).collect();
    assert!(in_time, "{} of {} acknowledged are missing: {missing:?}", missing.len(), acknowledged.len());
    assert_eq!(n_seen, arrived.len(), "delivered under a second id");
}

/// How many events were sent to Segment more than once.
pub fn n_repeated(context: &Context) -> usize {
    let answered = context.segment.requests().into_iter().filter(|request| request.status == Some(200));
    answered.map(|request| request.n_events).sum::<usize>() - context.segment.messages().len()
}

/// A sender learns of it within this time that its webhook was not stored.
pub const REFUSED: Duration = Duration::from_secs(10);

/// Waits until a webhook with this one event is stored; returns how long it took.
pub async fn until_stored(source: &Source, service: &Service, number: u32) -> Duration {
    let began = Instant::now();
    until(async || source.post(service, &events(number..=number)).await.status == 200).await;
    began.elapsed()
}

/// The webhook was not stored, and its sender was told so in time.
pub fn assert_refused_in_time(answer: &Answer, took: Duration) {
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("not_stored")), "{answer:?}");
    let after = answer.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    assert!(after.is_some(), "{answer:?}");
    assert!(took < REFUSED, "{took:?}");
}

/// Posts a webhook, and says how long the answer took.
pub async fn timed_post(source: &Source, service: &Service, body: &Value) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = source.post(service, body).await;
    (answer, began.elapsed())
}
