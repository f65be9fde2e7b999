//! The documents say what is so: their tables are compared with the code, their commands are run, their
//! policies are checked, and their links lead somewhere.
#![cfg(test)]

mod examples;
mod links;
mod support;

use farepass::payment::Reason;

use support::{root, shell, table};

#[test]
fn the_table_of_reasons_is_that_of_the_code() {
    let expected: Vec<_> = Reason::ALL
        .iter()
        .map(|r| format!("`{}` | {}", r.code(), r.title()))
        .collect();
    let rows = table("| reason | title |");
    for row in &expected {
        assert!(rows.contains(row), "docs/answers.md lacks: | {row} |");
    }
    assert_eq!(rows, expected);
    let common = table("| refusal | what it says |");
    assert!(common.len() <= 10, "the README has the common ones only");
    for row in common {
        assert!(expected.contains(&row), "not of the code: | {row} |");
    }
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

/// The first cells of a table, without their backticks.
fn keys(heading: &str) -> Vec<String> {
    let cell = |row: &String| row.split(" | ").next().map(|c| c.replace('`', ""));
    let mut keys: Vec<_> = table(heading).iter().filter_map(cell).collect();
    keys.sort();
    keys
}

#[test]
fn the_tables_of_keys_are_those_of_the_schema() {
    let schema = std::fs::read_to_string(root().join("src/config/schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    for (name, heading) in [
        ("match", "| key of `match` | what it takes | left out |"),
        (
            "pay",
            "| key of `pay` | what it says | left out | refused with |",
        ),
        ("budget", "| key of a budget | what it says |"),
    ] {
        let known = schema["$defs"][name]["properties"].as_object().unwrap();
        let mut known: Vec<_> = known.keys().cloned().collect();
        known.sort();
        assert_eq!(keys(heading), known, "{name}");
    }
    let codes: Vec<_> = Reason::ALL.iter().map(|r| r.code()).collect();
    for row in table("| key of `pay` | what it says | left out | refused with |") {
        let last = row.rsplit(" | ").next().unwrap();
        for code in last.split('`').skip(1).step_by(2) {
            assert!(codes.contains(&code), "no reason {code}: {row}");
        }
    }
}
