//! The other direction: calls of identified users, from Segment to Nudgespot.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use nudgespot_source::admin::{CallOptions, Edit, NewSource};
use nudgespot_source::domain::name::Name;
use nudgespot_source::domain::nudgespot_key::NudgespotKey;
use nudgespot_source::sources::Kind;
use time::OffsetDateTime;

use crate::bench::Bench;
use crate::load::{self, Load, Until};
use crate::payload::{N_USERS, Payload, Target};
use crate::report::Row;

/// How many calls wait before it is measured how fast they go out.
const N_WAITING: u64 = 50_000;
/// Calls a second that are to be delivered while they come in.
const FLOW: f64 = 5_000.0;

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let waits = source(bench, "calls-wait", None).await?;
    for n in [1, 100] {
        let handler = bench.bare.load(&bench.calls_baseline, n, bench.duration);
        let what = format!("the limit: the handler of calls without storing, {n} a request");
        let limit = bench.bare.post(&what, &Load { payload: Payload::Tracks, ..handler }).await?;
        bench.report.push(limit);
        let row = bench.stored(&format!("calls stored, {n} a request"), &tracks(bench, &waits, n)).await?;
        bench.report.push(row);
    }
    let flows = source(bench, "calls-flow", Some(key()?)).await?;
    let flow = Load { rate: Some(FLOW), ..tracks(bench, &flows, 1) };
    let what = format!("calls stored and delivered, open loop at {FLOW:.0} a second");
    let row = bench.delivered(&what, &flow).await?;
    bench.report.push(row);
    drain(bench).await
}

/// How fast calls go out that have waited.
async fn drain(bench: &mut Bench) -> anyhow::Result<()> {
    let drained = source(bench, "calls-drained", None).await?;
    let fill = Load { until: Until::Events(N_WAITING), ..tracks(bench, &drained, 100) };
    let n_waiting = load::run(&fill).await?.events + N_USERS;
    let before = bench.service.n_arrived().await?;
    let cost = bench.service.cost();
    let began = Instant::now();
    let edit = Edit { calls: CallOptions { nudgespot_key: Some(key()?), ..Default::default() }, ..Default::default() };
    bench.sources.admin.edit_source("calls-drained", edit, OffsetDateTime::now_utc()).await?;
    bench.service.arrived(before + n_waiting).await?;
    let row = Row {
        what: format!("drain of {n_waiting} waiting calls"),
        events_per_second: n_waiting as f64 / began.elapsed().as_secs_f64(),
        ..Row::default()
    };
    bench.report.push(cost.of(n_waiting, row));
    Ok(())
}

/// Creates a source whose users are identified; without a key its calls wait.
async fn source(bench: &Bench, name: &str, nudgespot_key: Option<NudgespotKey>) -> anyhow::Result<Arc<Vec<Target>>> {
    let is_delivered = nudgespot_key.is_some();
    let calls = CallOptions { nudgespot_key, ..Default::default() };
    let first = NewSource { calls, ..NewSource::of(Kind::Segment) };
    let created = bench.sources.admin.create_account(&Name::parse(name)?, first).await?;
    let secret = created.signing_secret.context("it is made")?;
    let targets = Arc::new(vec![Target::new(created.webhook_path, secret)]);
    let before = bench.service.n_arrived().await?;
    let identifies = Load { until: Until::Events(N_USERS), payload: Payload::Identifies, ..bench.load(&targets, 100) };
    let n_sent = load::run(&identifies).await?.events;
    if is_delivered {
        bench.service.arrived(before + n_sent).await?;
    }
    Ok(targets)
}

fn tracks(bench: &Bench, targets: &Arc<Vec<Target>>, n: usize) -> Load {
    Load { payload: Payload::Tracks, ..bench.load(targets, n) }
}

fn key() -> anyhow::Result<NudgespotKey> {
    Ok(NudgespotKey::parse("bench-rest-key")?)
}
