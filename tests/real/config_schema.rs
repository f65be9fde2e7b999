//! The schema of the configuration says what the program says: what one takes the other takes.

use std::collections::BTreeSet;
use std::path::Path;

use farepass::config::{Config, SCHEMA};
use serde_json::{Map, Value, json};

use super::support::python;

/// Every key that a file of the folder `config` does not have, or has in another form only.
const REST: &str = r#"
version: 1
listen:
  proxy: [127.0.0.1:4020, "unix:/run/farepass/proxy.sock"]
  tls: { cert_file: proxy.pem, key_file: proxy-key.pem, client_ca: agents.pem }
  allow_users: [1001]
  transparent: "127.0.0.1:4021"
tls:
  client_certificates: [{ hosts: [mtls.example.com], cert_file: c.pem, key_file: c-key.pem }]
egress:
  upstream_proxy: { url: "http://proxy.example:3128", credentials_file: parent.secret, no_proxy: ["*.corp.example"] }
wallets:
  - { name: a, kind: local, key_file: a.key, passphrase_file: a.pass, networks: ["eip155:84532"],
      low_balance: { USDC: "5.00" } }
  - { name: b, kind: web3signer, url: "http://127.0.0.1:9000", networks: ["eip155:84532"],
      address: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" }
  - { name: c, kind: cdp, url: "https://api.cdp.coinbase.com/platform", networks: ["eip155:84532"], api_key_id_file: i,
      api_key_secret_file: s, wallet_secret_file: w, address: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" }
  - { name: d, kind: privy, url: "https://api.privy.io", wallet_id: w0123456789abcdef, app_id_file: i, app_secret_file: s,
      authorization_key_file: k, networks: ["eip155:84532"], address: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" }
  - { name: k, kind: kms, key_id: alias/pay, region: eu-central-1, url: "https://kms.internal.example", credentials_file: a, profile: p,
      networks: ["eip155:84532"], address: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" }
  - { name: ac, kind: agentcore, region: us-west-2, payment_manager_arn: "arn:aws:bedrock-agentcore:us-west-2:123456789012:payment-manager/m",
      user_id: u, instrument_id: payment-instrument-i, session_id: payment-session-s,
      networks: ["eip155:84532"], address: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" }
  - { name: af, kind: agentcore, region: us-west-2, payment_manager_arn: "arn:aws:bedrock-agentcore:us-west-2:123456789012:payment-manager/m",
      user_id: u, instrument_id: payment-instrument-i, session_id_file: s, networks: ["eip155:84532"],
      address: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" }
  - { name: e, kind: lightning, backend: lnd, url: "https://127.0.0.1:8080", secret_file: m, networks: [lightning, "lightning:regtest"],
      usd_per_btc: "100000 USD", max_fee_percent: 1%, max_fee_sat: 10 }
rpc: { "eip155:84532": { url_file: node.url }, "eip155:8453": "https://node.example" }
assets:
  - { network: "eip155:31337", address: "0x5FbDB2315678afecb367f032d93F642f64180aa3", symbol: USDC, decimals: 6,
      currency: USD, eip712: { name: USDC, version: "2" } }
  - { network: "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", address: "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU", symbol: TEST, decimals: 6,
      currency: USD, token_program: token }
categories: { weather: [api.weather.example] }
signers:
  - { hosts: [b.example], address: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" }
  - { hosts: ["*.a.example"], jwk: { kty: OKP, crv: Ed25519, x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", kid: k, alg: EdDSA,
      use: sig, key_ops: [verify] } }
  - { hosts: [c.example], jwk: { kty: EC, crv: P-256, x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
      y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" } }
rules:
  - name: one
    match: { categories: [weather], tools: ["search", "weather-*"] }
    pay:
      max: "0.05 USD"
      mcp: true
      schemes: [upto, exact, evm/charge, tempo/charge, l402]
      max_fee: "0.02 USD"
      transfer_methods: [eip3009, permit2]
      pay_to: { first-seen: alert }
      offer: signed
      rate: { rule: 60/m, host: 30/m, session: 10/m }
      approval: { above: "1 USD", first_host: true, new_payee: true, price_increase: 50%, wait: 2m, valid: 1h }
  - name: two
    match: { hosts: [b.example] }
    pay: { max: "0.05 USD", pay_to: ["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"] }
  - { name: three, match: { hosts: ["*"] }, deny: true }
tests:
  - { url: "https://b.example/x", method: POST, amount: "0.01 USD", agent: bot, network: "eip155:84532", asset: USDC,
      pay_to: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", scheme: exact, expect: pay, rule: two }
  - { url: "https://a.example/mcp", tool: search, expect: refuse }
  - { url: "https://c.example/", expect: refuse, reason: host_not_allowed }
via: edge-1
discovery: [{ url: "https://facilitator.example" }]
webhook: { url: "https://ops.example.com/farepass", secret_file: webhook.secret }
reload: { watch: true, strict: true, accept: "0123456789abcdef" }
events: { file: events.jsonl }
telemetry: { endpoint: "https://otel.example:4317", protocol: grpc, headers_file: otlp.headers, timeout: 5s, service_name: edge,
  resource: { "deployment.environment": prod }, sampler: parentbased_traceidratio, sampler_arg: "0.25", traces: true, logs: false }
limits: { identical_payments: off }
ledger: { postgres: { url_file: db.url, ca_file: db-ca.pem, pooler: true, look_every: 15s } }
"#;

/// Both take these.
const RIGHT: &[&str] = &[
    "version: 1\nlisten: { transparent: }",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test], categories: [] }, deny: true }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test], categories: }, deny: true }]",
    "version: 1\nbudgets: [{ name: b, scope: agent, limit: \"1 USD\", window: 60000ms }]",
    "version: 1\nrpc: { \"eip155:8453\": \"HTTPS://node.example\" }",
    "version: 1\ntelemetry: { endpoint: \"HTTP://c:4318\" }",
    "version: 1\ntelemetry: { endpoint: \"http://c\", sampler: traceidratio, sampler_arg: \"1.0\" }",
    "version: 1\ntelemetry: { endpoint: \"http://c\", sampler: traceidratio, sampler_arg: \"0.\" }",
    "version: 1\ntelemetry: { endpoint: \"http://c\", sampler: traceidratio, sampler_arg: \".5\" }",
];

/// Neither takes these.
const WRONG: &[&str] = &[
    "version: 1\nreload: { accept: latest }",
    "version: 2",
    "version: 1\nlisten: { proxi: 127.0.0.1:1 }",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: { max: 0.05 } }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: { max: \"0.05 EUR\" } }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: { max: \"1 USD\" }, deny: true }]",
    "version: 1\nrules: [{ name: a, match: {}, deny: true }]",
    "version: 1\nrules: [{ name: a, match: { categories: [] }, deny: true }]",
    "version: 1\nrules: [{ name: a, match: { categories: }, deny: true }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: { max: \"1 USD\", rate: 30/5m } }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: { max: \"1 USD\", rate: 0/m } }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: { max: \"1 USD\", rate: {} } }]",
    "version: 1\nsessions: { default: }",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test], methods: [] }, deny: true }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test], methods: [\"*\"] }, deny: true }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test], methods: [\"GET*\"] }, deny: true }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test], paths: [] }, deny: true }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test], agents: [] }, deny: true }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test], tools: [] }, deny: true }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test], agents: [\"a b\"] }, deny: true }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: { schemes: [] } }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: { networks: [] } }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: { assets: [] } }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: { transfer_methods: [] } }]",
    "version: 1\nrules: [{ name: a, match: { hosts: [a.test] }, pay: { pay_to: } }]",
    "version: 1\nbudgets: [{ name: b, scope: agent, window: 1h }]",
    "version: 1\nbudgets: [{ name: b, scope: everybody, limit: \"1 USD\", window: 1h }]",
    "version: 1\nlimits: { drain: 5 minutes }",
    "version: 1\nledger: { postgres: { url_file: a, pooler: transaction } }",
    "version: 1\nledger: { postgres: { url_file: a, look_every: 5 } }",
    "version: 1\nlimits: { requirements: 0 }",
    "version: 1\nwallets: [{ name: a, kind: local, networks: [\"eip155:84532\"] }]",
    "version: 1\nwallets: [{ name: a, kind: local, key_file: k, address: \"0x0\", networks: [\"eip155:84532\"] }]",
    "version: 1\nwallets: [{ name: a, kind: local, key_file: k, networks: [] }]",
    "version: 1\nwallets: [{ name: a, kind: local, key_file: k, networks: [\"eip155:84532\"], low_balance: { USDC: 5 } }]",
    "version: 1\nwallets: [{ name: a, kind: local, key_file: k, networks: [\"eip155:84532\"], low_balance: { USDC: \"5 USD\" } }]",
    "version: 1\nwallets: [{ name: a, kind: agentcore, region: r, payment_manager_arn: \"arn:m\", user_id: u, instrument_id: payment-instrument-i, networks: [\"eip155:84532\"], address: \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\" }]",
    "version: 1\nwallets: [{ name: a, kind: agentcore, region: r, payment_manager_arn: \"arn:m\", user_id: u, instrument_id: payment-instrument-i, session_id: payment-session-s, session_id_file: s, networks: [\"eip155:84532\"], address: \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\" }]",
    "version: 1\nwallets: [{ name: a, kind: agentcore, region: r, payment_manager_arn: \"arn:m\", user_id: u, instrument_id: payment-session-i, session_id: payment-session-s, networks: [\"eip155:84532\"], address: \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\" }]",
    "version: 1\nrefusals: { status: 200 }",
    "version: 1\ndiscovery: [{ uri: \"https://facilitator.example\" }]",
    "version: 1\nsigners: [{ hosts: [a.test] }]",
    "version: 1\nsigners: [{ hosts: [], address: \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\" }]",
    "version: 1\nsigners: [{ hosts: [a.test], jwk: { kty: EC, crv: P-521, x: \"x\" } }]",
    "version: 1\nevents: {}",
    "version: 1\ntelemetry: { protocol: grpc }",
    "version: 1\ntelemetry: { endpoint: \"otel:4317\" }",
    "version: 1\ntelemetry: { endpoint: \"http://c\", protocol: http/json }",
    "version: 1\ntelemetry: { endpoint: \"http://c\", sampler: traceidratio, sampler_arg: \"2\" }",
    "version: 1\ntelemetry: { endpoint: \"http://c\", sampler: traceidratio, sampler_arg: \"1.1\" }",
    "version: 1\ntelemetry: { endpoint: \"http://c\", sampler: traceidratio, sampler_arg: \".\" }",
];

fn of_yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

fn takes(text: &str) -> Result<(), String> {
    let parsed = Config::parse(Path::new("farepass.yaml"), text);
    let said = |errors: Vec<_>| {
        let lines = errors.iter().map(ToString::to_string);
        lines.collect::<Vec<String>>().join("\n")
    };
    parsed.map(drop).map_err(said)
}

#[test]
fn the_schema_and_the_program_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let file = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let mut right = vec![
        ("local.yaml".to_owned(), file("local.yaml")),
        ("sidecar.yaml".to_owned(), file("sidecar.yaml")),
    ];
    right.push(("the rest".into(), REST.into()));
    let itself = |text: &&str| ((*text).to_owned(), (*text).to_owned());
    right.extend(RIGHT.iter().map(itself));
    let wrong = WRONG.iter().map(itself);
    let all: Vec<(String, String)> = right.iter().cloned().chain(wrong).collect();
    let documents = all.iter().map(|(name, text)| (name.clone(), of_yaml(text)));
    let documents: Map<String, Value> = documents.collect();
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();

    let mut used = BTreeSet::new();
    for (name, text) in &right {
        takes(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        keys(&of_yaml(text), &mut used);
    }
    let mut described = BTreeSet::new();
    properties(&schema, &mut described);
    let unused: Vec<_> = described.difference(&used).collect();
    assert!(unused.is_empty(), "described, and in no file: {unused:?}");

    let question = json!({"schema": schema, "documents": documents});
    let Some(judged) = python::judged("schema.py", &question) else {
        return;
    };
    for (name, text) in &all {
        let good = right.iter().any(|(right, _)| right == name);
        assert_eq!(takes(text).is_ok(), good, "{name}");
        assert_eq!(judged[name] == json!([]), good, "{name}: {}", judged[name]);
    }
}

/// Every key of a map that is in there.
fn keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                into.insert(key.clone());
                keys(value, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, into)),
        _ => {}
    }
}

/// Every property that a schema names.
fn properties(schema: &Value, into: &mut BTreeSet<String>) {
    if let Some(named) = schema.get("properties").and_then(Value::as_object) {
        into.extend(named.keys().cloned());
    }
    match schema {
        Value::Object(map) => map.values().for_each(|inner| properties(inner, into)),
        Value::Array(items) => items.iter().for_each(|inner| properties(inner, into)),
        _ => {}
    }
}
