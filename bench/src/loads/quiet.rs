//! What nothing costs, and what becomes of an event that comes alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Loads;
use super::report::{Idle, Lone, Times};
use crate::load::{self, Load, Until};
use crate::payload::Target;
use crate::sources::WRITE_KEY;
use crate::subject::Subject;

/// How many sources there are while nothing happens.
const N_SOURCES: usize = 1_000;

/// Without any event, while sources exist that had some: all programs at the same time.
pub async fn idle(loads: &mut Loads, time: Duration) -> anyhow::Result<()> {
    for installation in &mut loads.installations {
        let n = N_SOURCES.saturating_sub(installation.n_sources);
        let targets = installation.create_sources("idle", n, Some(WRITE_KEY)).await?;
        let subject = &installation.subject;
        let before = subject.n_arrived().await?;
        let fill = Load { until: Until::Events(3 * n as u64), ..subject.load(&targets, 1, time) };
        let posted = load::run(&fill).await?;
        subject.arrived(before + posted.events).await?;
    }
    // The last steps settle, and what came is added up (each 10 s): that is these events' cost, not that of rest.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let costs: Vec<_> = loads.installations.iter().map(|installation| installation.subject.cost()).collect();
    let began = Instant::now();
    tokio::time::sleep(time).await;
    let seconds = began.elapsed().as_secs_f64();
    println!();
    for (installation, cost) in loads.installations.iter().zip(costs) {
        let spent = cost.spent();
        let percent = |micros: f64| micros / 1e4 / seconds;
        let idle = Idle {
            subject: installation.name,
            sources: installation.n_sources,
            program_percent: percent(spent.program),
            postgres_percent: percent(spent.postgres),
        };
        println!(
            "{:<9} at rest with {} sources: {:.2} % of a core (program {:.2}, postgres {:.2})",
            idle.subject,
            idle.sources,
            idle.program_percent + idle.postgres_percent,
            idle.program_percent,
            idle.postgres_percent
        );
        loads.report.idle.push(idle);
    }
    Ok(())
}

/// Between two events of the same program.
const INTERVAL: Duration = Duration::from_millis(1_500);

/// Events that come alone, to one source; where there are two programs, in turn.
pub async fn lone_events(loads: &mut Loads, time: Duration) -> anyhow::Result<()> {
    let mut sources = Vec::new();
    for installation in &mut loads.installations {
        sources.push(installation.create_sources("lone", 1, Some(WRITE_KEY)).await?);
    }
    let lone = async |i: usize| {
        let Some((installation, targets)) = loads.installations.get(i).zip(sources.get(i)) else { return Ok(None) };
        let subject = &installation.subject;
        subject
            .arrived(subject.n_arrived().await? + load::run(&alone(subject, targets, INTERVAL)).await?.events)
            .await?;
        tokio::time::sleep(INTERVAL * u32::try_from(i)? / 2).await;
        let delivered = subject.deliver_open_loop(&alone(subject, targets, time)).await?;
        anyhow::Ok(Some(Lone {
            subject: installation.name,
            events: delivered.posted.events,
            answer: Times::of(&delivered.posted.latency),
            arrival: Times::of(&delivered.arrival),
        }))
    };
    let (program, before) = tokio::join!(lone(0), lone(1));
    println!();
    for lone in [program?, before?].into_iter().flatten() {
        if let Some((answer, arrival)) = lone.answer.zip(lone.arrival) {
            println!(
                "{:<9} {} events that came alone: the 200 after {:.2} ms (p50, at most {:.2}), the arrival {:.2} ms later (p50, at most {:.2})",
                lone.subject, lone.events, answer.p50_ms, answer.max_ms, arrival.p50_ms, arrival.max_ms
            );
        }
        loads.report.lone.push(lone);
    }
    Ok(())
}

fn alone(subject: &Subject, targets: &Arc<Vec<Target>>, time: Duration) -> Load {
    Load { rate: Some(1.0 / INTERVAL.as_secs_f64()), n_connections: 1, ..subject.load(targets, 1, time) }
}
