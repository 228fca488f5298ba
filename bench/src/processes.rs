//! The processes that take part in a measurement.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A process that said on which address it listens.
pub struct Process {
    pub child: Child,
    pub address: String,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }
}

/// Another role of this benchmark's binary.
pub async fn role(args: &[&str]) -> anyhow::Result<Process> {
    let mut child =
        Command::new(std::env::current_exe()?).args(args).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().context("stdout")?;
    let address = BufReader::new(stdout).lines().next_line().await?.context("no address")?;
    Ok(Process { child, address })
}

/// The handler that one would write by hand, with its packages from the npm registry.
pub async fn node(dir: &Path, secret: &str, sink: &str) -> anyhow::Result<Process> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    std::fs::create_dir(dir)?;
    for file in ["package.json", "handler.js"] {
        std::fs::copy(source.join(file), dir.join(file))?;
    }
    let installed = Command::new("npm").args(["install", "--silent"]).current_dir(dir).status().await?;
    anyhow::ensure!(installed.success(), "npm install failed");
    let mut child = Command::new("node")
        .args(["handler.js", secret, &format!("http://{sink}")])
        .env("NODE_ENV", "production")
        .current_dir(dir)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("stdout")?;
    let address = BufReader::new(stdout).lines().next_line().await?.context("no address")?;
    Ok(Process { child, address })
}

/// The program, with its private cluster under a folder.
pub struct Program {
    binary: PathBuf,
    data_dir: PathBuf,
    sink: String,
}

impl Program {
    pub fn new(binary: &Path, data_dir: &Path, sink: &str) -> Self {
        Self { binary: binary.to_owned(), data_dir: data_dir.to_owned(), sink: sink.to_owned() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env_remove("DATABASE_URL")
            .env("DATA_DIR", &self.data_dir)
            .env("BIND", "127.0.0.1:0")
            .env("INTERNAL_BIND", "127.0.0.1:0")
            .env("CONSOLE_BIND", "127.0.0.1:0")
            .env("SEGMENT_US_URL", format!("http://{}", self.sink))
            .env("NUDGESPOT_URL", format!("http://{}", self.sink))
            .env("LOG_FORMAT", "json")
            .env("RUST_LOG", "info,sqlx=warn");
        command
    }

    /// Starts `serve`.
    pub async fn serve(&self) -> anyhow::Result<Process> {
        let mut child = self.command().stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("stderr")?).lines();
        while let Some(line) = lines.next_line().await? {
            let log: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if log["message"] == "listening" {
                let address = log["address"].as_str().context("an address")?.to_owned();
                tokio::spawn(async move {
                    while let Ok(Some(line)) = lines.next_line().await {
                        eprintln!("{line}");
                    }
                });
                return Ok(Process { child, address });
            }
            eprintln!("{line}");
        }
        bail!("the program did not start")
    }

    /// How to connect to the private PostgreSQL.
    pub fn database(&self) -> anyhow::Result<PgConnectOptions> {
        let password = std::fs::read_to_string(self.data_dir.join("postgres.password"))?;
        let lock = std::fs::read_to_string(self.data_dir.join("postgres/postmaster.pid"))?;
        let port = lock.lines().nth(3).context("a port")?.trim().parse()?;
        Ok(PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username("nudgespot")
            .password(&password)
            .database("postgres"))
    }

    /// The process of the private PostgreSQL.
    pub fn postgres_pid(&self) -> anyhow::Result<u32> {
        let lock = std::fs::read_to_string(self.data_dir.join("postgres/postmaster.pid"))?;
        Ok(lock.lines().next().context("a process id")?.trim().parse()?)
    }
}

/// Ends a process as an operator would, and waits for it.
pub async fn stop(mut process: Process) -> anyhow::Result<()> {
    Command::new("kill").arg("-TERM").arg(process.pid().to_string()).status().await?;
    tokio::time::timeout(Duration::from_secs(60), process.child.wait()).await.context("it does not stop")??;
    Ok(())
}
