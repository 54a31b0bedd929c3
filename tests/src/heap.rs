//! What a program holds of the heap: bytes and blocks, told by a library that is loaded in front of the allocator.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

const SOURCE: &str = include_str!("heap.c");

/// What is allocated at one moment; what the allocator keeps for later is not among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Allocated.
    pub bytes: u64,
    /// In so many pieces.
    pub blocks: u64,
}

/// The counts of one program.
#[derive(Debug)]
pub struct Heap {
    folder: TempDir,
}

impl Heap {
    /// # Errors
    /// If there is no C compiler.
    pub fn new() -> anyhow::Result<Self> {
        let heap = Self { folder: tempfile::tempdir()? };
        let source = heap.path("heap.c");
        fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler
            .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .args([heap.path("heap.so"), source]);
        let output = compiler.output().context("start cc")?;
        ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        Ok(heap)
    }

    /// The variables with which a program is counted; programs that it starts are not.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", self.path("heap.so")), ("HEAP_COUNTS", self.path("counts"))]
    }

    /// What the program holds now.
    ///
    /// # Errors
    /// If no program was started with the variables.
    pub fn held(&self) -> anyhow::Result<Held> {
        let counts = fs::read(self.path("counts")).context("no program is counted")?;
        let (numbers, _) = counts.as_chunks::<8>();
        let [bytes, blocks] = numbers else { bail!("{} numbers", numbers.len()) };
        Ok(Held { bytes: u64::from_ne_bytes(*bytes), blocks: u64::from_ne_bytes(*blocks) })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}
