//! The way back: answers to webhooks, brought to the threads that wait for them.
//!
//! To wake another thread takes a system call, which costs about as much as all else that happens to a webhook here. So
//! the answers of a commit go to each thread together, and are handed on there.

use tokio::sync::{mpsc, oneshot};

use super::{NotStored, Receipt};

/// What a webhook is told.
pub type Answer = Result<Receipt, NotStored>;

type Ready = (oneshot::Sender<Answer>, Answer);
type Desk = mpsc::UnboundedSender<Vec<Ready>>;

thread_local! {
    static DESK: Desk = open_desk();
}

/// Where to send a webhook's answer.
pub struct Address {
    desk: Desk,
    sender: oneshot::Sender<Answer>,
}

impl Address {
    /// The address of who calls this, and where the answer comes in. Works on threads that run a `LocalSet`, as those of
    /// the web server do.
    pub fn here() -> (Self, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Self { desk: DESK.with(Clone::clone), sender }, receiver)
    }
}

/// Answers, by thread.
#[derive(Default)]
pub struct Answers(Vec<(Desk, Vec<Ready>)>);

impl Answers {
    /// Adds an answer.
    pub fn push(&mut self, to: Address, answer: Answer) {
        let Address { desk, sender } = to;
        match self.0.iter_mut().find(|(other, _)| other.same_channel(&desk)) {
            Some((_, answers)) => answers.push((sender, answer)),
            None => self.0.push((desk, vec![(sender, answer)])),
        }
    }

    /// Sends them.
    pub fn send(self) {
        for (desk, answers) in self.0 {
            if desk.send(answers).is_err() {
                tracing::debug!("a thread of the web server ended before its webhooks were answered");
            }
        }
    }
}

fn open_desk() -> Desk {
    let (desk, mut answers) = mpsc::unbounded_channel::<Vec<Ready>>();
    tokio::task::spawn_local(async move {
        while let Some(answers) = answers.recv().await {
            for (sender, answer) in answers {
                if sender.send(answer).is_err() {
                    tracing::debug!("the sender of a webhook did not wait for its answer");
                }
            }
        }
    });
    desk
}
