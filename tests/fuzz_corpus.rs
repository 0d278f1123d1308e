//! Every parser of what others write bears its corpus: what was thought of, and what fuzzing found
//! (`scripts/fuzz`). The same entries as libFuzzer's, on any toolchain.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgrunway::fuzzing;

/// More than a debug build on a busy machine needs for an input of some kilobytes.
const LIMIT: Duration = Duration::from_secs(10);

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(fuzz().join(folder)).unwrap();
    let name = |e: std::io::Result<std::fs::DirEntry>| {
        let name = e.unwrap().file_name().into_string().unwrap();
        name.trim_end_matches(".rs").to_owned()
    };
    entries.map(name).collect()
}

#[test]
fn every_target_is_built_and_has_a_corpus() {
    let targets: BTreeSet<String> =
        fuzzing::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for target in &targets {
        assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target}");
        let source = fuzz().join("fuzz_targets").join(format!("{target}.rs"));
        let source = std::fs::read_to_string(source).unwrap();
        assert!(source.contains(&format!("run(\"{target}\", data)")), "{source}");
    }
}

#[test]
fn every_parser_bears_its_corpus() {
    for (name, entry) in fuzzing::TARGETS {
        let folder = fuzz().join("corpus").join(name);
        let files: Vec<PathBuf> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let data = std::fs::read(&file).unwrap();
            let start = Instant::now();
            entry(&data);
            // Cut anywhere, and many times over, it is an input as well.
            for cut in (0..data.len()).step_by(data.len() / 50 + 1) {
                entry(&data[..cut]);
                entry(&data[cut..]);
            }
            let many = 65_536 / data.len().max(1) + 1;
            entry(&data.repeat(many.min(500)));
            assert!(start.elapsed() < LIMIT, "{}: {:?}", file.display(), start.elapsed());
        }
    }
}

#[test]
fn lines_beyond_any_real_file_take_linear_time() {
    for (name, entry) in fuzzing::TARGETS {
        for piece in ["(", "[", "{", "'", "\\", ":", "=", ",", "a", " ", "-- ", "%", "\n", "é"] {
            let start = Instant::now();
            entry(piece.repeat(50_000).as_bytes());
            assert!(start.elapsed() < LIMIT, "{name} by {piece:?}: {:?}", start.elapsed());
        }
    }
}
