//! `farepass init` writes what is missing and nothing else.

use std::fs;

use serde_json::json;

use crate::support::{Ended, Home, mode};

const FILES: &[&str] = &[
    "farepass.yaml",
    "certs/ca.pem",
    "certs/ca-key.pem",
    "wallet.key",
];

#[test]
fn twice_is_once() {
    let home = Home::new();
    let first = home.farepass(["init"]).ok();
    let bytes = |name: &&str| fs::read(home.at(name)).unwrap();
    let before: Vec<_> = FILES.iter().map(bytes).collect();
    let second = home.farepass(["init"]).ok();
    assert_eq!(FILES.iter().map(bytes).collect::<Vec<_>>(), before);
    assert_eq!(second.out, first.out.replace("wrote", "kept "));
    assert_eq!(mode(&home.at("wallet.key")), 0o600);
    assert_eq!(mode(&home.at("certs/ca-key.pem")), 0o600);
    assert_eq!(mode(&home.at("certs")), 0o700);
    assert_eq!(mode(&home.at("farepass.yaml")) & 0o022, 0);
    assert!(!first.out.contains(home.read("wallet.key").trim()));
    home.farepass(["check"]).ok();
}

#[test]
fn every_missing_file_comes_back_alone() {
    let home = Home::new();
    let first = home.farepass(["init", "--json"]).ok().json();
    assert_eq!(
        first["files"][0],
        serde_json::json!({ "path": "farepass.yaml", "new": true })
    );
    let address = first["wallets"][0]["address"].as_str().unwrap().to_owned();
    assert!(
        address.starts_with("0x") && address.len() == 42,
        "{address}"
    );
    fs::remove_file(home.at("farepass.yaml")).unwrap();
    let again = home.farepass(["init", "--json"]).ok().json();
    assert_eq!(
        again["wallets"][0]["address"], *address,
        "the key is the old one"
    );
    fs::remove_file(home.at("wallet.key")).unwrap();
    let anew = home.farepass(["init", "--json"]).ok().json();
    assert_ne!(anew["wallets"][0]["address"], *address);
    assert_eq!(anew["files"][0]["new"], false);
}

#[test]
fn the_file_that_the_environment_names_is_the_one() {
    let home = Home::new();
    let with = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("FAREPASS_CONFIG", "named.yaml");
        Ended::of(command.output().unwrap())
    };
    with(&["init"]).ok();
    assert!(home.at("named.yaml").exists() && !home.at("farepass.yaml").exists());
    with(&["check"]).ok();
}

#[test]
fn elsewhere_too() {
    let home = Home::new();
    let told = home.farepass(["init", "--config", "a/b/my.yaml"]).ok().out;
    for next in [
        "farepass check --config a/b/my.yaml",
        "farepass run --config a/b/my.yaml -- your-agent",
    ] {
        assert!(told.contains(next), "{next}: {told}");
    }
    for name in ["a/b/my.yaml", "a/b/certs/ca.pem", "a/b/wallet.key"] {
        assert!(home.at(name).exists(), "{name}");
    }
    home.farepass(["check", "--config", "a/b/my.yaml"]).ok();
    let mut command = home.command(["ca", "show", "--json"]);
    let shown = command
        .env("FAREPASS_CONFIG", "a/b/my.yaml")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("a/b/certs/ca.pem"));
}

#[test]
fn a_passphrase_encrypts_the_key() {
    let home = Home::new();
    let pass = home.at("pass word");
    fs::write(&pass, "correct horse\n").unwrap();
    let args = ["init", "--passphrase-file", "pass word", "--json"];
    home.farepass(args).failed(2, &["pass word", "chmod 600"]);
    assert!(
        !home.at("farepass.yaml").exists(),
        "nothing is written when it cannot go on"
    );
    let only_mine = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&pass, only_mine).unwrap();
    let made = home.farepass(args).ok().json();
    let key = home.read("wallet.key");
    assert!(
        key.contains("\"crypto\"") && !key.contains("correct horse"),
        "{key}"
    );
    // The configuration knows the passphrase's file.
    let again = home.farepass(["init", "--json"]).ok().json();
    assert_eq!(again["wallets"], made["wallets"]);
}

#[test]
fn a_broken_configuration_stays_as_it_is() {
    let home = Home::new();
    fs::write(home.at("farepass.yaml"), "version: 7\n").unwrap();
    home.farepass(["init"]).failed(2, &["farepass.yaml:1:10"]);
    assert_eq!(home.read("farepass.yaml"), "version: 7\n");
    assert!(!home.at("wallet.key").exists());
}

#[test]
fn a_secret_in_the_environment_is_told() {
    let home = Home::new();
    home.farepass(["init", "--wallet", "kms"]).ok();
    let ask = |command: &str, key: &str| {
        let mut asked = home.command([command, "--json"]);
        asked.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
        asked.env("AWS_SECRET_ACCESS_KEY", key);
        let ended = Ended::of(asked.output().unwrap());
        assert!(!ended.out.contains("hush") && !ended.err.contains("hush"));
        ended
    };
    let checked = ask("check", "hush").ok().json();
    let told = &checked["warnings"][0];
    assert!(
        told["problem"]
            .as_str()
            .unwrap()
            .contains("AWS_SECRET_ACCESS_KEY"),
        "{checked}"
    );
    assert!(told["hint"].as_str().unwrap().contains("credentials_file"));
    assert_eq!(ask("check", "").ok().json()["warnings"], json!([]));
    let found = ask("doctor", "hush").json();
    let found = found.as_array().unwrap().iter();
    let found: Vec<_> = found.filter(|f| f["check"] == "secret main").collect();
    assert_eq!(found.len(), 1, "{found:?}");
    // It pays all the same.
    assert_eq!(found[0]["state"], "unknown");
    assert!(found[0]["mend"].is_string(), "{found:?}");
}

#[test]
fn a_wallet_on_solana_gets_a_key_of_that_chain() {
    let home = Home::new();
    let text = r#"
version: 1
wallets:
  - { name: sol, kind: local, key_file: id.json, networks: ["solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"] }
rpc: { "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1": "https://node.example" }
rules:
  - { name: any, match: { hosts: ["api.example.com"] }, pay: { max: "0.05 USD" } }
tests:
  - { url: "https://api.example.com/x", amount: "0.05 USD", expect: pay }
  - { url: "https://api.example.com/x", amount: "0.06 USD", expect: over_request_cap }
"#;
    fs::write(home.at("farepass.yaml"), text).unwrap();
    let made = home.farepass(["init", "--json"]).ok().json();
    let address = made["wallets"][0]["address"].as_str().unwrap();
    assert!((32..=44).contains(&address.len()), "{address}");
    assert_eq!(mode(&home.at("id.json")), 0o600);
    let again = home.farepass(["init", "--json"]).ok().json();
    assert_eq!(again["wallets"], made["wallets"]);
    home.farepass(["check"]).ok();
    let told = home.farepass(["doctor"]);
    assert!(told.out.contains(address), "{}", told.out);
    let explained = home.farepass([
        "explain",
        "https://api.example.com/x",
        "--amount",
        "0.05 USD",
    ]);
    assert!(
        explained
            .ok()
            .out
            .contains("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1")
    );
    fs::write(home.at("farepass.yaml"), text.replace("rpc:", "# rpc:")).unwrap();
    let told = home.farepass(["check"]);
    assert_eq!(told.code, Some(2), "{}", told.out);
    assert!(
        told.out.contains("`rpc` has no node for it"),
        "{}",
        told.out
    );
}

/// Every kind gets a configuration that is well formed, what it needs, and a doctor who misses it.
#[test]
fn every_kind_of_wallet_is_begun() {
    for (kind, files, words) in [
        ("local", &[][..], &["send test USDC"][..]),
        ("web3signer", &[], &["Web3signer", "send test USDC"]),
        (
            "cdp",
            &["cdp.id", "cdp.secret", "cdp.wallet"],
            &["portal", "no export"],
        ),
        (
            "privy",
            &["privy.id", "privy.secret", "privy.key"],
            &["owner is the authorization key"],
        ),
        (
            "kms",
            &[],
            &["ECC_SECG_P256K1", "kms:Sign and kms:GetPublicKey"],
        ),
        (
            "agentcore",
            &["agentcore.session"],
            &["bedrock-agentcore:ProcessPayment"],
        ),
        ("lightning", &["node.secret"], &["macaroon"]),
    ] {
        let home = Home::new();
        let made = home.farepass(["init", "--wallet", kind]).ok();
        home.farepass(["check"]).ok();
        for word in files.iter().chain(words) {
            assert!(made.out.contains(word), "{kind}: {word}: {}", made.out);
        }
        assert_eq!(home.at("wallet.key").exists(), kind == "local");
        let again = home.farepass(["init", "--json"]).ok().json();
        assert!(again["next"].as_array().unwrap().len() >= 3, "{again}");
        let doctor = home.farepass(["doctor", "--json"]).json();
        let ours = |finding: &&serde_json::Value| {
            finding["check"] == "wallet main" && finding["state"] == "wrong"
        };
        let wrong: Vec<_> = doctor.as_array().unwrap().iter().filter(ours).collect();
        for file in files {
            let named = wrong
                .iter()
                .find(|f| f["finding"].as_str().unwrap().contains(file));
            let mend =
                named.unwrap_or_else(|| panic!("{kind}: {file}: {doctor}"))["mend"].to_string();
            assert!(mend.contains("chmod 600"), "{mend}");
        }
        assert_eq!(wrong.is_empty(), kind == "local", "{kind}: {wrong:?}");
    }
    let home = Home::new();
    home.farepass(["init", "--wallet", "paper"])
        .failed(2, &["paper", "web3signer, cdp"]);
    home.farepass(["init", "--wallet", "cdp", "--passphrase-file", "x"])
        .failed(2, &["--passphrase-file", "elsewhere"]);
    assert!(!home.at("farepass.yaml").exists());
}
