//! The way back: replies to webhooks, brought to the threads that wait for them.
//!
//! To wake another thread takes a system call, which costs about as much as all else that happens to a webhook here. So
//! the replies of a commit go to each thread together, and are handed on there.

use tokio::sync::{mpsc, oneshot};

use super::{IngestError, Receipt};

/// What a webhook is told.
pub type Reply = Result<Receipt, IngestError>;

type ReplyBatch = Vec<(oneshot::Sender<Reply>, Reply)>;
type ThreadChannel = mpsc::UnboundedSender<ReplyBatch>;

thread_local! {
    static CHANNEL: ThreadChannel = open_channel();
}

/// Where to send a webhook's reply.
#[derive(Debug)]
pub struct ReplyChannel {
    thread: ThreadChannel,
    sender: oneshot::Sender<Reply>,
}

impl ReplyChannel {
    /// A channel to who calls this, and where the reply comes in. Works on threads that run a `LocalSet`, as those of the
    /// web server do.
    pub fn here() -> (Self, oneshot::Receiver<Reply>) {
        let (sender, receiver) = oneshot::channel();
        (Self { thread: CHANNEL.with(Clone::clone), sender }, receiver)
    }

    /// A channel to a task on any thread, which awaits the reply itself; `None`: there will be none.
    pub fn anywhere() -> (Self, impl Future<Output = Option<Reply>>) {
        let (sender, receiver) = oneshot::channel();
        let (thread, mut batches) = mpsc::unbounded_channel::<ReplyBatch>();
        let replied = async move {
            let _waiting = receiver;
            batches.recv().await?.pop().map(|(_, reply)| reply)
        };
        (Self { thread, sender }, replied)
    }

    /// Whether nobody waits for the reply any more.
    pub fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Replies, by thread.
#[derive(Default)]
pub struct Replies(Vec<(ThreadChannel, ReplyBatch)>);

impl Replies {
    /// Adds a reply.
    pub fn push(&mut self, to: ReplyChannel, reply: Reply) {
        let ReplyChannel { thread, sender } = to;
        match self.0.iter_mut().find(|(other, _)| other.same_channel(&thread)) {
            Some((_, replies)) => replies.push((sender, reply)),
            None => self.0.push((thread, vec![(sender, reply)])),
        }
    }

    /// Sends them.
    pub fn send(self) {
        for (thread, replies) in self.0 {
            if thread.send(replies).is_err() {
                tracing::debug!("a thread of the web server ended before its webhooks were answered");
            }
        }
    }
}

fn open_channel() -> ThreadChannel {
    let (channel, mut batches) = mpsc::unbounded_channel::<ReplyBatch>();
    tokio::task::spawn_local(async move {
        while let Some(batch) = batches.recv().await {
            for (sender, reply) in batch {
                if sender.send(reply).is_err() {
                    tracing::debug!("the sender of a webhook did not wait for its answer");
                }
            }
        }
    });
    channel
}
