//! What is measured with: the processes, and loads on them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nudgespot_source::admin::{Admin, Edit, NewSource};
use nudgespot_source::database::DatabaseHandle;
use nudgespot_source::domain::name::Name;
use nudgespot_source::domain::write_key::WriteKey;
use nudgespot_source::sources::Kind;
use time::OffsetDateTime;

use crate::load::{self, Load, Outcome, Spread, Until};
use crate::payload::{Payload, Target};
use crate::processes::Process;
use crate::report::{Cost, Report, Row};
use crate::sink;

/// The processes, and what has been measured.
pub struct Bench {
    pub service: Process,
    pub sink: Process,
    /// The handler without storing, and where to post to it.
    pub bare: Process,
    pub node_baseline: Arc<Vec<Target>>,
    /// The same for calls.
    pub calls_baseline: Arc<Vec<Target>>,
    pub postgres: u32,
    pub report: Report,
    pub duration: Duration,
    pub database: DatabaseHandle,
    pub admin: Admin,
}

impl Bench {
    /// Creates sources; without a key their events wait.
    pub async fn sources(&self, name: &str, n: usize, key: Option<&str>) -> anyhow::Result<Arc<Vec<Target>>> {
        let key = key.map(WriteKey::parse).transpose()?;
        let mut targets = Vec::with_capacity(n);
        for i in 0..n {
            let name = Name::parse(&format!("{name}-{i}"))?;
            let first = NewSource { write_key: key.clone(), ..NewSource::of(Kind::Nudgespot) };
            let created = self.admin.create_account(&name, first).await?;
            let secret = created.signing_secret.context("it is made")?;
            targets.push(Target::new(created.webhook_path, secret));
        }
        Ok(Arc::new(targets))
    }

    /// Gives sources that have waited their key.
    pub async fn set_key(&self, name: &str, n: usize) -> anyhow::Result<()> {
        for i in 0..n {
            let write_key = Some(WriteKey::parse("bench-write-key")?);
            let edit = Edit { write_key, ..Default::default() };
            self.admin.edit_source(&format!("{name}-{i}"), edit, OffsetDateTime::now_utc()).await?;
        }
        Ok(())
    }

    /// A closed loop to the service.
    pub fn load(&self, targets: &Arc<Vec<Target>>, events_per_webhook: usize) -> Load {
        self.load_of(&self.service, targets, events_per_webhook)
    }

    pub fn load_of(&self, process: &Process, targets: &Arc<Vec<Target>>, events_per_webhook: usize) -> Load {
        Load {
            address: process.address.clone(),
            targets: Arc::clone(targets),
            spread: Spread::Even,
            n_connections: 64,
            payload: Payload::Events,
            events_per_webhook,
            until: Until::Time(self.duration),
            rate: None,
        }
    }

    pub async fn warm_up(&self, process: &Process, targets: &Arc<Vec<Target>>) -> anyhow::Result<Outcome> {
        let until = Until::Time(Duration::from_secs(1));
        load::run(&Load { until, ..self.load_of(process, targets, 1) }).await
    }

    /// Posts to sources whose events wait: the middle one of three measurements.
    pub async fn stored(&self, what: &str, load: &Load) -> anyhow::Result<Row> {
        let load = Load { until: Until::Time(self.duration / 3), ..load.clone() };
        self.median_of_three(&load, async || {
            let cost = Cost::start(self.service.pid(), self.postgres, 0);
            let stored = load::run(&load).await?;
            Ok(cost.of(stored.events, Row::of(what, &stored)))
        })
        .await
    }

    /// Posts to sources whose events flow, for two thirds of the time; the rate is that at which events arrive, or are
    /// accepted, if that is less, in the second third, when what is on its way neither grows nor shrinks. Waits until the
    /// last has arrived. The middle one of three measurements.
    pub async fn delivered(&self, what: &str, load: &Load) -> anyhow::Result<Row> {
        let third = self.duration / 3;
        let load = Load { until: Until::Time(2 * third), ..load.clone() };
        self.median_of_three(&load, async || {
            let before = sink::count(&self.sink.address).await?;
            let cost = Cost::start(self.service.pid(), self.postgres, self.sink.pid());
            let (accepted, arriving) = tokio::join!(load::run(&load), self.arriving(third));
            let accepted = accepted?;
            self.arrived(before + accepted.events).await?;
            let row = cost.of(accepted.events, Row::of(what, &accepted));
            Ok(Row { events_per_second: arriving?.min(accepted.events_per_second()), ..row })
        })
        .await
    }

    /// How many events a second arrive in this time, after as much time.
    async fn arriving(&self, time: Duration) -> anyhow::Result<f64> {
        tokio::time::sleep(time).await;
        let (began, before) = (Instant::now(), sink::count(&self.sink.address).await?);
        tokio::time::sleep(time).await;
        Ok((sink::count(&self.sink.address).await? - before) as f64 / began.elapsed().as_secs_f64())
    }

    /// The middle one of three measurements, with the limit measured before each.
    async fn median_of_three(
        &self,
        load: &Load,
        measure: impl AsyncFn() -> anyhow::Result<Row>,
    ) -> anyhow::Result<Row> {
        let until = Until::Time(self.duration / 6);
        let baseline = if load.payload == Payload::Events { &self.node_baseline } else { &self.calls_baseline };
        let handler = self.load_of(&self.bare, baseline, load.events_per_webhook);
        let limit = Load { until, payload: load.payload, ..handler };
        let (mut limits, mut rows) = (0.0, Vec::new());
        for _ in 0..3 {
            limits += load::run(&limit).await?.events_per_second();
            rows.push(measure().await?);
        }
        rows.sort_by(|a, b| a.events_per_second.total_cmp(&b.events_per_second));
        let median_of_three = rows.swap_remove(1);
        Ok(Row { relative_to_baseline: Some(median_of_three.events_per_second / (limits / 3.0)), ..median_of_three })
    }

    /// Waits until the sink has seen so many events.
    pub async fn arrived(&self, n_events: u64) -> anyhow::Result<()> {
        let began = Instant::now();
        while sink::count(&self.sink.address).await? < n_events {
            anyhow::ensure!(began.elapsed() < Duration::from_mins(2), "events did not arrive");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}
