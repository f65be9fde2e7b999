//! The fuzz targets over their seeds and some changes of them, on any toolchain. `just fuzz` runs them
//! for real.
#![cfg(test)]

use std::fs;
use std::path::Path;

#[path = "fuzz/targets.rs"]
mod targets;

/// Changed copies of each seed: a few, or as many as `FAREPASS_CHANGES` says.
fn changes() -> u64 {
    let times = std::env::var("FAREPASS_CHANGES").ok();
    times.map_or(64, |n| n.parse().expect("FAREPASS_CHANGES is a number"))
}

/// Feeds every seed of a target, whole, cut short at a few places, and changed at a few.
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
        for n in 0..changes() {
            target(&changed(&bytes, n));
        }
    }
}

/// The `n`th change: a byte replaced by another of the same text, twice or doubled or left out.
fn changed(bytes: &[u8], n: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut mixed = n.wrapping_add(1);
    let mut below = |most: usize| {
        mixed = mixed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(mixed >> 33).unwrap() % most.max(1)
    };
    for _ in 0..=below(2) {
        let (at, from) = (below(bytes.len()), below(bytes.len()));
        match (bytes.get(from).copied(), below(4)) {
            (None, _) => bytes.push(b'0'),
            (Some(_), 0) => drop(bytes.remove(at)),
            (Some(byte), 1) => bytes.insert(at, byte),
            (Some(_), 2) => bytes[at] ^= 1 << below(8),
            (Some(byte), _) => bytes[at] = byte,
        }
    }
    bytes
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
fn authenticate() {
    feed("authenticate", targets::authenticate);
}

#[test]
fn trace() {
    feed("trace", targets::trace);
}

#[test]
fn mcp() {
    feed("mcp", targets::mcp);
}

#[test]
fn l402_read() {
    feed("l402_read", targets::l402_read);
}

#[test]
fn receipt() {
    feed("receipt", targets::receipt);
}

#[test]
fn client_hello() {
    feed("client_hello", targets::client_hello);
}

#[test]
fn section() {
    feed("section", targets::section);
}

#[test]
fn target() {
    feed("target", targets::target);
}

#[test]
fn words() {
    feed("words", targets::words);
}

#[test]
fn money() {
    feed("money", targets::money);
}

#[test]
fn path() {
    feed("path", targets::path);
}

#[test]
fn config() {
    feed("config", targets::config);
}

#[test]
fn credentials() {
    feed("credentials", targets::credentials);
}

#[test]
fn packed() {
    feed("packed", targets::packed);
}

#[test]
fn entries() {
    feed("entries", targets::entries);
}

#[test]
fn admin() {
    feed("admin", targets::admin);
}

#[test]
fn certificate() {
    feed("certificate", targets::certificate);
}

#[test]
fn solana() {
    feed("solana", targets::solana);
}

#[test]
fn agentcore() {
    feed("agentcore", targets::agentcore);
}

#[test]
fn der() {
    feed("der", targets::der);
}

#[test]
fn key_file() {
    feed("key_file", targets::key_file);
}

#[test]
fn marker() {
    feed("marker", targets::marker);
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
