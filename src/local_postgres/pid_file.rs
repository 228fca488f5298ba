//! PostgreSQL's own lock file, `postmaster.pid`.
//!
//! A server that was killed leaves it behind, with a process id that may be anybody's by now; a power cut may leave it
//! empty or cut off.

use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::Pid;

/// No process has this id, on any system.
const NOBODY: i32 = i32::MAX;

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// On its way up, or recovering from a crash.
    Starting,
    /// It takes connections.
    Ready,
    /// On its way down.
    Stopping,
}

/// What stands in the file.
#[derive(Clone, Copy, Debug)]
pub struct PidFile {
    pub pid: Pid,
    pub port: u16,
    pub status: Status,
}

impl PidFile {
    /// Reads it. `None`: there is none, or it is not complete.
    pub fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid: i32 = lines.first()?.parse().ok()?;
        let port = lines.get(3)?.parse().ok()?;
        let status = match lines.get(7) {
            Some(&"ready") => Status::Ready,
            Some(&"stopping") => Status::Stopping,
            _ => Status::Starting,
        };
        // Zero and negative numbers name groups of processes.
        (pid > 0 && port > 0).then_some(Self { pid: Pid::from_raw(pid), port, status })
    }
}

/// Makes a file that no server of the cluster holds harmless.
///
/// PostgreSQL refuses to start while the process lives that the file names, whosever it is, and where it cannot read
/// the file. What the file says of shared memory stays: by it PostgreSQL sees to it that no backend of the old server
/// still writes.
pub fn disown(path: &Path) -> io::Result<()> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut lines: Vec<&str> = text.lines().collect();
    let names_memory = |line: &&str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().is_ok());
        numbers.next() == Some(true) && numbers.next() == Some(true)
    };
    if !lines.get(6).is_some_and(names_memory) {
        return fs::remove_file(path);
    }
    let nobody = NOBODY.to_string();
    lines[0] = &nobody;
    fs::write(path, lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_file_is_no_file_and_a_whole_one_keeps_its_memory() {
        let dir = std::env::temp_dir().join(format!("pid-file-{}", hex::encode(crate::random::bytes::<8>())));
        fs::create_dir(&dir).expect("created");
        let path = dir.join("postmaster.pid");
        let whole = "123\n/data\n1448469549\n5432\n\n127.0.0.1\n  1076 32768\nready   \n";
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).expect("written");
            let status = PidFile::read(&path).map(|file| file.status);
            assert_eq!(status == Some(Status::Ready), end > whole.find("ready").expect("there") + 4, "{end}");
            disown(&path).expect("disowned");
            let left = fs::read_to_string(&path).ok();
            assert!(left.as_ref().is_none_or(|text| text.starts_with("2147483647\n")), "{end}: {left:?}");
        }
        fs::write(&path, whole).expect("written");
        disown(&path).expect("disowned");
        assert_eq!(fs::read_to_string(&path).expect("kept"), whole.replacen("123", "2147483647", 1));
        for pid in ["0", "-123", "99999999999", "", "x"] {
            fs::write(&path, whole.replacen("123", pid, 1)).expect("written");
            assert!(PidFile::read(&path).is_none(), "{pid}");
        }
        fs::remove_dir_all(&dir).expect("removed");
    }
}
