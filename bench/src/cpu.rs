//! What processes cost, as the operating system counts it.

use std::fs;

/// Clock ticks a second, on every Linux there is.
const TICKS: f64 = 100.0;

/// The CPU seconds of a process and all its children so far.
pub fn seconds_of_tree(root: u32) -> f64 {
    let stats: Vec<(u32, u32, f64)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?))
        .collect();
    let mut tree = vec![root];
    let mut seconds = 0.0;
    while let Some(pid) = tree.pop() {
        tree.extend(stats.iter().filter(|(_, parent, _)| *parent == pid).map(|(child, _, _)| *child));
        seconds += stats.iter().find(|(id, _, _)| *id == pid).map_or(0.0, |(_, _, seconds)| *seconds);
    }
    seconds
}

/// The CPU seconds of one process.
pub fn seconds_of(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |(_, _, seconds)| seconds)
}

/// The largest resident size of a process so far, in MiB.
pub fn peak_memory_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// Process, parent, CPU seconds (with those of children that ended).
fn stat(pid: u32) -> Option<(u32, u32, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, in brackets, may hold blanks.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let ticks: f64 = (11..=14).filter_map(|i| fields.get(i)?.parse::<f64>().ok()).sum();
    Some((pid, parent, ticks / TICKS))
}
