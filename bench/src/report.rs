//! The measurements, and what is printed of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nudgespot_source::domain::secret::SigningSecret;

use crate::cpu;
use crate::load::{self, Load, Outcome, Target};
use crate::parties::{self, Program};

#[derive(clap::Args)]
pub struct Args {
    /// The program.
    #[arg(long, default_value = "target/release/nudgespot-source")]
    program: PathBuf,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("nudgespot-bench-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let done = measure(&args, &dir).await;
    std::fs::remove_dir_all(&dir)?;
    done
}

async fn measure(args: &Args, dir: &std::path::Path) -> anyhow::Result<()> {
    let duration = Duration::from_secs(args.seconds);
    let sink = parties::role(&["sink"]).await?;
    let secret = SigningSecret::from_random([7; 32]);
    let bare = parties::role(&["bare", secret.expose()]).await?;
    let program = Program::new(&args.program, dir, &sink.address);
    let service = program.serve().await?;
    let waits = program.create_account("waits", None).await?;
    let flows = program.create_account("flows", Some("bench-write-key")).await?;
    load::start_ids_at(1);

    let load = |address: &str, target: &Target, events_per_webhook| Load {
        address: address.to_owned(),
        targets: Arc::new(vec![target.clone()]),
        n_connections: 64,
        events_per_webhook,
        duration,
        rate: None,
    };
    let bare_target = Target { path: "/webhooks/nudgespot/x".to_owned(), secret };
    load::run(&Load { duration: Duration::from_secs(1), ..load(&bare.address, &bare_target, 1) }).await?;
    load::run(&Load { duration: Duration::from_secs(2), ..load(&service.address, &waits, 1) }).await?;

    let bare_single = load::run(&load(&bare.address, &bare_target, 1)).await?;
    print("bare handler, 1 event a webhook", &bare_single);
    let cost = Cost::start(service.pid(), program.postgres_pid());
    let single = load::run(&load(&service.address, &waits, 1)).await?;
    print("durable, 1 event a webhook", &single);
    println!("  {:.2} of the bare handler", single.webhooks_per_second() / bare_single.webhooks_per_second());
    cost.print(single.events);
    let bare_hundred = load::run(&load(&bare.address, &bare_target, 100)).await?;
    print("bare handler, 100 events a webhook", &bare_hundred);
    let cost = Cost::start(service.pid(), program.postgres_pid());
    let hundred = load::run(&load(&service.address, &waits, 100)).await?;
    print("durable, 100 events a webhook", &hundred);
    cost.print(hundred.events);

    for events_per_webhook in [1, 100] {
        let before = parties::count(&sink.address).await?;
        let cost = Cost::start(service.pid(), program.postgres_pid());
        let began = Instant::now();
        let accepted = load::run(&load(&service.address, &flows, events_per_webhook)).await?;
        print(&format!("accepted while delivering, {events_per_webhook} a webhook"), &accepted);
        let at_end = parties::count(&sink.address).await? - before;
        while parties::count(&sink.address).await? - before < accepted.events {
            anyhow::ensure!(began.elapsed() < duration * 10, "events did not arrive");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let rate = accepted.events as f64 / began.elapsed().as_secs_f64();
        println!("  end to end {rate:.0} events/s; {at_end} of {} had arrived when the load ended", accepted.events);
        cost.print(accepted.events);
    }
    let open = Load { rate: Some(1000.0), ..load(&service.address, &flows, 1) };
    print("open loop, 1,000 webhooks/s", &load::run(&open).await?);
    println!("memory of the program: {:.0} MiB at most", cpu::peak_memory_mib(service.pid()));
    parties::stop(service).await.context("the program")?;
    Ok(())
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

    fn print(&self, n_events: u64) {
        let micros = |after: f64, before: f64| (after - before) * 1e6 / n_events as f64;
        println!(
            "  CPU an event: program {:.1} µs, PostgreSQL {:.1} µs",
            micros(cpu::seconds_of(self.program), self.before.0),
            micros(cpu::seconds_of_tree(self.postgres), self.before.1)
        );
    }
}

fn print(what: &str, outcome: &Outcome) {
    println!(
        "{what}: {:.0} webhooks/s, {:.0} events/s; p50 {:.2} ms, p99 {:.2} ms",
        outcome.webhooks_per_second(),
        outcome.events_per_second(),
        outcome.latency.value_at_quantile(0.5) as f64 / 1e3,
        outcome.latency.value_at_quantile(0.99) as f64 / 1e3
    );
}
