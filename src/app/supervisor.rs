//! The one owner of all background tasks.
//!
//! A task that ends before it was asked to, in whatever way, leaves the program half alive: it would still say that it is
//! well, and do only a part of its work. So the first that does ends the program, with an error. What is supervised is
//! joined, within a limit, when it is asked to end.

use std::collections::HashMap;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;

/// Tasks that end together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The HTTP servers.
    Web,
    /// The commit workers. They end when nobody can hand them a webhook any more.
    Commit,
    /// Delivery.
    Delivery,
    /// What watches over the others, or cleans up.
    Support,
}

/// The running tasks.
#[derive(Default)]
pub struct Supervisor {
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, (Stage, &'static str)>,
    /// The stages that may end.
    ending: Vec<Stage>,
    failure: Option<anyhow::Error>,
}

impl Supervisor {
    /// Starts a task, on the runtime of who calls this.
    pub fn spawn(
        &mut self,
        stage: Stage,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.spawn_on(&Handle::current(), stage, name, task);
    }

    /// Starts a task on a runtime.
    pub fn spawn_on(
        &mut self,
        runtime: &Handle,
        stage: Stage,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let task = self.tasks.spawn_on(task, runtime);
        self.names.insert(task.id(), (stage, name));
    }

    /// Waits for a task to end, which none should, and returns what is wrong.
    pub async fn watch(&mut self) -> anyhow::Error {
        loop {
            if let Some(failure) = self.failure.take() {
                return failure;
            }
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.note(ended),
                None => return anyhow::anyhow!("no task runs"),
            }
        }
    }

    /// These stages are about to be asked to end.
    pub fn let_end(&mut self, stages: &[Stage]) {
        self.ending.extend(stages);
    }

    /// Waits for the end of a stage that was asked to end. What has not ended within `limit` is left behind.
    pub async fn join(&mut self, stage: Stage, limit: Duration) {
        self.let_end(&[stage]);
        let is_running = |names: &HashMap<Id, (Stage, _)>| names.values().any(|(of, _)| *of == stage);
        let joined = timeout(limit, async {
            while is_running(&self.names)
                && let Some(ended) = self.tasks.join_next_with_id().await
            {
                self.note(ended);
            }
        });
        if joined.await.is_err() {
            let hanging: Vec<_> = self.names.values().filter(|(of, _)| *of == stage).map(|(_, name)| *name).collect();
            tracing::error!(?hanging, "did not end in time; what they were doing will be done again");
            self.names.retain(|_, (of, _)| *of != stage);
        }
    }

    /// Ends what is left, at once. Returns the first failure that nobody has heard of yet.
    pub fn finish(mut self) -> Option<anyhow::Error> {
        self.tasks.abort_all();
        self.failure.take()
    }

    fn note(&mut self, ended: Result<(Id, anyhow::Result<()>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(error.into())),
        };
        let Some((stage, name)) = self.names.remove(&id) else { return };
        let failure = match result {
            Err(error) => error.context(format!("{name} failed")),
            Ok(()) if self.ending.contains(&stage) => return,
            Ok(()) => anyhow::anyhow!("{name} ended unasked"),
        };
        tracing::error!(error = format!("{failure:#}"), "a background task ended; the program ends");
        self.failure.get_or_insert(failure);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMIT: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn the_first_task_that_ends_unasked_is_told_of_by_name() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn(Stage::Web, "the server", pending());
        supervisor.spawn(Stage::Commit, "a commit worker", async { Ok(()) });
        assert_eq!(format!("{:#}", supervisor.watch().await), "a commit worker ended unasked");
        supervisor.spawn(Stage::Delivery, "the delivery", async { Err(anyhow::anyhow!("no more places")) });
        assert_eq!(format!("{:#}", supervisor.watch().await), "the delivery failed: no more places");
    }

    #[tokio::test]
    async fn a_panic_is_the_end() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn(Stage::Web, "the server", pending());
        supervisor.spawn(Stage::Support, "the poller", async { panic!("out of luck") });
        let failure = format!("{:#}", supervisor.watch().await);
        assert!(failure.starts_with("the poller failed: ") && failure.contains("out of luck"), "{failure}");
    }

    #[tokio::test]
    async fn a_stage_is_joined_and_others_that_end_meanwhile_are_not_forgotten() {
        let mut supervisor = Supervisor::default();
        let (ends, ended) = tokio::sync::oneshot::channel::<()>();
        supervisor.spawn(Stage::Web, "the server", async {
            assert!(ended.await.is_err(), "the poller is gone");
            Ok(())
        });
        supervisor.spawn(Stage::Support, "the poller", async {
            drop(ends);
            Ok(())
        });
        supervisor.join(Stage::Web, LIMIT).await;
        let failure = supervisor.finish().map(|failure| failure.to_string());
        assert_eq!(failure.as_deref(), Some("the poller ended unasked"));
    }

    #[tokio::test]
    async fn what_hangs_is_waited_for_only_so_long() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn(Stage::Commit, "a commit worker", pending());
        supervisor.join(Stage::Commit, Duration::from_millis(1)).await;
        assert!(supervisor.finish().is_none());
    }
}
