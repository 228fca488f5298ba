//! What the private cluster keeps under `DATA_DIR` besides PostgreSQL's own files: locks, key, password.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ClusterError, POLL, START, file_error};
use crate::random;
use crate::vault::Vault;

/// Creates the folder, for its owner only, and returns its full path.
pub fn create_dir(data_dir: &Path) -> Result<PathBuf, ClusterError> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(file_error(data_dir))?;
    data_dir.canonicalize().map_err(file_error(data_dir))
}

/// Takes a lock for as long as the returned file is open.
pub async fn lock(dir: &Path, name: &str) -> Result<File, ClusterError> {
    let file = open_lock(dir, name)?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if waited < START => tokio::time::sleep(POLL).await,
            Err(error) => return Err(file_error(&dir.join(name))(error.into())),
        }
        waited += POLL;
    }
}

/// Opens a lock file.
pub fn open_lock(dir: &Path, name: &str) -> Result<File, ClusterError> {
    let path = dir.join(name);
    let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    open.map_err(file_error(&path))
}

/// The content of a secret file; made of random bytes where there is none.
pub fn read_or_generate(dir: &Path, name: &str) -> Result<String, ClusterError> {
    let path = dir.join(name);
    match read(&path) {
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file_error(&path)(error)),
    }
    let text = Vault::encode_key(random::bytes());
    write(dir, &path, &text).map_err(file_error(&path))?;
    Ok(text)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Writes beside, then renames: a crash leaves either no file or a whole one.
fn write(dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(dir)?.sync_all()
}
