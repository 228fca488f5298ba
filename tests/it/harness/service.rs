//! The real binary, running.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{PATIENCE, sender};

/// A `serve` that listens. Killed when dropped.
pub struct Service {
    child: Child,
    pub url: String,
    pub metrics_url: String,
    /// Of the console, without a slash at the end.
    pub console_url: String,
    log: Arc<Mutex<Vec<String>>>,
    printed: watch::Receiver<String>,
    log_reader: JoinHandle<Option<Lines<BufReader<ChildStderr>>>>,
    stall: Arc<Notify>,
}

impl Service {
    pub async fn start(env: &[(String, String)]) -> Self {
        Self::try_start(env).await.unwrap_or_else(|log| panic!("the service did not start: {log}"))
    }

    /// Starts the binary; where it ends before it listens, returns what it said.
    pub async fn try_start(env: &[(String, String)]) -> Result<Self, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nudgespot-source"))
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
        let printed = collect(child.stdout.take().expect("piped"));
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        loop {
            let line = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("UTF-8");
            let Some(line) = line else { return Err(log.lock().expect("whole").join("\n")) };
            let json: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            log.lock().expect("whole").push(line);
            if json["message"] == "listening" {
                let url = |field: &str| format!("http://{}", json[field].as_str().expect("an address"));
                let (url, metrics_url, console_url) = (url("address"), url("metrics") + "/metrics", url("console"));
                let (rest, stall) = (Arc::clone(&log), Arc::new(Notify::new()));
                let stalled = Arc::clone(&stall);
                let log_reader = tokio::spawn(async move {
                    loop {
                        tokio::select! {
                            () = stalled.notified() => return Some(lines),
                            line = lines.next_line() => match line {
                                Ok(Some(line)) => rest.lock().expect("whole").push(line),
                                _ => return None,
                            },
                        }
                    }
                });
                return Ok(Self { child, url, metrics_url, console_url, log, printed, log_reader, stall });
            }
        }
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("whole").join("\n")
    }

    /// The one-time link for the first operator, which it prints.
    pub async fn first_operator_link(&self) -> String {
        let mut printed = self.printed.clone();
        let link = |text: &str| text.split_whitespace().find(|word| word.contains("/links/")).map(str::to_owned);
        let heard = timeout(PATIENCE, printed.wait_for(|text| link(text).is_some())).await.expect("in time");
        link(&heard.expect("it prints")).expect("a link")
    }

    /// All that it has printed.
    pub fn printed(&self) -> String {
        self.printed.borrow().clone()
    }

    /// Lets whoever collects its logs die.
    pub async fn lose_log(&mut self) {
        self.log_reader.abort();
        // The pipe is closed when the task is gone.
        assert!((&mut self.log_reader).await.is_err());
    }

    /// Reads no more of its logs, and leaves the pipe open for as long as what is returned lives.
    pub async fn stall_log(&mut self) -> Lines<BufReader<ChildStderr>> {
        self.stall.notify_one();
        (&mut self.log_reader).await.expect("it reads").expect("the pipe is open")
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let done = std::process::Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill");
        assert!(done.success());
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a state")
    }

    /// What a GET of this path is answered.
    pub async fn get(&self, path: &str) -> u16 {
        let response = sender::http().get(format!("{}{path}", self.url)).send().await;
        response.expect("an answer").status().as_u16()
    }

    /// Ends it as an operator would.
    pub async fn terminate(self) -> ExitStatus {
        self.signal("TERM");
        self.into_end().await
    }

    /// Waits for its end, after a signal.
    pub async fn into_end(mut self) -> ExitStatus {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it drains in time").expect("an end");
        if !status.success() {
            eprintln!("it ended with {status}: {}", self.log());
        }
        status
    }

    /// Ends it as a power cut would.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }
}

/// Reads what is printed, line by line.
fn collect(stdout: ChildStdout) -> watch::Receiver<String> {
    let (sender, printed) = watch::channel(String::new());
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            sender.send_modify(|text| {
                text.push_str(&line);
                text.push('\n');
            });
        }
    });
    printed
}
