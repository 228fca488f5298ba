//! Asks the database for several sources at once: what is asked for while a statement is in flight goes into the next, which
//! begins a moment later where questions come so fast that others will join it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as TurnMutex, Notify, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use crate::store::connection::Connection;

/// A statement is for so many sources at most.
const MOST: usize = 32;
/// How soon after a statement the next one may begin, where the last was shared and less than [`MOST`] wait.
const PACE: Duration = Duration::from_millis(25);

/// Why a statement failed, told to all who asked together. Try again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the database: {0}")]
pub struct BatchError(Arc<sqlx::Error>);

impl From<sqlx::Error> for BatchError {
    fn from(error: sqlx::Error) -> Self {
        Self(Arc::new(error))
    }
}

/// Questions of one kind, each with the key that its answer comes under, and the connection to ask over.
pub struct RequestBatcher<K, Q, A> {
    waiting: Mutex<VecDeque<Asked<K, Q, A>>>,
    /// Ends the wait for company that is going on.
    hurry: Notify,
    /// Held by who asks for all.
    turn: TurnMutex<Turn>,
}

struct Turn {
    connection: Connection,
    /// Where the last statement was shared: when the next may begin.
    paced_until: Option<Instant>,
}

struct Asked<K, Q, A> {
    key: K,
    question: Q,
    is_in_hurry: bool,
    answer: oneshot::Sender<Result<Option<A>, BatchError>>,
}

impl<K: Copy + Eq + Hash, Q, A> RequestBatcher<K, Q, A> {
    /// Asks over this connection.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self {
            waiting: Mutex::default(),
            hurry: Notify::new(),
            turn: TurnMutex::new(Turn { connection, paced_until: None }),
        }
    }

    /// Asks, together with others: `ask_all` is called for all of them by one of them. Who is in a hurry does not wait for
    /// company that may come. A caller must stay until it is answered, as it may have taken the questions of others.
    ///
    /// # Errors
    /// What `ask_all` failed with.
    pub async fn submit(
        &self,
        key: K,
        question: Q,
        is_in_hurry: bool,
        ask_all: impl AsyncFnOnce(&mut Connection, Vec<Q>) -> sqlx::Result<HashMap<K, A>>,
    ) -> Result<Option<A>, BatchError> {
        let (answer, mut answered) = oneshot::channel();
        self.lock().push_back(Asked { key, question, is_in_hurry, answer });
        if is_in_hurry {
            self.hurry.notify_waiters();
        }
        let mut turn = tokio::select! {
            biased;
            answer = &mut answered => return answer.unwrap_or(Err(sqlx::Error::WorkerCrashed.into())),
            turn = self.turn.lock() => turn,
        };
        // Those who ask at the same moment ask together.
        yield_now().await;
        if let Some(until) = turn.paced_until.filter(|until| Instant::now() < *until)
            && let hurry = self.hurry.notified()
            && self.may_wait()
        {
            tokio::select! {
                () = sleep_until(until) => {}
                () = hurry => {}
            }
        }
        // All who wait get a turn, in the order of their questions, and each takes one question at least: none is left.
        let (asked, questions): (Vec<_>, Vec<_>) = {
            let mut waiting = self.lock();
            let n = waiting.len().min(MOST);
            waiting.drain(..n).map(|asked| ((asked.key, asked.answer), asked.question)).unzip()
        };
        if !asked.is_empty() {
            turn.paced_until = (asked.len() > 1).then(|| Instant::now() + PACE);
            match ask_all(&mut turn.connection, questions).await {
                Ok(mut answers) => {
                    for (key, answer) in asked {
                        let _ = answer.send(Ok(answers.remove(&key)));
                    }
                }
                Err(error) => {
                    let trouble = BatchError::from(error);
                    for (_, answer) in asked {
                        let _ = answer.send(Err(trouble.clone()));
                    }
                }
            }
        }
        drop(turn);
        answered.await.unwrap_or(Err(sqlx::Error::WorkerCrashed.into()))
    }

    /// Whether there is room for company, and nobody who would not wait for it.
    fn may_wait(&self) -> bool {
        let waiting = self.lock();
        waiting.len() < MOST && !waiting.iter().any(|asked| asked.is_in_hurry)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Asked<K, Q, A>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use sqlx::postgres::PgConnectOptions;

    use super::*;
    use crate::store::connection::{Connector, Session};

    /// Of a database that nobody looks at.
    fn batcher<A>() -> RequestBatcher<usize, usize, A> {
        RequestBatcher::new(Connection::new(
            &Connector::new(vec![PgConnectOptions::new_without_pgpass()]),
            Session::DELIVERY,
        ))
    }

    #[tokio::test]
    async fn what_is_asked_for_meanwhile_is_asked_for_together_and_each_gets_its_own_answer() {
        let (batcher, n_statements) = (batcher(), AtomicUsize::new(0));
        let ask = async |key: usize| {
            let ask_all = async |_: &mut Connection, keys: Vec<usize>| {
                assert!(keys.len() <= MOST);
                n_statements.fetch_add(1, Ordering::Relaxed);
                Ok(keys.into_iter().filter(|key| key % 3 > 0).map(|key| (key, key * 2)).collect())
            };
            (key, batcher.submit(key, key, false, ask_all).await.expect("answered"))
        };
        for (key, answer) in join_all((0..=3 * MOST).map(ask)).await {
            assert_eq!(answer, (key % 3 > 0).then_some(key * 2));
        }
        assert_eq!(n_statements.into_inner(), 4, "in full groups, and the last");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_shared_statement_the_next_waits_for_company_unless_somebody_is_in_a_hurry() {
        let batcher = batcher();
        let ask = async |key: usize, is_in_hurry| {
            // While it lasts, others ask.
            let ask_all = async |_: &mut Connection, keys: Vec<usize>| {
                tokio::task::yield_now().await;
                Ok(keys.into_iter().map(|key| (key, ())).collect())
            };
            let began = Instant::now();
            batcher.submit(key, key, is_in_hurry, ask_all).await.expect("answered");
            began.elapsed()
        };
        for is_in_hurry in [false, true] {
            let began = join_all((0..3).map(|key| ask(key, false))).await;
            assert!(began.iter().all(Duration::is_zero), "{began:?}");
            let waited = ask(3, is_in_hurry).await;
            assert_eq!(waited < PACE, is_in_hurry, "{waited:?}");
            assert!(ask(4, false).await.is_zero(), "nobody came");
        }
    }

    #[tokio::test]
    async fn trouble_is_told_to_all_who_asked() {
        let batcher = batcher::<()>();
        let ask = |key| batcher.submit(key, key, false, async |_, _| Err(sqlx::Error::PoolTimedOut));
        assert!(join_all((0..40).map(ask)).await.iter().all(Result::is_err));
    }
}
