//! The MPP stand: the official server package over a chain of its own, one for the whole test run.

use std::process::Child;
use std::sync::{Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::chain::{Domain, Transfer};
use super::proxy::{Proxy, Setup};
use super::stand::{request, spawn};

/// The name that agents know it by.
pub(crate) const SHOP: &str = "http://mpp.stand.test";

pub(crate) struct MppStand {
    ready: Value,
    /// It stops when its stdin closes.
    _child: Mutex<Child>,
}

/// The running stand; the first caller installs and starts it. `None` after saying SKIPPED.
pub(crate) fn mpp_stand() -> Option<&'static MppStand> {
    static STAND: OnceLock<Result<MppStand, String>> = OnceLock::new();
    let start = || {
        let (ready, child) = spawn("tests/stand-mpp")?;
        let _child = Mutex::new(child);
        Ok(MppStand { ready, _child })
    };
    super::needs(STAND.get_or_init(start).as_ref().map_err(Clone::clone))
}

impl MppStand {
    fn port(&self) -> u16 {
        u16::try_from(self.ready["port"].as_u64().unwrap()).unwrap()
    }

    /// A set-up that pays these schemes here, with a fresh wallet of 1000 USDC.
    pub(crate) fn setup(&self, schemes: &[&str]) -> Setup {
        let mut setup = Setup::new();
        setup.resolve("mpp.stand.test:80", self.port().into());
        setup.config["rules"][0]["pay"]["schemes"] = json!(schemes);
        setup.config["rules"][0]["pay"]["insecure_http"] = json!(true);
        self.ask(&format!("/_stand/fund/{}", setup.payer()));
        setup
    }

    fn ask(&self, path: &str) -> Value {
        let answer = request(self.port(), "GET", path, &Value::Null).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Some blocks on top.
    pub(crate) fn mine(&self, blocks: u64) {
        let port = self.node().rsplit(':').next().unwrap().parse().unwrap();
        let question =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "anvil_mine", "params": [blocks] });
        let answer = request(port, "POST", "/", &question).unwrap().json();
        assert!(answer.get("error").is_none(), "{answer}");
    }

    /// The URL of its chain's node.
    pub(crate) fn node(&self) -> &str {
        self.ready["rpc"].as_str().unwrap()
    }

    /// The URL of its Tempo chain's node.
    pub(crate) fn tempo_node(&self) -> &str {
        self.ready["tempo"]["rpc"].as_str().unwrap()
    }

    /// Who shares what `/tempo/splits` asks for.
    pub(crate) fn partner(&self) -> &str {
        self.ready["tempo"]["partner"].as_str().unwrap()
    }

    /// Something that the Tempo chain is asked or told: `balance`, `transfers`, `fund` of an address, `mine` some blocks.
    pub(crate) fn tempo(&self, what: &str, about: &str) -> Value {
        self.ask(&format!("/_stand/tempo/{what}/{about}"))
    }

    /// Every MPP credential that names this account as its source, as it came.
    pub(crate) fn credentials_by(&self, payer: &str) -> Vec<String> {
        let hits = self.ask("/_stand/hits");
        let by = |hit: &Value| {
            let sent = hit["pays"].as_str()?.strip_prefix("Payment ")?.to_owned();
            let json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&sent).ok()?).ok()?;
            let source = json["source"].as_str()?.to_ascii_lowercase();
            source.ends_with(payer).then_some(sent)
        };
        hits.as_array().unwrap().iter().filter_map(by).collect()
    }

    pub(crate) fn merchant(&self) -> &str {
        self.ready["merchant"].as_str().unwrap()
    }

    /// What the chain moved from this address: recipient, units and transaction.
    pub(crate) fn transfers(&self, from: &str) -> Vec<(String, u128, String)> {
        let list = self.ask(&format!("/_stand/transfers/{from}"));
        let row = |t: &Value| {
            let text = |key: &str| t[key].as_str().unwrap().to_owned();
            (text("to"), text("value").parse().unwrap(), text("tx"))
        };
        list.as_array().unwrap().iter().map(row).collect()
    }

    /// Every request that came with a payment by this address.
    pub(crate) fn paid_by(&self, payer: &str) -> Vec<(Value, Transfer)> {
        let hits = self.ask("/_stand/hits");
        let paid = |hit: &Value| {
            let transfer = Transfer::in_header(hit["pays"].as_str()?)?;
            let ours = transfer.from.eq_ignore_ascii_case(payer);
            ours.then(|| (hit.clone(), transfer))
        };
        hits.as_array().unwrap().iter().filter_map(paid).collect()
    }

    /// Money on the chain, authorizations at the merchant and rows of the ledger are the same.
    pub(crate) fn assert_agreement(&self, proxy: &Proxy) -> u128 {
        let (payer, books) = (proxy.payer(), proxy.ledger());
        let moved = self.transfers(&payer);
        let all = moved.iter().map(|(_, value, _)| value).sum();
        assert_eq!(books.sum(&["settled", "unknown"]), all, "{books:?}");
        let mut nonces: Vec<_> = self
            .paid_by(&payer)
            .iter()
            .map(|(_, t)| {
                assert_eq!(t.signer(&domain()), Some(payer.clone()), "{t:?}");
                t.nonce.to_ascii_lowercase()
            })
            .collect();
        nonces.sort();
        nonces.dedup();
        let mut known = books.nonces();
        known.sort();
        assert_eq!(nonces, known, "nonces at the merchant, in the ledger");
        assert_eq!(moved.len(), known.len());
        assert!(moved.iter().all(|(to, ..)| to == self.merchant()));
        proxy.assert_verifies();
        all
    }
}

fn domain() -> Domain {
    Domain {
        name: "USDC".into(),
        version: "2".into(),
        chain: 84532,
        token: super::USDC.into(),
    }
}
