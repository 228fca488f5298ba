//! How sources are doing: a word and a sentence, numbers that add up, charts, and what is answered to their requests.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;
use time::{OffsetDateTime, UtcOffset};
use utoipa::ToSchema;
use uuid::Uuid;

use super::sources::{new_token, there_is};
use super::{Admin, AdminError};
use crate::domain::call;
use crate::domain::event::Kind;
use crate::domain::source_state::SourceFacts;
pub use crate::domain::source_state::{Judgement, SeenWebhooks, SourceState};
use crate::domain::timestamp::rfc3339;
use crate::sources::signature::clause;
use crate::store::overview::AttemptRow;
pub use crate::store::overview::{MANY, Standing};
use crate::store::traffic::{Step, Traffic};
use crate::store::{overview, traffic, webhook_activity};

/// How many of the last requests say how Segment is doing.
const HEALTH_ATTEMPTS: i64 = 200;

/// How a source is doing.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Its numbers.
    pub standing: Standing,
    /// Its state.
    pub judgement: Judgement,
    /// What has been seen of its webhooks.
    pub webhooks: SeenWebhooks,
    /// When something of its own came last.
    pub last_seen_at: Option<OffsetDateTime>,
}

impl Overview {
    /// Every element of every webhook that was verified; of what was ignored and rejected, each counted once. Where very many
    /// calls are held, not all of them are counted.
    #[must_use]
    pub fn received(&self) -> i64 {
        let Standing { duplicates, ignored, rejected, held, accepted, .. } = self.standing;
        duplicates + ignored + rejected + held + accepted
    }
}

/// How far back a chart goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficRange {
    /// An hour, by minute.
    Hour,
    /// A day, by hour.
    #[default]
    Day,
    /// A week, by hour.
    Week,
    /// 30 days, by day.
    Month,
}

impl TrafficRange {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// As it stands in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    /// The range of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|range| range.as_str() == text)
    }

    /// How long a bucket is, and how many there are.
    #[must_use]
    pub fn buckets(self) -> (Duration, u32) {
        match self {
            Self::Hour => (Duration::from_mins(1), 60),
            Self::Day => (Duration::from_hours(1), 24),
            Self::Week => (Duration::from_hours(1), 7 * 24),
            Self::Month => (Duration::from_hours(24), 30),
        }
    }

    fn step(self) -> Step {
        if self == Self::Hour { Step::Minute } else { Step::Hour }
    }
}

/// What came in a part of a range, and what became of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TrafficBucket {
    /// When it begins.
    pub starts_at: String,
    /// The same.
    #[serde(skip)]
    pub at: OffsetDateTime,
    /// New events, to be forwarded.
    pub accepted: i64,
    /// Events that came again.
    pub duplicates: i64,
    /// Events of a kind that is not forwarded.
    pub ignored: i64,
    /// Events that cannot be used.
    pub rejected: i64,
    /// Events that the destination took.
    pub delivered: i64,
    /// Events that were given up.
    pub gave_up: i64,
    /// The accepted ones by kind.
    pub by_kind: BTreeMap<&'static str, i64>,
}

impl TrafficBucket {
    fn new(at: OffsetDateTime) -> Self {
        let by_kind = Kind::ALL.into_iter().map(|kind| (kind.as_str(), 0)).collect();
        let starts_at = rfc3339(at);
        Self { starts_at, at, accepted: 0, duplicates: 0, ignored: 0, rejected: 0, delivered: 0, gave_up: 0, by_kind }
    }

    fn add(&mut self, traffic: &Traffic) {
        self.accepted += traffic.n_accepted;
        self.duplicates += traffic.n_duplicates;
        self.ignored += traffic.n_ignored;
        self.rejected += traffic.n_rejected;
        self.delivered += traffic.n_delivered;
        self.gave_up += traffic.n_dead;
        for (kind, n) in [
            (Kind::Delivered, traffic.n_email_delivered),
            (Kind::Opened, traffic.n_opened),
            (Kind::Clicked, traffic.n_clicked),
            (Kind::Bounced, traffic.n_bounced),
            (Kind::MarkedAsSpam, traffic.n_marked_as_spam),
            (Kind::Unsubscribed, traffic.n_unsubscribed),
            (Kind::Identify, traffic.n_identify),
            (Kind::Track, traffic.n_track),
        ] {
            *self.by_kind.entry(kind.as_str()).or_default() += n;
        }
    }
}

/// How the last requests of a source were answered.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct DeliveryHealth {
    /// How many requests this is about.
    pub n_requests: usize,
    /// When the first of them was made.
    pub since: Option<String>,
    /// When the last of them was made.
    pub last_at: Option<String>,
    /// How many milliseconds half of them took at most. Of requests that went well one after the other, or of calls at the
    /// same time, the longest counts for each.
    pub p50_ms: Option<i32>,
    /// How many milliseconds 95 % of them took at most.
    pub p95_ms: Option<i32>,
    /// How often each status was answered, as pairs of status and number; `no answer` where there was none. The most
    /// frequent first.
    #[schema(value_type = Vec<Vec<serde_json::Value>>)]
    pub answers: Vec<(String, usize)>,
}

impl Admin {
    /// How a source is doing.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::Database`].
    pub async fn overview(&self, source: Uuid, now: OffsetDateTime) -> Result<Overview, AdminError> {
        let found = self.judged(None, Some(source), now).await?.pop();
        found.ok_or_else(|| AdminError::NoSuchSource(source.to_string()))
    }

    /// How the sources of an account are doing, or all, by name.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn overviews(&self, account: Option<Uuid>, now: OffsetDateTime) -> Result<Vec<Overview>, AdminError> {
        self.judged(account, None, now).await
    }

    async fn judged(
        &self,
        account: Option<Uuid>,
        source: Option<Uuid>,
        now: OffsetDateTime,
    ) -> Result<Vec<Overview>, AdminError> {
        let standings = self.db(async |db| overview::list(db, account, source).await).await?;
        let ids: Vec<Uuid> = standings.iter().map(|standing| standing.source_id).collect();
        let mut webhooks = self.seen_webhooks(&ids).await?;
        let sources = standings.into_iter().map(|standing| {
            let seen = webhooks.remove(&standing.source_id).unwrap_or_default();
            let facts = facts(&standing, seen);
            (standing, facts)
        });
        let mut sources: Vec<(Standing, SourceFacts)> = sources.collect();
        let silent = sources.iter().filter(|(_, facts)| facts.silence(now).is_some());
        let silent: Vec<Uuid> = silent.map(|(standing, _)| standing.source_id).collect();
        if !silent.is_empty() {
            let gaps = self.db(async |db| traffic::longest_gaps(db, &silent).await).await?;
            let gaps: HashMap<Uuid, Duration> = gaps.into_iter().collect();
            for (standing, facts) in &mut sources {
                facts.longest_gap = gaps.get(&standing.source_id).copied();
            }
        }
        let judged = sources.into_iter().map(|(standing, facts)| Overview {
            standing,
            judgement: facts.judge(now),
            last_seen_at: facts.last_seen_at(),
            webhooks: facts.webhooks,
        });
        Ok(judged.collect())
    }

    async fn seen_webhooks(&self, sources: &[Uuid]) -> Result<HashMap<Uuid, SeenWebhooks>, AdminError> {
        let found = self.db(async |db| webhook_activity::list(db, sources).await).await?;
        let seen = found.into_iter().map(|(source, activity, fault, has_other_faults)| {
            let seen = SeenWebhooks {
                last_verified_at: activity.last_verified_at,
                last_refused_at: activity.last_refused_at,
                n_refused_since_verified: activity.n_refused_since_verified,
                likely_fault: fault.as_deref().and_then(clause).map(str::to_owned),
                has_other_faults,
            };
            (source, seen)
        });
        Ok(seen.collect())
    }

    /// What came to a source and what became of it, in equal parts of a range that ends with the one that it is now.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn traffic(
        &self,
        source: Uuid,
        range: TrafficRange,
        now: OffsetDateTime,
    ) -> Result<Vec<TrafficBucket>, AdminError> {
        let (length, n) = range.buckets();
        let last = truncate(now, length);
        let from = last - length * (n - 1);
        let counted = self.db(async |db| traffic::list(db, source, range.step(), from).await).await?;
        let mut buckets: Vec<TrafficBucket> = (0..n).map(|at| TrafficBucket::new(from + length * at)).collect();
        for traffic in &counted {
            // Counted in the next minute, where that began meanwhile.
            let at = buckets.partition_point(|bucket| bucket.at <= traffic.starts_at).saturating_sub(1);
            buckets[at].add(traffic);
        }
        Ok(buckets)
    }

    /// How Segment answered the last requests of a source.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn delivery_health(&self, source: Uuid) -> Result<DeliveryHealth, AdminError> {
        let attempts = self.db(async |db| overview::last_attempts(db, source, HEALTH_ATTEMPTS).await).await?;
        let (Some(last), Some(first)) = (attempts.first(), attempts.last()) else {
            return Ok(DeliveryHealth::default());
        };
        let n_requests = |attempt: &AttemptRow| usize::try_from(attempt.n_requests).unwrap_or_default();
        let durations = attempts.iter().map(|attempt| (attempt.duration_ms, n_requests(attempt)));
        let percentile = |percent| percentile(durations.clone(), percent);
        let mut answers: BTreeMap<Option<i16>, usize> = BTreeMap::new();
        for attempt in &attempts {
            *answers.entry(attempt.status).or_default() += n_requests(attempt);
        }
        let name = |status: Option<i16>| status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let mut answers: Vec<(String, usize)> = answers.into_iter().map(|(status, n)| (name(status), n)).collect();
        answers.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        Ok(DeliveryHealth {
            n_requests: attempts.iter().map(n_requests).sum(),
            since: Some(rfc3339(first.started_at)),
            last_at: Some(rfc3339(last.started_at)),
            p50_ms: percentile(50),
            p95_ms: percentile(95),
            answers,
        })
    }

    /// What the status address of this token answers; `None`: there is no such address.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn status(&self, token: &str, now: OffsetDateTime) -> Result<Option<Judgement>, AdminError> {
        let source = self.db(async |db| overview::find_by_status_token(db, token).await).await?;
        let Some(source) = source else { return Ok(None) };
        Ok(self.judged(None, Some(source), now).await?.pop().map(|overview| overview.judgement))
    }

    /// A source's status address: whoever knows it may ask how the source is doing.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::Database`].
    pub async fn status_address(&self, source: Uuid) -> Result<String, AdminError> {
        let token = self.sealed_source(source).await?.status_token;
        Ok(format!("{}/status/{token}", self.urls.console))
    }

    /// Gives a source a new status address, and returns its token. The one before is dead at once.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::Database`].
    pub async fn rotate_status_token(&self, source: Uuid) -> Result<String, AdminError> {
        let token = new_token();
        let is_there = self.db(async |db| overview::update_status_token(db, source, &token).await).await?;
        there_is(is_there, &source.to_string()).map(|()| token)
    }

    /// Somebody knows that nothing comes to a source: until something does, that is no trouble.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::Database`].
    pub async fn acknowledge_quiet(&self, source: Uuid) -> Result<(), AdminError> {
        let is_there = self.db(async |db| overview::acknowledge_quiet(db, source).await).await?;
        there_is(is_there, &source.to_string())
    }
}

fn facts(standing: &Standing, webhooks: SeenWebhooks) -> SourceFacts {
    SourceFacts {
        are_calls: standing.kind == call::SOURCE_KIND,
        has_write_key: standing.has_write_key,
        is_write_key_unknown: standing.is_write_key_unknown,
        has_secret: standing.has_secret,
        paused: standing.paused_reason.clone().map(|reason| (reason, standing.paused_at)),
        waiting: standing.waiting,
        oldest_waiting_since: standing.oldest_waiting_since,
        last_error: standing.last_error.clone(),
        last_event_at: standing.last_event_at,
        accepted_today: standing.accepted_today,
        longest_gap: None,
        quiet_acknowledged_at: standing.quiet_acknowledged_at,
        webhooks,
    }
}

/// The beginning of the part of this length that a time is in, in UTC.
fn truncate(at: OffsetDateTime, length: Duration) -> OffsetDateTime {
    let at = at.to_offset(UtcOffset::UTC);
    let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX).max(1);
    let begin = at.unix_timestamp().div_euclid(seconds) * seconds;
    OffsetDateTime::from_unix_timestamp(begin).unwrap_or(at)
}

/// What this percentage of requests took at most, given how long some took and how many they were; `None`: there are none.
fn percentile(durations: impl Iterator<Item = (i32, usize)>, percent: usize) -> Option<i32> {
    let mut durations: Vec<(i32, usize)> = durations.collect();
    durations.sort_unstable();
    let n_below = durations.iter().map(|(_, n)| n).sum::<usize>() * percent / 100;
    let mut n_seen = 0;
    let reached = durations.iter().find(|(_, n)| {
        n_seen += n;
        n_seen > n_below
    });
    reached.or(durations.last()).map(|(duration, _)| *duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_counts_where_several_are_told_in_one() {
        let percentiles =
            |durations: &[(i32, usize)]| [50, 95].map(|percent| percentile(durations.iter().copied(), percent));
        assert_eq!(percentiles(&[]), [None, None]);
        assert_eq!(percentiles(&[(7, 1)]), [Some(7), Some(7)]);
        assert_eq!(percentiles(&[(15_000, 12), (5, 3_760)]), [Some(5), Some(5)], "12 of 3,772 are few");
        assert_eq!(percentiles(&[(1, 1), (2, 1), (3, 1), (4, 1)]), [Some(3), Some(4)]);
        assert_eq!(percentiles(&[(9, 10), (1, 10)]), [Some(9), Some(9)]);
    }
}
