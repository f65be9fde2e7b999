//! Scripted hostile merchants (`adv402/1` files), each case against the real binary: what the agent
//! got, what was signed, what the merchant saw and what the books say must agree.
//!
//! `ADV402_FILES=a.json,b.json` plays other files as well; `ADV402_CASE=ID` plays one case.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::cases::{Case, File};
use crate::support::json::Json;

mod scene;
mod verdict;

use scene::Scene;

/// What a case may ask for by `requires`.
const FEATURES: &[&str] = &["rail:x402v1", "rail:x402v2", "rail:mpp"];

/// Keys of a case's policy that our configuration can say.
const POLICY: &[&str] = &[
    "hosts",
    "allow_plain_http",
    "rails",
    "schemes",
    "transfer_methods",
    "mpp_methods",
    "networks",
    "assets",
    "recipient_pins",
    "max_per_request_usd",
    "max_per_session_usd",
    "max_authorization_seconds",
    "approvals",
    "message_signing",
    "agent_payment_headers",
    "retry_after_unknown_outcome",
    "max_replay_body_bytes",
];

#[test]
fn every_case_ends_as_it_should() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adversarial");
    let mut files: Vec<PathBuf> = std::fs::read_dir(own)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    let more = std::env::var("ADV402_FILES").unwrap_or_default();
    files.extend(more.split(',').filter(|f| !f.is_empty()).map(PathBuf::from));
    files.sort();
    let only = std::env::var("ADV402_CASE").ok();
    let files: Vec<File> = files.iter().map(|f| File::read(f).unwrap()).collect();
    let cases: Vec<(&File, &Case)> = files
        .iter()
        .flat_map(|f| f.cases.iter().map(move |c| (f, c)))
        .filter(|(_, c)| only.as_ref().is_none_or(|id| *id == c.id))
        .collect();
    assert!(!cases.is_empty(), "no cases");
    let outcomes = play_all(&cases);
    let mut failed = vec![];
    let mut skipped = 0;
    for ((_, case), outcome) in cases.iter().zip(outcomes) {
        match outcome {
            Outcome::Right => {}
            Outcome::Skipped(why) => {
                skipped += 1;
                println!("skipped {}: {why}", case.id);
            }
            Outcome::Wrong(why) => failed.push(format!(
                "{} ({})\n    {}",
                case.id,
                case.title,
                why.join("\n    ")
            )),
        }
    }
    println!(
        "{} cases, {} wrong, {skipped} skipped",
        cases.len(),
        failed.len()
    );
    assert!(
        failed.is_empty(),
        "{} of {} cases end wrong:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

enum Outcome {
    Right,
    Skipped(String),
    Wrong(Vec<String>),
}

/// Four at a time: most of a case is waiting.
fn play_all(cases: &[(&File, &Case)]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let mut all: Vec<(usize, Outcome)> = std::thread::scope(|scope| {
        let worker = || {
            let mut done = vec![];
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some((file, case)) = cases.get(at) else {
                    return done;
                };
                done.push((at, play(file, case)));
            }
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap())
            .collect()
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

/// What our configuration has one way for, and both versions of x402 together.
fn unsayable(case: &Case) -> Option<&'static str> {
    let says = |key: &str, only: &str| {
        let said = case.policy.get(key);
        said.is_none_or(|said| said.text().as_deref() == Some(only))
    };
    let rails: Vec<_> = case
        .policy
        .get("rails")
        .map(Json::items)
        .unwrap_or_default()
        .iter()
        .filter_map(Json::text)
        .collect();
    let has = |rail: &str| rails.iter().any(|r| r == rail);
    if has("x402v1") != has("x402v2") {
        return Some("rails");
    }
    [
        ("approvals", "refuse"),
        ("message_signing", "refuse"),
        ("agent_payment_headers", "refuse"),
        ("retry_after_unknown_outcome", "never_resign"),
    ]
    .into_iter()
    .find_map(|(key, only)| (!says(key, only)).then_some(key))
}

fn play(file: &File, case: &Case) -> Outcome {
    let mut expect = case.expect.clone();
    let missing: Vec<_> = case
        .requires
        .iter()
        .filter(|f| !FEATURES.contains(&f.as_str()))
        .collect();
    if let Some(key) = unsayable(case) {
        return Outcome::Skipped(format!("`{key}` of its policy has no such setting"));
    }
    if case.setup {
        return Outcome::Skipped("its `setup` is prose".into());
    }
    if !missing.is_empty() {
        let otherwise = expect.get("if_unsupported").and_then(Json::text);
        match (&case.unsupported, otherwise) {
            (Some(other), _) => expect = other.clone(),
            (None, Some(decision)) => {
                let text = format!(
                    r#"{{"decision": "{decision}", "also_ok": ["refuse", "pass-through"], "signed": {{"max": 0}}}}"#
                );
                expect = Json::parse(&text).unwrap();
            }
            (None, None) => return Outcome::Skipped(format!("needs {missing:?}")),
        }
    }
    let unknown = |key: &&(Vec<u8>, Json)| !POLICY.iter().any(|known| known.as_bytes() == key.0);
    if let Some((key, _)) = case.policy.members().iter().find(unknown) {
        return Outcome::Skipped(format!(
            "its policy says `{}`",
            String::from_utf8_lossy(key)
        ));
    }
    let assets = case
        .policy
        .get("assets")
        .map(Json::items)
        .unwrap_or_default();
    let pegged = |a: &Json| {
        a.get("usd_per_unit")
            .and_then(Json::text)
            .is_none_or(|p| p == "1")
    };
    if !assets.iter().all(pegged) {
        return Outcome::Skipped("an asset is not worth one dollar".into());
    }
    // A start that fails must not take the other cases with it.
    let played = std::panic::catch_unwind(|| Scene::play(file, case));
    let Ok(scene) = played else {
        return Outcome::Wrong(vec!["it could not be played; see the panic above".into()]);
    };
    let mut wrong = vec![];
    scene.judge(&expect, &mut wrong);
    match wrong.is_empty() {
        true => Outcome::Right,
        false => Outcome::Wrong(wrong),
    }
}
