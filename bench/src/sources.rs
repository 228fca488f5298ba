//! Makes sources in the database of a program that runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use nudgespot_source::admin::{Admin, Edit, NewSource, Urls};
use nudgespot_source::config::Database;
use nudgespot_source::database::{AdminPool, DatabaseHandle};
use nudgespot_source::domain::name::Name;
use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::domain::write_key::WriteKey;
use nudgespot_source::sources::Kind;
use time::OffsetDateTime;
use tokio::process::Command;

use crate::payload::Target;

/// The write key of sources whose events flow.
pub const WRITE_KEY: &str = "bench-write-key";

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    data_dir: PathBuf,
    /// What the accounts' names begin with.
    #[arg(long)]
    name: String,
    #[arg(long)]
    count: usize,
    /// Without it, their events wait.
    #[arg(long)]
    write_key: Option<String>,
}

/// Creates sources, and prints path and signing secret of each on a line.
pub async fn print_created(args: Args) -> anyhow::Result<()> {
    let sources = Sources::open(&args.data_dir).await?;
    let created = sources.create(&args.name, args.count, args.write_key.as_deref()).await?;
    for target in created.iter() {
        println!("{} {}", target.path, target.secret.expose());
    }
    sources.close().await
}

/// Has a benchmark of the program's own age create sources, for it knows that program's schema.
pub async fn create_with(
    benchmark: &Path,
    data_dir: &Path,
    name: &str,
    count: usize,
    write_key: Option<&str>,
) -> anyhow::Result<Arc<Vec<Target>>> {
    let mut command = Command::new(benchmark);
    command.arg("sources").arg("--data-dir").arg(data_dir).args(["--name", name, "--count", &count.to_string()]);
    command.args(write_key.into_iter().flat_map(|key| ["--write-key", key]));
    let output = command.stderr(std::process::Stdio::inherit()).output().await?;
    anyhow::ensure!(output.status.success(), "{} cannot create sources", benchmark.display());
    let target = |line: &str| {
        let (path, secret) = line.split_once(' ').context("a path and a secret")?;
        Ok(Target::new(path, SigningSecret::parse(secret)?))
    };
    Ok(Arc::new(String::from_utf8(output.stdout)?.lines().map(target).collect::<anyhow::Result<_>>()?))
}

/// The sources of a private cluster.
pub struct Sources {
    pub admin: Admin,
    database: DatabaseHandle,
}

impl Sources {
    pub async fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let private = Database::Private { data_dir: data_dir.to_owned(), master_key: None };
        let database = DatabaseHandle::open(&private).await?;
        let admin = Admin::new(
            database.admin_pool(AdminPool::Command),
            Arc::clone(&database.vault),
            Urls { webhooks: String::new(), console: String::new() },
        );
        Ok(Self { admin, database })
    }

    /// Creates accounts with a source each; without a key their events wait.
    pub async fn create(&self, name: &str, n: usize, key: Option<&str>) -> anyhow::Result<Arc<Vec<Target>>> {
        let key = key.map(WriteKey::parse).transpose()?;
        let mut targets = Vec::with_capacity(n);
        for i in 0..n {
            let name = Name::parse(&format!("{name}-{i}"))?;
            let first = NewSource { write_key: key.clone(), ..NewSource::of(Kind::Nudgespot) };
            let created = self.admin.create_account(&name, first).await?;
            let secret = created.signing_secret.context("it is made")?;
            targets.push(Target::new(created.webhook_path, secret));
        }
        Ok(Arc::new(targets))
    }

    /// Gives sources that have waited their key.
    pub async fn set_key(&self, name: &str, n: usize) -> anyhow::Result<()> {
        for i in 0..n {
            let write_key = Some(WriteKey::parse(WRITE_KEY)?);
            let edit = Edit { write_key, ..Default::default() };
            self.admin.edit_source(&format!("{name}-{i}"), edit, OffsetDateTime::now_utc()).await?;
        }
        Ok(())
    }

    pub async fn close(self) -> anyhow::Result<()> {
        Ok(self.database.close().await?)
    }
}
