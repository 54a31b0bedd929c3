//! What the runs saw, as Markdown.

use std::path::Path;

use anyhow::Context as _;
use tests::host;

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
        let text = format!(
            "# Acceptance runs\n\nWritten by `cargo xtask acceptance`; do not edit.\n\n{}; publishers, nodes and viewers \
             all on this one machine.\n",
            host::today_and_here()
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
