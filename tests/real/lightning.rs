//! L402 for real: invoices are paid once, tokens are used again, and what a node does wrong never costs
//! twice or reaches the merchant.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::Answer;
use crate::support::node::{FACES, FEE_MSAT, Face, Fault, Node, SECRET};
use crate::support::proxy::Proxy;
use crate::support::toll::{HOST, Toll, Ways};
use crate::support::{curl, linger, unix_now};

mod certificate;
mod faults;
mod tokens;

/// Ten satoshi: 0.006 USD at the rate of the tests, and 0.006 USD of room for the fee.
const PRICE: u64 = 10_000;

struct Scene {
    node: Arc<Node>,
    toll: Toll,
    proxy: Proxy,
}

fn scene(face: Face, ways: Ways) -> Scene {
    let node = Arc::new(Node::start(face));
    let toll = Toll::open(&node, ways);
    let proxy = toll.setup(&node).start();
    Scene { node, toll, proxy }
}

impl Scene {
    fn get(&self, path: &str) -> Answer {
        self.proxy.get(&format!("https://{HOST}{path}"))
    }

    fn rows(&self) -> Vec<Value> {
        self.proxy.ledger().rows
    }

    /// Nothing that could be used again is in any file or log.
    fn assert_secrets_are_kept(&self) {
        let mut needles = self.node.preimages();
        needles.push(SECRET.into());
        let mut files = vec![self.proxy.setup.state()];
        let mut texts = vec![
            self.proxy.stdout().into_bytes(),
            self.proxy.stderr().into_bytes(),
        ];
        while let Some(path) = files.pop() {
            match path.is_dir() {
                true => files.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path())),
                false => texts.extend(std::fs::read(path)),
            }
        }
        for needle in needles {
            let found = texts
                .iter()
                .any(|text| memchr::memmem::find(text, needle.as_bytes()).is_some());
            assert!(!found, "{needle}");
        }
    }
}

#[test]
fn a_token_stays_here_while_payments_are_frozen_and_after_the_session() {
    let scene = scene(FACES[0], Ways::of(PRICE));
    for _ in 0..2 {
        assert_eq!(scene.get("/a").status, 200);
    }
    for (command, status) in [("freeze", 402), ("unfreeze", 200)] {
        let done = scene.proxy.setup.run(&[command]);
        assert!(done.status.success(), "{done:?}");
        let answer = scene.get("/a");
        assert_eq!(answer.status, status, "{command}: {}", answer.text());
    }
    let closed = scene.proxy.setup.run(&["session", "close", "default"]);
    assert!(closed.status.success(), "{closed:?}");
    let answer = scene.get("/a");
    assert_eq!(
        answer.json()["reason"],
        "session_closed",
        "{}",
        answer.text()
    );
    assert_eq!(scene.node.asked_to_pay(), 1);
}

#[test]
fn every_backend_pays_once_and_the_token_is_used_again() {
    for face in FACES {
        let scene = scene(face, Ways::of(PRICE));
        let first = scene.get("/a");
        assert_eq!(
            (first.status, first.text()),
            (200, "goods".into()),
            "{face:?}"
        );
        let told = first.one("farepass-payment").unwrap();
        for part in [
            "amount=\"10000\"",
            "asset=\"BTC\"",
            "network=\"lightning:regtest\"",
            "charged=\"0.0072 USD\"",
        ] {
            assert!(told.contains(part), "{face:?}: {told}");
        }
        for _ in 0..3 {
            let again = scene.get("/a");
            assert_eq!(again.status, 200);
            let told = again.one("farepass-payment").unwrap();
            assert!(told.ends_with("charged=\"0.00 USD\"; reused"), "{told}");
        }
        assert_eq!(scene.node.paid(), (1, PRICE), "{face:?}");
        assert_eq!(scene.node.asked_to_pay(), 1);
        assert_eq!(scene.toll.seen(), (4, 1), "{face:?}");
        let rows = scene.rows();
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!(row["state"], "settled");
        assert_eq!(
            (&row["scheme"], &row["protocol"]),
            (&json!("l402"), &json!("l402"))
        );
        assert_eq!(
            (&row["asset"], &row["network"]),
            (&json!("BTC"), &json!("lightning:regtest"))
        );
        assert_eq!(row["amount"], PRICE.to_string());
        assert_eq!(row["amount_settled"], (PRICE + FEE_MSAT).to_string());
        // 10 satoshi and the largest of 1 % and 10 satoshi were held; 12 were taken.
        assert_eq!(
            (&row["price"], &row["charged"]),
            (&json!("0.012 USD"), &json!("0.0072 USD"))
        );
        assert_eq!(
            (&row["receipt"], &row["confirmed"]),
            (&json!("preimage"), &json!(true))
        );
        let flagged = |line: &Value| line["event"] == "flagged";
        assert!(!scene.proxy.events().iter().any(flagged), "{face:?}");
        scene.proxy.assert_verifies();
        scene.assert_secrets_are_kept();
        match face {
            Face::Lnd => assert_eq!(scene.node.limits(), ["10000"]),
            Face::Cln => assert_eq!(scene.node.limits(), [json!(10_000)]),
            Face::Phoenixd | Face::Lnbits => {}
        }
    }
}
