//! What a node prints, out of the file that it writes to.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::printed::Printed;

/// What is read at one look.
const READ_MAX: usize = 64 * 1024;
/// A file that is larger is emptied: what it had is in the log, or was too much for it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Follows the file that a node writes to.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    /// Where the next look begins.
    at: u64,
}

impl Output {
    /// From its beginning.
    pub fn new(path: PathBuf) -> Self {
        Self { path, at: 0 }
    }

    /// From its present end: what is there was told by an earlier process.
    pub fn from_end(path: PathBuf) -> Self {
        let at = path.metadata().map_or(0, |file| file.len());
        Self { path, at }
    }

    /// Lines that have come since; an unfinished one waits.
    pub fn look(&mut self) -> Printed {
        self.read().unwrap_or_default()
    }

    fn read(&mut self) -> std::io::Result<Printed> {
        let length = self.path.metadata()?.len();
        // It was emptied.
        self.at = self.at.min(length);
        if self.at == length {
            return Ok(Printed::default());
        }
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        (&file).take(READ_MAX as u64).read_to_end(&mut bytes)?;
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        // A line that fills a whole look is cut.
        let taken = if complete == 0 && bytes.len() == READ_MAX { READ_MAX } else { complete };
        let mut printed = Printed::of(&String::from_utf8_lossy(&bytes[..taken]));
        self.at += taken as u64;
        // It grows while it is read.
        let left = length.saturating_sub(self.at);
        if left > READ_MAX as u64 {
            // More comes than is read: the rest is passed over, so that the latest is seen.
            printed.left_out += left;
            self.at = length;
        }
        if length > FILE_BYTES_MAX {
            // It is appended to: the next line stands at the beginning.
            printed.left_out += length.saturating_sub(self.at);
            file.set_len(0)?;
            self.at = 0;
        }
        Ok(printed)
    }
}

/// The file of a node.
pub(super) fn file(home: &Path) -> PathBuf {
    home.join("output")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::printed::LINE_BYTES_MAX;

    struct Writer(tempfile::TempDir);

    impl Writer {
        fn path(&self) -> PathBuf {
            self.0.path().join("output")
        }

        fn append(&self, text: &str) {
            let file = OpenOptions::new().create(true).append(true).open(self.path());
            file.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        }
    }

    #[test]
    fn whole_lines_are_passed_on_once() {
        let writer = Writer(tempfile::tempdir().expect("a folder"));
        let mut output = Output::new(writer.path());
        assert_eq!(output.look(), Printed::default(), "there is no file yet");
        writer.append("one\n\ntwo\nthr");
        assert_eq!(output.look().lines, ["one", "two"]);
        assert_eq!(output.look(), Printed::default());
        writer.append("ee\n");
        assert_eq!(output.look().lines, ["three"]);
        assert_eq!(Output::from_end(writer.path()).look(), Printed::default());
    }

    #[test]
    fn a_flood_is_counted_and_its_file_emptied() {
        let writer = Writer(tempfile::tempdir().expect("a folder"));
        let mut output = Output::new(writer.path());
        writer.append(&"a line that comes too often\n".repeat(60_000));
        let seen = output.look();
        assert_eq!(seen.lines.len(), 40);
        assert!(seen.left_out > 1_500_000, "{}", seen.left_out);
        assert_eq!(writer.path().metadata().expect("there").len(), 0);
        writer.append("the next one\n");
        assert_eq!(output.look().lines, ["the next one"]);
    }

    #[test]
    fn a_line_without_end_does_not_stop_the_rest() {
        let writer = Writer(tempfile::tempdir().expect("a folder"));
        let mut output = Output::new(writer.path());
        writer.append(&"x".repeat(READ_MAX));
        assert_eq!(output.look().lines, ["x".repeat(LINE_BYTES_MAX)]);
        writer.append("\nnext\n");
        assert_eq!(output.look().lines, ["next"]);
    }
}
