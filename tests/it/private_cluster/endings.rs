//! Whatever ends the program: nothing is left behind, or the next start clears it up.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::{Alone, is_alive, kill, postgres};
use crate::harness::{PATIENCE, Service, new_dir, run_binary, until};

/// A command that runs.
struct Running {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(env: &[(String, String)], args: &[&str]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_nudgespot-source")).args(args), env)
    }

    /// As `nohup` starts it.
    fn start_ignoring_hangups(env: &[(String, String)], args: &[&str]) -> Self {
        let script = r#"trap "" HUP; exec "$0" "$@""#;
        let binary = env!("CARGO_BIN_EXE_nudgespot-source");
        Self::spawn(Command::new("sh").args(["-c", script, binary]).args(args), env)
    }

    fn spawn(command: &mut Command, env: &[(String, String)]) -> Self {
        let mut child = command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary");
        let stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, stdout }
    }

    fn signal(&self, signal: &str) {
        kill(signal, &self.child.id().expect("it runs").to_string());
    }

    /// Reads what it prints, up to a line that holds this.
    async fn says(&mut self, text: &str) {
        loop {
            let line = timeout(PATIENCE, self.stdout.next_line()).await.expect("in time").expect("UTF-8");
            if line.expect("another line").contains(text) {
                return;
            }
        }
    }

    /// Waits for its end; returns its exit code and stderr.
    async fn end(self) -> (Option<i32>, String) {
        let output = timeout(PATIENCE, self.child.wait_with_output()).await.expect("in time").expect("output");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    }
}

/// A temporary folder for demos.
struct Temporary {
    dir: PathBuf,
    env: Vec<(String, String)>,
}

impl Temporary {
    fn new() -> Self {
        let dir = new_dir();
        let env = vec![("TMPDIR".to_owned(), dir.to_str().expect("UTF-8").to_owned())];
        Self { dir, env }
    }

    /// What demos have left.
    fn left(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.dir).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        for pid in self.left().iter().filter_map(|dir| postgres(dir)) {
            let _ = std::process::Command::new("kill").args(["-KILL", &pid]).status();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_terminal_and_the_quit_key_stop_the_service_in_good_order() {
    let alone = Alone::without_segment();
    for signal in ["HUP", "QUIT"] {
        let service = Service::start(&alone.env).await;
        service.signal(signal);
        assert_eq!(service.into_end().await.code(), Some(0), "{signal}");
        assert_eq!(alone.postgres(), None, "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nohup_outlives_the_terminal() {
    let temporary = Temporary::new();
    let mut demo = Running::start_ignoring_hangups(&temporary.env, &["demo"]);
    demo.says("Starting").await;
    demo.signal("HUP");
    demo.says("Now you").await;
    demo.signal("HUP");
    demo.signal("TERM");
    let (code, stderr) = demo.end().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(temporary.left().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_the_start_leaves_nothing_behind() {
    let alone = Alone::without_segment();
    alone.source("acme").await;
    for args in [["serve"].as_slice(), &["account", "list"]] {
        let running = Running::start(&alone.env, args);
        until(async || alone.pid_file().exists()).await;
        running.signal("INT");
        let (code, stderr) = running.end().await;
        assert!(code.is_some(), "{args:?}: {stderr}");
        assert_eq!(alone.postgres(), None, "{args:?}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_nothing_behind() {
    let mut alone = Alone::without_segment();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    alone.set("BIND", &taken.local_addr().expect("bound").to_string());
    assert!(Service::try_start(&alone.env).await.is_err_and(|log| log.contains("BIND")));
    assert_eq!(alone.postgres(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_postgresql_that_hang_hold_nobody_up() {
    let mut alone = Alone::without_segment();
    let programs = alone.dir.parent().expect("a folder").join("programs");
    std::fs::create_dir(&programs).expect("created");
    let pid = programs.join("pid");
    let initdb = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
    for (program, script) in [("postgres", "echo 'postgres (PostgreSQL) 99.1'"), ("initdb", &initdb)] {
        let path = programs.join(program);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
    }
    // It runs as the server's user.
    std::fs::set_permissions(&programs, PermissionsExt::from_mode(0o777)).expect("open");
    let parent: &Path = alone.dir.parent().expect("a folder");
    std::fs::set_permissions(parent, PermissionsExt::from_mode(0o755)).expect("open");
    alone.set("PATH", &format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path")));
    for args in [["serve"].as_slice(), &["account", "list"]] {
        let _ = std::fs::remove_file(&pid);
        let running = Running::start(&alone.env, args);
        until(async || pid.exists()).await;
        running.signal("INT");
        let (code, stderr) = running.end().await;
        assert!(code.is_some(), "{args:?}: {stderr}");
        let sleep = std::fs::read_to_string(&pid).expect("a process id");
        until(async || !is_alive(sleep.trim())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_server_does_not_hold_up_the_end() {
    let alone = Alone::without_segment();
    let service = Service::start(&alone.env).await;
    let running = alone.postgres().expect("it runs");
    kill("STOP", &running);
    assert!(service.terminate().await.success());
    assert!(!is_alive(&running));
    // What it left is no obstacle.
    assert_eq!(alone.list().await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_ends_quietly_when_nobody_reads_any_more() {
    let temporary = Temporary::new();
    // `demo | head -1`, and a pager that is left.
    for last in ["Starting", "/messages"] {
        let mut demo = Running::start(&temporary.env, &["demo"]);
        demo.says(last).await;
        let Running { child, stdout } = demo;
        drop(stdout);
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("in time").expect("output");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{last}");
        assert!(temporary.left().is_empty(), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_was_stopped_leaves_nothing_behind_and_one_that_was_killed_until_the_next() {
    let temporary = Temporary::new();
    let mut demo = Running::start(&temporary.env, &["demo"]);
    demo.says("Starting").await;
    until(async || temporary.left().iter().any(|dir| dir.join("postgres.new").exists())).await;
    demo.signal("HUP");
    let (code, stderr) = demo.end().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(temporary.left().is_empty());

    let mut killed = Running::start(&temporary.env, &["demo"]);
    killed.says("Now you").await;
    let left = temporary.left();
    let server = postgres(&left[0]).expect("it runs");
    // Not the folder of a demo, whatever its name.
    let other = temporary.dir.join("nudgespot-demo-of-mine");
    std::fs::create_dir(&other).expect("created");

    let (code, _, stderr) = run_binary(&temporary.env, &["demo", "--once"], "").await;
    assert_eq!(code, 0, "{stderr}");
    assert!(left[0].exists() && is_alive(&server), "one that runs is left alone");
    killed.signal("KILL");
    killed.end().await;
    assert!(is_alive(&server));
    let (code, _, stderr) = run_binary(&temporary.env, &["demo", "--once"], "").await;
    assert_eq!(code, 0, "{stderr}");
    assert!(!is_alive(&server));
    assert_eq!(temporary.left(), [other]);
}
