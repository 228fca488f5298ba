//! The processes of the cluster's server: whether they live, which they are, and how they are stopped.
//!
//! A lock file tells whether they live. The server gets it as its standard input, and hands it on to its backends, so
//! that the kernel frees it when the last of them is gone: whatever stands in `postmaster.pid`, whoever started the
//! server, and in whichever container. Which processes they are is told by a name, new at each start, in their command
//! lines. No other process is ever signalled.

use std::fs::{self, File, TryLockError};
use std::io::{Seek, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::pid_file::{PidFile, Status};
use super::{ClusterError, POLL, file_error, state};
use crate::random;

/// How a server is stopped: transactions are rolled back and all is written; then it ends without writing, and
/// recovers when it is started again; then it is killed, for it may be suspended.
const STOP: [(Duration, Signal); 3] = [
    (Duration::ZERO, Signal::SIGINT),
    (Duration::from_secs(3), Signal::SIGQUIT),
    (Duration::from_secs(4), Signal::SIGKILL),
];
/// When to give up.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What can be seen of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Its postmaster lives, and says this of itself.
    Running(Status),
    /// It is on its way up or down, or its postmaster has died and a backend is still at work.
    Busy,
    /// There is none.
    Gone,
}

/// The server's processes.
pub struct Instance {
    /// PostgreSQL's data directory.
    pub cluster: PathBuf,
    /// The port that it listens on, or did.
    pub port: u16,
    lock: PathBuf,
    /// The postmaster, where this process started it.
    child: Option<Child>,
}

impl Instance {
    /// The server of the cluster under `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { cluster: dir.join("postgres"), port: 0, lock: dir.join("server.lock"), child: None }
    }

    pub fn lock_path(&self) -> &Path {
        &self.lock
    }

    pub fn pid_file_path(&self) -> PathBuf {
        self.cluster.join("postmaster.pid")
    }

    /// Takes the lock that a server holds, and makes the name by which its processes are known. `None`: there is a
    /// server.
    pub fn claim(&self) -> Result<Option<(File, String)>, ClusterError> {
        let mut file = state::open_lock(&self.lock)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(file_error(&self.lock)(error)),
        }
        let name = format!("nudgespot-{}", hex::encode(random::bytes::<8>()));
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(name.as_bytes()));
        written.map_err(file_error(&self.lock))?;
        Ok(Some((file, name)))
    }

    /// Knows the postmaster that was started.
    pub fn adopt(&mut self, child: Child) {
        self.child = Some(child);
    }

    /// Looks at the server, and learns the port of one that another process started.
    pub fn probe(&mut self) -> ServerState {
        if self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
            self.child = None;
        }
        match self.postmaster() {
            Some(file) => {
                self.port = file.port;
                ServerState::Running(file.status)
            }
            None if self.child.is_none() && !self.is_held() => ServerState::Gone,
            None => ServerState::Busy,
        }
    }

    /// The server's pid file, if it is that of a postmaster that lives and is proven to be the cluster's.
    fn postmaster(&self) -> Option<PidFile> {
        let file = PidFile::read(&self.pid_file_path())?;
        let is_child = self.child_pid() == Some(file.pid);
        let is_ours = is_child || (self.is_held() && self.is_named(file.pid)) || self.is_at_home(file.pid);
        is_ours.then_some(file)
    }

    /// Whether a process of the server lives.
    fn is_held(&self) -> bool {
        let Ok(file) = File::open(&self.lock) else { return false };
        // Shared: those who look do not get into each other's way.
        file.try_lock_shared().is_err()
    }

    fn is_named(&self, pid: Pid) -> bool {
        let Some(name) = self.name() else { return false };
        command_line(pid).is_some_and(|line| is_postmaster(&line, &name))
    }

    /// Whether the process works in the data directory, as far as the system tells: a server that somebody started by
    /// hand.
    fn is_at_home(&self, pid: Pid) -> bool {
        let identity = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let home = identity(&self.cluster);
        let is_postgres =
            || fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres");
        home.is_some() && identity(Path::new(&format!("/proc/{pid}/cwd"))) == home && is_postgres()
    }

    /// The name of the server that was started last.
    fn name(&self) -> Option<String> {
        let name = fs::read_to_string(&self.lock).ok()?;
        name.starts_with("nudgespot-").then_some(name)
    }

    /// Whether the server has a postmaster, or but backends that have outlived it.
    pub fn has_postmaster(&self) -> bool {
        let name = self.name().unwrap_or_default();
        self.child.is_some()
            || self.postmaster().is_some()
            || processes(&name).iter().any(|(_, line)| is_postmaster(line, &name))
    }

    /// Sends the postmaster a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.postmaster_pid() {
            // It may have ended by now.
            let _ = kill(pid, signal);
        }
    }

    fn postmaster_pid(&self) -> Option<Pid> {
        self.postmaster().map(|file| file.pid).or_else(|| self.child_pid())
    }

    fn child_pid(&self) -> Option<Pid> {
        self.child.as_ref().and_then(|child| child.id().try_into().ok()).map(Pid::from_raw)
    }

    /// Kills all processes of the server. Returns how many were found.
    pub fn kill(&self) -> usize {
        let name = self.name().filter(|_| self.is_held());
        let mut pids: Vec<Pid> =
            name.iter().flat_map(|name| processes(name)).map(|(pid, _)| pid).chain(self.postmaster_pid()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.iter().filter(|pid| kill(**pid, Signal::SIGKILL).is_ok()).count()
    }

    /// Stops the server, if there is one. Takes 5 s at most.
    ///
    /// # Errors
    /// [`ClusterError::DoesNotStop`].
    pub async fn stop(&mut self) -> Result<(), ClusterError> {
        let mut stop = Stop { began: Instant::now(), n_sent: 0 };
        loop {
            match stop.step(self) {
                ControlFlow::Break(stopped) => return stopped,
                ControlFlow::Continue(()) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// As [`stop`](Self::stop), where nothing can be awaited.
    pub fn stop_blocking(&mut self) -> Result<(), ClusterError> {
        let mut stop = Stop { began: Instant::now(), n_sent: 0 };
        loop {
            match stop.step(self) {
                ControlFlow::Break(stopped) => return stopped,
                ControlFlow::Continue(()) => std::thread::sleep(POLL),
            }
        }
    }
}

/// A server being stopped.
struct Stop {
    began: Instant,
    n_sent: usize,
}

impl Stop {
    fn step(&mut self, instance: &mut Instance) -> ControlFlow<Result<(), ClusterError>> {
        if instance.probe() == ServerState::Gone {
            return ControlFlow::Break(Ok(()));
        }
        let elapsed = self.began.elapsed();
        match STOP.get(self.n_sent) {
            Some((after, signal)) if elapsed >= *after => {
                if *signal == Signal::SIGKILL {
                    tracing::warn!("the private PostgreSQL does not stop; killing it");
                    instance.kill();
                } else {
                    instance.signal(*signal);
                }
                self.n_sent += 1;
            }
            _ if elapsed >= STOP_TIMEOUT => return ControlFlow::Break(Err(ClusterError::DoesNotStop)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Whether this is the command line of a postmaster of this name.
fn is_postmaster(line: &str, name: &str) -> bool {
    let is_named =
        |arguments: &str| arguments.split_whitespace().any(|word| word.strip_prefix("cluster_name=") == Some(name));
    line.split_once(" -D ").is_some_and(|(program, arguments)| program.ends_with("postgres") && is_named(arguments))
}

/// Whether this is the command line of a process of a server of this name: PostgreSQL puts the name into its backends'.
fn is_process(line: &str, name: &str) -> bool {
    is_postmaster(line, name)
        || line.strip_prefix("postgres: ").is_some_and(|rest| rest.starts_with(&format!("{name}:")))
}

/// The processes of the server of this name, with their command lines.
fn processes(name: &str) -> Vec<(Pid, String)> {
    let own = |(pid, line): &(Pid, String)| is_process(line, name) && *pid != Pid::this();
    match fs::read_dir("/proc") {
        Ok(entries) if Path::new("/proc/self/cmdline").exists() => entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
            .filter_map(|pid| Some((pid, command_line(pid)?)))
            .filter(own)
            .collect(),
        _ => ps(&["-A", "-o", "pid=,command="])
            .lines()
            .filter_map(|line| {
                let (pid, line) = line.trim_start().split_once(' ')?;
                Some((Pid::from_raw(pid.parse().ok()?), line.to_owned()))
            })
            .filter(own)
            .collect(),
    }
}

/// A process's command line, with blanks between its words.
fn command_line(pid: Pid) -> Option<String> {
    let line = match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).replace('\0', " "),
        Err(_) if Path::new("/proc/self/cmdline").exists() => return None,
        Err(_) => ps(&["-p", &pid.to_string(), "-o", "command="]),
    };
    Some(line.trim().to_owned())
}

/// For systems without `/proc`.
fn ps(args: &[&str]) -> String {
    let output = std::process::Command::new("/bin/ps").arg("-ww").args(args).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
