//! The fuzz targets over their seeds, on any toolchain. `just fuzz` runs them for real.
#![cfg(test)]

use std::fs;
use std::path::Path;

#[path = "fuzz/targets.rs"]
mod targets;

/// Feeds every seed of a target, whole and cut short at a few places.
fn feed(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name);
    let seeds: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    assert!(seeds.len() >= 5, "{name}: {} seeds", seeds.len());
    for seed in seeds {
        let bytes = fs::read(&seed).unwrap();
        target(&bytes);
        for eighth in 0..8 {
            target(&bytes[..bytes.len() * eighth / 8]);
        }
    }
}

#[test]
fn x402_v2_read() {
    feed("x402_v2_read", targets::x402_v2_read);
}

#[test]
fn x402_v1_read() {
    feed("x402_v1_read", targets::x402_v1_read);
}

#[test]
fn receipt() {
    feed("receipt", targets::receipt);
}

#[test]
fn section() {
    feed("section", targets::section);
}

#[test]
fn every_target_is_listed_and_has_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let names = |sub: &str| {
        let entries = fs::read_dir(folder.join(sub)).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| {
                e.unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    };
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let targets = fs::read_to_string(folder.join("targets.rs")).unwrap();
    assert_eq!(names("fuzz_targets"), names("corpus"));
    for name in names("fuzz_targets") {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
        assert!(
            targets.contains(&format!("pub(crate) fn {name}(data: &[u8])")),
            "{name}"
        );
    }
}
