//! A payment instrument at AgentCore: what it makes is believed on our terms only, its limits stand beside ours,
//! and no chain is asked about a nonce that it chose.

use std::sync::{Arc, Mutex};

use farepass::wallet::Probe;
use serde_json::{Value, json};

use super::signers::{Folder, KEY, PAGE, folder, open, paying, runtime, scene_of, sign};
use crate::support::agentcore::{SESSION, State, Twist};
use crate::support::mpp_stand::{SHOP, mpp_stand};
use crate::support::proxy::{Proxy, Setup};
use crate::support::signer::{Fault, Signer};
use crate::support::{chain, sha256, until};

const LONG: std::time::Duration = std::time::Duration::from_secs(20);

/// The instrument as the only wallet of a proxy.
fn instrument(setup: &mut Setup, folder: &Folder) -> (Signer, Arc<Mutex<State>>) {
    let state = Arc::default();
    let key = hex::decode(setup.secret()).unwrap().try_into().unwrap();
    let (signer, mut keys) = scene_of(key, folder, &state);
    keys["name"] = json!("main");
    keys["networks"] = json!(["eip155:84532"]);
    setup.config["wallets"] = json!([keys]);
    (signer, state)
}

/// Waits until the proxy said this so often: it may be in the pipe yet.
fn said(proxy: &Proxy, what: &str, times: usize) {
    until(what, LONG, || {
        (proxy.stderr().matches(what).count() == times).then_some(())
    });
}

fn refused(proxy: &Proxy, url: &str) {
    let refused = proxy.get(url);
    assert_eq!(
        refused.reason().as_deref(),
        Some("wallet_unavailable"),
        "{}",
        refused.text()
    );
}

#[test]
fn an_authorization_on_other_terms_goes_nowhere_and_holds_the_money() {
    let folder = folder();
    let (merchant, _, mut setup) = paying(super::signers::agentcore, &folder);
    let (signer, state) = instrument(&mut setup, &folder);
    let proxy = setup.start();
    let twists = [Twist::Payee, Twist::Amount, Twist::Validity, Twist::Payer];
    for (n, wrong) in twists.into_iter().enumerate() {
        state.lock().unwrap().twist = wrong;
        refused(&proxy, &format!("{PAGE}?n={n}"));
    }
    said(&proxy, "it signed other terms", 4);
    assert_eq!(proxy.ledger().sum(&["unknown"]), 40_000, "the holds stay");
    state.lock().unwrap().twist = Twist::None;
    assert_eq!(proxy.get(&format!("{PAGE}?n=9")).text(), "sold");
    assert_eq!(signer.seen().len(), 5);
    // Another asset or chain is another digest.
    for (n, wrong) in [(10, Twist::Asset), (11, Twist::Network)] {
        state.lock().unwrap().twist = wrong;
        refused(&proxy, &format!("{PAGE}?n={n}"));
    }
    said(&proxy, "its signature is not that of 0x", 2);
    assert_eq!(
        merchant
            .seen()
            .iter()
            .filter(|s| s.payment().is_some())
            .count(),
        1
    );
    // Nobody can ask a chain about a nonce that is not the one that was signed.
    assert!(proxy.ledger().rows.iter().all(|row| row["nonce"].is_null()));
    proxy.assert_verifies();
}

#[test]
fn its_limits_stand_beside_ours_and_one_payment_has_one_token() {
    let folder = folder();
    let (_merchant, _, mut setup) = paying(super::signers::agentcore, &folder);
    let (signer, state) = instrument(&mut setup, &folder);
    setup.budget("0.025 USD");
    state.lock().unwrap().left = Some(15_000);
    let proxy = setup.start();
    assert_eq!(proxy.get(&format!("{PAGE}?n=1")).text(), "sold");
    refused(&proxy, &format!("{PAGE}?n=2"));
    said(
        &proxy,
        "its own limit is reached, status 400, ValidationException",
        1,
    );
    assert_eq!(
        proxy.ledger().counted(),
        10_000,
        "what it refused is given back"
    );
    state.lock().unwrap().left = None;
    assert_eq!(proxy.get(&format!("{PAGE}?n=3")).text(), "sold");
    // Ours is reached before it is asked.
    let ours = proxy.get(&format!("{PAGE}?n=4"));
    assert_eq!(
        ours.reason().as_deref(),
        Some("over_session_cap"),
        "{}",
        ours.text()
    );
    let asked: Vec<Value> = signer
        .seen()
        .iter()
        .map(|(_, body)| serde_json::from_slice(body).unwrap())
        .collect();
    assert_eq!(asked.len(), 3);
    let mut tokens: Vec<_> = asked
        .iter()
        .map(|asked| asked["clientToken"].clone())
        .collect();
    let ids = proxy.ledger().rows;
    for row in &ids {
        let id = row["id"].as_str().unwrap();
        let token = json!(hex::encode(sha256(
            format!("farepass payment 1 {id}").as_bytes()
        )));
        tokens.retain(|known| *known != token);
    }
    assert_eq!((ids.len(), tokens), (3, vec![]));
    assert!(
        asked
            .iter()
            .all(|asked| asked["paymentSessionId"] == SESSION)
    );
    proxy.assert_verifies();
}

#[test]
fn each_error_of_the_api_has_its_meaning() {
    let validation = |message: &str| (400, "ValidationException", message.to_owned());
    let word = |status: u16, word: &'static str| (status, word, "s3cret".to_owned());
    let refusals = [
        (
            validation("s3cret"),
            "rejects the request, status 400, ValidationException",
        ),
        (
            validation("The payment session s3cret has expired"),
            "its own session has ended",
        ),
        (
            validation("session not found s3cret"),
            "its own session has ended",
        ),
        (
            validation("Insufficient session budget s3cret"),
            "its own limit is reached",
        ),
        (
            validation("Instrument s3cret is inactive"),
            "does not know the wallet",
        ),
        (
            word(402, "ServiceQuotaExceededException"),
            "asked too often, status 402",
        ),
        (word(403, "AccessDeniedException"), "permissions forbid it"),
        (
            word(403, "SubscriptionRequiredException"),
            "its own bill is not paid, status 403",
        ),
        (
            word(403, "ExpiredTokenException"),
            "does not accept the credentials",
        ),
        (
            word(404, "ResourceNotFoundException"),
            "does not know the wallet",
        ),
        (
            word(429, "ThrottlingException"),
            "asked too often, status 429",
        ),
    ];
    let doubts = [
        (word(409, "ConflictException"), "status 409"),
        (word(500, "InternalServerException"), "status 500"),
    ];
    let folder = folder();
    let (signer, keys) = super::signers::agentcore(KEY, &folder);
    for (faults, is_final) in [(&refusals[..], true), (&doubts[..], false)] {
        for ((status, kind, message), said) in faults {
            let body = json!({ "__type": format!("com.amazonaws#{kind}"), "message": message });
            signer.fail(Fault::Answer(*status, body.to_string()));
            let wallet = open(&keys, &folder);
            let error = runtime().block_on(sign(&*wallet, 1)).unwrap_err();
            assert!(error.to_string().contains(said), "{kind}: {error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
            assert_eq!(error.is_final(), is_final, "{kind}: {error}");
        }
    }
}

#[test]
fn an_instrument_of_another_address_is_told_at_the_start() {
    let folder = folder();
    let (_signer, mut keys) = super::signers::agentcore(KEY, &folder);
    assert_eq!(
        runtime().block_on(open(&keys, &folder).probe()),
        Probe::Right
    );
    keys["user_id"] = json!("user-2");
    let probe = runtime().block_on(open(&keys, &folder).probe());
    assert!(
        matches!(&probe, Probe::Unanswered(why) if why.contains("walletAddress")),
        "{probe:?}"
    );
    let (_merchant, _signer, mut setup) = paying(super::signers::agentcore, &folder);
    setup.config["wallets"][0]["address"] = json!(chain::payer(&[9; 32]));
    setup.write();
    let refused = setup.run(&["serve"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("wallet `main`: its key is that of 0x"),
        "{said}"
    );
}

#[test]
fn an_authorization_that_only_now_begins_is_kept_back_until_a_block() {
    let folder = folder();
    let (merchant, _, mut setup) = paying(super::signers::agentcore, &folder);
    let (_signer, state) = instrument(&mut setup, &folder);
    state.lock().unwrap().twist = Twist::Unripe;
    let proxy = setup.start();
    let began = std::time::Instant::now();
    assert_eq!(proxy.get(PAGE).text(), "sold");
    assert!(
        began.elapsed() >= std::time::Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        merchant
            .seen()
            .iter()
            .filter(|s| s.payment().is_some())
            .count(),
        1
    );
    proxy.assert_verifies();
}

#[test]
fn it_answers_challenges_of_mpp_and_they_are_checked_too() {
    let Some(stand) = mpp_stand() else { return };
    let folder = folder();
    let mut setup = stand.setup(&["evm/charge"]);
    setup.config["limits"]["validity"] = json!("10m");
    let (signer, state) = instrument(&mut setup, &folder);
    let proxy = setup.start();
    let url = format!("{SHOP}/charge");
    let answer = proxy.get(&url);
    assert_eq!(answer.status, 200, "{}: {}", answer.text(), proxy.stderr());
    until("the receipt", LONG, || {
        (proxy.ledger().sum(&["settled"]) == 10_000).then_some(())
    });
    // The nonce is the challenge's, so ledger, merchant and chain can be compared.
    assert_eq!(stand.assert_agreement(&proxy), 10_000);
    for (n, wrong) in [Twist::Nonce, Twist::Payee, Twist::Amount, Twist::Validity]
        .into_iter()
        .enumerate()
    {
        state.lock().unwrap().twist = wrong;
        refused(&proxy, &format!("{url}?n={n}"));
        said(&proxy, "it signed other terms", n + 1);
    }
    assert_eq!(proxy.ledger().sum(&["unknown"]), 40_000, "the holds stay");
    assert_eq!(signer.seen().len(), 5);
    assert_eq!(stand.transfers(&proxy.payer()).len(), 1);
    proxy.assert_verifies();
}

#[test]
fn a_challenge_that_outlives_its_hold_is_not_handed_on() {
    let Some(stand) = mpp_stand() else { return };
    let folder = folder();
    let mut setup = stand.setup(&["evm/charge"]);
    setup.config["limits"]["validity"] = json!("20s");
    let (signer, _) = instrument(&mut setup, &folder);
    let proxy = setup.start();
    let refused = proxy.get(&format!("{SHOP}/charge"));
    assert_eq!(
        refused.reason().as_deref(),
        Some("scheme_unsupported"),
        "{}",
        refused.text()
    );
    assert!(
        refused
            .text()
            .contains("answers challenges until they expire"),
        "{}",
        refused.text()
    );
    assert_eq!((signer.seen().len(), proxy.ledger().counted()), (0, 0));
}

#[test]
fn the_next_session_is_used_when_its_file_says_so() {
    let folder = folder();
    let (_merchant, _, mut setup) = paying(super::signers::agentcore, &folder);
    let (signer, _) = instrument(&mut setup, &folder);
    let wallet = setup.config["wallets"][0].as_object_mut().unwrap();
    wallet.remove("session_id");
    let file = folder.0.path().join("session");
    wallet.insert("session_id_file".into(), json!(file));
    // One that is no session is told at the start.
    folder.write("session", "user-1");
    setup.write();
    let wrong = setup.run(&["serve"]);
    assert_eq!(wrong.status.code(), Some(2));
    let told = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        told.contains("session_id_file") && told.contains("payment-session-"),
        "{told}"
    );
    let ended = SESSION.replace("0123", "9999");
    folder.write("session", &ended);
    let proxy = setup.start();
    refused(&proxy, &format!("{PAGE}?n=1"));
    said(&proxy, "its own session has ended", 1);
    assert_eq!(proxy.ledger().counted(), 0);
    folder.write("session", &format!("{SESSION}\n"));
    assert_eq!(proxy.get(&format!("{PAGE}?n=2")).text(), "sold");
    // Half a file changes nothing.
    folder.write("session", "payment-");
    assert_eq!(proxy.get(&format!("{PAGE}?n=3")).text(), "sold");
    assert_eq!(signer.seen().len(), 3);
    proxy.assert_verifies();
}
