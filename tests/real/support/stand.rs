//! The stand: official x402 servers, facilitator and chain, one for the whole test run.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use super::chain::Transfer;
use super::http;
use super::proxy::Setup;

pub(crate) struct Stand {
    ready: Value,
    /// The stand stops when its stdin closes, also when this process is killed.
    _child: Mutex<Child>,
}

/// The running stand; the first caller installs and starts it. `None` after saying SKIPPED.
pub(crate) fn stand() -> Option<&'static Stand> {
    static STAND: OnceLock<Result<Stand, String>> = OnceLock::new();
    super::needs(
        STAND
            .get_or_init(Stand::start)
            .as_ref()
            .map_err(Clone::clone),
    )
}

/// The major version of the Node on the path.
pub(crate) fn node() -> Result<u32, String> {
    let out = Command::new("node").arg("--version").output();
    let text = out
        .map_err(|e| format!("Node 20 or newer is needed: node: {e}"))?
        .stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    let major = text
        .trim()
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|v| v.parse().ok());
    match major {
        Some(major @ 20..) => Ok(major),
        _ => Err(format!(
            "Node 20 or newer is needed, here is {}",
            text.trim()
        )),
    }
}

impl Stand {
    /// A stand of one's own, whose chain may be made to jump in time.
    pub(crate) fn own() -> Option<Self> {
        super::needs(Self::start())
    }

    /// The URL of its chain's node.
    pub(crate) fn node(&self) -> String {
        self.ready["chain"]["rpc"].as_str().unwrap().to_owned()
    }

    /// The URL of the node of its Solana cluster.
    pub(crate) fn cluster(&self) -> String {
        self.ready["svm"]["rpc"].as_str().unwrap().to_owned()
    }

    /// The URL of its facilitator.
    pub(crate) fn facilitator(&self) -> String {
        self.ready["facilitator"]["url"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Asks its chain.
    pub(crate) fn rpc(&self, method: &str, params: &Value) -> Value {
        let question = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let node = self.node();
        let port = node.rsplit(':').next().unwrap().parse().unwrap();
        let answer = request(port, "POST", "/", &question).unwrap();
        let answer = answer.json();
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Some blocks on top.
    pub(crate) fn mine(&self, blocks: u64) {
        for _ in 0..blocks {
            self.rpc("evm_mine", &json!([]));
        }
    }

    /// The chain's clock goes ahead.
    pub(crate) fn jump(&self, seconds: u64) {
        self.rpc("evm_increaseTime", &json!([seconds]));
        self.mine(10);
    }

    /// Takes the money of a signed transfer: whoever has it may. Gives the transaction's hash.
    pub(crate) fn take(&self, transfer: &Transfer) -> String {
        self.take_part(transfer, transfer.value)
    }

    /// The same for a part of it, where the signer left that to the facilitator.
    pub(crate) fn take_part(&self, transfer: &Transfer, amount: u128) -> String {
        let permit = transfer.permit.as_ref();
        let facilitator = permit.and_then(|p| p.facilitator.clone());
        let from = facilitator.unwrap_or_else(|| self.address("poor"));
        self.call(&from, transfer.taker(), &transfer.call_for(amount))
    }

    /// Lets Permit2 move this account's tokens, as its owner would have once.
    pub(crate) fn approve(&self, owner: &str) {
        let spender = super::permit::PERMIT2.trim_start_matches("0x");
        self.order(owner, &format!("0x095ea7b3{spender:0>64}{:f>64}", ""));
    }

    /// Units out of nothing, for this account.
    pub(crate) fn fund(&self, address: &str, units: u64) {
        let funds = json!({ "address": address, "amount": units.to_string() });
        self.admin("POST", "/fund", &funds);
    }

    /// Takes units away from this account, as its owner would.
    pub(crate) fn withdraw(&self, owner: &str, units: u64) {
        let to = self.address("poor");
        let to = to.trim_start_matches("0x");
        self.order(owner, &format!("0xa9059cbb{to:0>64}{units:064x}"));
    }

    /// What the owner of some tokens has done with them.
    fn order(&self, owner: &str, data: &str) {
        self.rpc("anvil_impersonateAccount", &json!([owner]));
        self.rpc("anvil_setBalance", &json!([owner, "0xde0b6b3a7640000"]));
        self.call(owner, super::USDC, data);
        self.rpc("anvil_stopImpersonatingAccount", &json!([owner]));
    }

    fn call(&self, from: &str, to: &str, data: &str) -> String {
        let call = json!({ "from": from, "to": to, "data": data });
        let hash = self.rpc("eth_sendTransaction", &json!([call]));
        let receipt = super::until("a transaction", Duration::from_secs(30), || {
            let receipt = self.rpc("eth_getTransactionReceipt", &json!([hash]));
            (!receipt.is_null()).then_some(receipt)
        });
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        hash.as_str().unwrap().to_owned()
    }

    fn start() -> Result<Self, String> {
        let (ready, child) = spawn("tests/stand")?;
        let _child = Mutex::new(child);
        Ok(Self { ready, _child })
    }

    pub(crate) fn port(&self, pointer: &str) -> u64 {
        self.ready.pointer(pointer).and_then(Value::as_u64).unwrap()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.ready["tls"]["ca"].as_str().unwrap().into()
    }

    pub(crate) fn hostile_routes(&self) -> Vec<String> {
        let routes = self.ready["hostile"]["routes"].as_array().unwrap();
        routes
            .iter()
            .map(|r| r.as_str().unwrap().to_owned())
            .collect()
    }

    /// A proxy set-up that knows the stand's names and CA, with a fresh wallet of 1000 USDC.
    pub(crate) fn setup(&self) -> Setup {
        let mut setup = Setup::new();
        setup.root(&self.root());
        let (merchant, hostile) = (
            self.port("/merchant/tlsPort"),
            self.port("/hostile/tlsPort"),
        );
        setup
            .resolve("merchant.stand.test:443", merchant)
            .resolve("hostile.stand.test:443", hostile);
        setup.resolve("other.stand.test:443", hostile);
        setup.resolve("merchant.stand.test:80", self.port("/merchant/port"));
        self.admin(
            "POST",
            "/fund",
            &json!({ "address": setup.payer(), "amount": "1000000000" }),
        );
        setup
    }

    /// Atomic units that this address holds.
    pub(crate) fn balance(&self, address: &str) -> u128 {
        let answer = self.admin("GET", &format!("/balance/{address}"), &Value::Null);
        answer["balance"].as_str().unwrap().parse().unwrap()
    }

    /// What the chain moved from this address: recipient and units.
    pub(crate) fn transfers(&self, from: &str) -> Vec<(String, u128)> {
        let list = self.admin("GET", &format!("/transfers/{from}"), &Value::Null);
        let row = |t: &Value| {
            let value = t["value"].as_str().unwrap().parse().unwrap();
            (t["to"].as_str().unwrap().to_owned(), value)
        };
        list.as_array().unwrap().iter().map(row).collect()
    }

    /// Every request that the merchants received with a payment by this address.
    pub(crate) fn paid_by(&self, payer: &str) -> Vec<(Value, Transfer)> {
        let hits = self.admin("GET", &format!("/hits?from={payer}"), &Value::Null);
        let paid = |hit: &Value| Transfer::of(&hit["payment"]).map(|t| (hit.clone(), t));
        hits.as_array().unwrap().iter().filter_map(paid).collect()
    }

    /// What the facilitator answered last, for a test that did not expect it.
    pub(crate) fn last_settlement(&self) -> String {
        let log = self.admin("GET", "/facilitator-log", &Value::Null);
        log.as_array()
            .and_then(|l| l.last())
            .map(Value::to_string)
            .unwrap_or_default()
    }

    /// Every request that the merchants received with this `id=` in its URL.
    pub(crate) fn arrived(&self, id: &str) -> Vec<Value> {
        let hits = self.admin("GET", &format!("/hits?id={id}"), &Value::Null);
        let target = |hit: &Value| hit["url"].as_str().map(str::to_owned);
        let own = |hit: &&Value| target(hit).is_some_and(|t| t.ends_with(&format!("id={id}")));
        hits.as_array()
            .unwrap()
            .iter()
            .filter(own)
            .cloned()
            .collect()
    }

    /// This payer's settlements go wrong.
    pub(crate) fn fault(&self, kind: &str, payer: &str) {
        self.admin(
            "POST",
            "/fault",
            &json!({ "op": "settle", "kind": kind, "from": payer, "times": 100 }),
        );
    }

    /// What the official client sends to this merchant page, without any proxy.
    pub(crate) fn official(&self, path: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.port("/merchant/port"));
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand");
        let mut node = Command::new("node");
        let out = node
            .args(["stand.mjs", "pay.mjs", &url])
            .current_dir(home)
            .output()
            .ok()?;
        let said: Value = serde_json::from_slice(&out.stdout).ok()?;
        (said["status"] == 200).then(|| said["payment"].clone())
    }

    pub(crate) fn address(&self, role: &str) -> String {
        let accounts = self.ready["accounts"].as_array().unwrap();
        let account = accounts.iter().find(|a| a["role"] == role).unwrap();
        account["address"].as_str().unwrap().to_owned()
    }

    fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let port = u16::try_from(self.port("/admin/port")).unwrap();
        let answer = request(port, method, path, body).unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()
    }
}

/// Starts the stand of a folder; gives what it says when it is ready.
pub(crate) fn spawn(folder: &str) -> Result<(Value, Child), String> {
    spawn_with(folder, &[])
}

/// The same with arguments for it.
pub(crate) fn spawn_with(folder: &str, args: &[&str]) -> Result<(Value, Child), String> {
    node()?;
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut child = Command::new("node")
        .args(["stand.mjs", "--watch-stdin"])
        .args(args)
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("the stand does not start: {e}"))?;
    let mut line = String::new();
    let out = child.stdout.take().ok_or("the stand has no stdout")?;
    BufReader::new(out)
        .read_line(&mut line)
        .map_err(|e| e.to_string())?;
    match serde_json::from_str(&line) {
        Ok(ready) => Ok((ready, child)),
        Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            Err("the stand did not start (npm needs its registry the first time)".into())
        }
    }
}

/// One plain request to a port of this machine.
pub(crate) fn request(
    port: u16,
    method: &str,
    path: &str,
    body: &Value,
) -> std::io::Result<http::Answer> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let fields = [
        ("Host", "127.0.0.1".to_owned()),
        ("Content-Type", "application/json".to_owned()),
        ("Content-Length", body.len().to_string()),
        ("Connection", "close".to_owned()),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    http::write_head(&mut socket, &format!("{method} {path} HTTP/1.1"), &fields)?;
    socket.write_all(body.as_bytes())?;
    http::read_answer(&mut BufReader::new(socket), method)
}

#[test]
fn the_stand_sells_to_the_official_client() {
    let Some(stand) = stand() else { return };
    let payment = stand.official("/v2/exact").expect("a paid answer");
    let transfer = Transfer::of(&payment).unwrap();
    let domain = super::chain::Domain {
        name: "USDC".into(),
        version: "2".into(),
        chain: 84532,
        token: super::USDC.into(),
    };
    assert_eq!(
        transfer.signer(&domain),
        Some(transfer.from.to_ascii_lowercase())
    );
    assert!(
        stand
            .transfers(&transfer.from)
            .contains(&(stand.address("merchant"), 10_000))
    );
}
