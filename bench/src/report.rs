//! What was measured, as a table and as JSON.

use serde::Serialize;

use crate::load::Outcome;

/// One measurement. What does not apply is left out.
#[derive(Default, Serialize)]
pub struct Row {
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhooks_per_second: Option<f64>,
    pub events_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Microseconds of CPU an event, of the program (or what stands for it) and of PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_us: Option<f64>,
}

impl Row {
    /// What a load came to.
    pub fn of(what: &str, outcome: &Outcome) -> Self {
        let ms = |quantile| Some(outcome.latency.value_at_quantile(quantile) as f64 / 1e3);
        Self {
            what: what.to_owned(),
            webhooks_per_second: Some(outcome.webhooks as f64 / outcome.seconds),
            events_per_second: outcome.events as f64 / outcome.seconds,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            ..Self::default()
        }
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
                "{:<52} {:>10} {:>10} {:>8} {:>8} {:>8} {:>8}",
                "", "webhooks/s", "events/s", "p50 ms", "p99 ms", "program", "postgres"
            );
            println!("{:<52} {:>10} {:>10} {:>8} {:>8} {:>8} {:>8}", "", "", "", "", "", "µs/event", "µs/event");
        }
        let cell = |value: Option<f64>, digits| value.map_or(String::new(), |value| format!("{value:.digits$}"));
        println!(
            "{:<52} {:>10} {:>10.0} {:>8} {:>8} {:>8} {:>8}",
            row.what,
            cell(row.webhooks_per_second, 0),
            row.events_per_second,
            cell(row.p50_ms, 2),
            cell(row.p99_ms, 2),
            cell(row.program_us, 1),
            cell(row.postgres_us, 1)
        );
        self.rows.push(row);
    }

    /// Adds a ratio.
    pub fn ratio(&mut self, what: &str, of: f64, to: f64) {
        println!("{:<52} {:>10.2}", format!("  {what}"), of / to);
        self.ratios.push((what.to_owned(), of / to));
    }
}
