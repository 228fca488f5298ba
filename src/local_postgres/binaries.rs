//! Finds PostgreSQL's programs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest PostgreSQL that the program works with.
pub const OLDEST: u32 = 14;
/// Folders that hold a folder a version, each with the programs in its `bin`.
const VERSIONED: [&str; 4] = ["/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt", "/usr/pgsql"];

/// A folder with `initdb` and `postgres`.
#[derive(Clone, Debug)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// The newest that is installed.
    #[must_use]
    pub fn find() -> Option<Self> {
        candidates()
            .into_iter()
            .filter(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
            .filter_map(|dir| Some((version(&dir)?, dir)))
            .filter(|(version, _)| *version >= OLDEST)
            .max()
            .map(|(_, dir)| Self(dir))
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
fn version(dir: &Path) -> Option<u32> {
    let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}
