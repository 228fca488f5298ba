//! What the private cluster keeps under `DATA_DIR` besides PostgreSQL's own files: locks, key, password.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::{ClusterError, POLL, file_error};
use crate::random;
use crate::secrets::vault::Vault;

/// Held by the process that starts the server.
pub const START_LOCK: &str = "start.lock";
/// Held shared by every process that uses the cluster, and exclusively by one that stops its server.
pub const IN_USE_LOCK: &str = "in-use.lock";
/// The file of the generated master key.
pub const MASTER_KEY: &str = "master.key";
/// The file of the generated password.
pub const PASSWORD: &str = "postgres.password";

/// How long a folder may refuse to be empty.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a lock is taken.
#[derive(Clone, Copy)]
pub enum Mode {
    /// Beside others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

/// Creates the folder, for its owner only, and returns its full path.
pub fn create_dir(data_dir: &Path) -> Result<PathBuf, ClusterError> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(file_error(data_dir))?;
    data_dir.canonicalize().map_err(file_error(data_dir))
}

/// Removes a folder, if it is there.
pub async fn remove_dir(path: &Path) -> Result<(), ClusterError> {
    let began = Instant::now();
    loop {
        match std::fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A child of a process that was killed is still at its last write.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && began.elapsed() < REMOVE_TIMEOUT => {
                tokio::time::sleep(POLL).await;
            }
            Err(error) => return Err(file_error(path)(error)),
        }
    }
}

/// Takes a lock for as long as the returned file is open; waits for `limit` at most.
pub async fn lock(dir: &Path, name: &str, mode: Mode, limit: Duration) -> Result<File, ClusterError> {
    let file = open_lock(&dir.join(name))?;
    wait_for(&file, &dir.join(name), mode, limit).await?;
    Ok(file)
}

/// Takes the lock of an open file; waits for `limit` at most.
pub async fn wait_for(file: &File, path: &Path, mode: Mode, limit: Duration) -> Result<(), ClusterError> {
    let began = Instant::now();
    loop {
        let taken = match mode {
            Mode::Shared => file.try_lock_shared(),
            Mode::Exclusive => file.try_lock(),
        };
        match taken {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if began.elapsed() < limit => tokio::time::sleep(POLL).await,
            Err(TryLockError::WouldBlock) => return Err(ClusterError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(file_error(path)(error)),
        }
    }
}

/// Opens a lock file.
pub fn open_lock(path: &Path) -> Result<File, ClusterError> {
    let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
    open.map_err(file_error(path))
}

/// The master key, which is generated with the cluster. That of a cluster that exists is never made anew: no key but
/// the one that is gone opens what is in there.
pub fn master_key(dir: &Path, cluster_exists: bool) -> Result<String, ClusterError> {
    let path = dir.join(MASTER_KEY);
    match read(&path)? {
        None if cluster_exists => Err(ClusterError::MasterKeyMissing(path)),
        None => generate(&path),
        Some(text) if Vault::parse(&text).is_ok() => Ok(text),
        Some(_) => Err(ClusterError::MasterKeyDamaged(path)),
    }
}

/// The password of the cluster's role, and whether it is a new one, which the cluster does not know.
pub fn password(dir: &Path) -> Result<(String, bool), ClusterError> {
    let path = dir.join(PASSWORD);
    match read(&path)? {
        // What was cut off or overwritten is as good as gone.
        Some(text) if Vault::parse(&text).is_ok() => Ok((text, false)),
        _ => Ok((generate(&path)?, true)),
    }
}

/// The content of a file, if there is one.
pub fn read(path: &Path) -> Result<Option<String>, ClusterError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(path)(error)),
    }
}

fn generate(path: &Path) -> Result<String, ClusterError> {
    let text = Vault::encode_key(random::bytes());
    write(path, &text).map_err(file_error(path))?;
    Ok(text)
}

/// Writes beside, then renames: a crash leaves either no file or a whole one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_that_is_not_given_up_is_told_by_its_file() {
        let dir = std::env::temp_dir().join(format!("locks-{}", hex::encode(random::bytes::<8>())));
        std::fs::create_dir(&dir).expect("created");
        let limit = Duration::from_millis(100);
        let shared = lock(&dir, "a.lock", Mode::Shared, limit).await.expect("free");
        lock(&dir, "a.lock", Mode::Shared, Duration::ZERO).await.expect("shared");
        let refused = lock(&dir, "a.lock", Mode::Exclusive, limit).await.expect_err("taken").to_string();
        assert!(refused.contains("another nudgespot-source") && refused.contains("a.lock"), "{refused}");
        drop(shared);
        lock(&dir, "a.lock", Mode::Exclusive, Duration::ZERO).await.expect("free again");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
