//! What processes cost, as the operating system counts it.

use std::fs;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Clock ticks a second, on every Linux there is.
const TICKS: f64 = 100.0;

/// The CPU seconds of a process and all its children so far.
pub fn seconds_of_tree(root: u32) -> f64 {
    let stats: Vec<Stat> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?))
        .collect();
    let mut tree = vec![root];
    let mut seconds = 0.0;
    while let Some(pid) = tree.pop() {
        tree.extend(stats.iter().filter(|stat| stat.parent == pid).map(|child| child.pid));
        seconds += stats.iter().find(|stat| stat.pid == pid).map_or(0.0, |stat| stat.own + stat.children);
    }
    seconds
}

/// The CPU seconds of one process, without its children.
pub fn seconds_of(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |stat| stat.own)
}

/// The largest resident size of a process so far, in MiB.
pub fn peak_memory_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// A process's own clock counts nanoseconds, and the threads that ended; `/proc` counts in hundredths of a second, which is
/// a tenth of what a second at a low rate costs.
fn clock(pid: u32) -> Option<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.try_into().ok()?)).ok()?;
    Some(Duration::from(clock.now().ok()?).as_secs_f64())
}

struct Stat {
    pid: u32,
    parent: u32,
    /// CPU seconds, and those of children that ended (in whole ticks).
    own: f64,
    children: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, in brackets, may hold blanks.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let seconds = |fields: &[&str]| fields.iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS;
    let own = clock(pid).unwrap_or(seconds(fields.get(11..13)?));
    Some(Stat { pid, parent, own, children: seconds(fields.get(13..15)?) })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};
    use std::time::{Duration, Instant};

    use super::{seconds_of, seconds_of_tree};

    #[test]
    fn threads_and_children_that_ended_have_cost_what_they_cost() {
        let (own, tree) = (seconds_of(id()), seconds_of_tree(id()));
        std::thread::spawn(|| {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(300) {}
        })
        .join()
        .unwrap();
        // The machine may do something else meanwhile, but hardly all the time.
        let of_thread = seconds_of(id()) - own;
        assert!((0.01..0.4).contains(&of_thread), "{of_thread}");

        let child = Command::new("sh").args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"]).status();
        assert!(child.unwrap().success());
        let of_child = (seconds_of_tree(id()) - tree) - (seconds_of(id()) - own);
        assert!(of_child > 0.05, "{of_child}");
    }
}
