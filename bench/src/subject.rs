//! What is measured, and how it is loaded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::load::{self, Load, Outcome, Spread, Until};
use crate::payload::{Payload, Target};
use crate::processes::Process;
use crate::report::{Cost, Cpu, Row};
use crate::sink;

/// How long a step may still be at work on what has arrived: it settles.
const SETTLEMENT: Duration = Duration::from_millis(100);

/// A process that takes webhooks, and what belongs to it.
pub struct Subject {
    pub process: Process,
    /// The process id of its PostgreSQL.
    pub postgres: Option<u32>,
    /// Where it delivers to.
    pub sink: Option<Process>,
}

/// What came of an open loop.
pub struct Delivered {
    pub posted: Outcome,
    pub cpu: Cpu,
    /// Microseconds from the answer to the arrival at the sink.
    pub arrival: Histogram<u64>,
    /// In how many requests they came.
    pub n_requests: u64,
    /// How many events had not arrived when it was given up.
    pub n_missing: u64,
}

impl Subject {
    /// A closed loop.
    pub fn load(&self, targets: &Arc<Vec<Target>>, events_per_webhook: usize, duration: Duration) -> Load {
        Load {
            address: self.process.address.clone(),
            targets: Arc::clone(targets),
            spread: Spread::Even,
            n_connections: 64,
            payload: Payload::Events,
            events_per_webhook,
            until: Until::Time(duration),
            rate: None,
        }
    }

    /// Watches what it costs.
    pub fn cost(&self) -> Cost {
        let sink = self.sink.as_ref().map_or(0, Process::pid);
        Cost::start(self.process.pid(), self.postgres.unwrap_or(0), sink)
    }

    pub async fn post(&self, what: &str, load: &Load) -> anyhow::Result<Row> {
        let cost = self.cost();
        let posted = load::run(load).await?;
        Ok(cost.of(posted.events, Row::of(what, &posted)))
    }

    /// Posts to sources whose events flow, for twice this time; the rate is that at which events arrive, or are accepted, if
    /// that is less, in the second half, when what is on its way neither grows nor shrinks. Waits until the last has arrived.
    pub async fn deliver(&self, what: &str, load: &Load, half: Duration) -> anyhow::Result<Row> {
        let load = Load { until: Until::Time(2 * half), ..load.clone() };
        let before = self.n_arrived().await?;
        let cost = self.cost();
        let (accepted, arriving) = tokio::join!(load::run(&load), self.arriving(half));
        let accepted = accepted?;
        self.arrived(before + accepted.events).await?;
        let row = cost.of(accepted.events, Row::of(what, &accepted));
        Ok(Row { events_per_second: arriving?.min(accepted.events_per_second()), ..row })
    }

    /// How many events a second arrive in this time, after as much time.
    async fn arriving(&self, time: Duration) -> anyhow::Result<f64> {
        tokio::time::sleep(time).await;
        let (began, before) = (Instant::now(), self.n_arrived().await?);
        tokio::time::sleep(time).await;
        Ok((self.n_arrived().await? - before) as f64 / began.elapsed().as_secs_f64())
    }

    /// Posts in an open loop. What it costs is counted until the last event has arrived and is settled.
    pub async fn deliver_open_loop(&self, load: &Load) -> anyhow::Result<Delivered> {
        let (before, requests_before) = (self.n_arrived().await?, self.n_requests().await?);
        self.ask_sink("watch").await?;
        let cost = self.cost();
        let posted = load::run(load).await?;
        let n_missing = if self.sink.is_some() { self.missing(before + posted.events).await? } else { 0 };
        tokio::time::sleep(SETTLEMENT).await;
        let cpu = cost.spent();
        let n_requests = self.n_requests().await? - requests_before;
        let arrival = since_answer(&posted, &self.ask_sink("arrivals").await?)?;
        Ok(Delivered { posted, cpu, arrival, n_requests, n_missing })
    }

    /// Waits until the sink has seen so many events.
    pub async fn arrived(&self, n_events: u64) -> anyhow::Result<()> {
        anyhow::ensure!(self.missing(n_events).await? == 0, "events did not arrive");
        Ok(())
    }

    /// Waits until the sink has seen so many events, or none comes any more: then says how many are missing.
    pub async fn missing(&self, n_events: u64) -> anyhow::Result<u64> {
        let (mut n_arrived, mut since) = (self.n_arrived().await?, Instant::now());
        while n_arrived < n_events && since.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = self.n_arrived().await?;
            if now > n_arrived {
                (n_arrived, since) = (now, Instant::now());
            }
        }
        Ok(n_events.saturating_sub(n_arrived))
    }

    /// How many events the sink has seen.
    pub async fn n_arrived(&self) -> anyhow::Result<u64> {
        match &self.sink {
            Some(sink) => sink::count(&sink.address).await,
            None => Ok(0),
        }
    }

    async fn n_requests(&self) -> anyhow::Result<u64> {
        match &self.sink {
            Some(_) => Ok(self.ask_sink("requests").await?.parse()?),
            None => Ok(0),
        }
    }

    async fn ask_sink(&self, what: &str) -> anyhow::Result<String> {
        match &self.sink {
            Some(sink) => sink::ask(&sink.address, what).await,
            None => Ok(String::new()),
        }
    }
}

/// An event that arrives before its sender has read the answer took no time.
fn since_answer(posted: &Outcome, arrivals: &str) -> anyhow::Result<Histogram<u64>> {
    let arrivals: HashMap<u64, u64> = arrivals
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(id, at)| Some((id.parse().ok()?, at.parse().ok()?)))
        .collect();
    let mut latency = Histogram::new(3)?;
    for (id, answered_at) in &posted.answers {
        if let Some(arrived_at) = arrivals.get(id) {
            latency.record(arrived_at.saturating_sub(*answered_at))?;
        }
    }
    Ok(latency)
}
