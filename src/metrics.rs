//! What the program counts, for Prometheus.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use crate::domain::event::Kind;
use crate::store::stats::{Backlog, SourceBacklog};

type Labels<const N: usize> = [(&'static str, String); N];
type Seconds = Gauge<f64, AtomicU64>;

/// The program's metrics. Counters start at zero with the process.
pub struct Metrics {
    registry: Registry,
    webhooks: Family<[(&'static str, u32); 1], Counter>,
    events: Family<[(&'static str, &'static str); 2], Counter>,
    /// Events of one commit.
    pub commit_events: Histogram,
    /// From the start of a commit's statement to its end, in seconds.
    pub commit_seconds: Histogram,
    segment_answers: Family<Labels<1>, Counter>,
    segment_failures: Family<[(&'static str, &'static str); 1], Counter>,
    nudgespot_answers: Family<Labels<1>, Counter>,
    nudgespot_failures: Family<[(&'static str, &'static str); 1], Counter>,
    /// Users whom a call asked to delete, and who are still to be deleted at Nudgespot.
    pub users_to_delete: Counter,
    /// From sending a call to its answer, in seconds.
    pub nudgespot_seconds: Histogram,
    /// Numbers of the log that had no event.
    pub missing_events: Counter,
    delivery_steps: Family<[(&'static str, &'static str); 1], Counter>,
    unreadable_blocks: Family<[(&'static str, &'static str); 1], Counter>,
    unopened_secrets: Family<[(&'static str, &'static str); 1], Counter>,
    unknown_settings: Family<[(&'static str, &'static str); 1], Counter>,
    /// From sending a batch to its answer, in seconds.
    pub segment_seconds: Histogram,
    /// From the receipt of the oldest event of a batch to Segment's taking it, in seconds.
    pub delivery_seconds: Histogram,
    backlog_events: Gauge,
    backlog_seconds: Seconds,
    sources: Gauge,
    paused_sources: Gauge,
    source_backlog_events: Family<Labels<1>, Gauge>,
    source_backlog_seconds: Family<Labels<1>, Seconds>,
}

/// Events, counted by kind (`None`: one that Segment does not know, or not looked at) and fate.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<(Option<Kind>, EventDisposition), u64>);

impl Tally {
    /// Counts `n` more.
    pub fn add(&mut self, kind: Option<Kind>, disposition: EventDisposition, n: usize) {
        if n > 0 {
            *self.0.entry((kind, disposition)).or_default() += u64::try_from(n).unwrap_or(u64::MAX);
        }
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "docs/contract.md, Answers and Segment's answers")]
pub enum EventDisposition {
    Accepted,
    Duplicate,
    Held,
    Released,
    Ignored,
    Rejected,
    Delivered,
    DeadLettered,
}

impl EventDisposition {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Held => "held",
            Self::Released => "released",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
            Self::Delivered => "delivered",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

impl Default for Metrics {
    #[expect(clippy::too_many_lines, reason = "a list of what is counted")]
    fn default() -> Self {
        let mut registry = Registry::with_prefix("nudgespot_source");
        let seconds = || Histogram::new(exponential_buckets(0.000_5, 2.0, 16));
        let metrics = Self {
            webhooks: Family::default(),
            events: Family::default(),
            commit_events: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            commit_seconds: seconds(),
            segment_answers: Family::default(),
            segment_failures: Family::default(),
            nudgespot_answers: Family::default(),
            nudgespot_failures: Family::default(),
            users_to_delete: Counter::default(),
            nudgespot_seconds: seconds(),
            missing_events: Counter::default(),
            delivery_steps: Family::default(),
            unreadable_blocks: Family::default(),
            unopened_secrets: Family::default(),
            unknown_settings: Family::default(),
            segment_seconds: seconds(),
            delivery_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 16)),
            backlog_events: Gauge::default(),
            backlog_seconds: Seconds::default(),
            sources: Gauge::default(),
            paused_sources: Gauge::default(),
            source_backlog_events: Family::default(),
            source_backlog_seconds: Family::default(),
            registry: Registry::default(),
        };
        let m = &metrics;
        registry.register("webhooks", "Webhooks by the status they were answered with", m.webhooks.clone());
        registry.register("events", "Events by kind and by what became of them", m.events.clone());
        registry.register("commit_events", "Events of one commit", m.commit_events.clone());
        registry.register("commit_seconds", "How long a commit takes", m.commit_seconds.clone());
        registry.register(
            "segment_answers",
            "Batches by the status that Segment answered with (none: no answer)",
            m.segment_answers.clone(),
        );
        registry.register(
            "segment_failures",
            "Batches that Segment did not answer, by the cause",
            m.segment_failures.clone(),
        );
        registry.register(
            "nudgespot_answers",
            "Calls by the status that Nudgespot answered with (none: no answer)",
            m.nudgespot_answers.clone(),
        );
        registry.register(
            "nudgespot_failures",
            "Calls that Nudgespot did not answer, by the cause",
            m.nudgespot_failures.clone(),
        );
        registry.register(
            "nudgespot_seconds",
            "How long Nudgespot takes to answer a call",
            m.nudgespot_seconds.clone(),
        );
        registry.register(
            "users_to_delete",
            "Users whom a call asked to delete; they are still to be deleted at Nudgespot",
            m.users_to_delete.clone(),
        );
        registry.register("missing_events", "Events that the log should hold and does not", m.missing_events.clone());
        registry.register(
            "delivery_steps",
            "Steps of the delivery, by where they looked for events: what was just committed here, or the log",
            m.delivery_steps.clone(),
        );
        registry.register(
            "unreadable_blocks",
            "Times that a block of the log could not be read, by the cause",
            m.unreadable_blocks.clone(),
        );
        registry.register(
            "unopened_secrets",
            "Times that no master key of this program opened a secret or key",
            m.unopened_secrets.clone(),
        );
        registry.register(
            "unknown_settings",
            "Times that a source had a setting that this program does not know",
            m.unknown_settings.clone(),
        );
        registry.register("segment_seconds", "How long Segment takes to answer a batch", m.segment_seconds.clone());
        registry.register(
            "delivery_seconds",
            "From receipt of the oldest event of a batch to its delivery",
            m.delivery_seconds.clone(),
        );
        registry.register("backlog_events", "Events that wait for delivery", m.backlog_events.clone());
        registry.register("backlog_oldest_seconds", "Age of the oldest event that waits", m.backlog_seconds.clone());
        registry.register("sources", "Sources", m.sources.clone());
        registry.register("paused_sources", "Sources whose delivery is paused", m.paused_sources.clone());
        registry.register(
            "source_backlog_events",
            "Events that wait, of the sources where most do",
            m.source_backlog_events.clone(),
        );
        registry.register(
            "source_backlog_oldest_seconds",
            "Age of the oldest event that waits, of the sources where most do",
            m.source_backlog_seconds.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Counts a webhook by its answer.
    pub fn webhook(&self, status: u16) {
        self.webhooks.get_or_create(&[("status", status.into())]).inc();
    }

    /// Counts events.
    pub fn events(&self, tally: Tally) {
        for ((kind, disposition), n) in tally.0 {
            let labels = [("kind", kind.map_or("other", Kind::as_str)), ("disposition", disposition.as_str())];
            self.events.get_or_create(&labels).inc_by(n);
        }
    }

    /// Counts a batch by Segment's answer; `None`: there was none.
    pub fn segment_answer(&self, status: Option<u16>) {
        let status = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.segment_answers.get_or_create(&[("status", status)]).inc();
    }

    /// Counts a batch that Segment did not answer, by the cause.
    pub fn segment_failure(&self, cause: &'static str) {
        self.segment_failures.get_or_create(&[("cause", cause)]).inc();
    }

    /// Counts a call by Nudgespot's answer; `None`: there was none.
    pub fn nudgespot_answer(&self, status: Option<u16>) {
        let status = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.nudgespot_answers.get_or_create(&[("status", status)]).inc();
    }

    /// Counts a call that Nudgespot did not answer, by the cause.
    pub fn nudgespot_failure(&self, cause: &'static str) {
        self.nudgespot_failures.get_or_create(&[("cause", cause)]).inc();
    }

    /// Counts a step of the delivery, by where it looked for events.
    pub fn delivery_step(&self, from: &'static str) {
        self.delivery_steps.get_or_create(&[("from", from)]).inc();
    }

    /// Counts `n` blocks of the log that could not be read, by the cause.
    pub fn unreadable_blocks(&self, cause: &'static str, n: u64) {
        self.unreadable_blocks.get_or_create(&[("cause", cause)]).inc_by(n);
    }

    /// Counts a secret or key that no master key of this program opens.
    pub fn unopened_secret(&self, what: &'static str) {
        self.unopened_secrets.get_or_create(&[("what", what)]).inc();
    }

    /// Counts a setting of a source that this program does not know.
    pub fn unknown_setting(&self, what: &'static str) {
        self.unknown_settings.get_or_create(&[("what", what)]).inc();
    }

    /// The metrics as text (OpenMetrics), with the backlog as it is now.
    #[must_use]
    pub fn render(&self, backlog: Option<(&Backlog, &[SourceBacklog])>) -> String {
        if let Some((total, worst)) = backlog {
            self.backlog_events.set(total.events);
            self.backlog_seconds.set(total.oldest_seconds);
            self.sources.set(total.sources);
            self.paused_sources.set(total.paused_sources);
            self.source_backlog_events.clear();
            self.source_backlog_seconds.clear();
            for source in worst {
                let labels = [("source", source.source_id.to_string())];
                self.source_backlog_events.get_or_create(&labels).set(source.events);
                self.source_backlog_seconds.get_or_create(&labels).set(source.oldest_seconds);
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes all");
        text
    }
}
