//! Asks the database for several accounts at once: what is asked for while statements are in flight goes into the next.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot};

/// A statement is for so many accounts at most.
const MOST: usize = 32;
/// How many statements of a kind are in flight at a time.
const STATEMENTS: usize = 1;

/// The database's trouble, told to all who asked together.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the database: {0}")]
pub struct Trouble(Arc<sqlx::Error>);

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self(Arc::new(error))
    }
}

/// Questions of one kind, each with the key that its answer comes under.
pub struct Together<K, Q, A> {
    waiting: Mutex<VecDeque<Asked<K, Q, A>>>,
    turns: Semaphore,
}

struct Asked<K, Q, A> {
    key: K,
    question: Q,
    answer: oneshot::Sender<Result<Option<A>, Trouble>>,
}

impl<K: Copy + Eq + Hash, Q, A> Default for Together<K, Q, A> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turns: Semaphore::new(STATEMENTS) }
    }
}

impl<K: Copy + Eq + Hash, Q, A> Together<K, Q, A> {
    /// Asks, together with others: `ask_all` is called for all of them by one of them. A caller must stay until it is
    /// answered, as it may have taken the questions of others.
    ///
    /// # Errors
    /// What `ask_all` failed with.
    pub async fn ask(
        &self,
        key: K,
        question: Q,
        ask_all: impl AsyncFnOnce(Vec<Q>) -> sqlx::Result<HashMap<K, A>>,
    ) -> Result<Option<A>, Trouble> {
        let (answer, mut answered) = oneshot::channel();
        self.lock().push_back(Asked { key, question, answer });
        let turn = tokio::select! {
            biased;
            answer = &mut answered => return answer.unwrap_or(Err(sqlx::Error::WorkerCrashed.into())),
            turn = self.turns.acquire() => turn,
        };
        // All who wait get a turn, and each takes one question at least, if not its own: none is left.
        let (asked, questions) = self.take();
        if !asked.is_empty() {
            match ask_all(questions).await {
                Ok(mut answers) => {
                    for (key, answer) in asked {
                        let _ = answer.send(Ok(answers.remove(&key)));
                    }
                }
                Err(error) => {
                    let trouble = Trouble::from(error);
                    for (_, answer) in asked {
                        let _ = answer.send(Err(trouble.clone()));
                    }
                }
            }
        }
        drop(turn);
        answered.await.unwrap_or(Err(sqlx::Error::WorkerCrashed.into()))
    }

    #[expect(clippy::type_complexity, reason = "two lists of what one was")]
    fn take(&self) -> (Vec<(K, oneshot::Sender<Result<Option<A>, Trouble>>)>, Vec<Q>) {
        let mut waiting = self.lock();
        let n = waiting.len().min(MOST);
        waiting.drain(..n).map(|asked| ((asked.key, asked.answer), asked.question)).unzip()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Asked<K, Q, A>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
