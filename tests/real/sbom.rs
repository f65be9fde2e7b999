//! The list of what is in the binary, as `deploy/sbom.py` writes it: valid, complete, and the same each time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::{needs, python};

const TARGET: &str = "x86_64-unknown-linux-musl";

fn run(program: &str, args: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Command::new(program).current_dir(root).args(args).output();
    let out = out.unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// With the validator of CycloneDX's own library.
fn judge() -> Option<&'static PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let packages = ["cyclonedx-python-lib[json-validation]==11.12.0"];
    let made = PYTHON.get_or_init(|| python::make(&packages, "cyclonedx.validation.json, tomllib"));
    needs(made.as_ref().map_err(Clone::clone))
}

#[test]
fn the_list_of_components_is_valid_and_complete() {
    let Some(judge) = judge() else { return };
    let text = run(judge.to_str().unwrap(), &["deploy/sbom.py", TARGET]);
    let again = run(judge.to_str().unwrap(), &["deploy/sbom.py", TARGET]);
    assert_eq!(text, again, "the same lock file, the same bytes");
    let document: Value = serde_json::from_str(&text).unwrap();
    let judged = python::said(judge, "sbom_judge.py", &document);
    assert_eq!(judged, json!({ "wrong": null }));
    let mut wrong = document.clone();
    wrong["components"][0]["type"] = "crate".into();
    let judged = python::said(judge, "sbom_judge.py", &wrong);
    assert_ne!(judged, json!({ "wrong": null }), "it can fail");
    let args = [
        "tree", "--locked", "--edges", "normal", "--prefix", "none", "--target", TARGET,
    ];
    let tree = run("cargo", &args);
    let linked: BTreeSet<String> = tree
        .lines()
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .filter(|line| !line.starts_with("farepass "))
        .collect();
    let components = document["components"].as_array().unwrap();
    let text = |c: &Value, key: &str| c[key].as_str().unwrap().to_owned();
    let listed = components.iter();
    let listed = listed.map(|c| format!("{} v{}", text(c, "name"), text(c, "version")));
    assert_eq!(listed.collect::<BTreeSet<_>>(), linked);
    // From the registry, each with the digest that the lock file holds it to.
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    for component in components {
        let digest = component["hashes"][0]["content"].as_str().unwrap();
        assert!(
            lock.contains(&format!("checksum = \"{digest}\"")),
            "{component}"
        );
        assert!(
            component["licenses"][0]["expression"].is_string(),
            "{component}"
        );
    }
}
