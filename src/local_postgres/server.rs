//! The server of the private cluster: how it is made, started, and given its password.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{Gid, Uid, User};
use tokio::time::Instant;

use super::binaries::Binaries;
use super::instance::Instance;
use super::{ClusterError, DATABASE, POLL, USER, file_error, pid_file, process, state};

/// How long `initdb` may take: it writes 40 MB and waits for the disk.
const INITDB_TIMEOUT: Duration = Duration::from_mins(2);
/// How long the password may take to be set: the cluster recovers from a crash first.
const SET_PASSWORD_TIMEOUT: Duration = Duration::from_mins(2);
/// How much of the server's log is read for what it died of, in bytes.
const LOG_TAIL: u64 = 64 << 10;

/// The server, and what it takes to start it.
pub struct Server {
    /// Its processes.
    pub instance: Instance,
    binaries: Binaries,
    log: PathBuf,
    /// Where in the log the server begins that was started last.
    log_start: u64,
    /// Who runs the server, where this process is root.
    user: Option<(Uid, Gid)>,
}

impl Server {
    /// The server of the cluster under `dir`.
    pub fn new(dir: &Path, binaries: Binaries) -> Result<Self, ClusterError> {
        let instance = Instance::new(dir);
        let user = server_user(&instance.cluster)?;
        Ok(Self { instance, binaries, log: dir.join("postgres.log"), log_start: 0, user })
    }

    /// Makes the cluster. A half-made one of a process that was killed is made anew.
    pub async fn initialize(&self, password: &str) -> Result<(), ClusterError> {
        let cluster = &self.instance.cluster;
        // An `initdb` that has outlived its parent holds the lock, too.
        let lock = self.wait_for_claim(INITDB_TIMEOUT).await?;
        let new = cluster.with_extension("new");
        state::remove_dir(&new).await?;
        fs::create_dir(&new).map_err(file_error(&new))?;
        self.chown_to_server_user(&new)?;
        let dir = self.open_for_child(&new)?;
        let password_file = self.password_file(password)?;
        let mut command = self.command("initdb");
        command
            .args(["--username", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"])
            .arg(format!("--pwfile={}", fd_path(&password_file)))
            .arg(format!("--pgdata={}", dir.path))
            .stdin(lock);
        let output = process::run(command, None, INITDB_TIMEOUT).await;
        let output = output.map_err(file_error(&self.binaries.path("initdb")))?;
        if !output.status.success() {
            return Err(ClusterError::Initdb(last_line(&String::from_utf8_lossy(&output.stderr))));
        }
        fs::rename(&new, cluster).map_err(file_error(cluster))
    }

    async fn wait_for_claim(&self, limit: Duration) -> Result<File, ClusterError> {
        let began = Instant::now();
        loop {
            match self.instance.claim()? {
                Some((lock, _)) => return Ok(lock),
                None if began.elapsed() < limit => tokio::time::sleep(POLL).await,
                None => return Err(ClusterError::Locked(self.instance.lock_path().to_owned())),
            }
        }
    }

    /// A file that only the server's user can read, gone from its folder before anything is written to it.
    fn password_file(&self, password: &str) -> Result<File, ClusterError> {
        let path = self.instance.cluster.with_extension("pw");
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).read(true).write(true).mode(0o600);
        let file = options.open(&path).map_err(file_error(&path))?;
        self.chown_to_server_user(&path)?;
        fs::remove_file(&path).map_err(file_error(&path))?;
        let mut open = &file;
        open.write_all(password.as_bytes()).and_then(|()| open.rewind()).map_err(file_error(&path))?;
        inherit(&file, &path)?;
        Ok(file)
    }

    /// Makes the files of a cluster that was copied from elsewhere the server's, and closes them to others: PostgreSQL
    /// insists on it.
    pub fn take_possession(&self) -> Result<(), ClusterError> {
        let cluster = &self.instance.cluster;
        let metadata = fs::metadata(cluster).map_err(file_error(cluster))?;
        if metadata.mode() & 0o027 != 0 {
            let closed = fs::set_permissions(cluster, fs::Permissions::from_mode(0o700));
            closed.map_err(file_error(cluster))?;
        }
        let Some((uid, gid)) = self.user else { return Ok(()) };
        let is_foreign = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.uid() != uid.as_raw());
        if is_foreign(cluster) || is_foreign(&cluster.join("global/pg_control")) {
            chown_all(cluster, uid.as_raw(), gid.as_raw()).map_err(file_error(cluster))?;
        }
        Ok(())
    }

    /// Starts the server, whose processes are gone, without waiting for it. It keeps its port over restarts, as pools
    /// of connections know it, unless somebody else has taken it.
    pub fn spawn(&mut self) -> Result<(), ClusterError> {
        let Some((lock, name)) = self.instance.claim()? else { return Ok(()) };
        self.make_ready()?;
        let cluster = self.instance.cluster.clone();
        if self.instance.port == 0 || TcpListener::bind((Ipv4Addr::LOCALHOST, self.instance.port)).is_err() {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
            self.instance.port = free.map_err(file_error(&cluster))?.port();
        }
        let dir = self.open_for_child(&cluster)?;
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log);
        let log = log.map_err(file_error(&self.log))?;
        self.log_start = log.metadata().map_err(file_error(&self.log))?.len();
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(dir.path)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", &format!("port={}", self.instance.port), "-c", "logging_collector=off"])
            .args(["-c", &format!("cluster_name={name}")])
            .stdin(lock)
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole process group; the server must outlast the program's drain.
            .process_group(0)
            .spawn()
            .map_err(file_error(&self.binaries.path("postgres")))?;
        self.instance.adopt(child);
        Ok(())
    }

    fn make_ready(&self) -> Result<(), ClusterError> {
        let path = self.instance.pid_file_path();
        pid_file::disown(&path).map_err(file_error(&path))
    }

    /// Gives the role its password, without asking for the one that it has. The server must be gone.
    pub async fn set_password(&self, password: &str) -> Result<(), ClusterError> {
        // Held for as long as this takes.
        let Some((_lock, _)) = self.instance.claim()? else { return Ok(()) };
        self.make_ready()?;
        let dir = self.open_for_child(&self.instance.cluster)?;
        let mut command = self.command("postgres");
        command
            .args(["--single", "-D", &dir.path, "-c", "exit_on_error=on", "-c", "logging_collector=off"])
            // The statement holds the password.
            .args(["-c", "log_statement=none", "-c", "log_min_error_statement=panic", DATABASE]);
        let statement = format!("alter role {USER} password '{}'\n", password.replace('\'', "''"));
        let output = process::run(command, Some(&statement), SET_PASSWORD_TIMEOUT).await;
        let output = output.map_err(file_error(&self.binaries.path("postgres")))?;
        if output.status.success() {
            return Ok(());
        }
        Err(ClusterError::SetPassword(last_error(&String::from_utf8_lossy(&output.stderr))))
    }

    /// What the server that was started last died of, or why it does not answer.
    pub fn does_not_start(&self) -> ClusterError {
        let tail = || {
            let mut file = File::open(&self.log)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.log_start.max(end.saturating_sub(LOG_TAIL))))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        ClusterError::DoesNotStart { log: self.log.clone(), last_line: last_error(&tail().unwrap_or_default()) }
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

    fn chown_to_server_user(&self, path: &Path) -> Result<(), ClusterError> {
        let Some((uid, gid)) = self.user else { return Ok(()) };
        chown(path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(file_error(path))
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

/// Who runs the server: for root, whoever has the cluster; a new one, or one that root has copied, is given to
/// `postgres` or `nobody`.
fn server_user(cluster: &Path) -> Result<Option<(Uid, Gid)>, ClusterError> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    if let Ok(metadata) = fs::metadata(cluster)
        && metadata.uid() != 0
    {
        let uid = Uid::from_raw(metadata.uid());
        let user = User::from_uid(uid).ok().flatten();
        return Ok(Some((uid, user.map_or(Gid::from_raw(metadata.gid()), |user| user.gid))));
    }
    let user = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
    Ok(Some(user.map(|user| (user.uid, user.gid)).ok_or(ClusterError::NoUser)?))
}

fn chown_all(path: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    lchown(path, Some(uid), Some(gid))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            chown_all(&entry?.path(), uid, gid)?;
        }
    }
    Ok(())
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

/// The last line that tells of an error, else the last line.
fn last_error(log: &str) -> String {
    let is_error = |line: &&str| ["PANIC:", "FATAL:", "ERROR:"].iter().any(|level| line.contains(level));
    log.lines().rev().find(is_error).map_or_else(|| last_line(log), |line| line.trim().to_owned())
}

fn last_line(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned()
}
