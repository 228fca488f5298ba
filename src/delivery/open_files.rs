//! How many files, and so connections, the process may open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What is assumed where the system does not tell.
const UNKNOWN: usize = 1_024;
/// More are never needed.
const ENOUGH: u64 = 65_536;

/// Raises the process's soft limit towards the hard one, which an administrator sets, and returns it. Soft limits are low
/// for the sake of programs that use `select`.
pub fn raise_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return UNKNOWN };
    let wanted = soft.max(hard.min(ENOUGH));
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    usize::try_from(limit).unwrap_or(usize::MAX)
}
