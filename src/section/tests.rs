//! Places, bounds, and that no text makes the parser panic or hang.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const TEXT: &str = r#"
version: 1
listen: { proxy: "127.0.0.1:4020", admin: x }
egress:
  resolve:
    "api.example.com:443": "127.0.0.1:8443"
rules:
  - name: first
    pay:
      max: "0.05 USD"
      budgets: [hourly, &a daily]
  - *b
"#;

fn file(text: &str) -> Section {
    Section::file("f.yaml", text).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(text: &str) -> String {
    match Section::file("f.yaml", text) {
        Ok(_) => panic!("{text:?} was accepted"),
        Err(e) => e.to_string(),
    }
}

fn at(text: &str, path: &[&str]) -> Section {
    path.iter()
        .fold(file(text), |section, step| match step.parse::<usize>() {
            Ok(index) => section.items().unwrap().swap_remove(index),
            Err(_) => section.clone().take(step).unwrap(),
        })
}

#[test]
fn every_value_has_a_path_and_a_place() {
    let text = TEXT.replace("  - *b\n", "");
    for (path, written, place) in [
        (&[][..], "", (2, 1)),
        (&["version"], "version", (2, 10)),
        (&["listen"], "listen", (3, 9)),
        (&["listen", "admin"], "listen.admin", (3, 43)),
        (&["rules", "0", "name"], "rules[0].name", (8, 11)),
        (&["rules", "0", "pay"], "rules[0].pay", (10, 7)),
        (&["rules", "0", "pay", "max"], "rules[0].pay.max", (10, 12)),
        (
            &["rules", "0", "pay", "budgets", "1"],
            "rules[0].pay.budgets[1]",
            (11, 25),
        ),
        (
            &["egress", "resolve", "api.example.com:443"],
            r#"egress.resolve["api.example.com:443"]"#,
            (6, 28),
        ),
    ] {
        let section = at(&text, path);
        assert_eq!(section.path(), written);
        assert_eq!(section.place(), Some(place), "{written}");
    }
    assert!(refused(TEXT).starts_with("f.yaml:12:5: this is not YAML: unknown anchor"));
}

#[test]
fn a_key_has_its_own_place() {
    let mut section = at("a:\n  hsots:   1\n  c: 2\n", &["a"]);
    let error = section.key_error("c", "no");
    assert_eq!(error.to_string(), "f.yaml:3:3: a: no");
    section.take("c");
    section.take("hosts");
    let error = section.finish().unwrap_err().to_string();
    assert_eq!(
        error,
        "f.yaml:2:3: a: no such setting: `hsots`\n  hint: did you mean `hosts`?"
    );
}

#[test]
fn what_is_no_map_is_not_passed_over() {
    for text in ["a: 5", "a: [x]", "a: x"] {
        let error = at(text, &["a"]).finish().unwrap_err();
        assert!(error.problem.contains("expected a map"), "{error}");
        let error = at(text, &["a"]).need("k").unwrap_err();
        assert!(error.problem.contains("expected a map"), "{error}");
    }
    at("a:", &["a"]).finish().unwrap();
}

#[test]
fn serde_errors_are_placed_inside_the_subtree() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors are looked at")]
    struct Domain {
        name: String,
        version: u8,
    }
    let error = |text: &str| {
        let read = at(text, &["a"]).read::<Vec<Domain>>();
        read.unwrap_err().to_string()
    };
    assert_eq!(
        error("a:\n  - name: n\n    version: 1\n  - name: n\n    version: x\n"),
        "f.yaml:5:14: a[1].version: found string \"x\", expected u8"
    );
    assert_eq!(
        error("a:\n  - name: n\n    versoin: 1\n"),
        "f.yaml:3:5: a[0]: no such setting: `versoin`\n  hint: did you mean `version`?"
    );
    assert_eq!(
        error("a:\n  - name: n\n"),
        "f.yaml:2:5: a[0]: `version` is missing"
    );
    assert_eq!(
        error("a: 5"),
        "f.yaml:1:4: a: found integer `5`, expected a sequence"
    );
}

#[test]
fn values_are_found_behind_an_alias_as_well() {
    let section = at("a: &x { k: 1 }\nb: *x\n", &["b", "k"]);
    assert_eq!(
        (section.path(), section.place()),
        ("b.k".into(), Some((1, 12)))
    );
}

#[test]
fn a_file_is_bounded() {
    let started = Instant::now();
    let many = |unit: &str, bytes: usize| unit.repeat(bytes / unit.len());
    let mib = 1024 * 1024 - 16;
    for text in [
        many("x", mib + 100),
        many("[", mib),
        many("{", mib),
        many("- ", mib),
        many("? ", mib),
        many("- a\n", mib),
        many("&a [", 400) + &many("]", 100),
        format!(
            "a: &a [{}]\nb: [{}]",
            many("1,", mib / 2),
            many("*a,", mib / 3)
        ),
        "a: &a [*a, *a]".into(),
        "a: &a {b: *a}".into(),
        laughs(),
    ] {
        let start: String = text.chars().take(20).collect();
        let error = refused(&text);
        assert!(error.len() < 300, "{start}: {error}");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(60), "{start}: {took:?}");
    }
}

/// Nine levels of nine: a gigabyte of text out of 400 bytes.
fn laughs() -> String {
    let mut text = "l0: &l0 lol\n".to_owned();
    for level in 1..10 {
        let below = format!("*l{},", level - 1).repeat(9);
        text += &format!("l{level}: &l{level} [{below}]\n");
    }
    text
}

#[test]
fn what_yaml_allows_and_we_do_not() {
    for (text, expected) in [
        ("a: 1\na: 2\n", "f.yaml:2:1: `a` is written twice"),
        (
            "b:\n  - a: 1\n    a: 2\n",
            "f.yaml:3:5: b[0]: `a` is written twice",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "f.yaml:3:1: the file has a second document",
        ),
        (
            "a: !secret b\n",
            "f.yaml:1:4: a: tags (`!…`) have no meaning here",
        ),
        (
            "1: a\n",
            "f.yaml:1:1: found integer `1`, expected a key: put it in quotes",
        ),
        ("a: &x {b: 1}\nc: { <<: *x }\n", "f.yaml:2:6: c: merge keys"),
        (
            "a:\n  max: 0.05\n",
            "f.yaml:2:8: a.max: found the fraction `0.05`, expected a text: put it",
        ),
        ("a:\n\tb: 1\n", "f.yaml:2:1: this is not YAML"),
        (
            "a: 123456789012345678901234567890\n",
            "f.yaml:1:4: a: a number this long",
        ),
        ("a: \"x\n", "this is not YAML"),
        (
            "a: b: c\n",
            "f.yaml:1:5: this is not YAML: mapping values are not allowed",
        ),
    ] {
        let error = refused(text);
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    assert!(refused("a:\n\tb: 1\n").contains("hint: indent with spaces"));
}

#[test]
fn an_empty_file_is_an_empty_map() {
    for text in ["", "\n", "# nothing\n", "---\n", "\u{feff}", "~"] {
        file(text).finish().unwrap();
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[\\x00-\\x7f]{0,40}|\\PC{0,40}") {
        let _ = Section::file("f", &text);
    }

    #[test]
    fn no_mutation_makes_it_panic(
        cuts in prop::collection::vec((0usize..400, 0usize..12, "[-?:,\\[\\]{}#&*!|>'\"%@` \\n\\ta0~<]{0,4}"), 1..6)
    ) {
        let mut bytes = TEXT.as_bytes().to_vec();
        for (at, length, with) in cuts {
            let from = at.min(bytes.len());
            let to = (from + length).min(bytes.len());
            bytes.splice(from..to, with.bytes());
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(mut section) = Section::file("f", &text) {
            let _ = section.take("listen").map(|s| s.read::<Vec<u8>>());
            let _ = section.take("egress").map(Section::items);
            let _ = section.take("rules").map(Section::items);
            let _ = section.finish();
        }
    }
}

#[test]
fn brackets_in_comments_are_no_depth() {
    let text = "# see [0, 1)\n".repeat(200) + "a: [1] # [ [\n";
    assert!(Section::file("f.yaml", &text).is_ok());
    // Where it may be a text, what follows counts.
    let text = format!("a: [\" # \", {}]\n", "[".repeat(100));
    let error = Section::file("f.yaml", &text).unwrap_err().to_string();
    assert!(error.contains("brackets are open"), "{error}");
}
