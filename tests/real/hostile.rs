//! Every lying merchant of the stand: what the agent gets, how often we sign, what the books say.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::USDC;
use crate::support::agent::Ask;
use crate::support::chain::Domain;
use crate::support::stand::{Stand, stand};

/// What has to happen on a route.
enum End {
    /// Nothing signed, explained with one of these reasons.
    Refused(&'static [&'static str]),
    /// Nothing signed; refused or handed over, both are right.
    Unpaid,
    /// Nothing signed, the merchant's answer untouched.
    Untouched(u16),
    /// Signed once for 10000; the receipt is believed.
    Settled(u16),
    /// Signed once for 10000; no receipt that counts. `0`: the answer is ours.
    Unknown(u16),
    /// Either is defensible; one signature at most, and the books must agree.
    Careful,
}

use End::{Careful, Refused, Settled, Unknown, Unpaid, Untouched};

const AMOUNT: &[&str] = &[
    "amount_invalid",
    "malformed_challenge",
    "over_request_cap",
    "no_acceptable_option",
];
const NETWORK: &[&str] = &[
    "network_not_allowed",
    "no_acceptable_option",
    "malformed_challenge",
];
const SCHEME: &[&str] = &["scheme_unsupported", "no_acceptable_option"];
const METHOD: &[&str] = &[
    "transfer_method_unsupported",
    "no_acceptable_option",
    "malformed_challenge",
];
const PAYEE: &[&str] = &[
    "recipient_invalid",
    "no_acceptable_option",
    "malformed_challenge",
];
const AGAIN: u16 = 0;

/// Route, query beside `id`, end.
const ROUTES: &[(&str, &str, End)] = &[
    ("price-jump", "", Unknown(AGAIN)),
    ("price-creep", "", Unknown(AGAIN)),
    ("settle-then-ask", "", Unknown(AGAIN)),
    ("always-402", "", Unknown(AGAIN)),
    ("always-402-v1", "", Unknown(AGAIN)),
    ("huge-price", "", Refused(&["over_request_cap"])),
    ("amount-overflow", "", Refused(AMOUNT)),
    ("amount-negative", "", Refused(AMOUNT)),
    ("amount-decimal", "", Refused(AMOUNT)),
    ("amount-hex", "", Refused(AMOUNT)),
    ("amount-number", "", Refused(AMOUNT)),
    ("amount-exponent", "", Refused(AMOUNT)),
    ("amount-zero", "", Unpaid),
    (
        "cheap-then-dear",
        "",
        Refused(&[
            "over_request_cap",
            "no_acceptable_option",
            "network_not_allowed",
        ]),
    ),
    ("wrong-network", "", Refused(NETWORK)),
    ("unknown-network", "", Refused(NETWORK)),
    ("network-wildcard", "", Refused(NETWORK)),
    ("v1-name-in-v2", "", Refused(NETWORK)),
    ("unknown-scheme", "", Refused(SCHEME)),
    ("unknown-flow", "", Unpaid),
    ("unknown-method", "", Refused(METHOD)),
    (
        "fake-token",
        "",
        Refused(&["asset_not_allowed", "no_acceptable_option"]),
    ),
    ("wrong-domain", "", Careful),
    ("no-domain", "", Careful),
    ("upto-other-facilitator", "", Refused(SCHEME)),
    ("upto-takes-all", "", Refused(SCHEME)),
    ("payto-change", "", Refused(PAYEE)),
    ("payto-self", "to={payer}", Refused(PAYEE)),
    ("payto-zero", "", Refused(PAYEE)),
    ("payto-bad-checksum", "", Refused(PAYEE)),
    ("long-timeout", "", Careful),
    ("zero-timeout", "", Unpaid),
    ("negative-timeout", "", Unpaid),
    ("many-accepts", "", Careful),
    ("resource-mismatch", "", Refused(&["resource_mismatch"])),
    ("mixed-versions", "", Careful),
    ("injection", "", Settled(200)),
    ("settle-fail", "", Unknown(AGAIN)),
    ("settle-pending", "", Unknown(AGAIN)),
    ("verify-fail", "", Unknown(AGAIN)),
    ("fake-receipt", "", Settled(200)),
    ("receipt-more", "", Settled(200)),
    ("receipt-other-payer", "", Careful),
    ("no-receipt", "", Unknown(200)),
    ("bad-receipt", "", Unknown(200)),
    ("free-after-sign", "", Unknown(200)),
    ("settle-late", "ms=10", Unknown(200)),
    ("settle-500", "", Unknown(500)),
    ("settle-drop", "", Unknown(AGAIN)),
    ("settle-truncate", "", Settled(200)),
    ("double-settle", "", Settled(200)),
    ("pay-400", "", Unknown(400)),
    ("pay-412", "", Unknown(412)),
    ("pay-429", "", Unknown(429)),
    ("redirect", "", Unknown(307)),
    ("redirect-402", "", Untouched(302)),
    ("collect", "", Untouched(200)),
    ("no-requirements", "", Untouched(402)),
    ("html-402", "", Untouched(402)),
    ("bad-base64", "", Unpaid),
    ("base64-not-json", "", Unpaid),
    ("base64-truncated", "", Unpaid),
    ("base64-url-alphabet", "", Unpaid),
    ("base64-no-padding", "", Careful),
    ("plain-json-header", "", Unpaid),
    ("body-only-v2", "", Unpaid),
    ("utf8", "", Settled(200)),
    ("empty-accepts", "", Unpaid),
    ("no-accepts", "", Unpaid),
    ("version-99", "", Unpaid),
    ("nulls", "", Settled(200)),
    ("extra-fields", "", Settled(200)),
    (
        "duplicate-header",
        "",
        Refused(&["ambiguous_challenge", "malformed_challenge"]),
    ),
    ("duplicate-keys", "", Unpaid),
    ("deep-json", "", Unpaid),
    ("giant-header", "kb=40", Careful),
    ("giant-body", "mb=8", Unpaid),
    ("endless-body", "", Unpaid),
    ("stalled-body", "", Unpaid),
    ("slow-402", "ms=500", Unknown(AGAIN)),
    ("slow-paid", "ms=500", Settled(200)),
    ("never-answers-paid", "", Unknown(AGAIN)),
    ("honest", "", Settled(200)),
];

#[test]
fn every_hostile_route_ends_as_it_should() {
    let Some(stand) = stand() else { return };
    let known: BTreeSet<&str> = ROUTES.iter().map(|(route, ..)| *route).collect();
    for route in stand.hostile_routes() {
        assert!(
            known.contains(route.as_str()),
            "the stand has a route that this table lacks: {route}"
        );
    }
    let next = AtomicUsize::new(0);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let worker = || {
            let mut wrong = vec![];
            while let Some((route, query, end)) = ROUTES.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(why) = visit(stand, route, query, end) {
                    wrong.push(format!("{route}: {why}"));
                }
            }
            wrong
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap())
            .collect()
    });
    assert!(
        wrong.is_empty(),
        "{} of {} routes end wrong:\n{}",
        wrong.len(),
        ROUTES.len(),
        wrong.join("\n")
    );
}

fn visit(stand: &Stand, route: &str, query: &str, end: &End) -> Result<(), String> {
    let mut setup = stand.setup();
    setup.config["limits"] = json!({ "upstream_total": "3s", "idle_timeout": "3s" });
    let payer = setup.payer();
    let mut proxy = setup.start();
    let query = query.replace("{payer}", &payer);
    let url = format!(
        "https://hostile.stand.test/{route}?id={}&{query}",
        &payer[2..10]
    );
    let memory = proxy.memory();
    let begun = Instant::now();
    // An endless body is cut by the agent: it has what it came for.
    let answer = proxy.agent(Duration::from_secs(10)).send(&Ask::get(&url));
    let took = begun.elapsed();
    let reason = answer.as_ref().ok().and_then(|a| a.reason());
    let status = answer.as_ref().map_or(0, |a| a.status);
    let told = format!("status {status}, reason {reason:?}, after {took:?}");

    let hits = stand.paid_by(&payer);
    let nonces: BTreeSet<_> = hits
        .iter()
        .map(|(_, t)| t.nonce.to_ascii_lowercase())
        .collect();
    let domain = Domain {
        name: "USDC".into(),
        version: "2".into(),
        chain: 84532,
        token: USDC.into(),
    };
    for (_, transfer) in &hits {
        if transfer.signer(&domain).as_ref() != Some(&payer) {
            return Err("signed for another domain than the table's".into());
        }
        if transfer.valid_before > crate::support::unix_now() + 300 {
            return Err(format!("valid for too long: {transfer:?}"));
        }
    }
    if proxy.memory() > memory + 64 * 1024 {
        return Err(format!(
            "memory grew from {memory} to {} KiB",
            proxy.memory()
        ));
    }
    if !proxy.alive() {
        return Err("the proxy died".into());
    }
    proxy.stop();
    let books = proxy.ledger();
    if nonces != books.nonces().into_iter().collect() {
        return Err(format!(
            "merchant saw {nonces:?}, the ledger has {:?}",
            books.nonces()
        ));
    }
    let taken: u128 = stand.transfers(&payer).iter().map(|(_, value)| value).sum();
    if taken > books.counted() {
        return Err(format!("{taken} taken, {} counted", books.counted()));
    }
    let signed = nonces.len();
    let (settled, unknown) = (books.sum(&["settled"]), books.sum(&["unknown"]));
    let right = match end {
        Refused(reasons) => signed == 0 && reason.as_deref().is_some_and(|r| reasons.contains(&r)),
        Unpaid => signed == 0,
        Untouched(want) => signed == 0 && status == *want && reason.is_none(),
        Settled(want) => signed == 1 && status == *want && (settled, unknown) == (10_000, 0),
        Unknown(AGAIN) => {
            let good = ["already_paid", "outcome_unknown"];
            let ours = reason
                .as_deref()
                .is_some_and(|r| good.contains(&r) || status == 502 || status == 504);
            signed == 1 && ours && (settled, unknown) == (0, 10_000)
        }
        Unknown(want) => signed == 1 && status == *want && (settled, unknown) == (0, 10_000),
        Careful => signed <= 1,
    };
    match right {
        true => Ok(()),
        false => Err(format!(
            "{told}; {signed} signed, {settled} settled, {unknown} unknown"
        )),
    }
}
