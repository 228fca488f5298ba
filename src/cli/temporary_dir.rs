//! Folders for the clusters of demos, which are gone when the demo ends, or when the next one starts.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Uid;

use crate::local_postgres;
use crate::random;

/// How long a program that was killed in the middle of making the cluster may take to be gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const PREFIX: &str = "nudgespot-demo-";
/// A folder is lost to another demo's clearing up only in the moment at which it is made.
const MAX_ATTEMPTS: u32 = 10;

/// A folder for a cluster. It is locked for as long as this process lives; so others know whether it is in use.
pub struct TemporaryDir {
    path: PathBuf,
    /// The folder itself, open: holds the lock.
    _lock: File,
}

impl TemporaryDir {
    /// Makes one.
    ///
    /// # Errors
    /// Where the system's temporary folder cannot be written.
    pub fn create() -> io::Result<Self> {
        let mut n_attempts = 0;
        loop {
            let path = std::env::temp_dir().join(format!("{PREFIX}{}", hex::encode(random::bytes::<8>())));
            DirBuilder::new().mode(0o700).create(&path)?;
            n_attempts += 1;
            match lock(&path) {
                Ok(Some(lock)) => return Ok(Self { path, _lock: lock }),
                Ok(None) if n_attempts < MAX_ATTEMPTS => {}
                Ok(None) => return Err(ErrorKind::ResourceBusy.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, with a server that may be left in it.
    pub async fn remove(self) {
        remove(&self.path, ANSWER_TIMEOUT).await;
    }
}

/// Removes the folders of demos that were killed, with the servers that they have left.
pub async fn remove_leftovers() {
    // What cannot be listed is left to whoever can.
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let path = entry.path();
        if is_demos(&path)
            && let Ok(Some(_lock)) = lock(&path)
        {
            remove(&path, Duration::ZERO).await;
        }
    }
}

async fn remove(path: &Path, patience: Duration) {
    match local_postgres::remove(path, patience).await {
        Ok(true) => {}
        Ok(false) => tracing::warn!(dir = %path.display(), "the demo's folder is in use, and stays"),
        Err(error) => tracing::warn!(dir = %path.display(), %error, "the demo's folder could not be removed"),
    }
}

/// Whether it is a demo's folder, made by the same user: others could put there what they like.
fn is_demos(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(PREFIX));
    name.is_some_and(|random| random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && fs::symlink_metadata(path).is_ok_and(|metadata| {
            metadata.is_dir() && metadata.uid() == Uid::effective().as_raw() && metadata.mode() & 0o022 == 0
        })
}

/// Locks a folder. `None`: somebody else has locked it, or removed it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let dir = match File::open(path) {
        Ok(dir) => dir,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_there = || fs::metadata(path).is_ok_and(|there| dir.metadata().is_ok_and(|own| own.ino() == there.ino()));
    Ok((dir.try_lock().is_ok() && is_there()).then_some(dir))
}
