//! One case, played: the configuration that says its policy, the requests, and all that was left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::cases::{Case, File, Play, Request};
use crate::support::http::Answer;
use crate::support::json::Json;
use crate::support::merchant::{Merchant, Seen};
use crate::support::proxy::{Books, Proxy, Setup};
use crate::support::{USDC, linger};

/// The configuration that says what the case's policy says.
fn setup(file: &File, case: &Case, merchant: &Merchant) -> Setup {
    let policy = &case.policy;
    let texts = |key: &str| -> Vec<String> {
        policy
            .get(key)
            .map(Json::items)
            .unwrap_or_default()
            .iter()
            .filter_map(Json::text)
            .collect()
    };
    let text = |key: &str| policy.get(key).and_then(Json::text).unwrap_or_default();
    let inner = |key: &str, field: &str| -> Vec<String> {
        let items = policy.get(key).map(Json::items).unwrap_or_default();
        items.iter().filter_map(|i| i.get(field)?.text()).collect()
    };
    let mut setup = Setup::new();
    setup
        .key(file.key)
        .root(&merchant.root)
        .budget(&format!("{} USD", text("max_per_session_usd")));
    let mut ports = BTreeSet::from([80, 443]);
    for (host, port) in case.origins() {
        let to = if port == 80 {
            merchant.plain
        } else {
            merchant.tls
        };
        setup.resolve(&format!("{host}:{port}"), to.port().into());
        ports.insert(port);
    }
    let seconds = policy
        .get("max_authorization_seconds")
        .and_then(Json::int)
        .unwrap_or(300);
    let replay = policy
        .get("max_replay_body_bytes")
        .and_then(Json::int)
        .unwrap_or(1 << 20);
    // Half the agent's patience, so that an answer of ours still reaches it.
    let patience = format!("{}s", (file.deadline_s / 2).max(1));
    // What we cannot do at all needs no forbidding.
    let methods: Vec<_> = texts("transfer_methods")
        .into_iter()
        .filter(|m| ["eip3009", "permit2"].contains(&&**m))
        .collect();
    let schemes: Vec<_> = texts("schemes")
        .into_iter()
        .filter(|s| ["exact", "upto"].contains(&&**s))
        .chain(
            texts("rails")
                .contains(&"mpp".into())
                .then(|| texts("mpp_methods"))
                .into_iter()
                .flatten(),
        )
        .collect();
    let pay = json!({
        "max": format!("{} USD", text("max_per_request_usd")),
        "schemes": schemes,
        "transfer_methods": methods,
        "insecure_http": policy.get("allow_plain_http") == Some(&Json::Bool(true)),
        "networks": inner("networks", "caip2"),
        "assets": inner("assets", "address"),
    });
    let mut rules = vec![];
    for (i, (host, pins)) in policy
        .get("recipient_pins")
        .map(Json::members)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let mut pay = pay.clone();
        let one = pins.text().into_iter();
        pay["pay_to"] = json!(
            one.chain(pins.items().iter().filter_map(Json::text))
                .collect::<Vec<_>>()
        );
        let host = String::from_utf8_lossy(host);
        rules.push(
            json!({ "name": format!("pinned-{i}"), "match": { "hosts": [host] }, "pay": pay }),
        );
    }
    rules.push(json!({ "name": "case", "match": { "hosts": texts("hosts") }, "pay": pay }));
    // Nothing secret at any level.
    setup.log = "trace";
    let config = &mut setup.config;
    config["egress"]["ports"] = json!(ports);
    config["limits"] = json!({
        "validity": format!("{seconds}s"), "replay_body": format!("{replay} B"),
        "upstream_total": patience, "idle_timeout": patience,
    });
    config["wallets"][0]["networks"] = json!(inner("networks", "caip2"));
    config["assets"] = json!(
        policy
            .get("assets")
            .map(Json::items)
            .unwrap_or_default()
            .iter()
            .filter_map(asset)
            .collect::<Vec<_>>()
    );
    config["rules"] = json!(rules);
    setup
}

/// An addition to the asset table; what is built in needs none.
fn asset(asset: &Json) -> Option<Value> {
    let text = |key: &str| asset.get(key).and_then(Json::text);
    if text("address")?.eq_ignore_ascii_case(USDC) {
        return None;
    }
    let domain = asset.get("eip712");
    let name = |key: &str| domain.and_then(|d| d.get(key)).and_then(Json::text);
    Some(json!({
        "network": text("network"), "address": text("address"), "symbol": text("symbol"),
        "decimals": asset.get("decimals").and_then(Json::int), "currency": "USD",
        "eip712": { "name": name("name"), "version": name("version") },
    }))
}

/// One request and what came of it.
pub(super) struct Turn {
    pub(super) answer: Result<Answer, String>,
    pub(super) took: Duration,
    /// What the merchant saw meanwhile: positions in its list.
    pub(super) seen: std::ops::Range<usize>,
}

/// A case that has been played.
pub(super) struct Scene<'a> {
    pub(super) case: &'a Case,
    pub(super) deadline: Duration,
    pub(super) cap: u128,
    pub(super) turns: Vec<Turn>,
    pub(super) seen: Vec<Seen>,
    pub(super) play: Arc<Play>,
    pub(super) alive: bool,
    pub(super) grown_kib: u64,
    pub(super) stdout: String,
    /// Log, ledger files and metrics, read as text.
    pub(super) everything: String,
    pub(super) books: Books,
    pub(super) payer: String,
    pub(super) key: String,
}

impl<'a> Scene<'a> {
    pub(super) fn play(file: &File, case: &'a Case) -> Self {
        let payer = crate::support::chain::payer(&file.key);
        let play = Arc::new(Play::new(case, &payer));
        let script = Arc::clone(&play);
        let merchant = Merchant::start(move |seen, out| script.answer(seen, out));
        let mut proxy = setup(file, case, &merchant).start();
        let deadline = Duration::from_secs(u64::try_from(file.deadline_s).unwrap());
        let agent = proxy.agent(deadline + Duration::from_secs(5));
        let before = proxy.memory();
        let mut turns = vec![];
        for request in &case.requests {
            linger(request.delay);
            turns.extend(send(&agent, &merchant, request));
        }
        let grown_kib = proxy.memory().saturating_sub(before);
        let alive = proxy.ask_admin("/healthz").is_ok_and(|a| a.status == 200) && proxy.alive();
        let metrics = proxy
            .ask_admin("/metrics")
            .map(|a| a.text())
            .unwrap_or_default();
        proxy.stop();
        let books = proxy.ledger();
        let everything = [proxy.stdout(), proxy.stderr(), metrics, files(&proxy)].concat();
        let cap = case
            .policy
            .get("max_per_session_usd")
            .and_then(Json::text)
            .unwrap_or_default();
        Self {
            case,
            deadline,
            cap: atomic(&cap),
            turns,
            seen: merchant.seen(),
            play,
            alive,
            grown_kib,
            stdout: proxy.stdout(),
            everything,
            books,
            payer,
            key: hex::encode(file.key),
        }
    }
}

/// `"1.00"` dollars in millionths.
fn atomic(usd: &str) -> u128 {
    let (whole, part) = usd.split_once('.').unwrap_or((usd, ""));
    format!("{whole}{part:0<6}").parse().unwrap_or(u128::MAX)
}

/// Every file of the state directory, read as text; and the texts of the ledger, which are packed in its own. Of what is
/// no text only the letters count: chance makes any two bytes.
fn files(proxy: &Proxy) -> String {
    let entries = std::fs::read_dir(proxy.setup.state()).unwrap().flatten();
    let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let bytes = e.into_bytes().into_iter();
            let letter = |b: u8| if b.is_ascii() { char::from(b) } else { '?' };
            bytes.map(letter).collect()
        }
    };
    let files = entries.map(|e| text(std::fs::read(e.path()).unwrap_or_default()));
    let list = ["ledger", "list", "--json", "--denied", "--limit", "0"];
    let listed = proxy.setup.run(&list);
    assert!(listed.status.success(), "{listed:?}");
    files.chain([text(listed.stdout)]).collect()
}

fn send(agent: &Agent, merchant: &Merchant, request: &Request) -> Vec<Turn> {
    let one = || {
        let from = merchant.seen().len();
        let begun = Instant::now();
        let answer = agent.send(&request.ask).map_err(|e| e.to_string());
        Turn {
            answer,
            took: begun.elapsed(),
            seen: from..merchant.seen().len(),
        }
    };
    let mut turns = vec![];
    while turns.len() < request.count {
        let batch = request.concurrency.min(request.count - turns.len());
        std::thread::scope(|scope| {
            let sent: Vec<_> = (0..batch).map(|_| scope.spawn(one)).collect();
            turns.extend(sent.into_iter().map(|t| t.join().unwrap()));
        });
    }
    turns
}
