//! Series of measurements: over the load, the number of sources, and what waits already.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::load::{self, Load, Spread, Until};
use crate::payload::Target;
use crate::report::Row;
use crate::sources::WRITE_KEY;
use crate::subject::Delivered;

/// Open loop at a rate of webhooks a second: the latency of the 200, and that from the 200 to the arrival at the sink.
pub async fn latency(bench: &mut Bench, flows: &Arc<Vec<Target>>, what: &str, rate: f64) -> anyhow::Result<()> {
    let Delivered { posted, cpu, arrival, n_missing, .. } =
        bench.service.deliver_open_loop(&Load { rate: Some(rate), ..bench.load(flows, 1) }).await?;
    anyhow::ensure!(n_missing == 0, "{n_missing} events did not arrive");
    let row = Row::of(&format!("{what}, open loop at {rate:.0} webhooks/s"), &posted);
    let cpu = Some(cpu.of_each(posted.events));
    bench.report.push(Row { cpu, ..row }.at("load, answer", rate));
    let row = Row::of_times("  from the answer to the arrival at the stand-in", &arrival);
    bench.report.push(row.at("load, arrival", rate));
    bench.report.push(Row::of_times("  how late the clock of the generator was", &posted.clock));
    Ok(())
}

/// From a quarter of what it can take to nearly all.
pub async fn load(bench: &mut Bench, flows: &Arc<Vec<Target>>) -> anyhow::Result<()> {
    for rate in [2_000.0, 5_000.0, 10_000.0, 15_000.0, 20_000.0] {
        latency(bench, flows, "stored and delivered", rate).await?;
    }
    Ok(())
}

pub async fn sources(bench: &mut Bench) -> anyhow::Result<()> {
    for n in [1, 100, 10_000] {
        let waits = bench.sources.create(&format!("{n}-wait"), n, None).await?;
        let flows = bench.sources.create(&format!("{n}-flow"), n, Some(WRITE_KEY)).await?;
        // Found out about before they are asked for, as they would be.
        tokio::time::sleep(Duration::from_secs(2)).await;
        for (per_webhook, stored, delivered) in [
            (1, "sources, stored, 1 a webhook", "sources, delivered, 1 a webhook"),
            (100, "sources, stored, 100 a webhook", "sources, delivered, 100 a webhook"),
        ] {
            let what = format!("stored, {per_webhook} a webhook, {n} sources");
            let row = bench.stored(&what, &bench.load(&waits, per_webhook)).await?;
            bench.report.push(row.at(stored, n as f64));
            let what = format!("stored and delivered, {per_webhook} a webhook, {n} sources");
            let row = bench.delivered(&what, &bench.load(&flows, per_webhook)).await?;
            bench.report.push(row.at(delivered, n as f64));
        }
        if n > 1 {
            let zipf = Load { spread: Spread::Zipf, ..bench.load(&flows, 100) };
            let what = format!("stored and delivered, 100 a webhook, {n} sources, Zipf");
            let row = bench.delivered(&what, &zipf).await?;
            bench.report.push(row.at("sources, delivered, 100 a webhook, Zipf", n as f64));
        }
    }
    for series in ["stored, 1", "stored, 100", "delivered, 1", "delivered, 100"] {
        let what = format!("{series} a webhook: 10,000 sources, of one");
        bench.report.ratios(&what, &format!("sources, {series} a webhook"), 10_000.0, 1.0);
    }
    Ok(())
}

/// How fast a backlog of a hundred sources goes out.
pub async fn drain(bench: &mut Bench) -> anyhow::Result<()> {
    const N_ACCOUNTS: usize = 100;
    const N_EVENTS: u64 = 1_000_000;
    let drained = bench.sources.create("drained", N_ACCOUNTS, None).await?;
    let filled = load::run(&Load { until: Until::Events(N_EVENTS), ..bench.load(&drained, 100) }).await?;
    let before = bench.service.n_arrived().await?;
    let cost = bench.service.cost();
    let began = Instant::now();
    bench.sources.set_key("drained", N_ACCOUNTS).await?;
    bench.service.arrived(before + filled.events).await?;
    let row = Row {
        what: format!("drain of {} waiting events of {N_ACCOUNTS} sources", filled.events),
        events_per_second: filled.events as f64 / began.elapsed().as_secs_f64(),
        ..Row::default()
    };
    bench.report.push(cost.of(filled.events, row));
    Ok(())
}

/// Storing on top of a backlog, and delivering beside one.
pub async fn backlog(bench: &mut Bench) -> anyhow::Result<()> {
    const SERIES: [&str; 3] =
        ["backlog, stored, 1 a webhook", "backlog, stored, 100 a webhook", "backlog, delivered, 100 a webhook"];
    let waits = bench.sources.create("backlog", 1, None).await?;
    let flows = bench.sources.create("beside", 1, Some(WRITE_KEY)).await?;
    let mut n_waiting = 0;
    for n in [0, 1_000_000, 10_000_000] {
        if n > n_waiting {
            let fill = Load { until: Until::Events(n - n_waiting), ..bench.load(&waits, 100) };
            n_waiting += load::run(&fill).await?.events;
        }
        let single = bench.stored(&format!("stored, 1 a webhook, on {n} waiting"), &bench.load(&waits, 1)).await?;
        let many = bench.stored(&format!("stored, 100 a webhook, on {n} waiting"), &bench.load(&waits, 100)).await?;
        n_waiting += ((single.events_per_second + many.events_per_second) * bench.duration.as_secs_f64()) as u64;
        let what = format!("stored and delivered, 100 a webhook, beside {n} waiting");
        let delivered = bench.delivered(&what, &bench.load(&flows, 100)).await?;
        for (series, row) in SERIES.into_iter().zip([single, many, delivered]) {
            bench.report.push(row.at(series, n as f64));
            if n > 0 {
                bench.report.ratios(&format!("of that with none waiting ({series})"), series, n as f64, 0.0);
            }
        }
    }
    Ok(())
}
