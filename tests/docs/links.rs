//! Links between documents.

use std::path::Path;

use crate::support::{Document, documents, root};

/// The name that a heading has in an address, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(document: &Document) -> Vec<String> {
    let prose = document.prose();
    let headings = prose.lines().filter(|l| l.starts_with('#'));
    headings
        .map(|l| anchor(l.trim_start_matches('#').trim()))
        .collect()
}

/// Where its links lead: `(TARGET)` behind `]`, outside of code.
fn targets(document: &Document) -> Vec<String> {
    let prose = document.prose();
    let plain: String = prose.split('`').step_by(2).collect::<Vec<_>>().join("``");
    let found = plain.split("](").skip(1);
    found
        .filter_map(|t| t.split(')').next().map(str::to_owned))
        .collect()
}

/// What is wrong with one link.
fn broken(from: &Document, target: &str) -> Option<String> {
    if target.starts_with("https://") {
        return None;
    }
    let folder = Path::new(&from.name).parent().unwrap();
    let (file, name) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => root().join(&from.name),
        file => root().join(folder).join(file),
    };
    if !path.exists() {
        return Some(format!("{} links to {target}: no such file", from.name));
    }
    let there = || anchors(&Document::read(path.to_str().unwrap())).contains(&name.to_owned());
    let missing = !name.is_empty() && !there();
    missing.then(|| format!("{} links to {target}: no such heading", from.name))
}

#[test]
fn links_lead_somewhere() {
    let mut all = documents();
    for name in ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"] {
        all.push(Document::read(name));
    }
    let mut wrong = vec![];
    let mut seen = 0;
    for document in &all {
        for target in targets(document) {
            seen += 1;
            wrong.extend(broken(document, &target));
        }
    }
    assert!(seen >= 30, "{seen} links");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_seen() {
    let readme = Document::read("README.md");
    for (target, wrong) in [
        ("docs/policy.md", false),
        ("docs/policy.md#categories", false),
        ("#a-policy", false),
        ("docs/none.md", true),
        ("docs/policy.md#none", true),
        ("#none", true),
    ] {
        assert_eq!(broken(&readme, target).is_some(), wrong, "{target}");
    }
}

/// Whoever begins at the README gets to every document, and what was cut out of it stays out.
#[test]
fn the_readme_is_short_and_leads_to_every_document() {
    let readme = Document::read("README.md");
    let lines = readme.text.lines().count();
    assert!(lines <= 200, "{lines} lines: move it to docs/");
    let linked = targets(&readme);
    for document in documents().iter().skip(1) {
        assert!(
            linked.contains(&document.name),
            "README.md has no link to {}",
            document.name
        );
    }
}
