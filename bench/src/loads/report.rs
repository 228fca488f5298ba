//! What was measured, as tables and as JSON.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::report::Cpu;
use crate::subject::Delivered;

/// A median and a 99th percentile, in milliseconds.
#[derive(Clone, Copy, Serialize)]
pub struct Times {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Times {
    /// Of microseconds; `None` if there are none.
    pub fn of(micros: &Histogram<u64>) -> Option<Self> {
        let ms = |quantile| micros.value_at_quantile(quantile) as f64 / 1e3;
        (!micros.is_empty()).then(|| Self { p50_ms: ms(0.5), p99_ms: ms(0.99), max_ms: ms(1.0) })
    }
}

/// One subject at one rate over one number of sources, over all rounds.
#[derive(Serialize)]
pub struct Measured {
    pub subject: &'static str,
    /// Of a program.
    pub sources: Option<usize>,
    /// Events a second, as wanted, and as they were.
    pub rate: u32,
    pub events_per_second: f64,
    pub events: u64,
    /// In how many requests they came to the sink.
    pub requests: u64,
    /// How many had not arrived when none came any more.
    pub n_missing: u64,
    /// Microseconds an event.
    pub cpu: Cpu,
    /// The program's and PostgreSQL's of each round.
    pub cpu_of_rounds: Vec<f64>,
    /// From when a webhook was due to its answer.
    pub answer: Option<Times>,
    /// From the answer to the arrival at the sink.
    pub arrival: Option<Times>,
    /// How late the clock of the generator was: what the machine adds.
    pub clock: Option<Times>,
    #[serde(skip)]
    sums: Sums,
}

struct Sums {
    seconds: f64,
    cpu: Cpu,
    answer: Histogram<u64>,
    arrival: Histogram<u64>,
    clock: Histogram<u64>,
}

impl Measured {
    pub fn new(subject: &'static str, sources: Option<usize>, rate: u32) -> anyhow::Result<Self> {
        let (answer, arrival, clock) = (Histogram::new(3)?, Histogram::new(3)?, Histogram::new(3)?);
        Ok(Self {
            subject,
            sources,
            rate,
            events_per_second: 0.0,
            events: 0,
            requests: 0,
            n_missing: 0,
            cpu: Cpu::default(),
            cpu_of_rounds: Vec::new(),
            answer: None,
            arrival: None,
            clock: None,
            sums: Sums { seconds: 0.0, cpu: Cpu::default(), answer, arrival, clock },
        })
    }

    /// Adds a round.
    pub fn add(&mut self, round: Delivered) -> anyhow::Result<()> {
        let Delivered { posted, cpu, arrival, n_requests, n_missing } = round;
        self.sums.seconds += posted.seconds;
        self.sums.cpu += cpu;
        self.sums.answer.add(posted.latency)?;
        self.sums.arrival.add(arrival)?;
        self.sums.clock.add(posted.clock)?;
        self.events += posted.events;
        self.requests += n_requests;
        self.n_missing += n_missing;
        self.events_per_second = self.events as f64 / self.sums.seconds;
        self.cpu = self.sums.cpu.of_each(self.events);
        self.cpu_of_rounds.push(cpu.of_each(posted.events).program_and_postgres());
        self.answer = Times::of(&self.sums.answer);
        self.arrival = Times::of(&self.sums.arrival);
        self.clock = Times::of(&self.sums.clock);
        Ok(())
    }
}

/// A rate at full speed, the median of its rounds.
#[derive(Serialize)]
pub struct FullSpeed {
    pub subject: &'static str,
    pub sources: usize,
    /// `stored` without being delivered, stored and `delivered`, or `bare`: the handler without storing, measured beside.
    pub what: &'static str,
    pub events_per_second: f64,
    pub of_rounds: Vec<f64>,
}

/// What is spent while nothing happens, in percent of a core.
#[derive(Serialize)]
pub struct Idle {
    pub subject: &'static str,
    pub sources: usize,
    pub program_percent: f64,
    pub postgres_percent: f64,
}

/// From the answer to the arrival of events that come alone.
#[derive(Serialize)]
pub struct Lone {
    pub subject: &'static str,
    pub events: u64,
    pub answer: Option<Times>,
    pub arrival: Option<Times>,
}

#[derive(Serialize)]
pub struct Ratio {
    pub what: String,
    pub ratio: f64,
}

/// All measurements of a run.
#[derive(Default, Serialize)]
pub struct LoadsReport {
    pub at_rate: Vec<Measured>,
    pub full_speed: Vec<FullSpeed>,
    pub idle: Vec<Idle>,
    pub lone: Vec<Lone>,
    pub ratios: Vec<Ratio>,
}

impl LoadsReport {
    /// Adds a measurement, and shows it at once.
    pub fn push(&mut self, measured: Measured) {
        if self.at_rate.is_empty() {
            println!(
                "{:<9} {:>7} {:>8} {:^41}  {:^15}  {:^17} {:>9} {:>9}",
                "",
                "sources",
                "events/s",
                "CPU, µs an event",
                "the 200, ms",
                "200 to arrival, ms",
                "events",
                "clock, ms"
            );
            println!(
                "{:<26} {:>8} {:>8} {:>8} {:>9} {:>4}  {:>7} {:>7}  {:>8} {:>8} {:>9} {:>9}",
                "", "both", "program", "postgres", "generator", "sink", "p50", "p99", "p50", "p99", "a request", "p99"
            );
        }
        let cell = |value: Option<f64>, digits| value.map_or(String::new(), |value| format!("{value:.digits$}"));
        let a_request = (measured.requests > 0).then(|| measured.events as f64 / measured.requests as f64);
        println!(
            "{:<9} {:>7} {:>8.0} {:>8.1} {:>8.1} {:>8.1} {:>9.1} {:>4.1}  {:>7} {:>7}  {:>8} {:>8} {:>9} {:>9}",
            measured.subject,
            measured.sources.map_or(String::new(), |n| n.to_string()),
            measured.events_per_second,
            measured.cpu.program_and_postgres(),
            measured.cpu.program,
            measured.cpu.postgres,
            measured.cpu.generator,
            measured.cpu.sink,
            cell(measured.answer.map(|times| times.p50_ms), 2),
            cell(measured.answer.map(|times| times.p99_ms), 2),
            cell(measured.arrival.map(|times| times.p50_ms), 2),
            cell(measured.arrival.map(|times| times.p99_ms), 2),
            cell(a_request, 1),
            cell(measured.clock.map(|times| times.p99_ms), 2),
        );
        if measured.n_missing > 0 {
            println!("  {} of {} events did not arrive", measured.n_missing, measured.events);
        }
        self.at_rate.push(measured);
    }

    /// Works out the ratios, and shows them.
    pub fn print_ratios(&mut self) {
        let mut ratios = Vec::new();
        for ours in self.at_rate.iter().filter(|measured| measured.subject == "program") {
            let Some(n_sources) = ours.sources else { continue };
            let load = format!("{} events/s over {n_sources} sources", ours.rate);
            for (subject, sources) in [("Node", None), ("before", Some(n_sources)), ("bare", None)] {
                let theirs = self
                    .at_rate
                    .iter()
                    .find(|theirs| theirs.subject == subject && theirs.rate == ours.rate && theirs.sources == sources);
                let cost = |measured: &Measured| measured.cpu.program_and_postgres();
                ratios.extend(theirs.map(|theirs| Ratio {
                    what: format!("CPU an event at {load}, of {subject}'s"),
                    ratio: cost(ours) / cost(theirs),
                }));
            }
        }
        let percent = |idle: &Idle| idle.program_percent + idle.postgres_percent;
        if let [ours, before] = &self.idle[..] {
            let what = format!("CPU at rest with {} sources, of before's", ours.sources);
            ratios.push(Ratio { what, ratio: percent(ours) / percent(before) });
        }
        ratios.append(&mut self.ratios);
        println!();
        for Ratio { what, ratio } in &ratios {
            println!("{what:<72} {ratio:>7.3}");
        }
        self.ratios = ratios;
    }
}
