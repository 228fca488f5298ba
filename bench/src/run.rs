//! The order of the measurements.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nudgespot_source::domain::secret::SigningSecret;

use crate::bench::Bench;
use crate::payload::Target;
use crate::processes::{self, Program};
use crate::report::{Report, Row};
use crate::sources::{Sources, WRITE_KEY};
use crate::subject::Subject;
use crate::{calls, copy, cpu, plot, sweeps};

#[derive(clap::Args)]
pub struct Args {
    /// The program to measure.
    #[arg(long, default_value = "target/release/nudgespot-source")]
    program: PathBuf,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Over how many sources the load is spread.
    #[arg(long, default_value_t = 1)]
    sources: usize,
    /// Leave out the series over load, backlog and number of sources.
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
    let sink = processes::role(&["sink"]).await?;
    let data_dir = dir.join("data");
    let program = Program::new(&args.program, &data_dir, &sink.address);
    let process = program.serve().await?;
    let secret = SigningSecret::from_random([7; 32]);
    let bare = processes::role(&["bare", secret.expose()]).await?;
    let mut bench = Bench {
        bare: Subject { process: bare, postgres: None, sink: None },
        node_baseline: Arc::new(vec![Target::new("/webhooks/nudgespot/x", secret.clone())]),
        calls_baseline: Arc::new(vec![Target::new("/webhooks/segment/x", secret.clone())]),
        report: Report::default(),
        duration: Duration::from_secs(args.seconds),
        sources: Sources::open(&data_dir).await?,
        service: Subject { process, postgres: Some(program.postgres_pid()?), sink: Some(sink) },
    };
    let waits = bench.sources.create("waits", args.sources, None).await?;
    let flows = bench.sources.create("flows", args.sources, Some(WRITE_KEY)).await?;

    bench.warm_up(&bench.bare, &bench.node_baseline).await?;
    bench.warm_up(&bench.service, &waits).await?;
    for n in [1, 100] {
        let what = format!("the limit: the handler without storing, {n} a webhook");
        let limit = bench.bare.post(&what, &bench.bare.load(&bench.node_baseline, n, bench.duration)).await?;
        bench.report.push(limit);
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
    calls::run(&mut bench).await?;
    if !args.quick {
        sweeps::load(&mut bench, &flows).await?;
        sweeps::sources(&mut bench).await?;
        sweeps::drain(&mut bench).await?;
        sweeps::backlog(&mut bench).await?;
    }
    bench.report.program_memory_mib = cpu::peak_memory_mib(bench.service.process.pid());
    println!("memory of the program: {:.0} MiB at most", bench.report.program_memory_mib);
    bench.sources.close().await?;
    processes::stop(bench.service.process).await.context("the program")?;
    Ok(bench.report)
}

async fn measure_by_hand(
    bench: &mut Bench,
    dir: &Path,
    secret: &SigningSecret,
    delivered: &[f64],
) -> anyhow::Result<()> {
    let sink = processes::role(&["sink"]).await?;
    let process = processes::node(&dir.join("node"), secret.expose(), &sink.address).await?;
    let node = Subject { process, postgres: None, sink: Some(sink) };
    let node_baseline = Arc::clone(&bench.node_baseline);
    bench.warm_up(&node, &node_baseline).await?;
    for (n, ours) in [1, 100].into_iter().zip(delivered) {
        // What it has not delivered when the load ends still waits in its memory, and is not counted against it.
        let what = format!("Node, express and Segment's SDK, {n} a webhook");
        let taken = node.post(&what, &node.load(&node_baseline, n, bench.duration)).await?;
        let theirs = taken.events_per_second;
        bench.report.push(taken);
        bench.report.ratio("stored and delivered, of Node's", *ours, theirs);
    }
    Ok(())
}
