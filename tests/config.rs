//! The configuration file: what it may say, what it is told when it says something else, and the
//! examples that come with it.
#![cfg(test)]

use std::path::Path;
use std::time::{Duration, Instant};

use farepass::config::Config;
use farepass::money::Usd;
use farepass::policy::Mode;
use farepass::settings::{
    Egress, Intercept, Limits, Listen, RefusalBody, Refusals, Sessions, Unproven,
};

fn read(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("dir/farepass.yaml"), text).map_err(|errors| {
        let said: Vec<_> = errors.iter().map(ToString::to_string).collect();
        said.join("\n")
    })
}

fn config(text: &str) -> Config {
    read(text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Everything that is said about a file, without its name.
fn said(text: &str) -> String {
    match read(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(errors) => errors.replace("dir/farepass.yaml:", ""),
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = config("version: 1");
    assert_eq!(config.listen, Listen::default());
    assert_eq!(config.state_dir, Path::new("dir/.farepass"));
    assert_eq!(config.tls.ca_dir, Path::new("dir/certs"));
    assert_eq!(config.tls.intercept, Intercept::All);
    assert_eq!(config.egress, Egress::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.refusals, Refusals::default());
    assert_eq!(config.sessions, Sessions::default());
    assert_eq!(config.unproven, Unproven::Count);
    assert_eq!(config.policy.mode(), Mode::Enforce);
    assert!(config.wallets.is_empty());
}

#[test]
fn what_is_written_is_read() {
    let config = config(
        r#"
version: 1
listen: { proxy: "[::1]:0", admin: "127.0.0.1:0" }
state_dir: /var/state
tls: { ca_dir: ca, intercept: payable, passthrough: ["*.pinned.example"], extra_roots: [corp.pem] }
egress:
  allow_private: [127.0.0.1/32, "fd00::/8"]
  ports: [8443]
  resolve: { "API.example.com.:443": "127.0.0.1:8443", "[::1]:80": "127.0.0.2" }
sessions: { default: { budget: "0.50 USD", expires: 15m } }
unproven: release
mode: observe
refusals: { status: 429, body: original, numbers: false }
limits: { replay_body: 2 MiB, upstream_total: 90s, validity: 2m, connections: 7, identical_payments: off }
wallets:
  - { name: a, kind: local, key_file: k, networks: ["eip155:84532", "eip155:8453"] }
  - { name: b, kind: local, key_file: k, passphrase_file: p, networks: ["eip155:8453"] }
assets:
  - { network: "eip155:31337", address: "0x5fbdb2315678afecb367f032d93f642f64180aa3", symbol: USDC, decimals: 6, currency: USD, eip712: { name: USDC, version: "2" } }
"#,
    );
    let here: farepass::settings::Entrance = "[::1]:0".parse().unwrap();
    assert_eq!(config.listen.proxy, [here]);
    assert_eq!(config.state_dir, Path::new("/var/state"));
    assert_eq!(config.tls.ca_dir, Path::new("dir/ca"));
    assert_eq!(config.tls.intercept, Intercept::Payable);
    assert_eq!(config.tls.extra_roots, [Path::new("dir/corp.pem")]);
    assert!(config.tls.passthrough[0].matches("a.pinned.example", 443));
    assert!(config.egress.allow_private[1].contains("fd00::1".parse().unwrap()));
    assert_eq!(config.egress.ports, [8443]);
    let pin = |host: &str, port| config.egress.resolve.get(&(host.to_owned(), port)).copied();
    assert_eq!(
        pin("api.example.com", 443),
        Some("127.0.0.1:8443".parse().unwrap())
    );
    assert_eq!(pin("::1", 80), Some("127.0.0.2:80".parse().unwrap()));
    assert_eq!(config.sessions.budget, Usd(500_000_000));
    assert_eq!(config.sessions.expires, Duration::from_secs(900));
    assert_eq!(config.unproven, Unproven::Release);
    assert_eq!(config.policy.mode(), Mode::Observe);
    assert_eq!(config.refusals.status, 429);
    assert_eq!(config.refusals.body, RefusalBody::Original);
    assert!(!config.refusals.numbers);
    assert_eq!(config.limits.replay_body, 2 << 20);
    assert_eq!(config.limits.upstream_total, Duration::from_secs(90));
    assert_eq!(config.limits.validity, Duration::from_secs(120));
    assert_eq!(config.limits.connections, 7);
    assert_eq!(config.limits.identical_payments, None);
    assert_eq!(config.policy.identical_payments(), None);
    let networks: Vec<_> = config.networks().iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["eip155:84532", "eip155:8453"]);
    let added = &config.policy.assets()[0];
    assert_eq!(added.address, "0x5FbDB2315678afecb367f032d93F642f64180aa3");
    assert!(added.eip3009);
}

#[test]
fn a_listed_asset_replaces_the_built_in_one() {
    let config = config(
        r#"
version: 1
assets: [{ network: "eip155:84532", address: "0x036cbd53842c5426634e7929541ec2318f3dcf7e", symbol: MINE, decimals: 6, currency: USD }]
"#,
    );
    let here = config
        .policy
        .assets()
        .iter()
        .filter(|a| a.network.as_str() == "eip155:84532");
    let symbols: Vec<_> = here.map(|a| &*a.symbol).collect();
    assert_eq!(symbols, ["MINE"]);
}

#[test]
fn every_client_can_be_made_to_show_credentials() {
    let config =
        config("version: 1\nlisten: { proxy: 0.0.0.0:4020 }\nsessions: { default: none }\n");
    assert!(!config.sessions.without_credentials);
    assert!(said("version: 1\nlisten: { proxy: 0.0.0.0:4020 }\n").contains("not a loopback"));
}

#[test]
fn redirected_clients_are_known_by_where_they_come_from() {
    let listen = |listen: &str| config(&format!("version: 1\nlisten: {{ {listen} }}\n")).listen;
    let one = listen("transparent: 127.0.0.1:4021");
    assert_eq!(one.transparent, ["127.0.0.1:4021".parse().unwrap()]);
    let open =
        listen("transparent: [0.0.0.0:1, \"[::]:1\"], allow_from: [10.0.0.0/8, \"fd00::/8\"]");
    assert_eq!(open.transparent.len(), 2);
    assert!(open.allow_from[1].contains("fd00::1".parse().unwrap()));
}

#[test]
fn the_examples_are_well_formed_and_pass_their_own_tests() {
    for (file, rules) in [
        ("config/local.yaml", 6),
        ("config/sidecar.yaml", 4),
        ("deploy/k8s/base/farepass.yaml", 4),
        ("deploy/k8s/transparent/farepass.yaml", 4),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let config = Config::load(Some(&path)).unwrap_or_else(|e| panic!("{e}"));
        let (ran, failed) = config.run_tests();
        assert!(failed.is_empty(), "{file}: {failed:?}");
        assert_eq!(ran, rules, "{file}");
    }
}

#[test]
fn the_local_example_shows_every_key_with_its_default() {
    let text = include_str!("../config/local.yaml");
    let config = config(text);
    assert_eq!(config.listen, Listen::default());
    assert_eq!(config.state_dir, Path::new("dir/.farepass"));
    assert_eq!(config.tls.ca_dir, Path::new("dir/certs"));
    assert_eq!(config.egress, Egress::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.refusals, Refusals::default());
    assert_eq!(config.sessions, Sessions::default());
    assert_eq!(config.unproven, Unproven::default());
    assert_eq!(config.policy.mode(), Mode::default());
    // The names of the fields are the keys.
    let shown = format!("{:#?}{:#?}", Limits::default(), Refusals::default());
    let fields = shown
        .lines()
        .filter_map(|l| l.strip_prefix("    ")?.split_once(": "));
    for (field, _) in fields.filter(|(field, _)| !field.starts_with(' ')) {
        assert!(
            text.contains(&format!("\n  {field}: ")),
            "{field} is not in local.yaml"
        );
    }
    for kind in farepass::policy::terms::TERMS {
        let written = text.contains(&format!("\n      {}: ", kind.key));
        let always = matches!(kind.build, farepass::policy::terms::Build::Always(_));
        assert_eq!(written, !always, "{}", kind.key);
    }
}

/// A limit that nothing reads would promise what nobody keeps.
#[test]
fn every_limit_is_kept_by_somebody() {
    let mut sources = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("src/settings") => {}
                true => folders.push(path),
                false => sources += &std::fs::read_to_string(path).unwrap(),
            }
        }
    }
    let shown = format!("{:#?}", Limits::default());
    let fields = shown
        .lines()
        .filter_map(|l| l.strip_prefix("    ")?.split_once(": "));
    let fields: Vec<_> = fields
        .filter(|(field, _)| !field.starts_with(' '))
        .collect();
    assert!(fields.len() > 15, "{fields:?}");
    for (field, _) in fields {
        // Its own name, or a method that gives it in another form (`header_bytes_u32`).
        let used = [format!("limits.{field}"), format!("self.{field}")];
        let found = used.iter().any(|name| sources.contains(name));
        assert!(found, "nobody reads limits.{field}");
    }
}

/// A file that is well formed up to its rules, with this in place of what is behind `pay:`.
fn pay(terms: &str) -> String {
    format!("version: 1\nrules:\n  - name: r\n    match: {{ hosts: [a.test] }}\n    pay: {terms}\n")
}

#[test]
fn files_that_are_wrong_are_told_so() {
    let wallet =
        |rest: &str| format!("version: 1\nwallets:\n  - {{ name: main, kind: local, {rest} }}\n");
    let top = |rest: &str| format!("version: 1\n{rest}\n");
    let rule = |rest: &str| format!("version: 1\nrules:\n  - {rest}\n");
    let budget = |rest: &str| format!("version: 1\nbudgets:\n  - {{ name: b, {rest} }}\n");
    let limit = |rest: &str| format!("version: 1\nlimits:\n  {rest}\n");
    let files = [
        String::new(),
        "version: 2".into(),
        "version: \"1\"".into(),
        "verion: 1".into(),
        "- version: 1".into(),
        "version: 1\nversion: 1\n".into(),
        "version: 1\n---\nversion: 1\n".into(),
        "version: 1\nlisten:\n\tproxy: x\n".into(),
        "version: 1\nlisten: { proxy: 127.0.0.1:4020\n".into(),
        "version: 1\nrules: *nobody\n".into(),
        top("ruels: []"),
        top("colour: red"),
        top("listen: { proxy: localhost:4020 }"),
        top("listen: { proxy: 4020 }"),
        top("listen: { proxy: \"127.0.0.1:4022\", admin: \"127.0.0.1:4022\" }"),
        top("listen: { proxy: [127.0.0.1:4020, \"[::1]:4020\", 127.0.0.1:4020] }"),
        top("listen: { proxy: [unix:a.sock, unix:a.sock] }"),
        top("listen: { proxy: 127.0.0.1:4020, transparent: [\"[::1]:4021\", 127.0.0.1:4020] }"),
        top("listen: { transparent: \"0.0.0.0:4020\", admin: 127.0.0.1:4023, allow_from: [10.0.0.0/8] }"),
        top("listen: { proxy: 127.0.0.1:4022, transparent: 127.0.0.1:4021 }"),
        top("listen: { proxy: 127.0.0.1:4030, admin: \"[::]:4030\" }"),
        top("listen: { proxy: \"0.0.0.0:4020\" }"),
        top("listen: { proxy: [] }"),
        top("listen: { proxy: [127.0.0.1:4020, localhost:4020] }"),
        top("listen: { proxy: \"unix:\" }"),
        top(&format!("listen: {{ proxy: \"unix:/{}\" }}", "x".repeat(100))),
        top("listen: { allow_users: [1001] }"),
        top("listen: { proxy: unix:p.sock, allow_users: [root] }"),
        top("listen: { proxy: unix:p.sock, tls: { cert_file: c, key_file: k } }"),
        top("listen: { tls: { cert_file: c } }"),
        top("listen: { tls: { cert_file: c, key_file: k, ca: x } }"),
        top("listen: { proxy: \"0.0.0.0:4020\", tls: { cert_file: c, key_file: k } }"),
        top("listen: { transparent: \"127.0.0.1:4022\" }"),
        top("listen: { transparent: [127.0.0.1:1, \"::1\"] }"),
        top("listen: { transparent: \"0.0.0.0:4021\" }"),
        top("listen: { allow_from: [10.0.0.1/8] }"),
        top("listen: { transparent: 127.0.0.1:1 }\nsessions: { default: none }"),
        top("listen: 127.0.0.1:4020"),
        top("state_dir: [a]"),
        top("tls: { intercept: some }"),
        top("tls: { passthrough: [\"*\"] }"),
        top("tls: { passthrough: [\"https://pinned.example\"] }"),
        top("tls: { extra_roots: corp-ca.pem }"),
        top("egress: { allow_private: [10.0.0.1/8] }"),
        top("egress: { ports: [0] }"),
        top("egress: { resolve: { api.example.com: \"127.0.0.1:8443\" } }"),
        top("egress: { resolve: { \"api.example.com:443\": localhost } }"),
        wallet("key_file: \"\", networks: [\"eip155:84532\"]"),
        wallet("key_file: \"a\\0b\", networks: [\"eip155:84532\"]"),
        wallet("key_file: k, passphrase_file: \"\", networks: [\"eip155:84532\"]"),
        wallet("key_file: k, networks: [\"eip155:84532\"], low_balance: 5"),
        wallet("key_file: k, networks: [\"eip155:84532\"], low_balance: { USDC: 5 }"),
        wallet("key_file: k, networks: [\"eip155:84532\"], low_balance: { usdc: \"5\" }"),
        wallet("key_file: k, networks: [\"eip155:84532\"], low_balance: { USDC: \"5 USD\" }"),
        wallet("key_file: k, networks: [\"eip155:84532\"], low_balance: { USDC: \"0\" }"),
        top("rpc: { \"eip155:84532\": node.example }"),
        top("rpc: { \"eip155:84532\": \"ftp://user:pass@node.example/key\" }"),
        top("rpc: { \"eip155:84532\": [\"https://user:pass@node.example/key\"] }"),
        top("rpc: { \"eip155:84532\": { file: node.url } }"),
        top("rpc: { base-sepolia: \"https://node.example\" }"),
        top("rpc: { \"stellar:pubnet\": \"https://node.example\" }"),
        wallet("key_file: k, networks: [\"solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp\"]"),
        wallet("key_file: k, networks: [\"eip155:84532\", \"solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1\"]"),
        top("assets: [{ network: \"solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1\", address: \"0x5fbdb2315678afecb367f032d93f642f64180aa3\", symbol: X, decimals: 6, currency: USD }]"),
        top("assets: [{ network: \"solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1\", address: \"4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU\", symbol: X, decimals: 6, currency: USD, token_program: token2022 }]"),
        top("assets: [{ network: \"eip155:84532\", address: \"0x5fbdb2315678afecb367f032d93f642f64180aa3\", symbol: X, decimals: 6, currency: USD, token_program: token }]"),
        wallet("networks: [\"eip155:84532\"]"),
        wallet("key_fiel: k, networks: [\"eip155:84532\"]"),
        wallet("key_file: k, networks: [base-sepolia]"),
        wallet("key_file: k, networks: [\"eip155:084532\"]"),
        wallet("key_file: k, networks: []"),
        wallet("key_file: k"),
        top("wallets: [{ name: \"my wallet\", kind: local, key_file: k, networks: [\"eip155:1\"] }]"),
        top("wallets: [{ name: w, kind: locla, networks: [\"eip155:1\"] }]"),
        top("wallets: [{ name: w, kind: local, key_file: k, networks: [\"eip155:1\"] }, { name: w, kind: local, key_file: k, networks: [\"eip155:1\"] }]"),
        top("assets: [{ network: \"eip155:1\", address: 0x0000000000000000000000000000000000000001, symbol: X, decimals: 6, currency: USD }]"),
        top("assets: [{ network: \"eip155:1\", address: \"0x5fBDB2315678afecb367f032d93F642f64180aa3\", symbol: X, decimals: 6, currency: USD }]"),
        top("assets: [{ network: \"eip155:1\", address: \"0x5fbdb2315678afecb367f032d93f642f64180aa3\", symbol: X, decimals: 6, currency: EUR }]"),
        top("sessions: { default: { budget: 1 USD, expires: 60 } }"),
        top("sessions: { default: { budget: \"1,00 USD\" } }"),
        top("sessions: { default: { budgt: \"1 USD\" } }"),
        top("sessions: { default: { expires: 0s } }"),
        top("sessions: { default: null }"),
        top("sessions:\n  default:\n    # budget: \"1 USD\""),
        budget("scope: agent, window: 1h"),
        budget("scope: everybody, limit: \"1 USD\", window: 1h"),
        budget("scope: agent, limit: \"1 USD\", window: week"),
        budget("scope: agent, limit: \"1 USD\", window: 30s"),
        budget("scope: agent, limit: \"1 USD\", window: day, warn_at: 80"),
        budget("scope: agent, limit: \"1 USD\", window: day, warn_at: 101%"),
        budget("scope: agent, limit: 1.5, window: day"),
        top("mode: obsreve"),
        top("egress: { upstream_proxy: \"https://proxy.test:3128\" }"),
        top("egress: { upstream_proxy: { url: \"http://user:secret@proxy.test:3128\" } }"),
        top("egress: { upstream_proxy: \"http://proxy.test\" }"),
        top("tls: { insecure_hosts: [\"*.test\"] }"),
        top("wallets: [{ name: n, kind: lightning, networks: [lightning], backend: eclair, url: \"https://n.test\", secret_file: f, usd_per_btc: \"60000 USD\" }]"),
        top("wallets: [{ name: n, kind: lightning, networks: [lightning], backend: lnd, url: \"http://n.test\", secret_file: f, usd_per_btc: \"60000 USD\" }]"),
        top("wallets: [{ name: n, kind: lightning, networks: [lightning], backend: lnd, url: \"https://n.test\", secret_file: f, usd_per_btc: 60000 }]"),
        top("wallets: [{ name: n, kind: lightning, networks: [lightning], backend: lnd, url: \"https://n.test\", secret_file: f, usd_per_btc: \"0 USD\" }]"),
        top("wallets: [{ name: n, kind: lightning, networks: [lightning], backend: lnd, url: \"https://n.test\", secret_file: f }]"),
        top("wallets: [{ name: n, kind: lightning, networks: [\"eip155:84532\"], backend: lnd, url: \"https://n.test\", secret_file: f, usd_per_btc: \"60000 USD\" }]"),
        top("wallets: [{ name: n, kind: lightning, networks: [\"lightning:mainnet\"], backend: lnd, url: \"https://n.test\", secret_file: f, usd_per_btc: \"60000 USD\" }]"),
        top("wallets: [{ name: n, kind: lightning, networks: [lightning], backend: lnd, url: \"https://n.test\", secret_file: f, usd_per_btc: \"60000 USD\", max_fee_percent: 101% }]"),
        top("wallets: [{ name: n, kind: lightning, networks: [lightning], backend: lnd, url: \"https://n.test\", secret_file: f, usd_per_btc: \"60000 USD\", max_fee: 1 }]"),
        top("wallets: [{ name: n, kind: lightning, networks: [lightning], backend: lnd, url: \"https://n.test\", secret_file: f, usd_per_btc: \"60000 USD\" }, { name: m, kind: lightning, networks: [lightning], backend: lnd, url: \"https://n.test\", secret_file: f, usd_per_btc: \"50000 USD\" }]"),
        top("wallets: [{ name: w, kind: local, key_file: k, networks: [lightning] }]"),
        top("assets: [{ network: \"eip155:84532\", address: \"0x036cbd53842c5426634e7929541ec2318f3dcf7e\", symbol: USDC, decimals: 18, currency: USD }]"),
        top("assets: [{ network: lightning, address: BTC, symbol: BTC, decimals: 11, currency: USD }]"),
        top("tls: { client_certificates: [{ hosts: [], cert_file: c, key_file: k }] }"),
        top("tls: { client_certificates: [{ hosts: [\"*\"], cert_file: c, key_file: k }] }"),
        top("unproven: maybe"),
        top("refusals: { status: 404 }"),
        top("refusals: { body: theirs }"),
        limit("replay_body: 1 MB"),
        limit("replay_body: 2 GiB"),
        limit("upstream_total: 60"),
        limit("identical_payments: often"),
        limit("identical_payments: 300"),
        limit("requirements: 0"),
        limit("validity: 1d"),
        limit("replay_boby: 1 MiB"),
        rule("{ match: { hosts: [a.test] }, deny: true }"),
        rule("{ name: r, deny: true }"),
        rule("{ name: r, match: {}, deny: true }"),
        rule("{ name: r, match: { hosts: [] }, deny: true }"),
        rule("{ name: r, match: { host: [a.test] }, deny: true }"),
        rule("{ name: r, match: { hosts: a.test }, deny: true }"),
        rule("{ name: r, match: { hosts: [\"b\u{fc}cher.test\"] }, deny: true }"),
        rule("{ name: r, match: { hosts: [\"a*.test\"] }, deny: true }"),
        rule("{ name: r, match: { hosts: [a.test], methods: [get] }, deny: true }"),
        rule("{ name: r, match: { hosts: [a.test], methods: [\"*\"] }, deny: true }"),
        rule("{ name: r, match: { hosts: [a.test], methods: [GET, \"M-*\"] }, deny: true }"),
        rule("{ name: r, match: { hosts: [a.test], methods: [\"GET|POST\"] }, deny: true }"),
        rule("{ name: r, match: { hosts: [a.test], paths: [v1] }, deny: true }"),
        rule("{ name: r, match: { hosts: [a.test], paths: [\"/v1/**x\"] }, deny: true }"),
        rule("{ name: r, match: { hosts: [a.test] } }"),
        rule("{ name: r, match: { hosts: [a.test] }, deny: false }"),
        rule("{ name: r, match: { hosts: [a.test] }, deny: true, pay: {} }"),
        pay("# nothing yet"),
        pay("{ max: 0.05 }"),
        pay("{ max: \"0.05\" }"),
        pay("{ max: 5 }"),
        pay("{ max: \"0.05 EUR\" }"),
        pay("{ mx: \"0.05 USD\" }"),
        pay("{ schemes: [exakt] }"),
        pay("{ transfer_methods: [erc7710] }"),
        pay("{ schemes: [tempo/charge], max_fee: 0.02 }"),
        pay("{ networks: [\"eip155:84532\", base] }"),
        pay("{ assets: [USCD] }"),
        pay("{ pay_to: anybody }"),
        pay("{ pay_to: [\"0x5dD72898065Da3fEE015999Df31Cf3A9124FF470\"] }"),
        pay("{ pay_to: [] }"),
        pay("{ budgets: [hourly] }"),
        pay("{ on_unknown: resend }"),
        pay("{ insecure_http: \"yes\" }"),
        pay("{ rate: 30 }"),
        pay("{ rate: { agent: 30/m } }"),
        pay("{ rate: {} }"),
        pay("{ rate: [] }"),
        pay("{ rate: }"),
        pay("{ max_price_increase: 0.2 }"),
        pay("{ approval: {} }"),
        pay("{ approval: { wait: 2m } }"),
        pay("{ approval: { above: \"1 USD\", wait: 1h } }"),
        pay("{ approval: { above: 1 } }"),
        pay("{ approval: { above: \"1 USD\", wait: 5s, valid: 2s } }"),
        pay("{ pay_to: { first-seen: warn } }"),
        pay("{ pay_to: first-seen, approval: { new_payee: true } }"),
        top("categories: { weather: [] }"),
        top("categories: { weather: [\"a*.test\"] }"),
        rule("{ name: r, match: { categories: [weather] }, deny: true }"),
        rule("{ name: r, match: { categories: [] }, deny: true }"),
        top("tests: [{ url: api.example.com, expect: pay }]"),
        top("tests: [{ url: \"https://a.test:99999/\", expect: pay }]"),
        top("webhook: { url: \"https://ops.test:99999/\", secret_file: s }"),
        top("rpc: { \"eip155:84532\": \"https://[2001:db8::1]:65536/\" }"),
        top("tests: [{ url: \"https://a.test/\", expect: paid }]"),
        top("tests: [{ url: \"https://a.test/\", expect: perhaps }]"),
        top("tests: [{ url: \"https://a.test/\", expect: pay, reason: frozen }]"),
        "sessions: { default: { budget: \"1 USD\", expires: 60m } }".into(),
        "\u{feff}version: 1\nmode: x\n".into(),
        rule("{ name: r, match: { hosts: [*.a.test] }, deny: true }"),
        rule("{ name: r, match: { hosts: [a.test], agents: [\"a b\"] }, deny: true }"),
        rule("{ name: r, match: { hosts: [a.test], agents: [\"\"] }, deny: true }"),
        pay("{ pay_to: }"),
        pay("{ schemes: [] }"),
        pay("{ networks: [] }"),
        pay("{ assets: [] }"),
        pay("{ transfer_methods: [] }"),
        "version: 1\nbudgets:\n  - { name: b, scope: agent, limit: 1.5 }\nrules:\n  - { name: r, match: { hosts: [a.test] }, pay: { budgets: [b] } }\n".replace("1.5", "\"1.5\""),
        "version: 1\nbudgets:\n  - { name: b, scope: agent, limit: \"1 USD\" }\nrules:\n  - { name: r, match: { hosts: [a.test] }, pay: { budgets: [b, c] } }\n".into(),
        // Everything that is wrong, in the order of the file.
        "mode: x\nrules: [{ name: a }, { name: b, match: { hosts: [a.test] }, deny: 1 }]\nlimits: { drain: 1 }\nxyz: 1\n".into(),
    ];
    let pages = files
        .iter()
        .map(|file| format!("{}\n{}\n", file.trim_end(), said(file)));
    let pages: Vec<_> = pages.collect();
    insta::assert_snapshot!(pages.join("----\n"));
}

/// Whatever a rule says, nothing is paid where nobody goes, where nothing is opened, or where nobody is trusted.
#[test]
fn hosts_at_which_nothing_can_be_paid_are_warned_of() {
    let warnings = |host: &str, rule: &str| {
        let text = format!(
            "version: 1
egress: {{ ports: [443, 8444], resolve: {{ \"pinned.test:9443\": \"127.0.0.1:1\", \"a.pinned.test:9444\": \"127.0.0.1:1\" }} }}
tls: {{ passthrough: [\"*.blind.test\"], insecure_hosts: [\"dev.test:8444\"] }}
rules: [{{ name: one, match: {{ hosts: [\"{host}\"] }}, {rule} }}]
"
        );
        let config = Config::parse(Path::new("f.yaml"), &text).unwrap_or_else(|e| panic!("{e:?}"));
        let said = config.warnings.iter().map(ToString::to_string);
        said.collect::<Vec<_>>().join("\n")
    };
    let pay = "pay: { max: \"1 USD\" }";
    for (host, word) in [
        ("far.test:8443", "egress.ports"),
        ("*.far.test:8443", "egress.ports"),
        ("a.blind.test", "tls.passthrough"),
        ("dev.test:8444", "tls.insecure_hosts"),
    ] {
        let said = warnings(host, pay);
        assert!(
            said.starts_with("f.yaml:4:") && said.contains(word),
            "{host}: {said}"
        );
        assert_eq!(warnings(host, "deny: true"), "");
    }
    let plain = "pay: { max: \"1 USD\", insecure_http: true }";
    assert_eq!(warnings("a.blind.test", plain), "");
    for host in [
        "*.pinned.test:9444",
        "far.test",
        "far.test:8444",
        "pinned.test:9443",
        "*.test",
        "dev.test",
        "blind.test",
    ] {
        assert_eq!(warnings(host, pay), "", "{host}");
    }
}

#[test]
fn rules_that_never_decide_are_warned_of() {
    let warnings = |first: &str, second: &str| {
        let text = format!(
            "version: 1
rules:
  - {{ name: wide, match: {{ {first} }}, pay: {{ max: \"1 USD\" }} }}
  - {{ name: narrow, match: {{ {second} }}, deny: true }}
"
        );
        let said = config(&text).warnings;
        said.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let never = "dir/farepass.yaml:4:21: rules[1]: never decides: `wide` comes first and has all of its hosts\n  hint: put it before that rule";
    for (first, second) in [
        ("hosts: [\"*\"]", "hosts: [a.test]"),
        (
            "hosts: [\"*.a.test\", b.test]",
            "hosts: [b.test, x.a.test], methods: [POST]",
        ),
    ] {
        assert_eq!(warnings(first, second), [never], "{first}, {second}");
    }
    for (first, second) in [
        ("hosts: [a.test]", "hosts: [\"*\"]"),
        ("hosts: [a.test]", "hosts: [a.test, b.test]"),
        ("hosts: [\"*\"], methods: [GET]", "hosts: [a.test]"),
        ("hosts: [\"*\"], paths: [\"/x\"]", "hosts: [a.test]"),
        ("hosts: [\"*\"], agents: [bot]", "hosts: [a.test]"),
    ] {
        assert!(warnings(first, second).is_empty(), "{first}, {second}");
    }
}

/// Hosts come by a category too, and one without a port has two.
#[test]
fn hosts_of_categories_and_without_a_port_are_warned_of_as_well() {
    let warnings = |ports: &str, rules: &str| {
        let text = format!(
            "version: 1
egress: {{ ports: [{ports}], resolve: {{ \"pinned.test:443\": \"127.0.0.1:1\" }} }}
tls: {{ passthrough: [\"*.blind.test:8443\"] }}
categories: {{ idle: [\"a.test:1\"], far: [\"b.test:9443\", \"c.blind.test:8443\", \"d.test:8443\"] }}
rules: [{rules}]
"
        );
        let said = config(&text).warnings;
        said.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let far = |name: &str, rest: &str| {
        format!("{{ name: {name}, match: {{ categories: [far] }}, {rest} }}")
    };
    let pay = "pay: { max: \"1 USD\" }";
    let told = [
        "dir/farepass.yaml:4:41: categories.far[0]: port 9443 is not reached, so nothing is paid there\n  hint: add 9443 to `egress.ports`",
        "dir/farepass.yaml:4:56: categories.far[1]: its tunnels are not opened (tls.passthrough), so nothing is paid there",
    ];
    assert_eq!(warnings("8443", &far("one", pay)), told);
    // Once for however many rules name it, and not where one of them pays by plain HTTP.
    let twice = [far("one", pay), far("two", pay)].join(", ");
    assert_eq!(warnings("8443", &twice), told);
    let plain = far("two", "pay: { max: \"1 USD\", insecure_http: true }");
    let twice = [far("one", pay), plain].join(", ");
    assert_eq!(warnings("8443", &twice), told[..1]);
    assert!(warnings("8443", &far("one", "deny: true")).is_empty());

    let host = |host: &str| format!("{{ name: r, match: {{ hosts: [\"{host}\"] }}, {pay} }}");
    for far in ["e.test", "*.test", "*.e.test"] {
        let said = warnings("8443", &host(far)).join("\n");
        if far == "*.test" {
            // The pinned one is below it.
            assert_eq!(said, "");
            continue;
        }
        assert!(
            said.contains("for 443 and 80, which are not reached"),
            "{far}: {said}"
        );
        assert!(said.starts_with("dir/farepass.yaml:5:"), "{far}: {said}");
        assert!(warnings("443, 8443", &host(far)).is_empty(), "{far}");
        assert!(warnings("80", &host(far)).is_empty(), "{far}");
    }
    assert!(warnings("8443", &host("pinned.test")).is_empty());
}

/// A running proxy reads such files as well. Each place in the text costs a walk through all of it, so it is
/// looked up for what is told alone.
#[test]
fn thousands_of_mistakes_or_warnings_cost_no_more_than_the_first() {
    const RULES: usize = 6_000;
    let file = |host: &str, max: &str| {
        let rule = |n| {
            format!(
                "  - {{ name: r{n}, match: {{ hosts: [\"{host}\"] }}, pay: {{ max: {max} }} }}\n"
            )
        };
        let rules: String = (0..RULES).map(rule).collect();
        format!("version: 1\nrules:\n{rules}")
    };
    let (wrong, warned) = (file("a.test", "1"), file("a.test:9443", "\"1 USD\""));
    let started = Instant::now();
    let errors = said(&wrong);
    let places = errors.lines().filter(|line| line.contains("pay.max"));
    let places: Vec<_> = places.map(|line| line.split(" rules").next()).collect();
    assert_eq!(places.len(), 20);
    assert_eq!(places[0], Some("3:59:"));
    assert_eq!(places[19], Some("22:60:"));
    let config = config(&warned);
    // All but the first never decide, either.
    assert_eq!(config.warnings.len(), 2 * RULES - 1);
    let last = config.warnings.last().unwrap().to_string();
    assert!(last.starts_with("dir/farepass.yaml:6002:"), "{last}");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_network_that_no_wallet_pays_on_is_warned_of() {
    let text = |networks: &str| {
        format!(
            "version: 1\nwallets:\n  - {{ name: w, kind: local, key_file: k, networks: [\"eip155:84532\"] }}\nrules:\n  - name: r\n    match: {{ hosts: [a.test] }}\n    pay: {{ networks: [{networks}] }}\n"
        )
    };
    let warnings = |networks: &str| {
        let config = Config::parse(Path::new("f.yaml"), &text(networks));
        let config = config.unwrap_or_else(|e| panic!("{e:?}"));
        let said = config.warnings.iter().map(ToString::to_string);
        said.collect::<Vec<_>>()
    };
    assert_eq!(warnings("\"eip155:84532\""), Vec::<String>::new());
    let told = warnings("\"eip155:84532\", \"eip155:8453\"");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("rules[0].pay.networks[1]: no wallet pays on `eip155:8453`"));
}

#[test]
fn a_file_that_is_too_long_is_told_no_wrong_length() {
    let long = format!("version: 1\n# {}\n", "x".repeat(3 * 1024 * 1024));
    let folder = folder(&long);
    let (out, _, code) = farepass(folder.path(), &["check"]);
    assert_eq!(code, Some(2));
    assert!(
        out.contains("the file has more than 1048576 bytes"),
        "{out}"
    );
}

#[test]
fn each_listener_may_have_an_address_of_its_own() {
    for listen in [
        "{ proxy: [127.0.0.1:0, 127.0.0.1:0], admin: 127.0.0.1:0 }",
        "{ proxy: [127.0.0.1:4020, \"[::1]:4020\", unix:a.sock, unix:b.sock], transparent: [127.0.0.1:4021, \"[::1]:4021\"] }",
        "{ transparent: [\"[::]:4021\", 0.0.0.0:4021], allow_from: [10.0.0.0/8] }",
    ] {
        config(&format!("version: 1\nlisten: {listen}\n"));
    }
}

#[test]
fn the_hash_is_also_about_limits_and_prices_that_are_not_the_default() {
    let hash = |rest: &str| {
        let config = config(&format!("version: 1\n{rest}\n"));
        config.policy.hash().to_owned()
    };
    let node = |terms: &str| {
        let node = "kind: lightning, networks: [lightning], backend: lnd, url: \"https://n.test\"";
        hash(&format!(
            "wallets: [{{ name: n, {node}, secret_file: f, {terms} }}]"
        ))
    };
    let usual = "identical_payments: 300/m, requirements: 32, validity: 5m, drain: 20s";
    assert_eq!(hash(&format!("limits: {{ {usual} }}")), hash(""));
    let mut all = vec![
        hash(""),
        hash("limits: { identical_payments: off }"),
        hash("limits: { identical_payments: 301/m }"),
        hash("limits: { requirements: 33 }"),
        hash("limits: { validity: 10m }"),
        node("usd_per_btc: \"60000 USD\""),
        node("usd_per_btc: \"50000 USD\""),
        node("usd_per_btc: \"60000 USD\", max_fee_percent: 2%"),
        node("usd_per_btc: \"60000 USD\", max_fee_sat: 100"),
    ];
    let many = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), many, "{all:?}");
}

#[test]
fn bytes_that_are_no_text_have_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.yaml");
    std::fs::write(&file, b"version: 1\nmode: \xff\n").unwrap();
    let error = Config::load(Some(&file)).err().unwrap().to_string();
    assert!(
        error.ends_with("f.yaml:2:7: this is not UTF-8 text"),
        "{error}"
    );
    let error = Config::load(Some(folder.path())).err().unwrap().to_string();
    assert!(error.contains("cannot be read"), "{error}");
    let endless = Config::load(Some(Path::new("/dev/zero")))
        .err()
        .unwrap()
        .to_string();
    assert!(
        endless.ends_with("has more than 1048576 bytes"),
        "{endless}"
    );
    let missing = folder.path().join("none.yaml");
    let error = Config::load(Some(&missing)).err().unwrap().to_string();
    assert!(error.contains("none.yaml: cannot be read"), "{error}");
}

/// What the program says: stdout, stderr, exit code.
fn farepass(folder: &Path, arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_farepass"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("XDG_CONFIG_HOME", folder.join("none"))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code(),
    )
}

/// A folder with this as its `farepass.yaml`.
fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("farepass.yaml"), text).unwrap();
    folder
}

#[test]
fn check_warns_of_maxima_that_no_node_can_prove() {
    let rule = |networks: &str, rpc: &str| {
        folder(&format!(
            "version: 1
wallets: [{{ name: a, kind: local, key_file: k, networks: [\"eip155:84532\", \"eip155:8453\"] }}]
rpc: {{ {rpc} }}
rules:
  - name: r
    match: {{ hosts: [a.test] }}
    pay:
      max: \"0.05 USD\"
      schemes: [exact, upto]
      transfer_methods: [eip3009, permit2]
{networks}"
        ))
    };
    let both = "\"eip155:84532\": \"https://n.example\", \"eip155:8453\": \"https://n.example\"";
    let one = "\"eip155:84532\": \"https://n.example\"";
    let test_only = "      networks: [\"eip155:84532\"]";
    for (networks, rpc, blind) in [
        ("", "", Some("eip155:84532")),
        ("", one, Some("eip155:8453")),
        ("", both, None),
        (test_only, "", Some("eip155:84532")),
        (test_only, one, None),
    ] {
        let (out, err, code) = farepass(rule(networks, rpc).path(), &["check"]);
        assert_eq!((&*err, code), ("", Some(0)), "a warning is no error");
        assert!(out.ends_with("farepass.yaml: well formed\n"), "{out}");
        let warned = out.contains("warning: farepass.yaml:9:24: rules[0].pay.schemes[1]: on `");
        assert_eq!(warned, blind.is_some(), "{out}");
        assert!(
            blind.is_none_or(|network| out.contains(&format!("`{network}`"))),
            "{out}"
        );
        let (json, _, code) = farepass(rule(networks, rpc).path(), &["check", "--json"]);
        let page: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&page["ok"], code), (&true.into(), Some(0)));
        let warnings = page["warnings"].as_array().unwrap().len();
        assert_eq!(warnings, usize::from(blind.is_some()), "{json}");
    }
}

/// `upto` goes by Permit2 only, which is not among the transfer methods unless it is written.
#[test]
fn check_warns_of_maxima_that_are_never_signed() {
    for (pay, place) in [
        (
            "{ schemes: [exact, upto] }",
            Some("rules[0].pay.schemes[1]"),
        ),
        (
            "{ schemes: [upto, exact], transfer_methods: [eip3009] }",
            Some("rules[0].pay.schemes[0]"),
        ),
        (
            "{ schemes: [exact, upto], transfer_methods: [permit2] }",
            None,
        ),
        ("{ schemes: [exact] }", None),
    ] {
        let folder = folder(&format!(
            "version: 1
wallets: [{{ name: a, kind: local, key_file: k, networks: [\"eip155:84532\"] }}]
rpc: {{ \"eip155:84532\": \"https://n.example\" }}
rules: [{{ name: r, match: {{ hosts: [a.test] }}, pay: {pay} }}]
"
        ));
        let (out, err, code) = farepass(folder.path(), &["check"]);
        assert_eq!((&*err, code), ("", Some(0)), "a warning is no error: {out}");
        let warned = out.matches("warning: ").count();
        assert_eq!(warned, usize::from(place.is_some()), "{pay}: {out}");
        let said = "the rule never pays `upto`, which moves assets by Permit2";
        let told = place.is_none_or(|place| out.contains(&format!("{place}: {said}")));
        assert!(told, "{pay}: {out}");
        let args = ["explain", "https://a.test/", "--scheme", "upto"];
        let (out, _, code) = farepass(folder.path(), &args);
        let refused = out.contains("transfer_method_unsupported");
        assert_eq!(refused, place.is_some(), "{pay}: {out}");
        assert!(!refused || code == Some(3), "{pay}: {out}");
    }
}

#[test]
fn check_says_what_is_wrong() {
    let good = folder(include_str!("../config/local.yaml"));
    let (out, err, code) = farepass(good.path(), &["check"]);
    assert_eq!(out, "farepass.yaml: well formed, its 6 tests pass\n");
    assert_eq!((&*err, code), ("", Some(0)));

    let bad = include_str!("../config/local.yaml").replace("max:", "mx:");
    let bad = folder(&bad.replace("drain: 25s", "drain: 25"));
    let (out, err, code) = farepass(bad.path(), &["check"]);
    assert_eq!((&*err, code), ("", Some(2)));
    insta::assert_snapshot!("check_errors", out);
    let (out, _, code) = farepass(bad.path(), &["check", "--json"]);
    let page: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(2));
    assert_eq!(page["ok"], false);
    assert_eq!(page["errors"][0]["path"], "rules[1].pay");
    assert_eq!(page["errors"][0]["hint"], "did you mean `max`?");
    assert!(page["errors"][0]["line"].as_u64().unwrap() > 50);

    let failing = include_str!("../config/local.yaml").replace("expect: deny", "expect: pay");
    let (out, err, code) = farepass(folder(&failing).path(), &["check"]);
    assert_eq!((&*err, code), ("", Some(2)));
    insta::assert_snapshot!("check_failed_test", out);

    let (out, err, code) = farepass(bad.path(), &["check", "elsewhere.yaml"]);
    assert_eq!((&*out, code), ("", Some(2)));
    assert!(
        err.starts_with("farepass: elsewhere.yaml: cannot be read"),
        "{err}"
    );
    let empty = tempfile::tempdir().unwrap();
    let (_, err, code) = farepass(empty.path(), &["check"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("looked for farepass.yaml, "), "{err}");
    assert!(err.contains("hint: `farepass init`"), "{err}");
}

#[test]
fn explain_says_who_decides() {
    let folder = folder(include_str!("../config/local.yaml"));
    let explain = |arguments: &str| {
        let mut list = vec!["explain"];
        list.extend(arguments.split_whitespace().map(|a| match a {
            "CENTS3" => "0.03 USD",
            "CENTS6" => "0.06 USD",
            other => other,
        }));
        let (out, err, code) = farepass(folder.path(), &list);
        format!("$ {}\n{out}{err}= {}\n", list.join(" "), code.unwrap())
    };
    let pages = [
        "https://api.example.com/v1/x --amount CENTS3",
        "https://api.example.com/v1/x --amount CENTS6 --agent bot",
        "https://api.example.com/v1/x --network eip155:1 --pay-to 0xabc",
        "https://api.example.com/v1/x --asset DOGE",
        "https://api.example.com/v1/x --amount CENTS3 --scheme upto",
        "https://api.example.com/v1/%2e%2e/x --method POST",
        "http://api.example.com/v1/x",
        "https://poker.casino.example/",
        "https://elsewhere.example/",
        "elsewhere.example",
    ];
    insta::assert_snapshot!(pages.map(explain).join("\n"));
    let (out, _, code) = farepass(
        folder.path(),
        &[
            "explain",
            "https://api.example.com/v1/x",
            "--amount",
            "0.06 USD",
            "--json",
        ],
    );
    let page: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(3));
    assert_eq!(page["decision"], "refuse");
    assert_eq!(page["reason"], "over_request_cap");
    assert_eq!(page["rule"], "market-data");
    assert_eq!(page["price"], "0.06 USD");
}

#[test]
fn explain_shows_which_of_several_offers_is_taken() {
    let text = include_str!("../config/local.yaml");
    let text = text.replace("schemes: [exact]", "schemes: [evm/charge, exact]");
    let folder = folder(&text);
    let explain = |offers: &[&str]| {
        let mut list = vec![
            "explain",
            "https://api.example.com/v1/x",
            "--amount",
            "0.02 USD",
        ];
        list.extend(offers.iter().flat_map(|offer| ["--scheme", offer]));
        farepass(folder.path(), &list)
    };
    let (page, ..) = explain(&["exact=0.03 USD", "upto=0.01 USD", "evm/charge"]);
    insta::assert_snapshot!(page);
    for (offers, protocol, price) in [
        (&["exact", "evm/charge"][..], "mpp", "0.02 USD"),
        (&["evm/charge", "exact"], "mpp", "0.02 USD"),
        (&["exact=0.01 USD", "evm/charge"], "x402-v2", "0.01 USD"),
        (&["exact", "evm/charge=0.01 USD"], "mpp", "0.01 USD"),
        (&["exact", "evm/charge=9 USD"], "x402-v2", "0.02 USD"),
        (&["upto=0.01 USD", "exact"], "x402-v2", "0.02 USD"),
    ] {
        let (out, _, code) = explain(&[offers, &["exact=1 USD"]].concat());
        assert!(out.contains(&format!("paid, {price}")), "{out}");
        let mut list = vec!["explain", "https://api.example.com/v1/x", "--json"];
        list.extend(["--amount", "0.02 USD"]);
        list.extend(offers.iter().flat_map(|offer| ["--scheme", offer]));
        let (json, ..) = farepass(folder.path(), &list);
        let page: serde_json::Value = serde_json::from_str(&json).unwrap();
        let found = (&page["protocol"], &page["price"], code);
        assert_eq!(
            found,
            (&protocol.into(), &price.into(), Some(0)),
            "{offers:?}"
        );
        let all = page["offers"].as_array().unwrap();
        let chosen = all.iter().filter(|o| o["chosen"] == true);
        assert_eq!((all.len(), chosen.count()), (offers.len(), 1));
    }
    let (_, err, code) = explain(&["stripe/charge"]);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("exact, upto, evm/charge, tempo/charge"),
        "{err}"
    );
}

proptest::proptest! {
    /// Whatever becomes of a good file, it is read or told off, and never panics.
    #[test]
    fn no_mutation_of_an_example_panics(
        cuts in proptest::collection::vec((0usize..9000, 0usize..30, "[-?:,\\[\\]{}#&*!|>'\"%@` \\n\\ta0~<$.]{0,4}"), 1..5)
    ) {
        let mut bytes = include_bytes!("../config/local.yaml").to_vec();
        for (at, length, with) in cuts {
            let from = at.min(bytes.len());
            let to = (from + length).min(bytes.len());
            bytes.splice(from..to, with.bytes());
        }
        let text = String::from_utf8_lossy(&bytes);
        match Config::parse(Path::new("f.yaml"), &text) {
            Ok(config) => drop(config.run_tests()),
            Err(errors) => proptest::prop_assert!(!errors.is_empty()),
        }
    }
}

#[test]
fn a_node_is_named_here_or_in_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("farepass.yaml");
    let text = "version: 1\nrpc: { \"eip155:1\": \"https://k:s@a.test/k\", \"eip155:10\": { url_file: node.url } }\n";
    let config = Config::parse(&file, text).unwrap_or_else(|e| panic!("{e:?}"));
    let [here, there] = config.rpc.as_slice() else {
        panic!("two nodes")
    };
    assert_eq!(here.network.as_str(), "eip155:1");
    assert!(here.endpoint().is_ok());
    let said = |e: &farepass::config::RpcEntry| e.endpoint().err().unwrap().to_string();
    assert!(said(there).contains("there is no file"), "{}", said(there));
    let node = dir.path().join("node.url");
    std::fs::write(&node, "sesame\n").unwrap();
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&node, mode).unwrap();
    };
    mode(0o644);
    assert!(said(there).contains("chmod 600"), "{}", said(there));
    mode(0o600);
    assert!(said(there).contains("holds no such URL"), "{}", said(there));
    assert!(!said(there).contains("sesame"), "{}", said(there));
    std::fs::write(&node, "https://a.test/sesame\n").unwrap();
    assert!(there.endpoint().is_ok());
}
