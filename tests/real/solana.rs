//! x402 on Solana: official servers and facilitator over the real token programs, and merchants that want
//! something else than they should.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use farepass::solana::{Pubkey, split};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::reconcile::{only, reconciled};
use crate::support::agentcore::{State, Twist};
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::{Proxy, Setup};
use crate::support::shop as till;
use crate::support::stand::{Stand, request, stand};

pub(crate) const DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
const MINT: &str = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU";
const PAYEE: &str = "oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass9";
const FEE_PAYER: &str = "7v54NWdBtkjuAFJrLGsS2SXnuk8nKam81mZJeeYxVFi9";
const SHOP: &str = "https://merchant.stand.test";
/// What a fresh wallet has.
const FUNDS: u128 = 1_000_000_000;

/// A second wallet, on Solana, with a key of its own and a node to ask. Gives its address.
fn join_solana(setup: &mut Setup, node: &str) -> String {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let public: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
    let file = setup.dir.path().join("id.json");
    fs::write(&file, format!("{:?}", [seed, public].concat())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let wallets = setup.config["wallets"].as_array_mut().unwrap();
    wallets.push(json!({ "name": "sol", "kind": "local", "key_file": file, "networks": [DEVNET] }));
    setup.config["rpc"][DEVNET] = json!(node);
    Pubkey(public).to_string()
}

/// The stand's cluster.
pub(crate) struct Cluster(pub(crate) &'static Stand);

impl Cluster {
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let port = u16::try_from(self.0.port("/admin/port")).unwrap();
        let answer = request(port, method, path, body).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// A set-up with an EVM wallet and a Solana wallet, both with money.
    pub(crate) fn setup(&self) -> (Setup, String) {
        let mut setup = self.0.setup();
        let address = join_solana(&mut setup, &self.0.cluster());
        let funds = json!({ "address": address, "amount": FUNDS.to_string() });
        self.ask("POST", "/svm/fund", &funds);
        (setup, address)
    }

    fn balance(&self, address: &str) -> u128 {
        let answer = self.ask("GET", &format!("/svm/balance/{address}"), &Value::Null);
        answer["balance"].as_str().unwrap().parse().unwrap()
    }

    /// Transactions that this account is part of, in the order of sending.
    fn sent(&self, address: &str) -> Vec<Value> {
        let answer = self.ask("GET", &format!("/svm/transfers/{address}"), &Value::Null);
        answer.as_array().unwrap().clone()
    }
}

/// The hash of a transaction's message, as the ledger writes it.
fn nonce(transaction: &str) -> String {
    let transaction = STANDARD.decode(transaction).unwrap();
    let (_, message) = split(&transaction).unwrap();
    format!("0x{}", hex::encode(Sha256::digest(message)))
}

#[test]
fn money_moves_once_for_each_page_in_both_versions() {
    let Some(stand) = stand() else { return };
    let cluster = Cluster(stand);
    let (setup, address) = cluster.setup();
    let proxy = setup.start();
    let before = cluster.balance(PAYEE);
    for (path, receipt) in [
        ("/v2/svm", "payment-response"),
        ("/v1/svm", "x-payment-response"),
        ("/v2/svm-memo", "payment-response"),
    ] {
        let answer = proxy.get(&format!("{SHOP}{path}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.json()["data"], "premium");
        assert!(answer.one(receipt).is_some(), "{path}");
        let header = answer.one("farepass-payment").unwrap();
        for part in [
            "; amount=\"10000\"; asset=\"USDC\"".to_owned(),
            format!("; network=\"{DEVNET}\""),
            "; charged=\"0.01 USD\"".into(),
        ] {
            assert!(header.contains(&part), "{path}: {part} is not in {header}");
        }
    }
    assert_eq!(cluster.balance(&address), FUNDS - 30_000);
    assert!(cluster.balance(PAYEE) >= before + 30_000);
    let (sent, books) = (cluster.sent(&address), proxy.ledger());
    assert_eq!((sent.len(), books.rows.len()), (3, 3));
    assert_eq!(books.sum(&["settled"]), 30_000);
    for transaction in &sent {
        assert_eq!(transaction["err"], Value::Null);
        let nonce = nonce(transaction["wire"].as_str().unwrap());
        let row = books.rows.iter().find(|row| row["nonce"] == nonce);
        let row = row.unwrap_or_else(|| panic!("{nonce} is not in {books:?}"));
        assert_eq!(row["transaction"], transaction["signature"]);
        assert_eq!(
            (&row["wallet"], &row["network"]),
            (&json!("sol"), &json!(DEVNET))
        );
        assert_eq!(row["flags"], json!([]), "{row}");
    }
    let memos: Vec<_> = sent
        .iter()
        .map(|t| memo(t["wire"].as_str().unwrap()))
        .collect();
    assert_eq!(memos[2], "inv_0001");
    assert!(memos[0].len() == 32 && memos[0] != memos[1], "{memos:?}");
    proxy.assert_verifies();
}

#[test]
fn signers_elsewhere_pay_on_the_cluster() {
    let Some(stand) = stand() else { return };
    let cluster = Cluster(stand);
    for scene in super::signers_solana::KINDS {
        let mut setup = stand.setup();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let folder = super::signers::folder();
        let (signer, mut keys) = scene(seed, &folder);
        keys["name"] = json!("sol");
        keys["networks"] = json!([DEVNET]);
        let address = keys["address"].as_str().unwrap().to_owned();
        setup.config["wallets"] = json!([keys]);
        setup.config["rpc"][DEVNET] = json!(stand.cluster());
        let funds = json!({ "address": address, "amount": FUNDS.to_string() });
        cluster.ask("POST", "/svm/fund", &funds);
        let proxy = setup.start();
        let answer = proxy.get(&format!("{SHOP}/v2/svm"));
        assert_eq!(answer.status, 200, "{}: {}", answer.text(), proxy.stderr());
        assert_eq!(answer.json()["data"], "premium");
        assert_eq!(signer.seen().len(), 1);
        assert_eq!(cluster.balance(&address), FUNDS - 10_000);
        let sent = cluster.sent(&address);
        let row = &proxy.ledger().rows[0];
        assert_eq!(row["nonce"], nonce(sent[0]["wire"].as_str().unwrap()));
        assert_eq!(row["transaction"], sent[0]["signature"]);
        assert_eq!(proxy.ledger().sum(&["settled"]), 10_000);
        // A signature by another key goes nowhere, and its price stays held.
        signer.fail(crate::support::signer::Fault::OtherKey);
        let refused = proxy.get(&format!("{SHOP}/v2/svm?n=2"));
        assert_eq!(refused.json()["reason"], "wallet_unavailable");
        assert_eq!(cluster.sent(&address).len(), 1);
        assert_eq!(proxy.ledger().sum(&["unknown"]), 10_000);
        proxy.assert_verifies();
    }
}

#[test]
fn transactions_that_a_signer_made_itself_pay_where_they_move_the_same() {
    let Some(stand) = stand() else { return };
    let cluster = Cluster(stand);
    let mut setup = stand.setup();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let folder = super::signers::folder();
    let address = super::signers::solana_address(seed);
    let state: std::sync::Arc<std::sync::Mutex<State>> = std::sync::Arc::default();
    state.lock().unwrap().node = Some(stand.cluster());
    let (signer, mut keys) = super::signers::instrument_of(seed, address.clone(), &folder, &state);
    keys["name"] = json!("sol");
    keys["networks"] = json!([DEVNET]);
    setup.config["wallets"] = json!([keys]);
    setup.config["rpc"][DEVNET] = json!(stand.cluster());
    let funds = json!({ "address": address, "amount": FUNDS.to_string() });
    cluster.ask("POST", "/svm/fund", &funds);
    let proxy = setup.start();
    for path in ["/v2/svm", "/v2/svm-memo", "/v1/svm"] {
        let answer = proxy.get(&format!("{SHOP}{path}"));
        assert_eq!(answer.status, 200, "{}: {}", answer.text(), proxy.stderr());
    }
    assert_eq!(cluster.balance(&address), FUNDS - 30_000);
    let sent = cluster.sent(&address);
    assert_eq!(memo(sent[1]["wire"].as_str().unwrap()), "inv_0001");
    // Receipts name the transactions; nobody can look for one by a nonce.
    let rows = proxy.ledger().rows;
    assert!(rows.iter().all(|row| row["nonce"].is_null()));
    let known = |sent: &Value| {
        rows.iter()
            .any(|row| row["transaction"] == sent["signature"])
    };
    assert!(sent.len() == 3 && sent.iter().all(known));
    for (n, wrong) in [Twist::Payee, Twist::Amount, Twist::Asset, Twist::Payer]
        .into_iter()
        .enumerate()
    {
        state.lock().unwrap().twist = wrong;
        let refused = proxy.get(&format!("{SHOP}/v2/svm?n={n}"));
        assert_eq!(refused.json()["reason"], "wallet_unavailable", "{wrong:?}");
        crate::support::until("the log", std::time::Duration::from_secs(20), || {
            let said = proxy.stderr().matches("it signed other terms").count();
            (said == n + 1).then_some(())
        });
    }
    assert_eq!(signer.seen().len(), 7);
    assert_eq!(cluster.sent(&address).len(), 3);
    assert_eq!(proxy.ledger().sum(&["unknown"]), 40_000, "the holds stay");
    proxy.assert_verifies();
}

/// The memo of a transaction: the text before the empty list of address tables.
fn memo(transaction: &str) -> String {
    let bytes = STANDARD.decode(transaction).unwrap();
    let end = bytes.len() - 1;
    let at = (1..=64).find(|n| usize::from(bytes[end - n - 1]) == *n);
    String::from_utf8(bytes[end - at.unwrap()..end].to_vec()).unwrap()
}

#[test]
fn one_budget_is_over_both_chains() {
    let Some(stand) = stand() else { return };
    let cluster = Cluster(stand);
    let (mut setup, address) = cluster.setup();
    setup.budget("0.03 USD");
    let proxy = setup.start();
    for path in ["/v2/exact", "/v2/svm", "/v1/exact"] {
        let answer = proxy.get(&format!("{SHOP}{path}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    for path in ["/v1/svm", "/v2/exact", "/v2/svm"] {
        let refused = proxy.get(&format!("{SHOP}{path}"));
        let reason = &refused.json()["reason"];
        assert_eq!(reason, "over_session_cap", "{path}: {}", refused.text());
    }
    assert_eq!(cluster.balance(&address), FUNDS - 10_000);
    assert_eq!(stand.balance(&proxy.payer()), FUNDS - 20_000);
    assert_eq!(proxy.ledger().sum(&["settled"]), 30_000);
    proxy.assert_verifies();
}

/// A node that answers every question with the same.
fn node(genesis: &'static str) -> Merchant {
    Merchant::start(move |_, out| {
        let answer = json!({ "jsonrpc": "2.0", "id": 1, "result": genesis }).to_string();
        let length = answer.len();
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{answer}"
        )?;
        Ok(After::Close)
    })
}

#[test]
fn without_a_node_of_the_cluster_nothing_is_signed_there_and_others_are_paid() {
    let Some(stand) = stand() else { return };
    let mainnet = node("5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d");
    let nobody = "http://127.0.0.1:9".to_owned();
    for (url, why) in [
        (nobody, "no connection"),
        (
            format!("http://{}", mainnet.plain),
            "is a node of solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
        ),
    ] {
        let mut setup = stand.setup();
        join_solana(&mut setup, &url);
        let proxy = setup.start();
        let refused = proxy.get(&format!("{SHOP}/v2/svm"));
        assert_eq!(
            refused.json()["reason"],
            "wallet_unavailable",
            "{}",
            refused.text()
        );
        assert!(proxy.ledger().rows.is_empty());
        assert!(proxy.stderr().contains(why), "{}", proxy.stderr());
        // The same page for an EVM wallet: its offer is the second.
        let paid = proxy.get(&format!("{SHOP}/v2/both"));
        assert_eq!(paid.status, 200, "{}", paid.text());
        assert_eq!(proxy.ledger().rows[0]["network"], "eip155:84532");
    }
}

/// An entry with these members instead; `extra.` reaches inside.
pub(crate) fn entry(changes: &Value) -> Value {
    let mut entry = json!({
        "scheme": "exact", "network": DEVNET, "amount": "10000", "asset": MINT, "payTo": PAYEE,
        "maxTimeoutSeconds": 60,
        "extra": { "feePayer": FEE_PAYER, "recentBlockhash": PAYEE, "decimals": 0 },
    });
    for (key, value) in changes.as_object().unwrap() {
        let place = match key.strip_prefix("extra.") {
            Some(inner) => &mut entry["extra"][inner],
            None => &mut entry[key],
        };
        *place = value.clone();
    }
    entry
}

/// Sells for whatever the `n`th entry says.
pub(crate) fn shop(entries: Vec<Value>) -> Merchant {
    Merchant::start(move |seen, out| {
        if seen.payment().is_some() {
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsold")?;
            return Ok(After::Keep);
        }
        let n: usize = seen.path().trim_start_matches('/').parse().unwrap();
        let terms = json!({
            "x402Version": 2,
            "resource": { "url": format!("https://shop.stand.test/{n}") },
            "accepts": [entries[n]],
        });
        let terms = STANDARD.encode(terms.to_string());
        write!(
            out,
            "HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: {terms}\r\nContent-Length: 0\r\n\r\n"
        )?;
        Ok(After::Keep)
    })
}

fn ask(proxy: &Proxy, n: usize) -> Answer {
    proxy.get(&format!("https://shop.stand.test/{n}"))
}

/// A merchant lists as many offers as it likes; a node that says nothing is waited for once.
#[test]
fn a_node_that_hangs_is_not_waited_for_with_every_offer() {
    let node = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut setup = Setup::new();
    let at = format!("http://{}", node.local_addr().unwrap());
    join_solana(&mut setup, &at);
    let merchant = Merchant::start(|_, out| {
        let terms = json!({
            "x402Version": 2,
            "resource": { "url": "https://shop.stand.test/0" },
            "accepts": vec![entry(&json!({})); 6],
        });
        till::ask(&terms, out)
    });
    setup.root(&merchant.root);
    setup.resolve("shop.stand.test:443", merchant.tls.port().into());
    let proxy = setup.start();
    let begun = Instant::now();
    let refused = ask(&proxy, 0);
    assert_eq!(refused.reason().as_deref(), Some("wallet_unavailable"));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert_eq!(merchant.seen().len(), 1);
}

#[test]
fn terms_that_would_cost_more_or_go_elsewhere_are_refused_by_name() {
    let Some(stand) = stand() else { return };
    let mut setup = Setup::new();
    let ours = join_solana(&mut setup, &stand.cluster());
    let owner: Pubkey = ours.parse().unwrap();
    let mint: Pubkey = MINT.parse().unwrap();
    let program = farepass::solana::TokenProgram::Token;
    let source = Pubkey::token_account(&owner, program, &mint)
        .unwrap()
        .to_string();
    let derived = Pubkey::token_account(&PAYEE.parse().unwrap(), program, &mint).unwrap();
    let table = [
        (json!({ "asset": FEE_PAYER }), "asset_not_allowed"),
        (
            json!({ "asset": "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v" }),
            "asset_not_allowed",
        ),
        (
            json!({ "network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp" }),
            "network_not_allowed",
        ),
        (json!({ "network": "solana-devnet" }), "network_not_allowed"),
        (json!({ "amount": "100001" }), "over_request_cap"),
        (
            json!({ "amount": "18446744073709551616" }),
            "over_request_cap",
        ),
        (json!({ "amount": "-1" }), "amount_invalid"),
        (json!({ "extra.feePayer": null }), "malformed_challenge"),
        (json!({ "extra": {} }), "malformed_challenge"),
        (json!({ "extra.feePayer": 7 }), "malformed_challenge"),
        (
            json!({ "extra.feePayer": "not base58" }),
            "malformed_challenge",
        ),
        (json!({ "extra.feePayer": ours }), "malformed_challenge"),
        (json!({ "extra.feePayer": source }), "malformed_challenge"),
        (json!({ "extra.feePayer": MINT }), "malformed_challenge"),
        (
            json!({ "extra.memo": "m".repeat(257) }),
            "malformed_challenge",
        ),
        (json!({ "extra.memo": 7 }), "malformed_challenge"),
        (json!({ "payTo": ours }), "recipient_invalid"),
        (json!({ "payTo": MINT }), "recipient_invalid"),
        (json!({ "payTo": derived.to_string() }), "recipient_invalid"),
        (json!({ "payTo": "1".repeat(32) }), "recipient_invalid"),
        (
            json!({ "payTo": "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA" }),
            "recipient_invalid",
        ),
        (json!({ "scheme": "upto" }), "scheme_unsupported"),
        (
            json!({ "extra.assetTransferMethod": "permit2" }),
            "transfer_method_unsupported",
        ),
    ];
    let mut entries: Vec<_> = table.iter().map(|(changes, _)| entry(changes)).collect();
    entries.push(entry(&json!({})));
    let shop = shop(entries);
    setup.root(&shop.root);
    setup.resolve("shop.stand.test:443", shop.tls.port().into());
    let proxy = setup.start();
    for (n, (changes, reason)) in table.iter().enumerate() {
        let refused = ask(&proxy, n);
        assert_eq!(
            refused.json()["reason"],
            *reason,
            "{changes}: {}",
            refused.text()
        );
    }
    assert!(proxy.ledger().rows.is_empty());
    assert!(shop.seen().iter().all(|seen| seen.payment().is_none()));
    // What the merchant says of decimals and of a recent block is not what is signed.
    assert_eq!(ask(&proxy, table.len()).status, 200);
    let paid = shop
        .seen()
        .iter()
        .find_map(|seen| seen.payment().map(str::to_owned));
    let paid: Value = serde_json::from_slice(&STANDARD.decode(paid.unwrap()).unwrap()).unwrap();
    let transaction = STANDARD
        .decode(paid["payload"]["transaction"].as_str().unwrap())
        .unwrap();
    let (signatures, message) = split(&transaction).unwrap();
    assert_eq!(signatures[0], [0; 64], "nobody else has signed yet");
    let theirs = PAYEE.parse::<Pubkey>().unwrap().0;
    assert_ne!(message[1 + 3 + 1 + 8 * 32..][..32], theirs);
    let transfer = [&[12][..], &10_000_u64.to_le_bytes(), &[6]].concat();
    assert!(message.windows(10).any(|data| data == transfer));
    let row = &proxy.ledger().rows[0];
    assert_eq!(
        row["nonce"],
        nonce(paid["payload"]["transaction"].as_str().unwrap())
    );
    let lives = row["valid_before"].as_u64().unwrap() - shop.seen()[0].unix;
    assert!((150..170).contains(&lives), "{lives}");
}

#[test]
fn a_memo_of_nothing_is_as_good_as_none() {
    let Some(stand) = stand() else { return };
    let mut setup = Setup::new();
    join_solana(&mut setup, &stand.cluster());
    let shop = shop(vec![entry(&json!({ "extra.memo": "" }))]);
    setup.root(&shop.root);
    setup.resolve("shop.stand.test:443", shop.tls.port().into());
    let proxy = setup.start();
    let answer = ask(&proxy, 0);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let memo = memo(&STANDARD.encode(sent_to(&shop)));
    assert!(memo.len() == 32 && hex::decode(&memo).is_ok(), "{memo}");
}

#[test]
fn killed_before_and_after_its_signature_a_payment_counts_and_is_not_made_again() {
    let Some(stand) = stand() else { return };
    for (point, known) in [("before-reserve", 0), ("before-sign", 1), ("after-sign", 1)] {
        let mut setup = Setup::new();
        join_solana(&mut setup, &stand.cluster());
        let shop = shop(vec![
            entry(&json!({})),
            entry(&json!({ "extra.memo": "two" })),
        ]);
        setup.root(&shop.root);
        setup.resolve("shop.stand.test:443", shop.tls.port().into());
        let mut proxy = setup.start();
        proxy.stop();
        assert!(proxy.start_to_die(point));
        assert!(crate::support::curl::fetch(proxy.curl("https://shop.stand.test/0")).is_err());
        crate::support::until("the fail point", std::time::Duration::from_secs(20), || {
            proxy.ended()
        });
        proxy.start_again();
        let books = proxy.ledger();
        assert_eq!(books.rows.len(), known, "{point}: {books:?}");
        assert_eq!(
            books.counted(),
            10_000 * u128::try_from(known).unwrap(),
            "{point}"
        );
        let again = ask(&proxy, 0);
        match known {
            0 => assert_eq!(again.status, 200, "{point}: {}", again.text()),
            _ => assert_eq!(again.json()["reason"], "outcome_unknown", "{point}"),
        }
        assert_eq!(ask(&proxy, 1).status, 200, "{point}");
        proxy.assert_verifies();
    }
}

/// The transaction that the merchant was sent.
fn sent_to(shop: &Merchant) -> Vec<u8> {
    let seen = shop.seen();
    let paid = seen.iter().find_map(|seen| seen.payment()).unwrap();
    let paid: Value = serde_json::from_slice(&STANDARD.decode(paid).unwrap()).unwrap();
    let transaction = paid["payload"]["transaction"].as_str().unwrap();
    STANDARD.decode(transaction).unwrap()
}

#[test]
fn a_receipt_is_confirmed_by_the_cluster() {
    let Some(stand) = stand() else { return };
    let (setup, address) = Cluster(stand).setup();
    let proxy = setup.start();
    assert_eq!(proxy.get(&format!("{SHOP}/v2/svm")).status, 200);
    let found = reconciled(&proxy.setup, "confirmed");
    let row = only(&proxy.setup);
    let sent = Cluster(stand).sent(&address);
    assert_eq!(found["transaction"], sent[0]["signature"]);
    assert_eq!(
        (&row["confirmed"], &row["state"]),
        (&json!(true), &json!("settled"))
    );
    assert_eq!(
        (&row["block"], &row["flags"]),
        (&sent[0]["slot"], &json!([]))
    );
    proxy.assert_verifies();
}

#[test]
fn money_that_was_taken_without_a_receipt_is_found_and_what_was_not_stays_counted() {
    let Some(stand) = stand() else { return };
    let cluster = Cluster(stand);
    let mut setup = Setup::new();
    let address = join_solana(&mut setup, &stand.cluster());
    let funds = json!({ "address": address, "amount": FUNDS.to_string() });
    cluster.ask("POST", "/svm/fund", &funds);
    let shop = shop(vec![entry(&json!({}))]);
    setup.root(&shop.root);
    setup.resolve("shop.stand.test:443", shop.tls.port().into());
    let proxy = setup.start();
    assert_eq!(ask(&proxy, 0).status, 200);
    let open = reconciled(&proxy.setup, "undecided");
    assert_eq!(open["state"], "unknown", "{open}");
    let detail = "its transaction is not found yet";
    crate::support::until(detail, std::time::Duration::from_secs(60), || {
        (reconciled(&proxy.setup, "undecided")["detail"] == detail).then_some(())
    });
    assert_eq!(proxy.ledger().counted(), 10_000);
    // The facilitator's key is the stand's: now it takes the money.
    let mut transaction = sent_to(&shop);
    let pair = Ed25519KeyPair::from_seed_unchecked(&[11; 32]).unwrap();
    assert_eq!(
        Pubkey(pair.public_key().as_ref().try_into().unwrap()).to_string(),
        FEE_PAYER
    );
    let (_, message) = split(&transaction).unwrap();
    let signature = pair.sign(message).as_ref().to_vec();
    transaction[1..65].copy_from_slice(&signature);
    let question = json!({ "jsonrpc": "2.0", "id": 1, "method": "sendTransaction",
        "params": [STANDARD.encode(&transaction)] });
    let node = stand.cluster();
    let port = node.rsplit(':').next().unwrap().parse().unwrap();
    let taken = request(port, "POST", "/", &question).unwrap().json();
    assert_eq!(cluster.balance(&address), FUNDS - 10_000, "{taken}");
    reconciled(&proxy.setup, "confirmed");
    let row = only(&proxy.setup);
    assert_eq!(row["transaction"], taken["result"]);
    assert_eq!(
        (&row["state"], &row["charged"]),
        (&json!("settled"), &json!("0.01 USD"))
    );
    assert_eq!(row["flags"], json!(["taken_unclaimed"]));
    proxy.assert_verifies();
}
