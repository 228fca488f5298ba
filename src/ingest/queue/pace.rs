//! How long a commit waits for company.
//!
//! A commit costs as much as ten events, so webhooks that come at a middling rate share one: it begins some gaps between
//! them after the last. That pays only where others come without having been answered. So nobody is waited for unless the
//! last commit had company, or webhooks come over several connections; and where nobody comes in the second half of the wait,
//! again and again, all who post wait for their answers themselves: then nobody is waited for for a while. Whoever comes
//! alone, or over the same connection after he has read the last answer, waits for nobody.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// So many of the usual gaps after a commit began, the next may.
const COMPANY: u32 = 5;
/// But no later than this, and where webhooks come fast, not before [`MIN_WAIT`].
const MAX_WAIT: Duration = Duration::from_millis(25);
const MIN_WAIT: Duration = Duration::from_millis(5);
/// Where webhooks come less often, it does not pay to wait for them.
const MAX_USUAL_GAP: Duration = Duration::from_millis(10);
/// Longer gaps say no more: after one, nobody is waited for before some sixteen have come fast.
const MAX_GAP: Duration = Duration::from_millis(200);
/// After a commit that so many shared, the next is not put off: at such a rate they gather while one is in flight.
const MANY_WEBHOOKS: usize = 24;
/// After so many waits in vain, one after the other, nobody is waited for for a while. A wait was in vain if nobody came in
/// the second half of it: all who post may be here.
const MAX_IN_VAIN: u32 = 6;
const NO_COMPANY: Duration = Duration::from_secs(2);

/// When webhooks come, and when they are committed.
#[derive(Debug)]
pub struct Pace {
    /// When the last webhook came, and over which connection.
    last: Option<(Instant, Option<SocketAddr>)>,
    /// When the first came that waits.
    first_came: Option<Instant>,
    /// Until when what waits is to wait for company. It stays the same for as long as that does.
    deadline: Option<Instant>,
    /// The moving average of the gaps between webhooks.
    usual_gap: Duration,
    /// When the last commit began.
    began_at: Option<Instant>,
    /// How many webhooks it had.
    n_last: usize,
    /// Whether what waits came over several connections, or another than what came before.
    is_of_several: bool,
    n_in_vain: u32,
    no_company_until: Option<Instant>,
}

impl Pace {
    pub fn new() -> Self {
        Self {
            last: None,
            first_came: None,
            deadline: None,
            usual_gap: MAX_GAP,
            began_at: None,
            n_last: 0,
            is_of_several: false,
            n_in_vain: 0,
            no_company_until: None,
        }
    }

    /// A webhook came over this connection.
    pub fn came(&mut self, peer: Option<SocketAddr>, now: Instant) {
        if let Some((at, before)) = self.last {
            self.usual_gap = (self.usual_gap * 15 + now.saturating_duration_since(at).min(MAX_GAP)) / 16;
            self.is_of_several |= before != peer;
        }
        self.last = Some((now, peer));
        self.first_came.get_or_insert(now);
        if self.deadline.is_none() {
            self.deadline = self.expects_company_until(now);
        }
    }

    /// A commit of so many webhooks begins.
    pub fn began(&mut self, n_webhooks: usize, now: Instant) {
        if let (Some(deadline), Some(first), Some((last, _))) =
            (self.deadline.take(), self.first_came.take(), self.last)
            && deadline > first
        {
            let is_in_vain = now.saturating_duration_since(last) > now.saturating_duration_since(first) / 2;
            self.n_in_vain = if is_in_vain { self.n_in_vain + 1 } else { 0 };
            if self.n_in_vain >= MAX_IN_VAIN {
                self.n_in_vain = 0;
                self.no_company_until = Some(now + NO_COMPANY);
            }
        }
        self.began_at = Some(now);
        self.n_last = n_webhooks;
        self.is_of_several = false;
    }

    /// Until when what waits is to wait for company.
    pub fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.deadline.filter(|deadline| now < *deadline)
    }

    fn expects_company_until(&self, now: Instant) -> Option<Instant> {
        let began_at = self.began_at?;
        let has_given_up = self.no_company_until.is_some_and(|until| now < until);
        let expects_company = (self.n_last > 1 || self.is_of_several) && self.n_last < MANY_WEBHOOKS && !has_given_up;
        let wait = (COMPANY * self.usual_gap).clamp(MIN_WAIT, MAX_WAIT);
        (expects_company && self.usual_gap < MAX_USUAL_GAP).then(|| began_at + wait)
    }
}

#[cfg(test)]
mod tests;
