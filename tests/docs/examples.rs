//! Every example that can be run is run, every policy is checked, and what is neither says why.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use crate::support::{Block, Document, documents, failure, newcomer, root, shell};

/// Shell blocks that are not run here: document, first line, and why.
const NOT_RUN: &[(&str, &str, &str)] = &[
    (
        "README.md",
        "cargo run --release -- demo",
        "builds all; tests/demo.rs runs the demonstration",
    ),
    (
        "README.md",
        "cargo run --release -- demo --stay",
        "builds all; tests/demo.rs runs it",
    ),
    (
        "README.md",
        "export HTTPS_PROXY=http://research-1:SECRET@127.0.0.1:4020",
        "the secret is the reader's; tests/real/clients.rs has curl",
    ),
    (
        "README.md",
        "farepass inject deployment.yaml | kubectl apply -f -",
        "needs a cluster; tests/cli/inject.rs",
    ),
    (
        "docs/cookbook.md",
        "farepass ledger export --denied | farepass learn",
        "nothing was seen yet; tests/cli/market.rs",
    ),
    (
        "docs/faq.md",
        "farepass serve --export-ca agents &",
        "needs a container engine; tests/real/doors.rs",
    ),
    (
        "docs/kubernetes.md",
        "kubectl create namespace agents",
        "needs a cluster; tests/deploy.rs",
    ),
    (
        "docs/kubernetes.md",
        "kubectl apply -k deploy/k8s/injector",
        "needs a cluster; tests/deploy.rs",
    ),
    (
        "docs/operations.md",
        "echo \"http://127.0.0.1:4022/?token=$(cat .farepass/admin.token)\"",
        "needs `serve`; tests/real/dashboard.rs",
    ),
    (
        "docs/operations.md",
        "curl -H \"Authorization: Bearer $(cat .farepass/admin.token)\" http://127.0.0.1:4022/api/v1/budgets",
        "needs `serve`; tests/real/api.rs",
    ),
    (
        "docs/operations.md",
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 farepass serve",
        "does not end; tests/real/telemetry.rs",
    ),
    (
        "docs/policy.md",
        "farepass approve                # what waits",
        "the id is made up; tests/real/operator.rs",
    ),
];

/// Languages that nothing here runs. Their blocks are compared with the real thing by other tests, or
/// are pictures.
const SHOWN: &[&str] = &["text", "json", "text output"];

fn first_line(block: &Block) -> &str {
    block.text.lines().next().unwrap_or_default()
}

#[test]
fn every_block_is_of_a_kind_that_is_checked() {
    let mut wrong = vec![];
    let mut excused: Vec<_> = NOT_RUN.iter().map(|(d, l, _)| (*d, *l)).collect();
    for document in documents() {
        for block in document.blocks() {
            let here = format!("{}:{}", document.name, block.line);
            match block.info.as_str() {
                "sh run" | "yaml run" | "yaml" | "console" => {}
                "sh" => {
                    let it = (document.name.as_str(), first_line(&block));
                    let known = NOT_RUN.iter().any(|(d, l, _)| (*d, *l) == it);
                    excused.retain(|e| *e != it);
                    if !known {
                        wrong.push(format!(
                            "{here}: mark it `sh run`, or say in NOT_RUN why not"
                        ));
                    }
                }
                // tests/real/faq.rs runs them.
                info if document.name == "docs/faq.md" && info.ends_with(" tried") => {}
                info if SHOWN.contains(&info) => {}
                info => wrong.push(format!("{here}: nothing checks blocks of `{info}`")),
            }
        }
    }
    for (document, line) in excused {
        wrong.push(format!(
            "{document} has no block any more that begins with `{line}`"
        ));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What is said in [`NOT_RUN`] names tests that are there.
#[test]
fn reasons_for_not_running_name_tests_that_exist() {
    for (document, line, why) in NOT_RUN {
        for word in why.split([' ', ';']).filter(|w| w.starts_with("tests/")) {
            assert!(root().join(word).exists(), "{document}, `{line}`: {word}");
        }
    }
}

#[test]
fn commands_marked_run_do_run() {
    let mut run = 0;
    for document in documents() {
        let blocks = document.blocks().into_iter();
        let blocks: Vec<_> = blocks.filter(|b| b.info == "sh run").collect();
        let folder = match document.name.as_str() {
            "README.md" => tempfile::tempdir().unwrap(), // it begins with `farepass init` itself
            _ => newcomer(),
        };
        for block in blocks {
            let wrong = failure(&shell(folder.path(), &block.text));
            assert_eq!(wrong, None, "{}:{}", document.name, block.line);
            run += 1;
        }
    }
    assert!(run >= 6, "{run} blocks");
}

/// A chapter's commands in a folder with its policy, and what they print.
#[test]
fn consoles_show_what_is_printed() {
    let (mut wrong, mut seen) = (vec![], 0);
    for document in documents() {
        let mut policy = String::new();
        for block in document.blocks() {
            match block.info.as_str() {
                "yaml run" => policy.clone_from(&block.text),
                "console" => {
                    let folder = newcomer();
                    if !policy.is_empty() {
                        std::fs::write(folder.path().join("farepass.yaml"), &policy).unwrap();
                    }
                    let printed = printed(folder.path(), &block.text);
                    if printed != block.text {
                        wrong.push(format!("{}:{}:\n{printed}", document.name, block.line));
                    }
                    seen += 1;
                }
                _ => {}
            }
        }
    }
    assert!(seen >= 5, "{seen} consoles");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The lines with `$`, each with what it prints on stdout.
fn printed(folder: &Path, text: &str) -> String {
    let commands = text.lines().filter_map(|l| l.strip_prefix("$ "));
    let shown = commands.map(|command| {
        let output = shell(folder, command);
        format!("$ {command}\n{}", String::from_utf8_lossy(&output.stdout))
    });
    shown.collect()
}

/// The words of each `farepass …` in a line of shell: commands, and what begins with `--`.
fn calls(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().filter_map(|l| l.split(" #").next());
    let parts = lines.flat_map(|l| {
        l.split(['|', '&', ';'])
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    let words = |part: String| -> Option<Vec<String>> {
        let words: Vec<_> = part.split_whitespace().map(str::to_owned).collect();
        let at = words.iter().position(|w| w == "farepass")?;
        let own = words.into_iter().skip(at + 1);
        Some(own.take_while(|w| w != "--").collect())
    };
    parts.filter_map(words).collect()
}

/// Also where a block is not run: its commands and options are those of the help pages.
#[test]
fn commands_and_options_that_are_shown_exist() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for document in documents() {
        for block in document
            .blocks()
            .iter()
            .filter(|b| b.info.starts_with("sh") || b.info == "console")
        {
            let parsed = shell(folder.path(), &format!("exit 0\n{}", block.text));
            assert_eq!(failure(&parsed), None, "{}:{}", document.name, block.line);
            for call in calls(&block.text) {
                let help = help_of(folder.path(), &call);
                for option in call.iter().filter(|w| w.starts_with("--")) {
                    let name = option.split('=').next().unwrap();
                    assert!(
                        help.contains(name),
                        "{}:{}: no option {name} in `farepass {}`",
                        document.name,
                        block.line,
                        call.join(" ")
                    );
                }
                seen += 1;
            }
        }
    }
    assert!(seen >= 15, "{seen} calls");
}

/// The help page of the command that a call is about: of its longest beginning that has one.
fn help_of(folder: &Path, call: &[String]) -> String {
    let plain = |w: &&String| w.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let words: Vec<_> = call
        .iter()
        .take_while(|w| plain(w) && !w.starts_with('-'))
        .collect();
    for length in (0..=words.len().min(2)).rev() {
        let line: Vec<_> = words.iter().take(length).map(|w| w.as_str()).collect();
        let output = shell(folder, &format!("farepass {} --help", line.join(" ")));
        if output.status.success() {
            assert!(
                length > 0 || call.is_empty() || call[0].starts_with('-'),
                "no command {call:?}"
            );
            return String::from_utf8(output.stdout).unwrap();
        }
    }
    panic!("no command {call:?}");
}

/// A whole policy, or what a block shows of one put into a policy that has the rest.
fn whole(block: &Block) -> Value {
    let shown: Value = serde_yaml::from_str(&block.text).unwrap();
    let base = "{ version: 1, wallets: [{ name: main, kind: local, key_file: wallet.key, networks: [\"eip155:84532\"] }], \
                rules: [{ name: some, match: { hosts: [api.example.com] }, pay: { max: \"0.05 USD\" } }] }";
    let mut policy: Mapping = serde_yaml::from_str(base).unwrap();
    match shown {
        Value::Sequence(rules) => {
            policy.insert("rules".into(), Value::Sequence(rules));
        }
        Value::Mapping(keys) => policy.extend(keys),
        other => panic!("neither keys nor rules: {other:?}"),
    }
    Value::Mapping(policy)
}

fn check(folder: &Path, policy: &str) -> Option<String> {
    std::fs::write(folder.join("farepass.yaml"), policy).unwrap();
    failure(&shell(folder, "farepass check"))
}

#[test]
fn policies_pass_their_own_tests_and_fragments_fit() {
    let (mut policies, mut fragments) = (0, 0);
    let mut wrong = vec![];
    for document in documents() {
        for block in document.blocks() {
            let policy = match block.info.as_str() {
                "yaml run" => {
                    policies += 1;
                    assert!(block.text.contains("version: 1"), "a whole policy");
                    block.text.clone()
                }
                "yaml" => {
                    fragments += 1;
                    serde_yaml::to_string(&whole(&block)).unwrap()
                }
                _ => continue,
            };
            let folder = newcomer();
            let said = check(folder.path(), &policy);
            wrong.extend(said.map(|w| format!("{}:{}: {w}", document.name, block.line)));
        }
    }
    assert!(
        policies >= 1 && fragments >= 7,
        "{policies} and {fragments}"
    );
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_policy_of_the_readme_is_short() {
    let blocks = Document::read("README.md").blocks();
    let policies = blocks.iter().filter(|b| b.info == "yaml run");
    let lines: Vec<_> = policies.map(|b| b.text.lines().count()).collect();
    assert!(matches!(lines[..], [n] if n <= 25), "{lines:?}");
}
