//! The thread of the commit workers.
//!
//! It runs nothing else. A worker whose statement was answered goes on as soon as the operating system lets it; among the
//! tasks of the delivery, of which hundreds may be ready at a time, it would wait for all of these, and with it each webhook of
//! its commit.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The running thread. It ends, and leaves undone what runs there, when this is dropped.
#[derive(Debug)]
pub struct CommitThread {
    tasks: Handle,
    _end: oneshot::Sender<()>,
}

impl CommitThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no more threads or files.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let tasks = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("commit".to_owned()).spawn(move || runtime.block_on(ended))?;
        Ok(Self { tasks, _end: end })
    }

    /// Where to start what it is to run.
    pub fn tasks(&self) -> &Handle {
        &self.tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_started_runs_there_until_the_thread_ends() {
        let thread = CommitThread::start().expect("a thread");
        let name = thread.tasks().spawn(async { thread::current().name().map(str::to_owned) }).await;
        assert_eq!(name.expect("it runs").as_deref(), Some("commit"));
        let hanging = thread.tasks().spawn(std::future::pending::<()>());
        drop(thread);
        assert!(hanging.await.expect_err("it is left undone").is_cancelled());
    }
}
