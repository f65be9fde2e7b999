//! The README says what is so: its tables are compared with the code, its commands are run.
#![cfg(test)]

use std::path::Path;
use std::process::{Command, Output};

use farepass::payment::Reason;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The rows below this heading, without their borders.
fn table(heading: &str) -> Vec<String> {
    let text = readme();
    let (_, rest) = text
        .split_once(&format!("\n{heading}\n|---"))
        .unwrap_or_else(|| panic!("README.md has no table `{heading}`"));
    let rows = rest.lines().skip(1).take_while(|l| l.starts_with('|'));
    rows.map(|l| l.trim_matches('|').trim().to_owned())
        .collect()
}

/// Fenced blocks whose opening line is exactly this.
fn blocks(fence: &str) -> Vec<String> {
    let text = readme();
    let mut found = vec![];
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let body = lines.by_ref().take_while(|l| *l != "```");
        match line.strip_prefix("```") {
            Some(info) if info == fence => found.push(body.map(|l| format!("{l}\n")).collect()),
            Some(_) => drop(body.count()),
            None => {}
        }
    }
    found
}

#[test]
fn the_table_of_reasons_is_that_of_the_code() {
    let expected: Vec<_> = Reason::ALL
        .iter()
        .map(|r| format!("`{}` | {}", r.code(), r.title()))
        .collect();
    let rows = table("| reason | title |");
    for row in &expected {
        assert!(rows.contains(row), "README.md lacks: | {row} |");
    }
    assert_eq!(rows, expected);
}

#[test]
fn the_table_of_failures_is_that_of_the_code() {
    let mut expected = vec![];
    for file in [
        "src/proxy/failure.rs",
        "src/proxy/parent.rs",
        "src/tls/verdict.rs",
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let (_, rest) = text.split_once("fn code(").unwrap();
        let body = rest.split("\n    }\n").next().unwrap();
        expected.extend(
            body.split('"')
                .skip(1)
                .step_by(2)
                .map(|code| format!("`{code}`")),
        );
    }
    assert!(expected.len() >= 15, "{expected:?}");
    let rows = table("| reason | what was wrong |");
    let mut shown: Vec<_> = rows.iter().filter_map(|r| r.split(' ').next()).collect();
    expected.sort();
    shown.sort_unstable();
    assert_eq!(shown, expected);
}

#[test]
fn the_table_of_rooms_is_that_of_the_house() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mods = lib.lines().filter_map(|l| l.strip_prefix("pub mod "));
    let expected: Vec<_> = mods.map(|m| m.trim_end_matches(';').to_owned()).collect();
    let rows = table("| floor | rooms | what for |");
    let rooms = rows.iter().filter_map(|r| r.split(" | ").nth(1));
    let rooms: Vec<_> = rooms
        .flat_map(|cell| cell.split(' '))
        .map(|room| room.trim_matches('`').to_owned())
        .collect();
    assert_eq!(rooms, expected);
}

#[test]
fn the_table_of_commands_is_that_of_the_help_page() {
    let help = shell(root(), "farepass --help");
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, rest) = help.split_once("Commands:\n").unwrap();
    let listed = rest.lines().take_while(|l| !l.is_empty());
    let listed = listed.filter(|l| l.starts_with("  ") && !l.starts_with("   "));
    let listed: Vec<_> = listed.filter_map(|l| l.split_whitespace().next()).collect();
    let rows = table("| command | what it does |");
    let rows = rows.iter().filter_map(|r| r.strip_prefix("`farepass "));
    let shown: Vec<_> = rows.filter_map(|r| r.split([' ', '`']).next()).collect();
    assert_eq!(shown, listed);
}

#[test]
fn ci_and_just_do_the_same() {
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    let just = std::fs::read_to_string(root().join("justfile")).unwrap();
    let cargo = |line: &str| {
        line.contains("cargo ") && !line.contains("command -v") && !line.starts_with('#')
    };
    let steps: Vec<_> = ci.lines().map(str::trim).filter(|l| cargo(l)).collect();
    assert!(steps.len() >= 4, "{steps:?}");
    for step in steps {
        assert!(
            just.lines().any(|l| l.trim() == step),
            "no recipe of the justfile runs: {step}"
        );
    }
}

#[test]
fn links_lead_somewhere() {
    let text = readme();
    for target in text.split("](").skip(1).filter_map(|t| t.split(')').next()) {
        let heading = |name: &str| {
            let headings = text.lines().filter(|l| l.starts_with("##"));
            let mut headings = headings.map(|l| l.trim_start_matches('#').trim_start());
            headings.any(|h| h.to_lowercase().replace(' ', "-") == name)
        };
        let there = match target.strip_prefix('#') {
            Some(name) => heading(name),
            None => target.starts_with("https://") || root().join(target).exists(),
        };
        assert!(there, "README.md links to {target}");
    }
}

/// Runs one block as a newcomer would: in one folder after the other blocks, `farepass` on the path.
fn shell(folder: &Path, block: &str) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_farepass")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", block]).current_dir(folder);
    shell.env("PATH", format!("{}:{path}", binary.display()));
    shell.env("HOME", folder).env_remove("FAREPASS_CONFIG");
    shell.output().unwrap()
}

#[test]
fn commands_marked_run_do_run() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = blocks("sh run");
    assert!(blocks.len() >= 5, "{blocks:?}");
    for block in blocks {
        let output = shell(folder.path(), &block);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{block}\n{}\n{stderr}",
            output.status
        );
    }
}

#[test]
fn the_policy_of_the_readme_passes_its_own_tests() {
    let policies = blocks("yaml run");
    let [policy] = &policies[..] else {
        panic!("README.md shows one policy");
    };
    assert!(policy.lines().count() <= 25, "it promises to be short");
    let folder = tempfile::tempdir().unwrap();
    let made = shell(folder.path(), "farepass init && cat > farepass.yaml");
    assert!(made.status.success());
    std::fs::write(folder.path().join("farepass.yaml"), policy).unwrap();
    let checked = shell(folder.path(), "farepass check");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
}
