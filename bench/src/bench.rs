//! What is measured with: the processes, and loads on them.

use std::sync::Arc;
use std::time::Duration;

use crate::load::{self, Load, Outcome, Until};
use crate::payload::{Payload, Target};
use crate::report::{Report, Row};
use crate::sources::Sources;
use crate::subject::Subject;

/// The processes, and what has been measured.
pub struct Bench {
    pub service: Subject,
    /// The handler without storing, and where to post to it.
    pub bare: Subject,
    pub node_baseline: Arc<Vec<Target>>,
    /// The same for calls.
    pub calls_baseline: Arc<Vec<Target>>,
    pub report: Report,
    pub duration: Duration,
    pub sources: Sources,
}

impl Bench {
    /// A closed loop to the service.
    pub fn load(&self, targets: &Arc<Vec<Target>>, events_per_webhook: usize) -> Load {
        self.service.load(targets, events_per_webhook, self.duration)
    }

    pub async fn warm_up(&self, subject: &Subject, targets: &Arc<Vec<Target>>) -> anyhow::Result<Outcome> {
        load::run(&subject.load(targets, 1, Duration::from_secs(1))).await
    }

    /// Posts to sources whose events wait: the median of three measurements.
    pub async fn stored(&self, what: &str, load: &Load) -> anyhow::Result<Row> {
        let load = Load { until: Until::Time(self.duration / 3), ..load.clone() };
        self.median_of_three(&load, async || self.service.post(what, &load).await).await
    }

    /// Posts to sources whose events flow: the median of three measurements.
    pub async fn delivered(&self, what: &str, load: &Load) -> anyhow::Result<Row> {
        self.median_of_three(load, async || self.service.deliver(what, load, self.duration / 3).await).await
    }

    /// The median of three measurements, with the limit measured before each.
    async fn median_of_three(
        &self,
        load: &Load,
        measure: impl AsyncFn() -> anyhow::Result<Row>,
    ) -> anyhow::Result<Row> {
        let baseline = if load.payload == Payload::Events { &self.node_baseline } else { &self.calls_baseline };
        let handler = self.bare.load(baseline, load.events_per_webhook, self.duration / 6);
        let limit = Load { payload: load.payload, ..handler };
        let (mut limits, mut rows) = (0.0, Vec::new());
        for _ in 0..3 {
            limits += load::run(&limit).await?.events_per_second();
            rows.push(measure().await?);
        }
        rows.sort_by(|a, b| a.events_per_second.total_cmp(&b.events_per_second));
        let median_of_three = rows.swap_remove(1);
        Ok(Row { relative_to_baseline: Some(median_of_three.events_per_second / (limits / 3.0)), ..median_of_three })
    }
}
