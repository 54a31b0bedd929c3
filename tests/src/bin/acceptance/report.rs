//! What the runs saw, as Markdown.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

/// What one kind of run came to.
pub struct Section {
    /// Heading and text.
    pub text: String,
    /// What was not as it should be.
    pub failures: Vec<String>,
}

/// The document while it grows.
pub struct Report {
    text: String,
    failures: Vec<String>,
}

impl Report {
    /// Its head: when and where.
    pub fn begin() -> Self {
        let days = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
        let (year, month, day) = date(days);
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown processor", |(_, model)| model);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let text = format!(
            "# Acceptance runs\n\nWritten by `cargo xtask acceptance`; do not edit.\n\n{year}-{month:02}-{day:02}, \
             {cores} cores, {model}; publishers, nodes and viewers all on this one machine.\n"
        );
        Self { text, failures: Vec::new() }
    }

    /// Takes what a run saw, or why it did not come to its end.
    pub fn add(&mut self, name: &str, section: anyhow::Result<Section>) {
        let Section { text, failures } = section.unwrap_or_else(|error| Section {
            text: format!("\n## {name}\n\nDid not come to its end: {error:#}\n"),
            failures: vec![format!("{name} did not come to its end: {error:#}")],
        });
        println!("{text}");
        self.text.push_str(&text);
        self.failures.extend(failures);
    }

    /// What was not as it should be.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Writes the document.
    pub fn write(&self) -> anyhow::Result<()> {
        let verdict = if self.failures.is_empty() {
            "\nAll of it is as it should be.\n".to_owned()
        } else {
            format!("\nNot as it should be: {}.\n", self.failures.join("; "))
        };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/acceptance.md");
        std::fs::write(&path, format!("{}{verdict}", self.text))
            .with_context(|| format!("write {}", path.display()))
    }
}

/// Year, month and day of a day since 1970 (proleptic Gregorian calendar).
fn date(days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let mut rest = days;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while rest >= 365 + u64::from(is_leap(year)) {
        rest -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= months[month] {
        rest -= months[month];
        month += 1;
    }
    (year, month as u64 + 1, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_780), (2026, 11, 23));
    }
}
