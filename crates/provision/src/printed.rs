//! What a node printed, bounded, into this process's log.

use model::NodeId;

/// Lines that are passed on at a time.
const LINES_MAX: usize = 40;
/// Bytes of a line that are passed on.
pub(crate) const LINE_BYTES_MAX: usize = 1000;

/// Some of what a node printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Printed {
    pub lines: Vec<String>,
    /// Bytes that are not among them.
    pub left_out: u64,
}

impl Printed {
    /// The first lines of a text.
    pub fn of(text: &str) -> Self {
        let mut all = text.lines().filter(|line| !line.trim().is_empty());
        let lines = all.by_ref().take(LINES_MAX).map(shortened).collect();
        Self { lines, left_out: all.map(|line| line.len() as u64).sum() }
    }

    /// Into the log.
    pub fn pass_on(&self, node: &NodeId) {
        for line in &self.lines {
            tracing::info!(%node, "{line}");
        }
        if self.left_out > 0 {
            tracing::info!(%node, bytes = self.left_out, "it prints more than is passed on");
        }
    }
}

fn shortened(line: &str) -> String {
    let mut end = line.len().min(LINE_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few_and_short_and_the_rest_is_counted() {
        let line = "ü".repeat(LINE_BYTES_MAX);
        let printed = Printed::of(&format!("{line}\n \n{}", "abc\n".repeat(LINES_MAX + 1)));
        assert_eq!((printed.lines.len(), printed.left_out), (LINES_MAX, 6));
        assert_eq!(printed.lines[0].len(), LINE_BYTES_MAX);
        assert_eq!(printed.lines[1], "abc");
    }
}
