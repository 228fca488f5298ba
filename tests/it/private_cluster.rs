//! The embedded default: no database named, and none running.

mod endings;
mod restored;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Context, Service, Source, events, new_dir, run_binary, until};

/// A program with a data folder of its own, and no `DATABASE_URL`.
struct Alone {
    /// Its stand-in for Segment, where the test needs one.
    context: Option<Context>,
    dir: PathBuf,
    env: Vec<(String, String)>,
}

impl Alone {
    /// One that delivers.
    async fn new() -> Self {
        let context = Context::new().await;
        let mut alone = Self::without_segment();
        alone.env.extend(context.env.iter().filter(|(name, _)| name.starts_with("SEGMENT_")).cloned());
        alone.context = Some(context);
        alone
    }

    /// One that has nothing to deliver.
    fn without_segment() -> Self {
        // Nobody but root (or whoever runs the tests) may enter: a server that runs as another user must cope.
        let dir = new_dir();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).expect("closed");
        let data_dir = dir.join("data");
        let env = [
            ("DATA_DIR", data_dir.to_str().expect("UTF-8")),
            ("BIND", "127.0.0.1:0"),
            ("INTERNAL_BIND", "127.0.0.1:0"),
            ("CONSOLE_BIND", "127.0.0.1:0"),
            ("RUST_LOG", "info"),
            ("LOG_FORMAT", "json"),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { context: None, dir: data_dir, env }
    }

    /// The messages that were delivered, once they are as many.
    async fn messages(&self, n: usize) -> Vec<Value> {
        self.context.as_ref().expect("with Segment").messages(n).await
    }

    async fn source(&self, name: &str) -> Source {
        let args = ["account", "create", "--name", name, "--write-key", "some-write-key", "--json"];
        let (code, stdout, stderr) = run_binary(&self.env, &args, "").await;
        assert_eq!(code, 0, "{stderr}");
        Source::new(name, &serde_json::from_str::<Value>(&stdout).expect("JSON"))
    }

    fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// A command that opens the database.
    async fn list(&self) -> (i32, String, String) {
        run_binary(&self.env, &["account", "list"], "").await
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("postgres/postmaster.pid")
    }

    /// The process of the server, if one runs.
    fn postgres(&self) -> Option<String> {
        postgres(&self.dir)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Where a test fails.
        if let Some(pid) = self.postgres() {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
        let _ = std::fs::remove_dir_all(self.dir.parent().expect("a folder"));
    }
}

/// The process of the server of the cluster in this folder, if one runs.
fn postgres(dir: &Path) -> Option<String> {
    let file = std::fs::read_to_string(dir.join("postgres/postmaster.pid")).ok()?;
    file.lines().next().map(str::to_owned)
}

fn kill(signal: &str, pid: &str) {
    let done = Command::new("kill").args([&format!("-{signal}"), pid]).status().expect("kill");
    assert!(done.success(), "{signal} {pid}");
}

fn parent(pid: &str) -> String {
    let output = Command::new("ps").args(["-o", "ppid=", "-p", pid]).output().expect("ps");
    String::from_utf8(output.stdout).expect("a number").trim().to_owned()
}

/// The backends of a server.
fn children(pid: &str) -> Vec<String> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().expect("ps");
    let text = String::from_utf8(output.stdout).expect("numbers");
    let pairs = text.lines().filter_map(|line| line.trim().split_once(' '));
    pairs.filter(|(_, parent)| parent.trim() == pid).map(|(child, _)| child.to_owned()).collect()
}

fn is_alive(pid: &str) -> bool {
    let output = Command::new("ps").args(["-o", "state=", "-p", pid]).output().expect("ps");
    let state = String::from_utf8(output.stdout).expect("a letter");
    !matches!(state.trim().chars().next(), None | Some('Z'))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_the_service_share_a_cluster_that_ends_with_the_last() {
    let alone = Alone::new().await;
    let first = alone.source("before").await;
    assert_eq!(alone.postgres(), None, "started for the command, and stopped after it");
    assert_eq!((mode(&alone.dir), mode(&alone.dir.join("master.key"))), (0o700, 0o600));

    let service = Service::start(&alone.env).await;
    let running = alone.postgres().expect("it runs");
    let second = alone.source("while it runs").await;
    assert_eq!(alone.postgres(), Some(running), "joined");
    first.accept(&service, &events(0..1)).await;
    second.accept(&service, &events(0..1)).await;
    alone.messages(2).await;
    assert!(service.terminate().await.success());
    assert_eq!(alone.postgres(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_server_is_taken_over_and_after_its_own_death_started_again() {
    let alone = Alone::new().await;
    let service = Service::start(&alone.env).await;
    let source = alone.source("acme").await;
    source.accept(&service, &events(0..1)).await;
    let running = alone.postgres().expect("it runs");
    service.kill().await;
    assert_eq!(alone.postgres().as_ref(), Some(&running), "it outlives the program");

    let service = Service::start(&alone.env).await;
    assert_eq!(alone.postgres().as_ref(), Some(&running), "and is taken over, not doubled");
    source.accept(&service, &events(1..2)).await;
    alone.messages(2).await;

    kill("KILL", &running);
    // Its processes for the connections may end a little later, and store something until then.
    until(async || alone.postgres().is_some_and(|again| again != running)).await;
    until(async || source.post(&service, &events(2..3)).await.status == 200).await;
    alone.messages(3).await;
    let again = alone.postgres().expect("it runs again");

    // A shutdown that waits for the clients to leave, who do not.
    kill("TERM", &again);
    until(async || !is_alive(&again)).await;
    until(async || source.post(&service, &events(3..4)).await.status == 200).await;
    alone.messages(4).await;
    assert!(service.terminate().await.success());
    assert_eq!(alone.postgres(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_stands_in_the_pid_file_is_no_obstacle_and_nobody_it_names_comes_to_harm() {
    let alone = Alone::without_segment();
    alone.source("acme").await;
    // Another cluster's server, and a backend of it.
    let context = Context::new().await;
    let mut other = context.pool.acquire().await.expect("a connection");
    let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *other).await.expect("a number");
    let backend = backend.to_string();
    let postmaster = parent(&backend);
    let own = std::process::id().to_string();
    let whole = |pid: &str| format!("{pid}\n/gone\n1\n5432\n\n127.0.0.1\n  1 1\nready\n");
    let cut_off = |pid: &str| format!("{pid}\n/gone\n1\n");
    let texts = [
        whole(&i32::MAX.to_string()),
        whole(&own),
        whole(&postmaster),
        whole(&backend),
        whole(&format!("-{postmaster}")),
        whole("1"),
        whole("0"),
        whole("99999999999"),
        cut_off(&postmaster),
        cut_off(&own),
        "nonsense".to_owned(),
        String::new(),
    ];
    for text in texts {
        std::fs::write(alone.pid_file(), &text).expect("written");
        let (code, _, stderr) = alone.list().await;
        assert_eq!(code, 0, "{text:?}: {stderr}");
        assert_eq!(alone.postgres(), None, "stopped: {text:?}");
    }
    let answer: i32 = sqlx::query_scalar("select 1").fetch_one(&mut *other).await.expect("unharmed");
    assert_eq!(answer, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_running_cluster_leaves_the_original_alone() {
    let original = Alone::without_segment();
    original.source("acme").await;
    let service = Service::start(&original.env).await;
    let running = original.postgres().expect("it runs");
    let copy = Alone::without_segment();
    let copied = Command::new("cp").arg("-a").args([&original.dir, &copy.dir]).status().expect("cp");
    // Files come and go in a running cluster; the copy is as good as one of a snapshot here, for nobody writes.
    assert!(copied.success());
    let (code, stdout, stderr) = copy.list().await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("acme"), "{stdout}");
    assert_eq!(original.postgres(), Some(running), "still there");
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_servers_and_backends_are_replaced() {
    // At a time: each takes as long as a server is given to answer.
    tokio::join!(a_suspended_server_is_replaced(), a_suspended_backend_of_a_killed_server_is_not_left_writing());
}

async fn a_suspended_server_is_replaced() {
    let alone = Alone::without_segment();
    let service = Service::start(&alone.env).await;
    service.kill().await;
    let running = alone.postgres().expect("it runs");
    kill("STOP", &running);
    let (code, _, stderr) = alone.list().await;
    assert_eq!(code, 0, "{stderr}");
    assert!(!is_alive(&running));
    assert_eq!(alone.postgres(), None);
}

async fn a_suspended_backend_of_a_killed_server_is_not_left_writing() {
    let alone = Alone::without_segment();
    let service = Service::start(&alone.env).await;
    service.kill().await;
    let running = alone.postgres().expect("it runs");
    let backends = children(&running);
    kill("STOP", &backends[0]);
    kill("KILL", &running);
    let (code, _, stderr) = alone.list().await;
    assert_eq!(code, 0, "{stderr}");
    assert!(!is_alive(&backends[0]));
    assert_eq!(alone.postgres(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_six_events_arrive() {
    let (code, stdout, stderr) = run_binary(&[], &["demo", "--once"], "").await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("6 of 6 events arrived"), "{stdout}");
    assert!(stdout.contains("2 of 2 calls arrived") && stdout.contains("`01michaelb`"), "{stdout}");
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
