//! Real parts that a test needs: found, or the test says that it did not run.

use std::io::Write as _;
use std::path::Path;

/// True if `part` (a file) is on this machine. Otherwise the test `name` is noted as not run; with `CI` set it fails.
///
/// # Panics
/// With `CI` set, if the part is missing.
#[must_use]
pub fn has(name: &str, part: &str) -> bool {
    if Path::new(part).exists() {
        return true;
    }
    skipped(name, &format!("{part} is not on this machine"));
    false
}

/// True for root, which network namespaces and file systems of a test's own need.
///
/// # Panics
/// With `CI` set, if the test does not run as root.
#[must_use]
pub fn is_root(name: &str) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let is_root = user.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0");
    if !is_root {
        skipped(name, "network namespaces and file systems of its own need root");
    }
    is_root
}

fn skipped(name: &str, reason: &str) {
    let is_ci = std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    assert!(!is_ci, "{name} could not run: {reason}");
    eprintln!("{name} did not run: {reason}");
    if let Some(list) = std::env::var_os("MEDIA_TREE_SKIPPED")
        && let Ok(mut list) = std::fs::OpenOptions::new().append(true).open(list)
    {
        let _ = writeln!(list, "{name}: {reason}");
    }
}
