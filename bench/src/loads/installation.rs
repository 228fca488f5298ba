//! A program with a cluster and a sink of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::payload::Target;
use crate::processes::{self, Program};
use crate::sources;
use crate::subject::Subject;

pub struct Installation {
    /// As the report calls it.
    pub name: &'static str,
    pub subject: Subject,
    data_dir: PathBuf,
    /// Creates the sources.
    benchmark: PathBuf,
    pub n_sources: usize,
}

impl Installation {
    pub async fn start(name: &'static str, binary: &Path, benchmark: &Path, dir: &Path) -> anyhow::Result<Self> {
        let data_dir = dir.join(name);
        let sink = processes::role(&["sink"]).await?;
        let program = Program::new(binary, &data_dir, &sink.address);
        let process = program.serve().await?;
        let subject = Subject { process, postgres: Some(program.postgres_pid()?), sink: Some(sink) };
        Ok(Self { name, subject, data_dir, benchmark: benchmark.to_owned(), n_sources: 0 })
    }

    /// Creates sources; without a key their events wait.
    pub async fn create_sources(
        &mut self,
        name: &str,
        n: usize,
        key: Option<&str>,
    ) -> anyhow::Result<Arc<Vec<Target>>> {
        let targets = sources::create_with(&self.benchmark, &self.data_dir, name, n, key).await?;
        self.n_sources += n;
        // Found out about before they are asked for, as they would be.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(targets)
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        processes::stop(self.subject.process).await.context(self.name)
    }
}
