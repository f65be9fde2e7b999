//! Signers elsewhere, as their vendors describe them: they check what they are sent, and sign with a
//! real key. Each can be told to fail in one way.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::chain::{self, Domain, Transfer};
use super::http::{Body, Head, read_body, read_head};

/// How it fails.
#[derive(Clone, Debug, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// A status and a body of its own.
    Answer(u16, String),
    /// Reads the request and says nothing.
    Hang,
    /// Reads the request and hangs up.
    HangUp,
    /// Signs with another key.
    OtherKey,
    /// Signs another digest.
    OtherDigest,
    /// The signature with the high s.
    HighS,
    /// v is 0 or 1.
    LowV,
    /// v is 29.
    OddV,
    /// 64 bytes.
    Short,
}

/// What a kind of signer asks of its callers, and how it answers.
pub(crate) trait Api: Send + Sync {
    /// The typed data in the request, or a status and why.
    fn read(&self, head: &Head, body: &[u8]) -> Result<Value, (u16, Value)>;
    /// The body that carries a signature.
    fn answer(&self, signature: String) -> Value;
}

/// One request: its head and its body.
pub(crate) type Request = (Head, Vec<u8>);

/// A signer that listens on loopback.
pub(crate) struct Signer {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    fault: Arc<Mutex<Fault>>,
}

impl Signer {
    pub(crate) fn start(api: impl Api + 'static, key: [u8; 32]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(vec![]));
        let fault = Arc::new(Mutex::new(Fault::None));
        let (kept, chosen, api) = (Arc::clone(&seen), Arc::clone(&fault), Arc::new(api));
        std::thread::spawn(move || {
            // Connections that hang stay open as long as the signer.
            let mut open: Vec<TcpStream> = vec![];
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let Ok(Some(head)) = read_head(&mut reader) else {
                    continue;
                };
                let Body { start: body, .. } = read_body(&head, &mut reader, false).unwrap();
                let fault = chosen.lock().unwrap().clone();
                kept.lock().unwrap().push((head.clone(), body.clone()));
                let (status, answer) = match fault {
                    Fault::Hang => {
                        open.push(stream);
                        continue;
                    }
                    Fault::HangUp => continue,
                    Fault::Answer(status, text) => (status, text),
                    fault => match api.read(&head, &body) {
                        Ok(typed) => (200, api.answer(signed(&typed, key, &fault)).to_string()),
                        Err((status, why)) => (status, why.to_string()),
                    },
                };
                let length = answer.len();
                // A client that went away is its own affair.
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{answer}"
                );
            }
        });
        Self { port, seen, fault }
    }

    pub(crate) fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

/// The signature over typed data as these terms are understood by a token, hexadecimal.
fn signed(typed: &Value, mut key: [u8; 32], fault: &Fault) -> String {
    assert_eq!(typed["types"]["EIP712Domain"].as_array().unwrap().len(), 4);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let domain = Domain {
        name: text(&typed["domain"]["name"]),
        version: text(&typed["domain"]["version"]),
        chain: typed["domain"]["chainId"].as_u64().unwrap(),
        token: text(&typed["domain"]["verifyingContract"]),
    };
    let payload = json!({ "payload": { "authorization": typed["message"], "signature": "" } });
    let mut digest = Transfer::of(&payload).unwrap().digest(&domain).unwrap();
    match fault {
        Fault::OtherKey => key[31] ^= 1,
        Fault::OtherDigest => digest[0] ^= 1,
        _ => {}
    }
    let mut bytes = chain::sign(&key, digest).to_vec();
    match fault {
        Fault::HighS => mirror(&mut bytes),
        Fault::LowV => bytes[64] -= 27,
        Fault::OddV => bytes[64] = 29,
        Fault::Short => bytes.truncate(64),
        _ => {}
    }
    format!("0x{}", hex::encode(bytes))
}

/// The order of the curve minus s, with the other parity.
fn mirror(signature: &mut [u8]) {
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let order = hex::decode(ORDER).unwrap();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let left = i32::from(order[at]) - i32::from(signature[32 + at]) - borrow;
        borrow = i32::from(left < 0);
        signature[32 + at] = u8::try_from(left.rem_euclid(256)).unwrap();
    }
    signature[64] = 55 - signature[64];
}

/// A web3signer with one key.
pub(crate) struct Web3signer {
    pub(crate) address: String,
}

impl Api for Web3signer {
    fn read(&self, head: &Head, body: &[u8]) -> Result<Value, (u16, Value)> {
        let asked: Value = serde_json::from_slice(body).unwrap();
        let wrong = |code: i64, message: &str| {
            let error = json!({ "code": code, "message": message });
            Err((
                200,
                json!({ "jsonrpc": "2.0", "id": asked["id"], "error": error }),
            ))
        };
        if head.first != "POST /sign HTTP/1.1"
            || head.one("content-type") != Some("application/json")
        {
            return Err((404, Value::Null));
        }
        if asked["jsonrpc"] != "2.0" || asked["method"] != "eth_signTypedData" {
            return wrong(-32601, "Method not found");
        }
        if asked["params"][0].as_str() != Some(&self.address.to_lowercase()) {
            return wrong(-32000, "Signing from is not an unlocked account");
        }
        let typed = asked["params"][1].as_str().unwrap();
        Ok(serde_json::from_str(typed).unwrap())
    }

    fn answer(&self, signature: String) -> Value {
        json!({ "jsonrpc": "2.0", "id": 1, "result": signature })
    }
}
