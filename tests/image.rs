//! The image: what goes into its build, what comes out, and what never does.
#![cfg(test)]

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Lines that say something.
fn rules(name: &str) -> Vec<String> {
    let text = read(name);
    let lines = text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(Into::into).collect()
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

#[test]
fn it_is_empty_but_for_the_binary_and_runs_as_the_pods_user() {
    let text = read("deploy/Dockerfile");
    let (_, last) = text.rsplit_once("\nFROM ").unwrap();
    let last: Vec<&str> = last.lines().collect();
    assert_eq!(last[0], "scratch");
    assert!(
        !last
            .iter()
            .any(|l| l.starts_with("RUN") || l.starts_with("ADD"))
    );
    let copied = last
        .iter()
        .filter_map(|l| l.strip_prefix("COPY --from=build "));
    let copied: Vec<_> = copied.filter_map(|l| l.rsplit(' ').next()).collect();
    assert_eq!(copied, ["/etc/ssl/certs/ca-certificates.crt", "/farepass"]);
    assert!(last.contains(&"USER 1337:1337"));
    let pod = read("deploy/k8s/base/agent.yaml");
    assert!(pod.contains("runAsUser: 1337\n") && pod.contains("runAsGroup: 1337\n"));
}

#[test]
fn no_key_gets_into_an_image_or_into_git() {
    let context = rules(".dockerignore");
    assert_eq!(context[0], "*", "let in by name, never keep out by name");
    let certs = rules("certs/.gitignore");
    assert_eq!(certs, ["*", "!.gitignore", "!README.md"]);
}

#[test]
fn what_is_let_in_is_enough_to_build_from() {
    let context = tempfile::tempdir().unwrap();
    for rule in rules(".dockerignore").iter().skip(1) {
        let name = rule.strip_prefix('!').unwrap();
        copy(&root().join(name), &context.path().join(name));
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "metadata",
        "--no-deps",
        "--offline",
        "--locked",
        "--format-version",
        "1",
    ]);
    let output = cargo.current_dir(context.path()).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let targets = metadata["packages"][0]["targets"].as_array().unwrap();
    // Cargo does not build anything of a package that declares what is not there.
    for kind in ["bin", "bench", "test", "example"] {
        let declared = count("Cargo.toml", &format!("[[{kind}]]"));
        let found = targets.iter().filter(|t| t["kind"][0] == kind).count();
        assert!(
            found >= declared,
            ".dockerignore keeps out a {kind} of Cargo.toml"
        );
    }
}

fn count(name: &str, line: &str) -> usize {
    read(name).lines().filter(|l| *l == line).count()
}
