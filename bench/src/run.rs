//! The measurements.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nudgespot_source::domain::secret::SigningSecret;

use crate::copy;
use crate::cpu;
use crate::load::{self, Load, Outcome, Target};
use crate::parties::{self, Party, Program};
use crate::report::{Report, Row};

#[derive(clap::Args)]
pub struct Args {
    /// The program.
    #[arg(long, default_value = "target/release/nudgespot-source")]
    program: PathBuf,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Over how many accounts the load is spread.
    #[arg(long, default_value_t = 1)]
    accounts: usize,
    /// Measure what one would write by hand, too: needs Node.js and the npm registry.
    #[arg(long)]
    node: bool,
    /// Write the report to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
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
    Ok(())
}

async fn measure(args: &Args, dir: &Path) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let duration = Duration::from_secs(args.seconds);
    let sink = parties::role(&["sink"]).await?;
    let secret = SigningSecret::from_random([7; 32]);
    let bare = parties::role(&["bare", secret.expose()]).await?;
    let program = Program::new(&args.program, &dir.join("data"), &sink.address);
    let service = program.serve().await?;
    let (mut waits, mut flows) = (Vec::new(), Vec::new());
    for n in 0..args.accounts {
        waits.push(program.create_account(&format!("waits-{n}"), None).await?);
        flows.push(program.create_account(&format!("flows-{n}"), Some("bench-write-key")).await?);
    }
    let by_hand = [Target { path: "/webhooks/nudgespot/x".to_owned(), secret: secret.clone() }];
    let load = |party: &Party, targets: &[Target], events_per_webhook| Load {
        address: party.address.clone(),
        targets: Arc::new(targets.to_vec()),
        n_connections: 64,
        events_per_webhook,
        duration,
        rate: None,
    };
    let warm_up = async |party: &Party, targets: &[Target]| {
        load::run(&Load { duration: Duration::from_secs(1), ..load(party, targets, 1) }).await
    };
    warm_up(&bare, &by_hand).await?;
    warm_up(&service, &waits).await?;

    for n in [1, 100] {
        let limit = load::run(&load(&bare, &by_hand, n)).await?;
        report.push(Row::of(&format!("the handler without storing, {n} a webhook"), &limit));
        let cost = Cost::start(service.pid(), program.postgres_pid());
        let stored = load::run(&load(&service, &waits, n)).await?;
        report.push(cost.of(stored.events, Row::of(&format!("stored, {n} a webhook"), &stored)));
        report.ratio("of the handler without storing", stored.events_per_second(), limit.events_per_second());
    }
    let copied = copy::run(&program, duration).await?;
    let stored = report.rows.last().map_or(0.0, |row| row.events_per_second);
    report.push(Row {
        what: "COPY into a table without an index".to_owned(),
        events_per_second: copied,
        ..Row::default()
    });
    report.ratio("stored, 100 a webhook, of COPY", stored, copied);

    let mut delivered = Vec::new();
    for n in [1, 100] {
        let cost = Cost::start(service.pid(), program.postgres_pid());
        let (accepted, rate) = end_to_end(&load(&service, &flows, n), &sink.address).await?;
        let row =
            Row { events_per_second: rate, ..Row::of(&format!("stored and delivered, {n} a webhook"), &accepted) };
        delivered.push(rate);
        report.push(cost.of(accepted.events, row));
    }
    let open = Load { rate: Some(1_000.0), ..load(&service, &flows, 1) };
    report.push(Row::of("stored and delivered, 1,000 webhooks/s", &load::run(&open).await?));
    report.program_memory_mib = cpu::peak_memory_mib(service.pid());
    println!("memory of the program: {:.0} MiB at most", report.program_memory_mib);

    if args.node {
        let node = parties::node(&dir.join("node"), secret.expose(), &sink.address).await?;
        warm_up(&node, &by_hand).await?;
        for (n, ours) in [1, 100].into_iter().zip(delivered) {
            let cost = Cost::start(node.pid(), 0);
            // What it has not delivered when the load ends still waits in its memory, and is not counted against it.
            let taken = load::run(&load(&node, &by_hand, n)).await?;
            let row =
                cost.of(taken.events, Row::of(&format!("Node, express and Segment's SDK, {n} a webhook"), &taken));
            report.push(row);
            report.ratio("stored and delivered, of Node's", ours, taken.events_per_second());
        }
    }
    parties::stop(service).await.context("the program")?;
    Ok(report)
}

/// Posts as fast as it is answered, and waits until the last event has arrived; returns the rate over all of that.
async fn end_to_end(load: &Load, sink: &str) -> anyhow::Result<(Outcome, f64)> {
    let before = parties::count(sink).await?;
    let began = Instant::now();
    let accepted = load::run(load).await?;
    while parties::count(sink).await? - before < accepted.events {
        anyhow::ensure!(began.elapsed() < load.duration * 10, "events did not arrive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rate = accepted.events as f64 / began.elapsed().as_secs_f64();
    Ok((accepted, rate))
}

struct Cost {
    program: u32,
    postgres: u32,
    before: (f64, f64),
}

impl Cost {
    fn start(program: u32, postgres: u32) -> Self {
        Self { program, postgres, before: (cpu::seconds_of(program), cpu::seconds_of_tree(postgres)) }
    }

    fn of(&self, n_events: u64, row: Row) -> Row {
        let micros = |after: f64, before: f64| Some((after - before) * 1e6 / n_events as f64);
        Row {
            program_us: micros(cpu::seconds_of(self.program), self.before.0),
            postgres_us: if self.postgres == 0 {
                None
            } else {
                micros(cpu::seconds_of_tree(self.postgres), self.before.1)
            },
            ..row
        }
    }
}
