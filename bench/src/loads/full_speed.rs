//! As fast as webhooks are answered: what storing costs beside the handler alone, and delivering beside storing.

use std::sync::Arc;
use std::time::Duration;

use super::Loads;
use super::report::{FullSpeed, LoadsReport, Ratio};
use crate::load;
use crate::payload::Target;
use crate::sources::WRITE_KEY;

const ROUNDS: usize = 3;
/// How long each measurement takes; what is delivered, twice that.
const TIME: Duration = Duration::from_secs(2);
/// Where so many sources deliver, each measurement takes longer: at first each has its lease taken, and the rests between its
/// batches have still to grow.
const MANY_SOURCES: usize = 1_000;
const TIME_OF_MANY: Duration = Duration::from_secs(8);

/// Events a second of each round.
#[derive(Default)]
struct Speeds {
    bare: Vec<f64>,
    stored: Vec<f64>,
    delivered: Vec<f64>,
}

/// Over twenty sources: stored alone beside the handler without storing, and delivered beside stored alone.
pub async fn twenty_sources(loads: &mut Loads) -> anyhow::Result<()> {
    let speeds = measure(loads, &[20]).await?;
    for (installation, speeds) in loads.installations.iter().zip(&speeds) {
        let (name, speeds) = (installation.name, &speeds[0]);
        let mut ratio = |what: &str, of, to| loads.report.ratio_of_rounds(format!("{name}: {what}"), of, to);
        ratio("stored alone, 20 sources, of the bare handler", &speeds.stored, &speeds.bare);
        ratio("stored and delivered, 20 sources, of stored alone", &speeds.delivered, &speeds.stored);
    }
    if let [ours, before] = &speeds[..] {
        let (ours, before) = (&ours[0], &before[0]);
        loads.report.ratio_of_rounds("stored alone, 20 sources, of before's".to_owned(), &ours.stored, &before.stored);
        let what = "stored and delivered, 20 sources, of before's".to_owned();
        loads.report.ratio_of_rounds(what, &ours.delivered, &before.delivered);
    }
    Ok(())
}

/// Over ten thousand sources beside one.
pub async fn many_sources(loads: &mut Loads) -> anyhow::Result<()> {
    let speeds = measure(loads, &[1, 10_000]).await?;
    for (installation, speeds) in loads.installations.iter().zip(&speeds) {
        let (name, one, many) = (installation.name, &speeds[0], &speeds[1]);
        let mut ratio = |what: &str, of, to| loads.report.ratio_of_rounds(format!("{name}: {what}"), of, to);
        ratio("stored alone, 10,000 sources, of one source's", &many.stored, &one.stored);
        ratio("stored and delivered, 10,000 sources, of one source's", &many.delivered, &one.delivered);
    }
    Ok(())
}

/// The speeds of each installation over each of these numbers of sources.
async fn measure(loads: &mut Loads, numbers: &[usize]) -> anyhow::Result<Vec<Vec<Speeds>>> {
    let mut targets: Vec<Vec<[Arc<Vec<Target>>; 2]>> = Vec::new();
    for installation in &mut loads.installations {
        let mut of_installation = Vec::new();
        for &n in numbers {
            let waits = installation.create_sources(&format!("wait-{n}"), n, None).await?;
            let flows = installation.create_sources(&format!("flow-{n}"), n, Some(WRITE_KEY)).await?;
            let subject = &installation.subject;
            let before = subject.n_arrived().await?;
            let warm_up = load::run(&subject.load(&flows, 1, TIME / 2)).await?;
            subject.arrived(before + warm_up.events).await?;
            of_installation.push([waits, flows]);
        }
        targets.push(of_installation);
    }
    let speeds_of_one = || numbers.iter().map(|_| Speeds::default()).collect();
    let mut speeds: Vec<Vec<Speeds>> = loads.installations.iter().map(|_| speeds_of_one()).collect();
    for _ in 0..ROUNDS {
        for i in 0..numbers.len() {
            for ((installation, targets), speeds) in loads.installations.iter().zip(&targets).zip(&mut speeds) {
                let ([waits, flows], speeds) = (&targets[i], &mut speeds[i]);
                let bare = loads.bare.post("", &loads.bare.load(&loads.anywhere, 1, TIME)).await?;
                speeds.bare.push(bare.events_per_second);
                let subject = &installation.subject;
                let stored = subject.post("", &subject.load(waits, 1, TIME)).await?;
                speeds.stored.push(stored.events_per_second);
                let half = if numbers[i] < MANY_SOURCES { TIME } else { TIME_OF_MANY };
                let delivered = subject.deliver("", &subject.load(flows, 1, half), half).await?;
                speeds.delivered.push(delivered.events_per_second);
            }
        }
    }
    println!("\nfull speed, 64 connections, events/s: the median (each round)");
    for (installation, speeds) in loads.installations.iter().zip(&speeds) {
        for (n, speeds) in numbers.iter().zip(speeds) {
            let what = [("bare", &speeds.bare), ("stored", &speeds.stored), ("delivered", &speeds.delivered)];
            for (what, of_rounds) in what {
                loads.report.push_speed(installation.name, what, *n, of_rounds);
            }
        }
    }
    Ok(speeds)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

impl LoadsReport {
    fn push_speed(&mut self, subject: &'static str, what: &'static str, sources: usize, of_rounds: &[f64]) {
        let events_per_second = median(of_rounds);
        let rounds: Vec<String> = of_rounds.iter().map(|rate| format!("{rate:.0}")).collect();
        println!("{subject:<9} {sources:>7} {what:<10} {events_per_second:>8.0} ({})", rounds.join(", "));
        self.full_speed.push(FullSpeed { subject, sources, what, events_per_second, of_rounds: of_rounds.to_vec() });
    }

    /// The median of the rounds' ratios: what is compared was measured one after the other.
    fn ratio_of_rounds(&mut self, what: String, of: &[f64], to: &[f64]) {
        let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
        self.ratios.push(Ratio { what, ratio: median(&ratios) });
    }
}
