//! Failures on demand.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::random;

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, with this `Retry-After`.
    Status(u16, Option<String>),
    /// No answer.
    Hang,
    /// The connection breaks.
    Drop,
}

/// How often the stand-in fails by chance, and how. By default never.
#[derive(Debug, Default)]
pub struct Odds {
    /// Statuses, each with its probability.
    pub fail: Vec<(u16, f64)>,
    /// The `Retry-After` that goes with them.
    pub retry_after: Option<String>,
    /// The probability of no answer.
    pub hang: f64,
    /// A batch that holds this text is refused with this status.
    pub refuse: Option<(String, u16)>,
}

/// When the stand-in fails, and how.
#[derive(Debug, Default)]
pub struct Faults {
    odds: Odds,
    /// By write key: what happens to its next requests, and what to all after them.
    plans: Mutex<HashMap<String, Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    next: VecDeque<Fault>,
    then: Option<Fault>,
}

impl Faults {
    /// Failures by chance alone.
    #[must_use]
    pub fn by_chance(odds: Odds) -> Self {
        Self { odds, plans: Mutex::default() }
    }

    /// The next requests under `write_key` fail like this, one each.
    pub fn plan(&self, write_key: &str, faults: impl IntoIterator<Item = Fault>) {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.entry(write_key.to_owned()).or_default().next.extend(faults);
    }

    /// From now on, all requests under `write_key` that have no other plan fail like this; `None`: they do not.
    pub fn always(&self, write_key: &str, fault: Option<Fault>) {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.entry(write_key.to_owned()).or_default().then = fault;
    }

    /// The failure that this request meets, if any.
    pub(super) fn next(&self, write_key: Option<&str>, body: &[u8]) -> Option<Fault> {
        if let Some(plan) =
            self.plans.lock().unwrap_or_else(PoisonError::into_inner).get_mut(write_key.unwrap_or_default())
            && let Some(fault) = plan.next.pop_front().or_else(|| plan.then.clone())
        {
            return Some(fault);
        }
        if let Some((text, status)) = &self.odds.refuse
            && String::from_utf8_lossy(body).contains(text)
        {
            return Some(Fault::Status(*status, None));
        }
        if random::fraction() < self.odds.hang {
            return Some(Fault::Hang);
        }
        let failed = self.odds.fail.iter().find(|(_, probability)| random::fraction() < *probability);
        failed.map(|(status, _)| Fault::Status(*status, self.odds.retry_after.clone()))
    }
}
