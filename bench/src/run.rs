//! The order of the measurements.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nudgespot_source::accounts::Admin;
use nudgespot_source::backend::Backend;
use nudgespot_source::domain::account::AccountName;
use nudgespot_source::domain::region::Region;
use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::domain::write_key::WriteKey;

use crate::load::{self, Load, Outcome, Spread, Target, Until};
use crate::parties::{self, Party, Program};
use crate::report::{Cost, Report, Row};
use crate::{copy, cpu, plot, sink, sweeps};

#[derive(clap::Args)]
pub struct Args {
    /// The program to measure.
    #[arg(long, default_value = "target/release/nudgespot-source")]
    program: PathBuf,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Over how many accounts the load is spread.
    #[arg(long, default_value_t = 1)]
    accounts: usize,
    /// Leave out the series over load, backlog and number of accounts.
    #[arg(long)]
    quick: bool,
    /// Measure what one would write by hand, too: needs Node.js and the npm registry.
    #[arg(long)]
    node: bool,
    /// Write the report to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw the series into this folder, as SVG.
    #[arg(long)]
    plots: Option<PathBuf>,
}

/// The parties, and what has been measured.
pub struct Bench {
    pub service: Party,
    pub sink: Party,
    /// The handler without storing, and where to post to it.
    bare: Party,
    by_hand: Arc<Vec<Target>>,
    pub postgres: u32,
    pub report: Report,
    pub duration: Duration,
    backend: Backend,
    admin: Admin,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("nudgespot-bench-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let done = measure(&args, &dir).await;
    std::fs::remove_dir_all(&dir)?;
    let report = done?;
    if let Some(file) = args.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(dir) = args.plots {
        plot::draw(&report, &dir)?;
    }
    Ok(())
}

async fn measure(args: &Args, dir: &Path) -> anyhow::Result<Report> {
    let sink = parties::role(&["sink"]).await?;
    let program = Program::new(&args.program, &dir.join("data"), &sink.address);
    let service = program.serve().await?;
    let backend = program.backend().await?;
    let secret = SigningSecret::from_random([7; 32]);
    let mut bench = Bench {
        bare: parties::role(&["bare", secret.expose()]).await?,
        by_hand: Arc::new(vec![Target { path: "/webhooks/nudgespot/x".to_owned(), secret: secret.clone() }]),
        postgres: program.postgres_pid(),
        report: Report::default(),
        duration: Duration::from_secs(args.seconds),
        admin: Admin::new(backend.command_connection(), Arc::clone(&backend.vault)),
        backend,
        service,
        sink,
    };
    let waits = bench.accounts("waits", args.accounts, None).await?;
    let flows = bench.accounts("flows", args.accounts, Some("bench-write-key")).await?;

    bench.warm_up(&bench.bare, &bench.by_hand).await?;
    bench.warm_up(&bench.service, &waits).await?;
    for n in [1, 100] {
        let cost = Cost::start(bench.bare.pid(), 0, 0);
        let limit = load::run(&bench.load_of(&bench.bare, &bench.by_hand, n)).await?;
        let what = format!("the limit: the handler without storing, {n} a webhook");
        bench.report.push(cost.of(limit.events, Row::of(&what, &limit)));
        let stored = bench.stored(&format!("stored, {n} a webhook"), &bench.load(&waits, n)).await?;
        bench.report.push(stored);
    }
    let copied = copy::run(&program, bench.duration).await?;
    let stored = bench.report.rows.last().map_or(0.0, |row| row.events_per_second);
    bench.report.push(Row {
        what: "COPY into a table without an index".to_owned(),
        events_per_second: copied,
        ..Row::default()
    });
    bench.report.ratio("stored, 100 a webhook, of COPY", stored, copied);

    let mut delivered = Vec::new();
    for n in [1, 100] {
        let row = bench.delivered(&format!("stored and delivered, {n} a webhook"), &bench.load(&flows, n)).await?;
        delivered.push(row.events_per_second);
        bench.report.push(row);
    }
    if args.node {
        measure_by_hand(&mut bench, dir, &secret, &delivered).await?;
    }
    sweeps::latency(&mut bench, &flows, "stored and delivered", 1_000.0).await?;
    if !args.quick {
        sweeps::load(&mut bench, &flows).await?;
        sweeps::accounts(&mut bench).await?;
        sweeps::drain(&mut bench).await?;
        sweeps::backlog(&mut bench).await?;
    }
    bench.report.program_memory_mib = cpu::peak_memory_mib(bench.service.pid());
    println!("memory of the program: {:.0} MiB at most", bench.report.program_memory_mib);
    bench.backend.close().await?;
    parties::stop(bench.service).await.context("the program")?;
    Ok(bench.report)
}

async fn measure_by_hand(
    bench: &mut Bench,
    dir: &Path,
    secret: &SigningSecret,
    delivered: &[f64],
) -> anyhow::Result<()> {
    let node = parties::node(&dir.join("node"), secret.expose(), &bench.sink.address).await?;
    let by_hand = Arc::clone(&bench.by_hand);
    bench.warm_up(&node, &by_hand).await?;
    for (n, ours) in [1, 100].into_iter().zip(delivered) {
        let cost = Cost::start(node.pid(), 0, bench.sink.pid());
        // What it has not delivered when the load ends still waits in its memory, and is not counted against it.
        let taken = load::run(&bench.load_of(&node, &by_hand, n)).await?;
        let row = cost.of(taken.events, Row::of(&format!("Node, express and Segment's SDK, {n} a webhook"), &taken));
        bench.report.push(row);
        bench.report.ratio("stored and delivered, of Node's", *ours, taken.events_per_second());
    }
    Ok(())
}

impl Bench {
    /// Creates accounts; without a key their events wait.
    pub async fn accounts(&self, name: &str, n: usize, key: Option<&str>) -> anyhow::Result<Arc<Vec<Target>>> {
        let key = key.map(WriteKey::parse).transpose()?;
        let mut targets = Vec::with_capacity(n);
        for i in 0..n {
            let name = AccountName::parse(&format!("{name}-{i}"))?;
            let created = self.admin.create(&name, key.as_ref(), Region::Us).await?;
            targets.push(Target { path: format!("/webhooks/nudgespot/{}", created.token), secret: created.secret });
        }
        Ok(Arc::new(targets))
    }

    /// Gives accounts that have waited their key.
    pub async fn set_key(&self, name: &str, n: usize) -> anyhow::Result<()> {
        for i in 0..n {
            let write_key = Some(WriteKey::parse("bench-write-key")?);
            let edit = nudgespot_source::accounts::Edit { write_key, ..Default::default() };
            self.admin.edit(&format!("{name}-{i}"), &edit).await?;
        }
        Ok(())
    }

    /// A closed loop to the service.
    pub fn load(&self, targets: &Arc<Vec<Target>>, events_per_webhook: usize) -> Load {
        self.load_of(&self.service, targets, events_per_webhook)
    }

    fn load_of(&self, party: &Party, targets: &Arc<Vec<Target>>, events_per_webhook: usize) -> Load {
        Load {
            address: party.address.clone(),
            targets: Arc::clone(targets),
            spread: Spread::Even,
            n_connections: 64,
            events_per_webhook,
            until: Until::Time(self.duration),
            rate: None,
        }
    }

    async fn warm_up(&self, party: &Party, targets: &Arc<Vec<Target>>) -> anyhow::Result<Outcome> {
        let until = Until::Time(Duration::from_secs(1));
        load::run(&Load { until, ..self.load_of(party, targets, 1) }).await
    }

    /// Posts to accounts whose events wait: the middle one of three measurements.
    pub async fn stored(&self, what: &str, load: &Load) -> anyhow::Result<Row> {
        let load = Load { until: Until::Time(self.duration / 3), ..load.clone() };
        self.middle(load.events_per_webhook, async || {
            let cost = Cost::start(self.service.pid(), self.postgres, 0);
            let stored = load::run(&load).await?;
            Ok(cost.of(stored.events, Row::of(what, &stored)))
        })
        .await
    }

    /// Posts to accounts whose events flow, for two thirds of the time; the rate is that at which events arrive, or are
    /// accepted, if that is less, in the second third, when what is on its way neither grows nor shrinks. Waits until the
    /// last has arrived. The middle one of three measurements.
    pub async fn delivered(&self, what: &str, load: &Load) -> anyhow::Result<Row> {
        let third = self.duration / 3;
        let load = Load { until: Until::Time(2 * third), ..load.clone() };
        self.middle(load.events_per_webhook, async || {
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
    async fn middle(
        &self,
        events_per_webhook: usize,
        measure: impl AsyncFn() -> anyhow::Result<Row>,
    ) -> anyhow::Result<Row> {
        let until = Until::Time(self.duration / 6);
        let limit = Load { until, ..self.load_of(&self.bare, &self.by_hand, events_per_webhook) };
        let (mut limits, mut rows) = (0.0, Vec::new());
        for _ in 0..3 {
            limits += load::run(&limit).await?.events_per_second();
            rows.push(measure().await?);
        }
        rows.sort_by(|a, b| a.events_per_second.total_cmp(&b.events_per_second));
        let middle = rows.swap_remove(1);
        Ok(Row { of_limit: Some(middle.events_per_second / (limits / 3.0)), ..middle })
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
