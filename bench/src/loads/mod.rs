//! The loads of real installations: events one by one, at rates far below full speed, over several sources.
//!
//! Whatever is compared is measured in one run and in turn, for a machine does not keep its speed: the program, an earlier
//! one, the handler without storing, and the one that one would write by hand. Each program has a cluster and a sink of its
//! own, and only one of them is loaded at a time.

mod at_rate;
mod full_speed;
mod installation;
mod quiet;
pub mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use nudgespot_source::domain::secret::SigningSecret;
use tokio::signal::unix::{SignalKind, signal};

use crate::payload::Target;
use crate::subject::Subject;
use crate::{plot, processes};
use installation::Installation;
use report::LoadsReport;

#[derive(clap::Args)]
pub struct Args {
    /// The program to measure.
    #[arg(long, default_value = "target/release/nudgespot-source")]
    program: PathBuf,
    /// An earlier program to compare it with.
    #[arg(long)]
    before: Option<PathBuf>,
    /// The earlier program's benchmark, if its schema is another: it creates that program's sources.
    #[arg(long, requires = "before")]
    before_bench: Option<PathBuf>,
    /// Measure what one would write by hand, too: needs Node.js and the npm registry.
    #[arg(long)]
    node: bool,
    /// Events a second.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 1_000, 4_000])]
    rates: Vec<u32>,
    /// Over how many sources they are spread.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 20, 200])]
    sources: Vec<usize>,
    /// How long each measurement at a rate takes, all rounds together.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// In how many rounds: there and back between those that are compared.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only 1,000 events a second over 20 sources, and a short look at rest.
    #[arg(long, conflicts_with_all = ["rates", "sources", "many"])]
    quick: bool,
    /// Measure full speed over 10,000 sources, too.
    #[arg(long)]
    many: bool,
    /// Write the report to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw cost and latency against the rate into this folder, as SVG.
    #[arg(long)]
    plots: Option<PathBuf>,
}

/// What is measured with.
struct Loads {
    /// The program, and the earlier one if there is one.
    installations: Vec<Installation>,
    bare: Subject,
    node: Option<Subject>,
    /// Where to post to those two.
    anywhere: Arc<Vec<Target>>,
    rates: Vec<u32>,
    sources: Vec<usize>,
    duration: Duration,
    rounds: u32,
    report: LoadsReport,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("nudgespot-bench-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let done = tokio::select! {
        done = measure(&args, &dir) => done,
        // Ends what it has started.
        _ = terminate.recv() => Err(anyhow!("terminated")),
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
    };
    std::fs::remove_dir_all(&dir)?;
    let report = done?;
    if let Some(file) = args.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(dir) = args.plots {
        plot::draw_loads(&report, &dir)?;
    }
    let n_missing: u64 = report.at_rate.iter().map(|measured| measured.n_missing).sum();
    anyhow::ensure!(n_missing == 0, "{n_missing} events did not arrive: see above at which rate");
    Ok(())
}

async fn measure(args: &Args, dir: &Path) -> anyhow::Result<LoadsReport> {
    let this = std::env::current_exe()?;
    let mut installations = vec![Installation::start("program", &args.program, &this, dir).await?];
    if let Some(before) = &args.before {
        let benchmark = args.before_bench.as_ref().unwrap_or(&this);
        installations.push(Installation::start("before", before, benchmark, dir).await?);
    }
    let secret = SigningSecret::from_random([7; 32]);
    let bare = processes::role(&["bare", secret.expose()]).await?;
    let node = if args.node { Some(node(dir, &secret).await?) } else { None };
    let (rates, sources) =
        if args.quick { (vec![1_000], vec![20]) } else { (args.rates.clone(), args.sources.clone()) };
    let mut loads = Loads {
        installations,
        bare: Subject { process: bare, postgres: None, sink: None },
        node,
        anywhere: Arc::new(vec![Target::new("/webhooks/nudgespot/x", secret)]),
        rates,
        sources,
        duration: Duration::from_secs(args.seconds),
        rounds: args.rounds,
        report: LoadsReport::default(),
    };
    at_rate::run(&mut loads).await?;
    if !args.quick {
        quiet::lone_events(&mut loads, Duration::from_secs(30)).await?;
    }
    quiet::idle(&mut loads, Duration::from_secs(if args.quick { 10 } else { 20 })).await?;
    if !args.quick {
        full_speed::twenty_sources(&mut loads).await?;
    }
    if args.many {
        full_speed::many_sources(&mut loads).await?;
    }
    loads.report.print_ratios();
    for installation in loads.installations {
        installation.stop().await?;
    }
    Ok(loads.report)
}

async fn node(dir: &Path, secret: &SigningSecret) -> anyhow::Result<Subject> {
    let sink = processes::role(&["sink"]).await?;
    let process = processes::node(&dir.join("node"), secret.expose(), &sink.address).await?;
    Ok(Subject { process, postgres: None, sink: Some(sink) })
}
