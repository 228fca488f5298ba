//! As fast as webhooks are answered: what storing costs beside the handler alone, and delivering beside storing.

use std::sync::Arc;
use std::time::Duration;

use super::Loads;
use super::report::{FullSpeed, LoadsReport, Ratio};
use crate::payload::Target;
use crate::sources::WRITE_KEY;

const ROUNDS: usize = 3;
/// How long each measurement takes; what is delivered, twice that.
const TIME: Duration = Duration::from_secs(2);

/// Stored alone and delivered, over twenty sources.
pub async fn twenty_sources(loads: &mut Loads) -> anyhow::Result<()> {
    let mut targets = Vec::new();
    for installation in &mut loads.installations {
        let waits = installation.create_sources("wait-20", 20, None).await?;
        targets.push((waits, installation.create_sources("flow-20", 20, Some(WRITE_KEY)).await?));
    }
    let mut speeds = vec![Speeds::default(); loads.installations.len()];
    for _ in 0..ROUNDS {
        for ((installation, (waits, flows)), speeds) in loads.installations.iter().zip(&targets).zip(&mut speeds) {
            let bare = loads.bare.post("", &loads.bare.load(&loads.anywhere, 1, TIME)).await?;
            speeds.bare.push(bare.events_per_second);
            let subject = &installation.subject;
            let stored = subject.post("", &subject.load(waits, 1, TIME)).await?;
            speeds.stored.push(stored.events_per_second);
            let delivered = subject.deliver("", &subject.load(flows, 1, TIME), TIME).await?;
            speeds.delivered.push(delivered.events_per_second);
        }
    }
    println!();
    for (installation, speeds) in loads.installations.iter().zip(speeds) {
        let (name, report) = (installation.name, &mut loads.report);
        report.ratio_of_rounds(
            format!("{name}: stored alone over 20 sources, of the bare handler"),
            &speeds.stored,
            &speeds.bare,
        );
        report.ratio_of_rounds(
            format!("{name}: stored and delivered, of stored alone"),
            &speeds.delivered,
            &speeds.stored,
        );
        report.push_speed(name, "the bare handler beside it", speeds.bare);
        report.push_speed(name, "stored alone, 20 sources", speeds.stored);
        report.push_speed(name, "stored and delivered, 20 sources", speeds.delivered);
    }
    Ok(())
}

#[derive(Clone, Default)]
struct Speeds {
    bare: Vec<f64>,
    stored: Vec<f64>,
    delivered: Vec<f64>,
}

/// Stored alone and delivered, over ten thousand sources and over one.
pub async fn many_sources(loads: &mut Loads) -> anyhow::Result<()> {
    for i in 0..loads.installations.len() {
        let installation = &mut loads.installations[i];
        let mut targets: Vec<[Arc<Vec<Target>>; 2]> = Vec::new();
        for n in [1, 10_000] {
            let waits = installation.create_sources(&format!("wait-{n}"), n, None).await?;
            targets.push([waits, installation.create_sources(&format!("flow-{n}"), n, Some(WRITE_KEY)).await?]);
        }
        let mut speeds = vec![Speeds::default(); 2];
        let subject = &installation.subject;
        for _ in 0..ROUNDS {
            for ([waits, flows], speeds) in targets.iter().zip(&mut speeds) {
                let stored = subject.post("", &subject.load(waits, 1, TIME)).await?;
                speeds.stored.push(stored.events_per_second);
                let delivered = subject.deliver("", &subject.load(flows, 1, TIME), TIME).await?;
                speeds.delivered.push(delivered.events_per_second);
            }
        }
        let (name, report) = (installation.name, &mut loads.report);
        let [one, many] = <[Speeds; 2]>::try_from(speeds).unwrap_or_default();
        println!();
        report.ratio_of_rounds(
            format!("{name}: stored over 10,000 sources, of one source's"),
            &many.stored,
            &one.stored,
        );
        let what = format!("{name}: stored and delivered over 10,000 sources, of one source's");
        report.ratio_of_rounds(what, &many.delivered, &one.delivered);
        for (n, speeds) in [("one source", one), ("10,000 sources", many)] {
            report.push_speed(name, &format!("stored alone, {n}"), speeds.stored);
            report.push_speed(name, &format!("stored and delivered, {n}"), speeds.delivered);
        }
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

impl LoadsReport {
    fn push_speed(&mut self, subject: &'static str, what: &str, of_rounds: Vec<f64>) {
        let events_per_second = median(&of_rounds);
        let rounds: Vec<String> = of_rounds.iter().map(|rate| format!("{rate:.0}")).collect();
        println!("{subject:<9} {what:<36} {events_per_second:>8.0}/s at full speed ({})", rounds.join(", "));
        self.full_speed.push(FullSpeed { subject, what: what.to_owned(), events_per_second, of_rounds });
    }

    /// The median of the rounds' ratios: what is compared was measured one after the other.
    fn ratio_of_rounds(&mut self, what: String, of: &[f64], to: &[f64]) {
        let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
        self.ratios.push(Ratio { what, ratio: median(&ratios) });
    }
}
