//! Unit files and what is said about them.
//!
//! `tests/diag/` holds golden reports: each `NAME.toml`, or folder `NAME/` for several
//! files, has a `NAME.expected` with the exact text. `BERTH_RENEW=1 cargo test --test diag`
//! writes them anew, to be read with `git diff`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::format_collect, reason = "sizes do not matter here")]
#![allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]

#[path = "diag/special.rs"]
mod special;
#[path = "diag/table.rs"]
mod table;
#[path = "diag/units.rs"]
mod units;

use std::fs;
use std::path::{Path, PathBuf};

use berth::unit::{Loaded, Previous, Source, read};

/// Whether golden files are written instead of compared.
fn renew() -> bool {
    std::env::var_os("BERTH_RENEW").is_some()
}

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares with a golden file, or writes it.
fn golden(path: &Path, actual: &str, how_to_renew: &str) {
    if renew() {
        fs::write(path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} is stale; {how_to_renew}\n--- expected\n{expected}\n--- actual\n{actual}",
        path.display()
    );
}

const RENEW: &str = "renew it with: BERTH_RENEW=1 cargo test --test diag";

/// Reads one file, or the folders in a folder as directories in their order.
fn load(path: &Path) -> Loaded {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let mut list: Vec<PathBuf> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect();
        list.sort();
        list
    };
    let mut sources = vec![path.to_owned()];
    if path.is_dir() && !folders(path).is_empty() {
        sources = folders(path);
    }
    let sources: Vec<Source> = sources.into_iter().map(Source::directory).collect();
    read(&sources, &Previous::default())
}

/// The report with paths as they are from `tests/diag`, and what became of the units.
fn outcome(path: &Path, loaded: &Loaded) -> String {
    let parent = format!("{}/", path.parent().unwrap().display());
    let text = loaded.report().replace(&parent, "");
    let good: Vec<&str> = loaded.set.units.iter().map(|unit| unit.name.as_str()).collect();
    format!("{text}-- good: {}\n-- broken: {}\n", good.join(" "), loaded.broken.join(" "))
}

#[test]
fn golden_reports() {
    let folder = project().join("tests/diag");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "toml"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 50, "only {} cases were found", cases.len());
    for case in cases {
        let loaded = load(&case);
        assert!(!loaded.is_clean(), "{} has no mistake", case.display());
        golden(&case.with_extension("expected"), &outcome(&case, &loaded), RENEW);
    }
}

#[test]
fn reference_is_fresh() {
    let path = project().join("docs/reference.md");
    golden(&path, &berth::unit::reference(), "renew it with: scripts/reference");
}
