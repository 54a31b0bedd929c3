//! The programs that a measurement runs beside the servers, each as a process of its own in a namespace.

pub mod facade;
pub mod floor;
mod janus;
pub mod mix;
pub mod oracle;
pub mod sink;

use std::io::Write as _;

/// Tells whoever started this process that it is at work.
///
/// # Errors
/// If nobody listens any more.
pub fn ready() -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{READY}")?;
    out.flush()
}

/// The first line of every part.
pub const READY: &str = "ready";
