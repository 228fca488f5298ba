//! Runs PostgreSQL's programs to their end, with a limit of time.

use std::io;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;

/// Runs a program to its end, with `input` on its stdin unless the command says what that is.
///
/// It and its children are killed when they take longer than `limit`, and when the returned future is dropped.
pub async fn run(mut command: Command, input: Option<&str>, limit: Duration) -> io::Result<Output> {
    use std::os::unix::process::CommandExt;

    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    // A group of its own: the children are killed with it, and Ctrl-C in a terminal does not reach it.
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command).spawn()?;
    let mut group = Group(child.id());
    let done = async {
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A program that does not read its input says why on stderr.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(limit, done)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("did not end within {} s", limit.as_secs())))??;
    group.0 = None;
    Ok(output)
}

/// The processes of a program that has not ended. Killed when dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|leader| leader.try_into().ok()) {
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}
