//! The embedded default: no database named, and none running.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Account, Context, Service, events, new_dir, run_binary, until};

/// A program with a data folder of its own, and no `DATABASE_URL`.
struct Alone {
    context: Context,
    dir: PathBuf,
    env: Vec<(String, String)>,
}

impl Alone {
    async fn new() -> Self {
        let context = Context::new().await;
        // Nobody but root (or whoever runs the tests) may enter: a server that runs as another user must cope.
        let dir = new_dir();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).expect("closed");
        let data_dir = dir.join("data");
        let mut env = context.env.clone();
        env.retain(|(name, _)| name != "DATABASE_URL" && name != "MASTER_KEY");
        env.push(("DATA_DIR".to_owned(), data_dir.to_str().expect("UTF-8").to_owned()));
        Self { context, dir: data_dir, env }
    }

    async fn account(&self, name: &str) -> Account {
        let args = ["account", "create", "--name", name, "--write-key", "some-write-key", "--json"];
        let (code, stdout, stderr) = run_binary(&self.env, &args, "").await;
        assert_eq!(code, 0, "{stderr}");
        Account::new(name, &serde_json::from_str::<Value>(&stdout).expect("JSON"))
    }

    /// The process of the server, if one runs.
    fn postgres(&self) -> Option<String> {
        let file = std::fs::read_to_string(self.dir.join("postgres/postmaster.pid")).ok()?;
        file.lines().next().map(str::to_owned)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Some(pid) = self.postgres() {
            let _ = std::process::Command::new("kill").args(["-INT", &pid]).status();
        }
        let _ = std::fs::remove_dir_all(self.dir.parent().unwrap_or(&self.dir));
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_the_service_share_a_cluster_that_ends_with_the_last() {
    let alone = Alone::new().await;
    let first = alone.account("before").await;
    assert_eq!(alone.postgres(), None, "started for the command, and stopped after it");
    assert_eq!((mode(&alone.dir), mode(&alone.dir.join("master.key"))), (0o700, 0o600));

    let service = Service::start(&alone.env).await;
    let running = alone.postgres().expect("it runs");
    let second = alone.account("while it runs").await;
    assert_eq!(alone.postgres(), Some(running), "joined");
    first.accept(&service, &events(0..1)).await;
    second.accept(&service, &events(0..1)).await;
    alone.context.messages(2).await;
    assert!(service.terminate().await.success());
    assert_eq!(alone.postgres(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_server_is_taken_over_and_after_its_own_death_started_again() {
    let alone = Alone::new().await;
    let service = Service::start(&alone.env).await;
    let account = alone.account("acme").await;
    account.accept(&service, &events(0..1)).await;
    let running = alone.postgres().expect("it runs");
    service.kill().await;
    assert_eq!(alone.postgres().as_ref(), Some(&running), "it outlives the program");

    let service = Service::start(&alone.env).await;
    assert_eq!(alone.postgres().as_ref(), Some(&running), "and is taken over, not doubled");
    account.accept(&service, &events(1..2)).await;
    alone.context.messages(2).await;

    let killed = std::process::Command::new("kill").args(["-KILL", &running]).status().expect("kill");
    assert!(killed.success());
    until(async || account.post(&service, &events(2..3)).await.status == 200).await;
    alone.context.messages(3).await;
    assert_ne!(alone.postgres().expect("it runs again"), running);
    assert!(service.terminate().await.success());
    assert_eq!(alone.postgres(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_file_of_a_process_that_is_gone_or_another_by_now_is_no_obstacle() {
    let alone = Alone::new().await;
    alone.account("acme").await;
    let lock = alone.dir.join("postgres/postmaster.pid");
    for pid in [i32::MAX.to_string(), std::process::id().to_string()] {
        let text = format!("{pid}\n/gone\n1\n5432\n\n127.0.0.1\n  1 1\nready\n");
        std::fs::write(&lock, text).expect("written");
        alone.account(&format!("acme-{pid}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_six_events_arrive() {
    let (code, stdout, stderr) = run_binary(&[], &["demo", "--once"], "").await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("6 of 6 events arrived"), "{stdout}");
    for event in [
        "Email Delivered",
        "Email Opened",
        "Email Link Clicked",
        "Email Bounced",
        "Email Marked as Spam",
        "Email Unsubscribed",
    ] {
        assert!(stdout.contains(event), "{stdout}");
    }
    let (code, stdout, stderr) = run_binary(&[], &["demo", "--once", "--json"], "").await;
    assert_eq!(code, 0, "{stderr}");
    let journeys: Value = serde_json::from_str(&stdout).expect("one JSON value");
    assert_eq!(journeys.as_array().map(Vec::len), Some(6));
}
