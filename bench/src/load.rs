//! The load generator: requests with unique events or calls, as fast as they are answered or at a given rate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use nudgespot_source::domain::secret::SigningSecret;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::Zipf;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use crate::http;
use crate::payload::{N_USERS, NEXT_ID, Payload, Target};
use crate::sink::now_micros;

#[derive(clap::Args)]
pub struct Args {
    /// Where the service listens.
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: String,
    /// The source's path, as `source create` prints it.
    #[arg(long)]
    path: String,
    /// The source's signing secret; with --calls, its shared secret.
    #[arg(long)]
    secret: String,
    /// Post calls with the source's ingest key: first identifies, then tracks for the time.
    #[arg(long)]
    calls: bool,
    #[arg(long, default_value_t = 1)]
    events_per_webhook: usize,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Webhooks a second; without it, each as soon as the last is answered.
    #[arg(long)]
    rate: Option<f64>,
}

/// How to post.
#[derive(Clone)]
pub struct Load {
    pub address: String,
    pub targets: Arc<Vec<Target>>,
    pub spread: Spread,
    pub n_connections: usize,
    pub payload: Payload,
    pub events_per_webhook: usize,
    pub until: Until,
    /// Webhooks a second over all connections; `None`: each as soon as the last is answered.
    pub rate: Option<f64>,
}

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Each source as often as any other.
    Even,
    /// The second half as often as the first, the third a third, and so on.
    Zipf,
}

/// When to stop.
#[derive(Clone, Copy)]
pub enum Until {
    Time(Duration),
    Events(u64),
}

/// What came of it.
pub struct Outcome {
    pub webhooks: u64,
    pub events: u64,
    pub seconds: f64,
    /// Microseconds from the time at which a webhook was due to its answer.
    pub latency: Histogram<u64>,
    /// How late, in microseconds, a thread woke up that does nothing but keep the time: what the machine adds. Open loop
    /// only.
    pub clock: Histogram<u64>,
    /// The first event of each webhook, and when (in microseconds since 1970) its answer came. Open loop only.
    pub answers: Vec<(u64, u64)>,
}

impl Outcome {
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

/// Posts to one source, and says what came of it.
pub async fn post(args: Args) -> anyhow::Result<()> {
    let target = Target::new(args.path, SigningSecret::parse(&args.secret)?);
    // Not the ids of the time before.
    NEXT_ID.store(now_micros(), Ordering::Relaxed);
    let load = Load {
        address: args.address,
        targets: Arc::new(vec![target]),
        spread: Spread::Even,
        n_connections: args.connections,
        payload: if args.calls { Payload::Tracks } else { Payload::Events },
        events_per_webhook: args.events_per_webhook,
        until: Until::Time(Duration::from_secs(args.seconds)),
        rate: args.rate,
    };
    if args.calls {
        let until = Until::Events(N_USERS);
        run(&Load { payload: Payload::Identifies, until, rate: None, ..load.clone() }).await?;
    }
    let outcome = run(&load).await?;
    let ms = |quantile| outcome.latency.value_at_quantile(quantile) as f64 / 1e3;
    println!("{:.0} events/s, p50 {:.2} ms, p99 {:.2} ms", outcome.events_per_second(), ms(0.5), ms(0.99));
    Ok(())
}

/// Posts, and returns when every webhook is answered.
pub async fn run(load: &Load) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let first_id = NEXT_ID.load(Ordering::Relaxed);
    let mut connections = JoinSet::new();
    let (mut clocks, keeper) = load.rate.map(|rate| clocks(load, began, rate)).unzip();
    for number in 0..load.n_connections {
        let clock = clocks.as_mut().and_then(Vec::pop);
        connections.spawn(connection(load.clone(), number, began, first_id, clock));
    }
    let (mut latency, mut answers) = (Histogram::new(3)?, Vec::new());
    while let Some(ended) = connections.join_next().await {
        let (of_one, answers_of_one) = ended??;
        latency.add(of_one)?;
        answers.extend(answers_of_one);
    }
    let webhooks = latency.len();
    Ok(Outcome {
        webhooks,
        events: webhooks * load.events_per_webhook as u64,
        seconds: began.elapsed().as_secs_f64(),
        latency,
        clock: match keeper {
            Some(keeper) => keeper.join().expect("a thread that keeps the time does not fail"),
            None => Histogram::new(3)?,
        },
        answers,
    })
}

/// When each connection is to post next. A thread of its own keeps the time: timers of the runtime are a millisecond late.
/// Says how late it woke.
fn clocks(load: &Load, began: Instant, rate: f64) -> (Vec<UnboundedReceiver<Instant>>, JoinHandle<Histogram<u64>>) {
    let Until::Time(time) = load.until else { panic!("an open loop runs for a time") };
    let (ticker, clocks): (Vec<_>, Vec<_>) = (0..load.n_connections).map(|_| unbounded_channel()).unzip();
    let mut late = Histogram::new(3).expect("three digits are possible");
    let keeper = std::thread::spawn(move || {
        for (n, bell) in ticker.iter().cycle().enumerate() {
            let due = began + Duration::from_secs_f64(n as f64 / rate);
            if due >= began + time {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            late.saturating_record(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
            if bell.send(due).is_err() {
                break;
            }
        }
        late
    });
    (clocks, keeper)
}

type Connection = (Histogram<u64>, Vec<(u64, u64)>);

async fn connection(
    load: Load,
    number: usize,
    began: Instant,
    first_id: u64,
    mut clock: Option<UnboundedReceiver<Instant>>,
) -> anyhow::Result<Connection> {
    let mut stream = TcpStream::connect(&load.address).await?;
    stream.set_nodelay(true)?;
    let (mut latency, mut answers) = (Histogram::new(3)?, Vec::new());
    let (mut buffer, mut body) = (Vec::new(), String::new());
    let mut n_sent = number;
    let mut random = SmallRng::seed_from_u64(number as u64);
    let zipf = Zipf::new(load.targets.len() as f64, 1.0)?;
    let goes_on = || match load.until {
        Until::Time(time) => began.elapsed() < time,
        Until::Events(n) => NEXT_ID.load(Ordering::Relaxed) - first_id < n,
    };
    loop {
        // A webhook that is sent late counts from when it was due: no coordinated omission.
        let due = match &mut clock {
            Some(clock) => clock.recv().await,
            None => goes_on().then(Instant::now),
        };
        let Some(due) = due else { return Ok((latency, answers)) };
        let target = match load.spread {
            Spread::Even => n_sent % load.targets.len(),
            Spread::Zipf => random.sample(zipf) as usize - 1,
        };
        n_sent += load.n_connections;
        let id = load.payload.write_body(&mut body, load.events_per_webhook);
        let request = load.payload.request(&load.targets[target], &body)?;
        stream.write_all(&request).await?;
        buffer.clear();
        http::read(&mut stream, &mut buffer).await?.context("the connection ended")?;
        ensure!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer));
        latency.record(u64::try_from(due.elapsed().as_micros())?)?;
        if clock.is_some() {
            answers.push((id, now_micros()));
        }
    }
}
