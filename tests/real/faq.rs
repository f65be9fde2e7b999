//! docs/faq.md: its programs run unchanged under `farepass run` and print what is shown, its table of variables
//! is that of the code, and what is missing shows as it says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::merchant::{After, Merchant, Seen};
use crate::support::proxy::Setup;
use crate::support::{python, shop, stand};

fn faq() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faq.md");
    std::fs::read_to_string(file).unwrap()
}

/// The programs marked `tried`: language, text, and the output that follows.
fn programs() -> Vec<(String, String, String)> {
    let text = faq();
    let blocks: Vec<_> = text.split("\n```").skip(1).step_by(2).collect();
    let split = |block: &str| {
        let (info, body) = block.split_once('\n').unwrap();
        (info.to_owned(), format!("{body}\n"))
    };
    let blocks: Vec<_> = blocks.into_iter().map(split).collect();
    let tried = blocks.iter().enumerate().filter_map(|(n, (info, body))| {
        let language = info.strip_suffix(" tried")?.to_owned();
        let (next, output) = &blocks[n + 1];
        assert_eq!(next, "text output", "behind {body}");
        Some((language, body.clone(), output.clone()))
    });
    tried.collect()
}

/// A model's answer, as the SDK reads it.
fn completion() -> String {
    let choice = json!({ "index": 0, "finish_reason": "stop",
        "message": { "role": "assistant", "content": "hello yourself" } });
    json!({ "id": "c1", "object": "chat.completion", "created": 1, "model": "small", "choices": [choice],
        "usage": { "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3 } })
    .to_string()
}

/// A shop for both hosts: a cent, and for what is expensive nine dollars.
fn sell(seen: &Seen, out: &mut dyn Write) -> std::io::Result<After> {
    let asked: Value = serde_json::from_slice(&seen.body.start).unwrap_or_default();
    let dear = seen.path().contains("expensive") || asked["model"] == "expensive";
    if seen.payment().is_none() {
        let mut terms = shop::challenge();
        terms["resource"]["url"] = json!(format!("https://{}{}", seen.host, seen.target));
        let price = if dear { "9000000" } else { "10000" };
        terms["accepts"][0]["amount"] = json!(price);
        return shop::ask(&terms, out);
    }
    let goods = match seen.host.as_str() {
        "llm.example.com" => completion(),
        _ => r#"{"price":42}"#.to_owned(),
    };
    let (length, receipt) = (goods.len(), shop::receipt());
    write!(
        out,
        "HTTP/1.1 200 OK\r\nPAYMENT-RESPONSE: {receipt}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{goods}"
    )?;
    Ok(After::Keep)
}

fn scene() -> (Merchant, Setup) {
    let merchant = Merchant::start(sell);
    let mut setup = Setup::new();
    setup.root(&merchant.root);
    for host in ["api.example.com:443", "llm.example.com:443"] {
        setup.resolve(host, merchant.tls.port().into());
    }
    setup.config["rules"][0]["name"] = json!("example");
    setup.config["rules"][0]["match"]["hosts"] = json!(["api.example.com", "llm.example.com"]);
    setup.write();
    (merchant, setup)
}

/// `farepass run -- PROGRAM`.
fn run(setup: &Setup, program: &[&str]) -> Output {
    let file = setup.file();
    let ours = ["run", "--config", file.to_str().unwrap(), "--"];
    let mut command = setup.bare(&ours);
    command.args(program);
    // What whoever runs the tests has set is not what the documents speak of.
    for name in [
        "SSL_CERT_FILE",
        "NIX_SSL_CERT_FILE",
        "NODE_EXTRA_CA_CERTS",
        "NODE_OPTIONS",
    ] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// How a program of that language is started; `None` where it cannot be.
fn started(setup: &Setup, language: &str, text: &str) -> Option<Vec<String>> {
    let interpreter = |python: Option<&PathBuf>| Some(python?.to_str()?.to_owned());
    let words = |words: [&str; 3]| Some(words.map(str::to_owned).to_vec());
    match language {
        "sh" => words(["sh", "-ec", text]),
        "python" => {
            let python = match text {
                text if text.contains("openai") => interpreter(python::sdks())?,
                text if text.contains("aiohttp") => interpreter(python::python())?,
                _ => "python3".to_owned(),
            };
            words([&python, "-c", text])
        }
        "js" => {
            stand::node().ok()?;
            let file = setup.dir.path().join("buy.mjs");
            std::fs::write(&file, text).unwrap();
            words(["node", "--no-warnings", file.to_str().unwrap()])
        }
        "java" => {
            // A JDK: it runs sources.
            there("javac").then_some(())?;
            let file = setup.dir.path().join("Buy.java");
            std::fs::write(&file, text).unwrap();
            Some(vec!["java".to_owned(), file.to_str().unwrap().to_owned()])
        }
        other => panic!("who runs {other}?"),
    }
}

#[test]
fn programs_run_unchanged_and_print_what_is_shown() {
    let programs = programs();
    let languages: BTreeSet<_> = programs.iter().map(|(l, _, _)| l.as_str()).collect();
    assert_eq!(languages, ["java", "js", "python", "sh"].into());
    assert!(programs.len() >= 7, "{}", programs.len());
    for (language, text, output) in programs {
        let (merchant, setup) = scene();
        let Some(program) = started(&setup, &language, &text) else {
            eprintln!("SKIPPED: nothing here runs this {language}");
            continue;
        };
        let program: Vec<_> = program.iter().map(String::as_str).collect();
        let out = run(&setup, &program);
        let noise = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{text}\n{noise}");
        assert_eq!(
            String::from_utf8_lossy(&out.stdout),
            output,
            "{text}\n{noise}"
        );
        assert_eq!(shop::payments(&merchant).len(), 1, "{text}");
    }
}

/// The environment that a program has, with and without `farepass run`.
#[test]
fn the_table_of_variables_is_what_is_set() {
    let (_merchant, setup) = scene();
    let read = |out: Output| -> BTreeMap<String, String> {
        let text = String::from_utf8(out.stdout).unwrap();
        let pairs = text.lines().filter_map(|l| l.split_once('='));
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    };
    let before = read(Command::new("env").output().unwrap());
    let during = read(run(&setup, &["env"]));
    let set = during
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(value));
    let set: BTreeSet<_> = set
        .map(|(name, _)| name.clone())
        .filter(|n| n != "_" && n != "PWD")
        .collect();
    let text = faq();
    let (_, table) = text
        .split_once("\n| variables | value | who reads them |\n|---|---|---|\n")
        .unwrap();
    let rows = table.lines().take_while(|l| l.starts_with('|'));
    let names = rows.filter_map(|row| row.split('|').nth(1));
    let names = names.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let names: BTreeSet<_> = names.map(str::to_owned).collect();
    assert_eq!(names, set);
}

/// Programs that use the proxy and do not trust its authority say what the table says.
#[test]
fn missing_trust_shows_as_the_table_says() {
    let (_merchant, setup) = scene();
    let text = faq();
    let url = "https://api.example.com/v1/prices";
    let urllib = format!("import urllib.request; urllib.request.urlopen('{url}')");
    let fetch =
        format!("fetch('{url}').catch(e => {{ console.error(e.cause.code); process.exit(1) }})");
    let java = setup.dir.path().join("Buy.java");
    let buy = programs().into_iter().find(|p| p.0 == "java").unwrap().1;
    std::fs::write(&java, buy).unwrap();
    let java = java.to_str().unwrap().to_owned();
    let untrusting = "-Djavax.net.ssl.trustStore=/dev/null";
    for (who, program) in [
        ("curl", vec!["curl", "--silent", "--show-error", url]),
        ("Python", vec!["python3", "-c", &urllib]),
        ("Node", vec!["node", "-e", &fetch]),
        ("Java", vec!["java", untrusting, &java]),
    ] {
        let needed = if who == "Java" { "javac" } else { program[0] };
        if !there(needed) {
            eprintln!("SKIPPED: no {needed} here");
            continue;
        }
        let row = text.lines().find(|l| l.starts_with(&format!("| {who}: `")));
        let words = row
            .unwrap_or_else(|| panic!("no row of {who}"))
            .split('`')
            .nth(1)
            .unwrap();
        let mut bare = vec!["env"];
        for name in [
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "CURL_CA_BUNDLE",
            "NODE_EXTRA_CA_CERTS",
            "NODE_USE_SYSTEM_CA",
        ] {
            bare.extend(["-u", name]);
        }
        bare.extend(program);
        let out = run(&setup, &bare);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            !out.status.success() && said.contains(words),
            "{who}: {words}\n{said}"
        );
    }
}
