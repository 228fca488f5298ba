//! What an event costs at a given rate, and how long it takes.

use std::sync::Arc;
use std::time::Duration;

use super::Loads;
use super::report::{LoadsReport, Measured};
use crate::load::{self, Load, Until};
use crate::payload::Target;
use crate::sources::WRITE_KEY;
use crate::subject::Subject;

/// All rates over all numbers of sources.
pub async fn run(loads: &mut Loads) -> anyhow::Result<()> {
    let mut spreads = Vec::new();
    for &n_sources in &loads.sources {
        let mut targets = Vec::new();
        for installation in &mut loads.installations {
            let name = format!("of-{n_sources}");
            targets.push(installation.create_sources(&name, n_sources, Some(WRITE_KEY)).await?);
        }
        spreads.push((n_sources, targets));
    }
    for &rate in &loads.rates {
        let mut baselines = vec![("bare", &loads.bare, None, &loads.anywhere)];
        baselines.extend(loads.node.as_ref().map(|node| ("Node", node, None, &loads.anywhere)));
        in_turn(&mut loads.report, &baselines, rate, loads.duration, loads.rounds).await?;
        for (n_sources, targets) in &spreads {
            let programs = loads.installations.iter().zip(targets);
            let programs: Vec<_> = programs
                .map(|(installation, targets)| (installation.name, &installation.subject, Some(*n_sources), targets))
                .collect();
            in_turn(&mut loads.report, &programs, rate, loads.duration, loads.rounds).await?;
        }
    }
    Ok(())
}

/// A subject's name, how many sources it has, and where they are.
type Candidate<'a> = (&'static str, &'a Subject, Option<usize>, &'a Arc<Vec<Target>>);

/// Measures one after the other, for so long each, in as many rounds as are wanted.
async fn in_turn(
    report: &mut LoadsReport,
    candidates: &[Candidate<'_>],
    rate: u32,
    duration: Duration,
    rounds: u32,
) -> anyhow::Result<()> {
    let mut measured = Vec::new();
    for (name, _, n_sources, _) in candidates {
        measured.push(Measured::new(name, *n_sources, rate)?);
    }
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    for _ in 0..rounds {
        for &i in &order {
            let (_, subject, _, targets) = candidates[i];
            let load = Load { rate: Some(f64::from(rate)), ..subject.load(targets, 1, duration / rounds) };
            warm_up(subject, &load).await?;
            measured[i].add(subject.deliver_open_loop(&load).await?)?;
        }
        // What becomes faster or slower meanwhile favours nobody.
        order.reverse();
    }
    for measured in measured {
        report.push(measured);
    }
    Ok(())
}

/// Plans are made, connections open, and sources known.
async fn warm_up(subject: &Subject, load: &Load) -> anyhow::Result<()> {
    let before = subject.n_arrived().await?;
    let posted = load::run(&Load { until: Until::Time(Duration::from_secs(1)), ..load.clone() }).await?;
    if subject.sink.is_some() {
        subject.missing(before + posted.events).await?;
    }
    // What follows the last arrival belongs to it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(())
}
