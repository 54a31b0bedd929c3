//! Says in each JSON line which node has written it, so that a collector of logs need not know.

use std::io::{self, Write};
use std::sync::OnceLock;

use tracing_subscriber::fmt::MakeWriter;

use crate::Identity;

/// The first fields of each line, once it is known who writes. A process finds its name after it has begun to log.
#[derive(Debug, Default)]
pub struct Who(OnceLock<String>);

impl Who {
    /// Nobody yet.
    pub const fn unknown() -> Self {
        Self(OnceLock::new())
    }

    /// From now on it is this node; the first who says so counts.
    pub fn identify(&self, identity: &Identity) {
        let Identity { tree, node, role } = identity;
        // Nothing in these names needs an escape.
        let fields = format!(r#"{{"tree_id":"{tree}","node_id":"{node}","node_type":"{role}","#);
        let _ = self.0.set(fields);
    }
}

/// Makes writers of lines that begin so.
pub struct Identified<W> {
    pub inner: W,
    pub who: &'static Who,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Identified<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { inner: self.inner.make_writer(), who: self.who }
    }
}

/// Writes one line.
pub struct Line<W> {
    inner: W,
    who: &'static Who,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (self.who.0.get(), bytes.strip_prefix(b"{")) {
            // In one piece: lines of several threads must not mix.
            (Some(fields), Some(rest)) => self.inner.write_all(&[fields.as_bytes(), rest].concat())?,
            _ => self.inner.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
