//! The load generator: signed webhooks of unique events, as fast as they are answered or at a given rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::domain::signature::{SigningScheme, sign};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http;

/// An account to post to.
#[derive(Clone)]
pub struct Target {
    pub path: String,
    pub secret: SigningSecret,
}

/// How to post.
#[derive(Clone)]
pub struct Load {
    pub address: String,
    pub targets: Arc<Vec<Target>>,
    pub n_connections: usize,
    pub events_per_webhook: usize,
    pub duration: Duration,
    /// Webhooks a second over all connections; `None`: each as soon as the last is answered.
    pub rate: Option<f64>,
}

/// What came of it.
pub struct Outcome {
    pub webhooks: u64,
    pub events: u64,
    pub seconds: f64,
    /// Microseconds from the time at which a webhook was due to its answer.
    pub latency: Histogram<u64>,
}

impl Outcome {
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Posts, and returns when every webhook is answered.
pub async fn run(load: &Load) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let mut connections = JoinSet::new();
    for number in 0..load.n_connections {
        connections.spawn(connection(load.clone(), number, began));
    }
    let mut latency = Histogram::new(3)?;
    while let Some(ended) = connections.join_next().await {
        latency.add(ended??)?;
    }
    let webhooks = latency.len();
    Ok(Outcome {
        webhooks,
        events: webhooks * load.events_per_webhook as u64,
        seconds: began.elapsed().as_secs_f64(),
        latency,
    })
}

async fn connection(load: Load, number: usize, began: Instant) -> anyhow::Result<Histogram<u64>> {
    let mut stream = TcpStream::connect(&load.address).await?;
    stream.set_nodelay(true)?;
    let mut latency = Histogram::new(3)?;
    let (mut buffer, mut body) = (Vec::new(), String::new());
    let interval = load.rate.map(|rate| Duration::from_secs_f64(load.n_connections as f64 / rate));
    let mut due = began;
    if let Some(interval) = interval {
        due += interval.mul_f64(number as f64 / load.n_connections as f64);
    }
    let mut n_sent = number;
    while began.elapsed() < load.duration {
        match interval {
            // A webhook that is sent late counts from when it was due: no coordinated omission.
            Some(interval) => {
                tokio::time::sleep_until(due.into()).await;
                due += interval;
            }
            None => due = Instant::now(),
        }
        let posted_for = interval.map_or(due, |interval| due - interval);
        let target = &load.targets[n_sent % load.targets.len()];
        n_sent += load.n_connections;
        write_body(&mut body, load.events_per_webhook);
        let request = request(target, &body)?;
        stream.write_all(&request).await?;
        buffer.clear();
        http::read(&mut stream, &mut buffer).await?.context("the connection ended")?;
        ensure!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer));
        latency.record(u64::try_from(posted_for.elapsed().as_micros())?)?;
    }
    Ok(latency)
}

fn request(target: &Target, body: &str) -> anyhow::Result<Vec<u8>> {
    use std::io::Write;
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let mut request = Vec::with_capacity(body.len() + 512);
    write!(request, "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", target.path, body.len())?;
    for (name, value) in sign(&target.secret, SigningScheme::Standard, "msg_bench", now, body.as_bytes()) {
        write!(request, "{name}: {value}\r\n")?;
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body.as_bytes());
    Ok(request)
}

fn write_body(body: &mut String, n_events: usize) {
    use std::fmt::Write;
    body.clear();
    body.push_str(if n_events > 1 { "[" } else { "" });
    let first = NEXT_ID.fetch_add(n_events as u64, Ordering::Relaxed);
    for i in 0..n_events as u64 {
        let id = first + i;
        body.push_str(if i > 0 { "," } else { "" });
        write!(
            body,
            r#"{{"id":"evt_{id:016x}","event":"clicked","timestamp":"2016-01-27T09:15:00.000Z","subscriber":{{"uid":"u{:08x}","email":"pgibbons{}@example.com"}},"properties":{{"email_id":"18vzF7u3z","email_subject":"First shirt on us!","campaign_id":"123","campaign_name":"New Customer Discount","link_id":"101","link_url":"https://www.buymyshirts.com?promo=NEWCUSTOMER","ip":"67.207.109.102","user_agent":"Mozilla/5.0 (Macintosh)"}}}}"#,
            id % 100_000,
            id % 100_000
        )
        .expect("a String takes all");
    }
    body.push_str(if n_events > 1 { "]" } else { "" });
}
