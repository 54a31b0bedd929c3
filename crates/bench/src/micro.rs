//! The benches beside the hot paths: what criterion has written under `target/criterion`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::record::{Micro, Record};

/// Older results are of another run.
const AGE_MAX: Duration = Duration::from_secs(3600);

/// The medians of all benches run within the last hour; `programs` is the folder of the built programs.
///
/// # Errors
/// If there are none.
pub fn medians(programs: &Path) -> anyhow::Result<Vec<Record>> {
    let folder = programs.parent().context("the programs lie nowhere")?.join("criterion");
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    let mut records = Vec::new();
    for file in files {
        let estimates = read(&file)?;
        let bench = read(&file.with_file_name("benchmark.json"))?;
        let name = bench["full_id"].as_str().context("a bench without a name")?.to_owned();
        let iteration_ns =
            estimates["median"]["point_estimate"].as_f64().context("a bench without a median")?;
        let elements = bench["throughput"]["Elements"].as_u64().unwrap_or(1).max(1);
        records.push(Record::Micro(Micro { name, iteration_ns, elements }));
    }
    ensure!(!records.is_empty(), "no bench has run within the last hour");
    Ok(records)
}

fn read(file: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parse {}", file.display()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.ends_with("new/estimates.json") && is_fresh(&path) {
            files.push(path);
        }
    }
}

fn is_fresh(file: &Path) -> bool {
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < AGE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_just_run_is_told() {
        let folder = tempfile::tempdir().expect("folder");
        let bench = folder.path().join("criterion/ring_get/new");
        std::fs::create_dir_all(&bench).expect("folder");
        let programs = folder.path().join("release");
        assert!(medians(&programs).is_err());
        std::fs::write(bench.join("estimates.json"), r#"{"median":{"point_estimate":41.5}}"#)
            .expect("written");
        let about = r#"{"full_id":"ring/get","throughput":{"Elements":8}}"#;
        std::fs::write(bench.join("benchmark.json"), about).expect("written");
        let micro = Micro { name: "ring/get".to_owned(), iteration_ns: 41.5, elements: 8 };
        assert_eq!(medians(&programs).expect("medians"), [Record::Micro(micro)]);
        let old = std::fs::File::open(bench.join("estimates.json")).expect("open");
        old.set_modified(SystemTime::now() - 2 * AGE_MAX).expect("older");
        assert!(medians(&programs).is_err());
    }
}
