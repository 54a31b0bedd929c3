//! Plays every input of `fuzz/corpus/` again.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fuzzing::TARGETS;

/// What all inputs together may have, in bytes: a corpus is kept because it is small.
const CORPUS_BYTES_MAX: u64 = 200_000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn every_input_of_the_corpus_meets_the_demands() {
    let mut failed = Vec::new();
    let mut bytes = 0;
    for (target, demand) in TARGETS {
        let inputs = files(&fuzz().join("corpus").join(target));
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for path in inputs {
            let input = fs::read(&path).expect("an input");
            bytes += input.len() as u64;
            if catch_unwind(AssertUnwindSafe(|| demand(&input))).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(bytes <= CORPUS_BYTES_MAX, "the corpus has {bytes} bytes, more than {CORPUS_BYTES_MAX}");
}

#[test]
fn every_target_is_fuzzed_and_every_fuzzed_target_is_replayed() {
    let names = |folder: &str| -> BTreeSet<String> {
        let stem = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()).map(String::from);
        files(&fuzz().join(folder)).iter().filter_map(stem).collect()
    };
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| String::from(*name)).collect();
    assert_eq!(names("fuzz_targets"), known);
    assert_eq!(names("corpus"), known);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("a manifest");
    for name in known {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is built");
    }
}
