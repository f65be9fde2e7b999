//! A node for tests: it answers each question as a function says, and a chain that such a function can tell of.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::RootCertStore;
use serde_json::{Value, json};

use super::words::{transfer_topic, used_topic, word};
use super::{Authorization, Chains, Endpoint, Keeper};
use crate::evm::{Charge, PERMIT2, keccak};
use crate::fetch::Fetch;

/// The network of the chain below.
pub(crate) const BASE: &str = "eip155:8453";

/// The transaction that took the money.
pub(crate) const TAKEN: &str = "0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

pub(crate) struct Fake {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// `answer` gets method and parameters, and gives what JSON-RPC has beside version and id.
    pub(crate) fn start(answer: impl Fn(&str, &Value) -> Value + Send + 'static) -> Self {
        Self::start_at(0, answer)
    }

    pub(crate) fn start_at(
        port: u16,
        answer: impl Fn(&str, &Value) -> Value + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (method, params) = question(&stream);
                let mut said = answer(&method, &params);
                kept.lock().unwrap().push(method);
                (said["jsonrpc"], said["id"]) = (json!("2.0"), json!(1));
                let (text, mut stream) = (said.to_string(), stream);
                let length = text.len();
                // Whoever has enough of it hangs up.
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
                );
            }
        });
        Self { port, asked }
    }

    /// How often it was asked so.
    pub(crate) fn asked(&self, method: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|m| *m == method).count()
    }

    /// Chains of which it is the only node.
    pub(crate) fn chains(&self, network: &str) -> Chains {
        chains(network, self.port)
    }
}

pub(crate) fn chains(network: &str, port: u16) -> Chains {
    let fetch = Fetch::new(Arc::new(RootCertStore::empty())).unwrap();
    let url = format!("http://127.0.0.1:{port}").into();
    let endpoints = vec![(network.parse().unwrap(), Endpoint::new(url).unwrap())];
    Chains::new(endpoints, &fetch)
}

fn question(stream: &TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let question: Value = serde_json::from_slice(&body).unwrap();
    let method = question["method"].as_str().unwrap().to_owned();
    (method, question["params"].clone())
}

/// More than is read of any answer.
pub(crate) fn endless() -> Value {
    says(json!("0".repeat(5 << 20)))
}

pub(crate) fn says(result: Value) -> Value {
    json!({ "result": result })
}

pub(crate) fn refuses(code: i64) -> Value {
    json!({ "error": { "code": code, "message": "no" } })
}

/// A chain that knows one payment.
#[derive(Clone)]
pub(crate) struct Chain {
    /// Unix seconds of block 0, and milliseconds from one block to the next.
    pub(crate) start: u64,
    pub(crate) millis: u64,
    pub(crate) newest: u64,
    /// Most blocks of which it gives the logs at once.
    pub(crate) row: u64,
    pub(crate) about: Authorization,
    /// The block in which it was taken.
    pub(crate) taken: Option<u64>,
}

impl Chain {
    /// The first block of this second.
    pub(crate) fn at(&self, second: u64) -> u64 {
        ((second - self.start) * 1000).div_ceil(self.millis)
    }

    pub(crate) fn answer(&self, method: &str, params: &Value) -> Value {
        let number = |v: &Value| {
            let digits = v.as_str().and_then(|t| t.strip_prefix("0x"));
            u64::from_str_radix(digits.unwrap(), 16).unwrap()
        };
        let first = &params[0];
        says(match method {
            "eth_chainId" => json!("0x2105"),
            "eth_getBlockByNumber" => {
                let n = match first == "latest" {
                    true => self.newest,
                    false => number(first),
                };
                let time = self.start + n * self.millis / 1000;
                json!({ "number": format!("{n:#x}"), "timestamp": format!("{time:#x}") })
            }
            "eth_call" => {
                let used = self.taken.is_some_and(|t| t <= number(&params[1]));
                match (used, first["to"] == PERMIT2.to_string()) {
                    (false, _) => json!(format!("0x{:064x}", 0)),
                    (true, false) => json!(format!("0x{:064x}", 1)),
                    (true, true) => json!(format!("0x{}", "ff".repeat(32))),
                }
            }
            "eth_getLogs" => {
                let (from, to) = (number(&first["fromBlock"]), number(&first["toBlock"]));
                if to - from >= self.row {
                    return refuses(-32005);
                }
                let here = self.taken.is_some_and(|t| (from..=to).contains(&t));
                let movement = first["topics"][0] == transfer_topic().to_string();
                let logs = self.logs();
                match here {
                    true => json!([logs[usize::from(movement)]]),
                    false => json!([]),
                }
            }
            "eth_getTransactionReceipt" if *first == TAKEN => self.receipt(),
            "eth_getTransactionByHash" if *first == TAKEN => self.sent(),
            _ => Value::Null,
        })
    }

    /// It was used; it moved.
    fn logs(&self) -> [Value; 2] {
        let about = &self.about;
        let (from, to) = (word(about.from).to_string(), word(about.to).to_string());
        let nonce = format!("0x{}", hex::encode(about.nonce));
        let used = [used_topic().to_string(), from.clone(), nonce];
        let moved = [transfer_topic().to_string(), from, to];
        let data = format!("0x{:064x}", about.value);
        let log = |topics: [String; 3], data: &str, index: u64| {
            json!({
                "address": about.token.to_string(), "topics": topics, "data": data,
                "blockNumber": format!("{:#x}", self.taken.unwrap_or_default()),
                "transactionHash": TAKEN, "logIndex": format!("{index:#x}"),
            })
        };
        [log(used, "0x", 0), log(moved, &data, 1)]
    }

    fn receipt(&self) -> Value {
        json!({
            "transactionHash": TAKEN, "status": "0x1", "logs": self.logs(),
            "blockNumber": format!("{:#x}", self.taken.unwrap_or_default()),
        })
    }

    /// The call of x402's proxy, where it is Permit2 that keeps the nonce.
    fn sent(&self) -> Value {
        let about = &self.about;
        let (token, from) = (word(about.token).0, word(about.from).0);
        let kind = b"settle(((address,uint256),uint256,uint256),address,(address,uint256),bytes)";
        let words = [token, [0; 32], about.nonce, [0; 32], from].concat();
        let input = [&keccak(kind)[..4], &words].concat();
        json!({
            "hash": TAKEN, "to": Charge::Whole.spender().to_string(),
            "input": format!("0x{}", hex::encode(input)),
        })
    }
}

/// A payment that was made at this second.
pub(crate) fn about(keeper: Keeper, since: u64, validity: u64) -> Authorization {
    use crate::evm::Address;
    Authorization {
        keeper,
        token: Address([1; 20]),
        from: Address([2; 20]),
        to: Address([3; 20]),
        value: 10_000,
        nonce: [4; 32],
        since,
        valid_before: since + validity,
        claimed: None,
    }
}
