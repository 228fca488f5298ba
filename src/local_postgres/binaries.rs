//! Finds PostgreSQL's programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{ClusterError, process};

/// The oldest PostgreSQL that the program works with.
pub const OLDEST: u32 = 14;
/// Folders that hold a folder a version, each with the programs in its `bin`.
const VERSIONED: [&str; 4] = ["/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt", "/usr/pgsql"];
/// How long `postgres --version` may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// A folder with `initdb` and `postgres`.
#[derive(Clone, Debug)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// Those of the major version that made a cluster; where there is none yet, the newest that are installed.
    pub async fn find(made_by: Option<u32>, cluster: &Path) -> Result<Self, ClusterError> {
        let mut found = Vec::new();
        for dir in candidates() {
            if dir.join("initdb").is_file()
                && dir.join("postgres").is_file()
                && let Some(version) = version(&dir).await
                && version >= OLDEST
            {
                found.push((version, dir));
            }
        }
        let newest = found.iter().map(|(version, _)| *version).max().ok_or(ClusterError::NotInstalled)?;
        let wanted = made_by.unwrap_or(newest);
        match found.iter().find(|(version, _)| *version == wanted) {
            Some((_, dir)) => Ok(Self(dir.clone())),
            None => Err(ClusterError::OtherVersion { cluster: cluster.to_owned(), made_by: wanted, newest }),
        }
    }

    /// The path of one of the programs.
    #[must_use]
    pub fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    for parent in VERSIONED {
        // A folder that is not there holds nothing.
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        dirs.extend(entries.map(|entry| entry.path().join("bin")));
    }
    dirs
}

/// The major version that `postgres --version` names: `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
async fn version(dir: &Path) -> Option<u32> {
    let mut command = Command::new(dir.join("postgres"));
    command.arg("--version").stdin(Stdio::null());
    let output = process::run(command, None, VERSION_TIMEOUT).await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}
