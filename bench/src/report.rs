//! What was measured, as a table and as JSON.

use std::ops::AddAssign;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cpu;
use crate::load::Outcome;

/// One measurement. What does not apply is left out.
#[derive(Clone, Default, Serialize)]
pub struct Row {
    pub what: String,
    /// Where it belongs to a series: the series' name, and the place in it (a rate, a backlog, a number of sources).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<(&'static str, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhooks_per_second: Option<f64>,
    /// 0 where it does not apply.
    #[serde(skip_serializing_if = "is_zero")]
    pub events_per_second: f64,
    /// The rate as a share of that of the handler without storing, measured in between: what the machine does at the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_to_baseline: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(rate: &f64) -> bool {
    *rate == 0.0
}

/// Microseconds of CPU (a [`Row`]'s: of an event), by process: the program (or what stands for it), PostgreSQL, the load
/// generator and the sink.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Cpu {
    pub program: f64,
    pub postgres: f64,
    pub generator: f64,
    pub sink: f64,
}

impl Cpu {
    pub fn of_each(self, n_events: u64) -> Self {
        let of_each = |micros: f64| micros / n_events as f64;
        Self {
            program: of_each(self.program),
            postgres: of_each(self.postgres),
            generator: of_each(self.generator),
            sink: of_each(self.sink),
        }
    }

    /// What an operator pays for.
    pub fn program_and_postgres(self) -> f64 {
        self.program + self.postgres
    }
}

impl AddAssign for Cpu {
    fn add_assign(&mut self, more: Self) {
        self.program += more.program;
        self.postgres += more.postgres;
        self.generator += more.generator;
        self.sink += more.sink;
    }
}

/// Watches what the processes cost.
pub struct Cost {
    pids: [u32; 4],
    before: [f64; 4],
}

impl Cost {
    /// From now on; 0 for a process that does not take part.
    pub fn start(program: u32, postgres: u32, sink: u32) -> Self {
        let pids = [program, postgres, std::process::id(), sink];
        Self { pids, before: Self::seconds(pids) }
    }

    fn seconds(pids: [u32; 4]) -> [f64; 4] {
        let [program, postgres, generator, sink] = pids;
        let of = |pid| if pid == 0 { 0.0 } else { cpu::seconds_of(pid) };
        [of(program), if postgres == 0 { 0.0 } else { cpu::seconds_of_tree(postgres) }, of(generator), of(sink)]
    }

    /// Until now.
    pub fn spent(&self) -> Cpu {
        let after = Self::seconds(self.pids);
        let [program, postgres, generator, sink] = [0, 1, 2, 3].map(|i| (after[i] - self.before[i]) * 1e6);
        Cpu { program, postgres, generator, sink }
    }

    /// Until now, of an event.
    pub fn of(&self, n_events: u64, row: Row) -> Row {
        Row { cpu: Some(self.spent().of_each(n_events)), ..row }
    }
}

impl Row {
    /// What a load came to.
    pub fn of(what: &str, outcome: &Outcome) -> Self {
        Self {
            webhooks_per_second: Some(outcome.webhooks as f64 / outcome.seconds),
            events_per_second: outcome.events_per_second(),
            ..Self::of_times(what, &outcome.latency)
        }
    }

    /// Times in microseconds, of nothing that has a rate.
    pub fn of_times(what: &str, times: &Histogram<u64>) -> Self {
        let ms = |quantile| Some(times.value_at_quantile(quantile) as f64 / 1e3);
        Self { what: what.to_owned(), p50_ms: ms(0.5), p99_ms: ms(0.99), ..Self::default() }
    }

    /// As a point of a series.
    pub fn at(self, series: &'static str, x: f64) -> Self {
        Self { series: Some((series, x)), ..self }
    }
}

/// All measurements of a run.
#[derive(Default, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    pub ratios: Vec<(String, f64)>,
    pub program_memory_mib: f64,
}

impl Report {
    /// Adds a measurement, and shows it at once.
    pub fn push(&mut self, row: Row) {
        if self.rows.is_empty() {
            println!(
                "{:<58} {:>10} {:>10} {:>9} {:>8} {:>8}   CPU, µs an event",
                "", "webhooks/s", "events/s", "of limit", "p50 ms", "p99 ms"
            );
            println!("{:<108} {:>8} {:>9} {:>9} {:>6}", "", "program", "postgres", "generator", "sink");
        }
        let cell = |value: Option<f64>, digits| value.map_or(String::new(), |value| format!("{value:.digits$}"));
        println!(
            "{:<58} {:>10} {:>10} {:>9} {:>8} {:>8} {:>8} {:>9} {:>9} {:>6}",
            row.what,
            cell(row.webhooks_per_second, 0),
            cell(Some(row.events_per_second).filter(|rate| !is_zero(rate)), 0),
            cell(row.relative_to_baseline, 2),
            cell(row.p50_ms, 2),
            cell(row.p99_ms, 2),
            cell(row.cpu.map(|cpu| cpu.program), 1),
            cell(row.cpu.map(|cpu| cpu.postgres), 1),
            cell(row.cpu.map(|cpu| cpu.generator), 1),
            cell(row.cpu.map(|cpu| cpu.sink), 1)
        );
        self.rows.push(row);
    }

    /// Adds a ratio.
    pub fn ratio(&mut self, what: &str, of: f64, to: f64) {
        println!("{:<58} {:>10.2}", format!("  {what}"), of / to);
        self.ratios.push((what.to_owned(), of / to));
    }

    /// Adds the ratios of a series' points, if both were measured: of their rates, and of their shares of the limit. The
    /// one is right where the machine keeps its speed, the other where it does not.
    pub fn ratios(&mut self, what: &str, series: &str, of: f64, to: f64) {
        let point = |x| {
            let (_, row) = self.series(series).find(|(at, _)| *at == x)?;
            Some((row.events_per_second, row.relative_to_baseline))
        };
        let Some(((rate, share), (to_rate, to_share))) = point(of).zip(point(to)) else { return };
        self.ratio(what, rate, to_rate);
        if let Some((share, to_share)) = share.zip(to_share) {
            self.ratio(&format!("{what}, by share of the limit"), share, to_share);
        }
    }

    /// The points of a series.
    pub fn series(&self, name: &str) -> impl Iterator<Item = (f64, &Row)> {
        self.rows.iter().filter_map(move |row| row.series.filter(|(series, _)| *series == name).map(|(_, x)| (x, row)))
    }
}
