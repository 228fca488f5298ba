//! Failures on demand.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ContentType, RETRY_AFTER};
use actix_web::web::Bytes;
use serde_json::Value;

use crate::random;

/// Longer than anybody waits.
const HANG: Duration = Duration::from_hours(1);

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, with this `Retry-After`. From Nudgespot, the body has an `error`, whatever the status is.
    Status(u16, Option<String>),
    /// This status, with this body.
    Body(u16, String),
    /// No answer.
    Hang,
    /// The connection breaks.
    Drop,
}

impl Fault {
    /// The status that is answered; `None`: there is no answer.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status, _) | Self::Body(status, _) => Some(*status),
            Self::Hang | Self::Drop => None,
        }
    }

    /// Fails. `body` goes with a status that has no body of its own.
    pub(super) async fn answer(self, body: &Value) -> HttpResponse {
        let with_status = |status| HttpResponse::build(StatusCode::from_u16(status).unwrap_or_default());
        match self {
            Self::Hang => {
                tokio::time::sleep(HANG).await;
                HttpResponse::ServiceUnavailable().finish()
            }
            // A body that breaks off takes the connection with it.
            Self::Drop => HttpResponse::Ok().streaming(futures_util::stream::once(async {
                Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset))
            })),
            Self::Status(status, retry_after) => {
                let mut response = with_status(status);
                if let Some(after) = retry_after {
                    response.insert_header((RETRY_AFTER, after));
                }
                response.json(body)
            }
            Self::Body(status, body) => with_status(status).content_type(ContentType::json()).body(body),
        }
    }
}

/// How often the stand-in fails by chance, and how. By default never.
#[derive(Clone, Debug, Default)]
pub struct Odds {
    /// Statuses, each with its probability.
    pub fail: Vec<(u16, f64)>,
    /// The `Retry-After` that goes with them.
    pub retry_after: Option<String>,
    /// The probability of no answer.
    pub hang: f64,
    /// A request that holds this text is refused with this status.
    pub refuse: Option<(String, u16)>,
}

/// When the stand-in fails, and how. One of its APIs has one of these: what is planned for Segment says nothing of
/// Nudgespot.
#[derive(Debug, Default)]
pub struct Faults {
    odds: Odds,
    /// By key: what happens to its next requests, and what to all after them.
    plans: Mutex<HashMap<String, Plan>>,
    /// What happens to requests that hold a text.
    texts: Mutex<Vec<(String, Fault)>>,
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
        Self { odds, ..Self::default() }
    }

    /// The next requests under `key` (a write key, or Nudgespot's REST key) fail like this, one each.
    pub fn plan(&self, key: &str, faults: impl IntoIterator<Item = Fault>) {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.entry(key.to_owned()).or_default().next.extend(faults);
    }

    /// From now on, all requests under `key` that have no other plan fail like this; `None`: they do not.
    pub fn always(&self, key: &str, fault: Option<Fault>) {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.entry(key.to_owned()).or_default().then = fault;
    }

    /// From now on, all requests whose body holds `text`, and whose key has no plan, fail like this; `None`: they do not.
    pub fn when_body_holds(&self, text: &str, fault: Option<Fault>) {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.retain(|(known, _)| known != text);
        texts.extend(fault.map(|fault| (text.to_owned(), fault)));
    }

    /// The failure that this request meets, if any.
    pub(super) fn next(&self, key: Option<&str>, body: &[u8]) -> Option<Fault> {
        if let Some(plan) = self.plans.lock().unwrap_or_else(PoisonError::into_inner).get_mut(key.unwrap_or_default())
            && let Some(fault) = plan.next.pop_front().or_else(|| plan.then.clone())
        {
            return Some(fault);
        }
        let body = String::from_utf8_lossy(body);
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, fault)) = texts.iter().find(|(text, _)| body.contains(text)) {
            return Some(fault.clone());
        }
        if let Some((text, status)) = &self.odds.refuse
            && body.contains(text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_before_a_text_and_a_text_before_chance() {
        let odds = Odds { fail: vec![(503, 1.0)], retry_after: Some("3".to_owned()), ..Odds::default() };
        let faults = Faults::by_chance(odds.clone());
        let by_chance = Some(Fault::Status(503, Some("3".to_owned())));
        faults.plan("k", [Fault::Hang, Fault::Drop]);
        faults.when_body_holds("poison", Some(Fault::Status(422, None)));
        let next = |key, body: &str| faults.next(Some(key), body.as_bytes());
        assert_eq!(next("other", "fine"), by_chance);
        assert_eq!([next("k", "poison"), next("k", "fine")], [Some(Fault::Hang), Some(Fault::Drop)]);
        assert_eq!([next("k", "a poison"), next("k", "fine")], [Some(Fault::Status(422, None)), by_chance.clone()]);
        let broken = Fault::Body(200, "{".to_owned());
        faults.when_body_holds("poison", Some(broken.clone()));
        assert_eq!(next("other", "poison"), Some(broken));
        faults.always("k", Some(Fault::Status(401, None)));
        assert_eq!([next("k", "poison"), next("k", "x")], [(); 2].map(|()| Some(Fault::Status(401, None))));
        faults.always("k", None);
        faults.when_body_holds("poison", None);
        assert_eq!(next("k", "poison"), by_chance);
        assert_eq!(Faults::by_chance(Odds { fail: Vec::new(), ..odds }).next(Some("k"), b"poison"), None);
    }
}
