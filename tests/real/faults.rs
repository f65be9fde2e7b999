//! Everything that can go wrong with whoever signs, for every kind: a named error, nothing paid twice, and a ledger
//! that is right after each.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::signers::{
    Folder, Scene, agentcore, agentcore_solana, cdp, cdp_solana, folder, kms, kms_solana, privy,
    privy_solana, solana_address, web3signer,
};
use super::signers_solana::DEVNET;
use super::solana::{entry, shop as solana_shop};
use crate::support::merchant::{Merchant, shop};
use crate::support::proxy::{Proxy, Setup};
use crate::support::signer::{Fault, Signer, p256};
use crate::support::stand::stand;
use crate::support::{chain, until};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
const PRICE: u128 = 10_000;

/// What becomes of the money.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    /// Certainly nothing was signed: it is given back.
    Back,
    /// Something may have been: it stays held.
    Held,
}

/// How it is brought about.
enum Cause {
    Signer(Fault),
    /// A credential's file has this in it instead, from the start.
    File(&'static str, String),
}

/// A cause, what the log says of it, and what becomes of the money.
type Row = (Cause, &'static str, Ends);

/// What every signer over HTTP can do wrong.
fn common() -> Vec<Row> {
    // A bill of its own, as merchants write theirs: nobody may pay it.
    let bill = json!({
        "errorType": "payment_method_required",
        "x402Version": 1,
        "accepts": [{
            "scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "1",
            "asset": crate::support::USDC, "payTo": chain::payer(&[3; 32]), "maxTimeoutSeconds": 60,
            "resource": "http://127.0.0.1/", "description": "", "mimeType": "",
            "extra": { "name": "USDC", "version": "2" },
        }],
    });
    let answer = |status: u16| Cause::Signer(Fault::Answer(status, "{}".into()));
    let bill = Cause::Signer(Fault::Answer(402, bill.to_string()));
    vec![
        (answer(401), "does not accept the credentials", Ends::Back),
        (bill, "its own bill is not paid, status 402", Ends::Back),
        (answer(429), "asked too often, status 429", Ends::Back),
        (answer(500), "answers with status 500", Ends::Held),
        (answer(503), "answers with status 503", Ends::Held),
        (Cause::Signer(Fault::Hang), "in time", Ends::Held),
        (
            Cause::Signer(Fault::HangUp),
            "no answer from 127.0.0.1",
            Ends::Held,
        ),
        (
            Cause::Signer(Fault::OtherKey),
            "its signature is not that of",
            Ends::Held,
        ),
        (
            Cause::Signer(Fault::OtherDigest),
            "its signature is not that of",
            Ends::Held,
        ),
    ]
}

/// The same, and what is wrong with these files of credentials.
fn all(files: &[(&'static str, String)]) -> Vec<Row> {
    common().into_iter().chain(credentials(files)).collect()
}

/// What goes wrong with credentials: they are others', or they have ended.
fn credentials(files: &[(&'static str, String)]) -> Vec<Row> {
    let said = "does not accept the credentials";
    let files = files.iter().map(|(name, text)| {
        let cause = Cause::File(name, text.clone());
        (cause, said, Ends::Back)
    });
    let late = (Cause::Signer(Fault::Late), said, Ends::Back);
    files.chain([late]).collect()
}

fn aws(profile: &str) -> Vec<(&'static str, String)> {
    let text =
        format!("[{profile}]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = another\n");
    vec![("aws", text)]
}

fn p256_key() -> String {
    STANDARD.encode(p256().0)
}

fn cdp_files() -> Vec<(&'static str, String)> {
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        p256_key()
    );
    vec![("wallet.secret", p256_key()), ("api.secret", pem)]
}

fn privy_files() -> Vec<(&'static str, String)> {
    vec![
        ("owner.key", p256_key()),
        ("app.secret", "anothers3cret".into()),
    ]
}

/// A proxy whose only wallet is this, and a merchant that it pays.
fn scene(scene: Scene, folder: &Folder, is_solana: bool) -> Option<(Merchant, Signer, Setup)> {
    let mut setup = Setup::new();
    let key = hex::decode(setup.secret()).unwrap().try_into().unwrap();
    let (signer, mut keys) = scene(key, folder);
    keys["name"] = json!("main");
    keys["networks"] = json!([if is_solana { DEVNET } else { "eip155:84532" }]);
    setup.config["wallets"] = json!([keys]);
    let merchant = match is_solana {
        false => Merchant::start(shop),
        true => {
            setup.config["rpc"][DEVNET] = json!(stand()?.cluster());
            solana_shop(vec![entry(&json!({})); 40])
        }
    };
    // Whatever others are told to go through, signers are asked directly.
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"] {
        setup.env.push((name, "http://127.0.0.1:9".into()));
    }
    setup.root(&merchant.root);
    setup.resolve("shop.stand.test:443", merchant.tls.port().into());
    Some((merchant, signer, setup))
}

fn buy(proxy: &Proxy, n: usize) -> crate::support::http::Answer {
    proxy.get(&format!("https://shop.stand.test/{n}"))
}

/// Row by row: it fails by name, once; then all is well again.
fn matrix(kind: Scene, is_solana: bool, rows: Vec<Row>) {
    let folder = folder();
    let Some((merchant, signer, setup)) = scene(kind, &folder, is_solana) else {
        return;
    };
    let mut proxy = setup.start();
    let (mut n, mut held, mut sold, mut asked) = (0, 0, 0, 0);
    for (cause, what, ends) in rows {
        let before = match &cause {
            Cause::Signer(fault) => {
                signer.fail(fault.clone());
                None
            }
            Cause::File(name, text) => {
                let before = fs::read_to_string(folder.0.path().join(name)).unwrap();
                folder.write(name, text);
                // Others that are not taken would serve on.
                assert!(proxy.stop().success());
                proxy.start_again();
                Some((name, before))
            }
        };
        let quiet = proxy.stderr().len();
        let refused = buy(&proxy, n);
        let reason = refused.reason();
        assert_eq!(
            reason.as_deref(),
            Some("wallet_unavailable"),
            "{what}: {}",
            refused.text()
        );
        until(what, PATIENCE, || {
            proxy.stderr()[quiet..].contains(what).then_some(())
        });
        asked += 1;
        assert_eq!(signer.seen().len(), asked, "{what}: it is asked once");
        signer.fail(Fault::None);
        if let Some((name, before)) = before {
            folder.write(name, &before);
        }
        if ends == Ends::Held {
            held += 1;
            let again = buy(&proxy, n);
            assert_eq!(again.reason().as_deref(), Some("outcome_unknown"), "{what}");
            assert_eq!(
                signer.seen().len(),
                asked,
                "{what}: it is not asked once more"
            );
            n += 1;
        }
        // What was given back can be bought.
        let answer = buy(&proxy, n);
        assert_eq!(answer.text(), "sold", "after {what}: {}", proxy.stderr());
        (n, sold, asked) = (n + 1, sold + 1, asked + 1);
        assert_eq!(proxy.ledger().counted(), PRICE * (held + sold), "{what}");
    }
    right(&proxy, &merchant, &signer, (held, sold));
}

/// What was sold was paid for once, what is held was never sent, and nobody paid the signer.
fn right(proxy: &Proxy, merchant: &Merchant, signer: &Signer, (held, sold): (u128, u128)) {
    let seen = merchant.seen();
    let mut payments: Vec<_> = seen.iter().filter_map(|s| s.payment()).collect();
    assert_eq!(payments.len() as u128, sold);
    payments.sort_unstable();
    payments.dedup();
    assert_eq!(payments.len() as u128, sold, "each is another one");
    let books = proxy.ledger();
    let in_state = |state: &str| {
        let rows = books.rows.iter().filter(|row| row["state"] == state);
        rows.count() as u128
    };
    let released = books.rows.len() as u128 - held - sold;
    assert_eq!(in_state("released"), released, "{books:?}");
    assert_eq!(in_state("unknown") + in_state("settled"), held + sold);
    for (head, _) in signer.seen() {
        for field in ["x-payment", "payment-signature", "payment"] {
            assert_eq!(head.one(field), None, "a signer is not paid");
        }
    }
    proxy.assert_verifies();
}

/// The wallet says another address than that of the key: told at the start, or at the first payment.
fn of_another(kind: Scene, is_solana: bool, said: &str, ends: Option<Ends>) {
    let folder = folder();
    let Some((merchant, signer, mut setup)) = scene(kind, &folder, is_solana) else {
        return;
    };
    setup.config["wallets"][0]["address"] = match is_solana {
        true => json!(solana_address([9; 32])),
        false => json!(chain::payer(&[9; 32])),
    };
    let Some(ends) = ends else {
        setup.write();
        let refused = setup.run(&["serve"]);
        assert_eq!(refused.status.code(), Some(2));
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains(said), "{told}");
        return;
    };
    let proxy = setup.start();
    let refused = buy(&proxy, 0);
    assert_eq!(refused.reason().as_deref(), Some("wallet_unavailable"));
    until(said, PATIENCE, || {
        proxy.stderr().contains(said).then_some(())
    });
    let held = u128::from(ends == Ends::Held);
    assert_eq!(proxy.ledger().counted(), PRICE * held);
    right(&proxy, &merchant, &signer, (held, 0));
}

const STARTS: &str = "wallet `main`: its key is that of ";

#[test]
fn web3signers_of_ones_own() {
    matrix(web3signer, false, common());
    of_another(web3signer, false, STARTS, None);
}

#[test]
fn accounts_at_coinbase() {
    matrix(cdp, false, all(&cdp_files()));
    let said = "does not know the wallet, status 404";
    of_another(cdp, false, said, Some(Ends::Back));
}

#[test]
fn accounts_at_coinbase_on_solana() {
    matrix(cdp_solana, true, all(&cdp_files()));
    let said = "does not know the wallet, status 404";
    of_another(cdp_solana, true, said, Some(Ends::Back));
}

#[test]
fn wallets_at_privy() {
    matrix(privy, false, all(&privy_files()));
    of_another(privy, false, STARTS, None);
}

#[test]
fn wallets_at_privy_on_solana() {
    matrix(privy_solana, true, all(&privy_files()));
    of_another(privy_solana, true, STARTS, None);
}

#[test]
fn keys_at_amazon() {
    matrix(kms, false, all(&aws("default")));
    of_another(kms, false, STARTS, None);
}

#[test]
fn keys_at_amazon_on_solana() {
    matrix(kms_solana, true, all(&aws("default")));
    of_another(kms_solana, true, STARTS, None);
}

#[test]
fn instruments_at_agentcore_on_solana() {
    matrix(agentcore_solana, true, all(&aws("pay")));
    of_another(agentcore_solana, true, STARTS, None);
}

#[test]
fn instruments_at_agentcore() {
    matrix(agentcore, false, all(&aws("pay")));
    of_another(agentcore, false, STARTS, None);
}

/// A key in a file cannot hang or want to be paid. What is wrong with it is told before anything is paid.
#[test]
fn keys_in_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let public = format!("0x{:064x}\n", 1);
    let table: [(&str, u32, &str, &str); 5] = [
        ("not a key", 0o600, "eip155:84532", "64"),
        ("", 0o600, "eip155:84532", "64"),
        (
            &format!("0x{}\n", "5a".repeat(32)),
            0o644,
            "eip155:84532",
            "chmod 600",
        ),
        (
            &format!("0x{}\n", "5a".repeat(32)),
            0o600,
            DEVNET,
            "cannot be paid on with an EVM key",
        ),
        (&public, 0o600, "eip155:8453", "public"),
    ];
    for (text, mode, network, said) in table {
        let mut setup = Setup::new();
        setup.write();
        let file = setup.dir.path().join("other.key");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        setup.config["rpc"][DEVNET] = json!("http://127.0.0.1:9");
        let wallet: &mut Value = &mut setup.config["wallets"][0];
        wallet["key_file"] = json!(file);
        wallet["networks"] = json!([network]);
        setup.write();
        let refused = setup.run(&["serve"]);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(
            told.contains(said) && told.contains("wallets[0]"),
            "{said}: {told}"
        );
    }
}
