//! The server process of the private cluster.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User, chown};

use super::binaries::Binaries;
use super::{ClusterError, POLL, START, USER, file_error};

/// The server: whether it runs, and how to start and stop it.
pub struct Server {
    binaries: Binaries,
    /// PostgreSQL's data directory.
    cluster: PathBuf,
    log: PathBuf,
    /// Who runs the server, where this process is root.
    user: Option<(Uid, Gid)>,
    /// The server, where this process started it.
    child: Option<Child>,
    port: u16,
}

/// What can be seen of the server's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It says that it takes connections.
    Ready,
    /// It is on its way up or down.
    Busy,
    /// There is none.
    Gone,
}

impl Server {
    /// The server of the cluster under `dir`.
    pub fn new(dir: &Path, binaries: Binaries) -> Result<Self, ClusterError> {
        let user = if Uid::effective().is_root() {
            let user = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
            Some(user.map(|user| (user.uid, user.gid)).ok_or(ClusterError::NoUser)?)
        } else {
            None
        };
        Ok(Self { binaries, cluster: dir.join("postgres"), log: dir.join("postgres.log"), user, child: None, port: 0 })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes the cluster, unless it is there. A half-made one of a process that was killed is made anew.
    pub fn initialize(&self, password: &str) -> Result<(), ClusterError> {
        if self.cluster.is_dir() {
            return Ok(());
        }
        let new = self.cluster.with_extension("new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(file_error(&new))?;
        }
        fs::create_dir(&new).map_err(file_error(&new))?;
        self.give_away(&new)?;
        let dir = self.open_for_child(&new)?;
        let password_file = self.password_file(password)?;
        let output = self
            .command("initdb")
            .args(["--username", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"])
            .arg(format!("--pwfile={}", fd_path(&password_file)))
            .arg(format!("--pgdata={}", dir.path))
            .output()
            .map_err(file_error(&self.binaries.path("initdb")))?;
        if !output.status.success() {
            return Err(ClusterError::Initdb(last_line(&String::from_utf8_lossy(&output.stderr))));
        }
        fs::rename(&new, &self.cluster).map_err(file_error(&self.cluster))
    }

    /// A file that only the server's user can read, gone from its folder before anything is written to it.
    fn password_file(&self, password: &str) -> Result<File, ClusterError> {
        let path = self.cluster.with_extension("pw");
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).read(true).write(true).mode(0o600);
        let file = options.open(&path).map_err(file_error(&path))?;
        self.give_away(&path)?;
        fs::remove_file(&path).map_err(file_error(&path))?;
        let mut open = &file;
        open.write_all(password.as_bytes()).and_then(|()| open.rewind()).map_err(file_error(&path))?;
        inherit(&file, &path)?;
        Ok(file)
    }

    /// Starts the server, whose process is gone, without waiting for it. It keeps its port over restarts, as pools of connections know it.
    pub fn spawn(&mut self) -> Result<(), ClusterError> {
        if self.port == 0 || TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
            self.port = free.map_err(file_error(&self.cluster))?.port();
        }
        self.remove_foreign_lock_file()?;
        let dir = self.open_for_child(&self.cluster)?;
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log);
        let log = log.map_err(file_error(&self.log))?;
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(dir.path)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", &format!("port={}", self.port), "-c", "logging_collector=off"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole process group; the server must outlast the program's drain.
            .process_group(0)
            .spawn()
            .map_err(file_error(&self.binaries.path("postgres")))?;
        self.child = Some(child);
        Ok(())
    }

    /// Looks at the server, and learns the port of one that another process started.
    pub fn look(&mut self) -> Condition {
        let child_runs = self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if !child_runs {
            self.child = None;
        }
        match self.lock_file() {
            Some(lock) if lock.is_ready => {
                self.port = lock.port;
                Condition::Ready
            }
            None if !child_runs => Condition::Gone,
            Some(_) | None => Condition::Busy,
        }
    }

    /// PostgreSQL's own lock file, if the server that wrote it lives. One that was killed leaves the file behind, with
    /// a process id that may be anybody's by now.
    fn lock_file(&self) -> Option<LockFile> {
        let text = fs::read_to_string(self.lock_file_path()).ok()?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid = Pid::from_raw(lines.first()?.parse().ok()?);
        is_server(pid).then_some(LockFile {
            pid,
            port: lines.get(3).and_then(|line| line.parse().ok()).unwrap_or(0),
            is_ready: lines.get(7) == Some(&"ready"),
        })
    }

    /// PostgreSQL refuses to start while the process lives that its lock file names, although after a restart of the
    /// machine, or of a container, that can be any process. The file of a dead process must stay: by it PostgreSQL
    /// sees to it that no backend of the old server still writes.
    fn remove_foreign_lock_file(&self) -> Result<(), ClusterError> {
        let path = self.lock_file_path();
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).map(Pid::from_raw);
        match pid {
            Some(pid) if is_alive(pid) && !is_server(pid) => fs::remove_file(&path).map_err(file_error(&path)),
            _ => Ok(()),
        }
    }

    fn lock_file_path(&self) -> PathBuf {
        self.cluster.join("postmaster.pid")
    }

    pub fn does_not_start(&self) -> ClusterError {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        ClusterError::DoesNotStart { log: self.log.clone(), last_line: last_line(&text) }
    }

    /// Stops the server: a fast shutdown, in which transactions are rolled back and everything is written.
    pub async fn stop(&mut self) {
        let Some(lock) = self.lock_file() else { return };
        if kill(lock.pid, Signal::SIGINT).is_err() {
            return;
        }
        let began = tokio::time::Instant::now();
        while self.look() != Condition::Gone && began.elapsed() < START {
            tokio::time::sleep(POLL).await;
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.path(program));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
        if let Some((uid, gid)) = self.user {
            // `uid` drops the other groups of root as well.
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }

    fn give_away(&self, path: &Path) -> Result<(), ClusterError> {
        let Some((uid, gid)) = self.user else { return Ok(()) };
        chown(path, Some(uid), Some(gid)).map_err(|errno| file_error(path)(errno.into()))
    }

    /// Opens a folder so that a child reaches it.
    ///
    /// The user who runs the server for root may not be able to walk to the cluster: root's home, or a fresh temporary
    /// folder, is closed to others. Through an inherited descriptor no walk is needed.
    fn open_for_child(&self, path: &Path) -> Result<Opened, ClusterError> {
        let dir = File::open(path).map_err(file_error(path))?;
        let path = if self.user.is_some() {
            inherit(&dir, path)?;
            fd_path(&dir)
        } else {
            path.to_string_lossy().into_owned()
        };
        Ok(Opened { path, _dir: dir })
    }
}

/// A folder, open, and the path by which a child names it.
struct Opened {
    path: String,
    _dir: File,
}

struct LockFile {
    pid: Pid,
    port: u16,
    is_ready: bool,
}

fn inherit(file: &File, path: &Path) -> Result<(), ClusterError> {
    match fcntl(file, FcntlArg::F_SETFD(FdFlag::empty())) {
        Ok(_) => Ok(()),
        Err(errno) => Err(file_error(path)(errno.into())),
    }
}

/// The path by which a child names a file that it inherits.
fn fd_path(file: &File) -> String {
    format!("/dev/fd/{}", file.as_raw_fd())
}

fn is_alive(pid: Pid) -> bool {
    // EPERM: it lives, and is somebody else's.
    !matches!(kill(pid, None), Err(nix::errno::Errno::ESRCH))
}

/// Whether the process lives and is a PostgreSQL server, as far as the system tells.
fn is_server(pid: Pid) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    is_alive(pid) && name.map_or(true, |name| name.trim() == "postgres")
}

fn last_line(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned()
}
