//! A Lightning node that knows no network: it makes signed invoices, keeps their preimages, checks who asks,
//! and pays an invoice once. It speaks as LND, Core Lightning, phoenixd or LNbits do.

use std::collections::HashMap;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use lightning_invoice::{
    Currency, Description, ExpiryTime, PositiveTimestamp, RawBolt11Invoice, RawDataPart, RawHrp,
    Sha256, SiPrefix, TaggedField,
};
use secp256k1::{Secp256k1, SecretKey};
use serde_json::{Value, json};

use super::http::{Body, Head, read_body, read_head};
use super::{sha256, unix_now};

/// What whoever pays must show.
pub(crate) const SECRET: &str = "00c0ffee00c0ffee";

/// What a payment costs besides, millisatoshi.
pub(crate) const FEE_MSAT: u64 = 2000;

/// Whose ways it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Lnd,
    Cln,
    Phoenixd,
    Lnbits,
}

pub(crate) const FACES: [Face; 4] = [Face::Lnd, Face::Cln, Face::Phoenixd, Face::Lnbits];

/// What goes wrong with the next payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// There is no route.
    NoRoute,
    /// It pays, and hangs up before it says so.
    PaysAndHangsUp,
    /// It hangs up before it does anything.
    HangsUp,
    /// It tries, and neither succeeds nor fails until told.
    Pending,
    /// It pays, and tells another preimage.
    OtherPreimage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Open,
    Pending,
    Paid,
    Failed,
}

struct Entry {
    preimage: [u8; 32],
    msat: u64,
    expires: u64,
    stands: Stands,
    hash: [u8; 32],
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    fault: Fault,
    /// Method and path of each request.
    asked: Vec<String>,
    limits: Vec<Value>,
}

pub(crate) struct Node {
    pub(crate) face: Face,
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

/// What an invoice is to be like.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) msat: Option<u64>,
    pub(crate) currency: Currency,
    pub(crate) made: u64,
    pub(crate) expiry: u64,
}

impl Wanted {
    pub(crate) fn of(msat: u64) -> Self {
        Self {
            msat: Some(msat),
            currency: Currency::Regtest,
            made: unix_now(),
            expiry: 600,
        }
    }
}

/// An invoice and the hash that it is paid for.
pub(crate) struct Made {
    pub(crate) text: String,
    pub(crate) hash: [u8; 32],
}

impl Node {
    pub(crate) fn start(face: Face) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(face, &shared, stream));
            }
        });
        Self { face, port, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A signed invoice that this node can pay.
    pub(crate) fn invoice(&self, wanted: &Wanted) -> Made {
        let mut preimage = [0; 32];
        getrandom::fill(&mut preimage).unwrap();
        let hash = sha256(&preimage);
        let description = Description::new("one call".into()).unwrap();
        let fields = [
            TaggedField::PaymentHash(Sha256(hex::encode(hash).parse().unwrap())),
            TaggedField::Description(description),
            TaggedField::ExpiryTime(ExpiryTime::from_seconds(wanted.expiry)),
        ];
        let raw = RawBolt11Invoice {
            hrp: RawHrp {
                currency: wanted.currency.clone(),
                raw_amount: wanted.msat.map(|msat| msat * 10),
                si_prefix: wanted.msat.map(|_| SiPrefix::Pico),
            },
            data: RawDataPart {
                timestamp: PositiveTimestamp::from_unix_timestamp(wanted.made).unwrap(),
                tagged_fields: fields.into_iter().map(Into::into).collect(),
            },
        };
        let key = SecretKey::from_slice(&[0x41; 32]).unwrap();
        let secp = Secp256k1::new();
        let signed = raw.sign(|hash| Ok::<_, ()>(secp.sign_ecdsa_recoverable(hash, &key)));
        let entry = Entry {
            preimage,
            msat: wanted.msat.unwrap_or(0),
            expires: wanted.made + wanted.expiry,
            stands: Stands::Open,
            hash,
        };
        let text = signed.unwrap().to_string();
        self.state().entries.insert(hex::encode(hash), entry);
        Made { text, hash }
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.state().fault = fault;
    }

    /// What is on its way arrives, or fails.
    pub(crate) fn conclude(&self, paid: bool) {
        let stands = if paid { Stands::Paid } else { Stands::Failed };
        let mut state = self.state();
        let pending = state
            .entries
            .values_mut()
            .filter(|e| e.stands == Stands::Pending);
        pending.for_each(|e| e.stands = stands);
    }

    /// Invoices that were paid, and how much that was.
    pub(crate) fn paid(&self) -> (usize, u64) {
        let state = self.state();
        let paid = state.entries.values().filter(|e| e.stands == Stands::Paid);
        paid.fold((0, 0), |(n, sum), e| (n + 1, sum + e.msat))
    }

    /// Requests that wanted to pay.
    pub(crate) fn asked_to_pay(&self) -> usize {
        let pays = [
            "/v2/router/send",
            "/v1/pay",
            "/payinvoice",
            "POST /api/v1/payments",
        ];
        let state = self.state();
        let asked = state
            .asked
            .iter()
            .filter(|a| pays.iter().any(|p| a.ends_with(p)));
        asked.count()
    }

    /// The fee limits that it was told.
    pub(crate) fn limits(&self) -> Vec<Value> {
        self.state().limits.clone()
    }

    /// Every preimage, hexadecimal: what no log may show.
    pub(crate) fn preimages(&self) -> Vec<String> {
        let state = self.state();
        state
            .entries
            .values()
            .map(|e| hex::encode(e.preimage))
            .collect()
    }

    /// The wallet's part of the configuration.
    pub(crate) fn wallet(&self, dir: &std::path::Path) -> Value {
        use std::os::unix::fs::PermissionsExt as _;
        let file = dir.join("node.secret");
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        json!({
            "name": "node", "kind": "lightning", "networks": ["lightning:regtest"],
            "backend": format!("{:?}", self.face).to_lowercase(),
            "url": format!("http://127.0.0.1:{}", self.port),
            "secret_file": file, "usd_per_btc": "60000 USD",
        })
    }
}

fn serve(face: Face, shared: &Mutex<State>, mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Ok(Some(head)) = read_head(&mut reader) else {
        return;
    };
    let Body { start: body, .. } = read_body(&head, &mut reader, false).unwrap();
    let mut words = head.first.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut state = shared.lock().unwrap();
    state.asked.push(format!("{method} {path}"));
    let answer = match allowed(face, &head) {
        false => Some((
            401,
            r#"{"code":1501,"message":"no","detail":"no"}"#.to_owned(),
        )),
        true => answer(face, &mut state, (method, path), &body),
    };
    drop(state);
    if face == Face::Lnd
        && let Some((200, line)) = &answer
        && line.contains("IN_FLIGHT")
    {
        let length = line.len() + 1;
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
             {length:x}\r\n{line}\n\r\n"
        );
        // It says more when the payment has come to an end, and nobody waits for that here.
        let _ = reader.read(&mut [0]);
        return;
    }
    if let Some((status, text)) = answer {
        let length = text.len();
        // A client that went away is its own affair.
        let _ = write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}"
        );
    }
}

fn allowed(face: Face, head: &Head) -> bool {
    let (name, value) = match face {
        Face::Lnd => ("grpc-metadata-macaroon", SECRET.to_owned()),
        Face::Cln => ("rune", SECRET.to_owned()),
        Face::Phoenixd => {
            let pair = STANDARD.encode(format!(":{SECRET}"));
            ("authorization", format!("Basic {pair}"))
        }
        Face::Lnbits => ("x-api-key", SECRET.to_owned()),
    };
    head.one(name) == Some(&*value)
}

fn answer(
    face: Face,
    state: &mut State,
    (method, path): (&str, &str),
    body: &[u8],
) -> Option<(u16, String)> {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let last = path.rsplit('/').next().unwrap();
    match (face, method, path) {
        (Face::Lnd, "POST", "/v2/router/send") => {
            state.limits.push(json["fee_limit_msat"].clone());
            assert!(json["timeout_seconds"].is_u64() && json["no_inflight_updates"] == true);
            pay(face, state, json["payment_request"].as_str().unwrap())
        }
        (Face::Cln, "POST", "/v1/pay") => {
            state.limits.push(json["maxfee"].clone());
            pay(face, state, json["bolt11"].as_str().unwrap())
        }
        (Face::Phoenixd, "POST", "/payinvoice") => {
            let form = std::str::from_utf8(body).unwrap();
            pay(face, state, form.strip_prefix("invoice=").unwrap())
        }
        (Face::Lnbits, "POST", "/api/v1/payments") => {
            assert_eq!(json["out"], true);
            pay(face, state, json["bolt11"].as_str().unwrap())
        }
        (Face::Lnd, "GET", _) if path.starts_with("/v2/router/track/") => {
            look(face, state, &hex::encode(URL_SAFE.decode(last).unwrap()))
        }
        (Face::Cln, "POST", "/v1/listpays") => {
            look(face, state, json["payment_hash"].as_str().unwrap())
        }
        (Face::Phoenixd, "GET", _) if path.starts_with("/payments/outgoingbyhash/") => {
            look(face, state, last)
        }
        (Face::Lnbits, "GET", _) if path.starts_with("/api/v1/payments/") => {
            look(face, state, last)
        }
        _ => panic!("{face:?} has no {method} {path}"),
    }
}

fn pay(face: Face, state: &mut State, text: &str) -> Option<(u16, String)> {
    let fault = state.fault;
    if fault == Fault::HangsUp {
        return None;
    }
    let invoice: lightning_invoice::SignedRawBolt11Invoice = text.parse().unwrap();
    let hash = hex::encode(invoice.raw_invoice().payment_hash().unwrap().0);
    let entry = state.entries.get_mut(&hash);
    let payable = entry.filter(|e| e.stands == Stands::Open && e.expires > unix_now());
    let entry = match (payable, fault) {
        (Some(entry), fault) if fault != Fault::NoRoute => entry,
        (payable, _) => {
            if let Some(entry) = payable {
                entry.stands = Stands::Failed;
            }
            return Some(failed(face));
        }
    };
    entry.stands = match fault {
        Fault::Pending => Stands::Pending,
        Fault::None
        | Fault::NoRoute
        | Fault::HangsUp
        | Fault::PaysAndHangsUp
        | Fault::OtherPreimage => Stands::Paid,
    };
    if matches!(fault, Fault::PaysAndHangsUp | Fault::Pending) {
        return None;
    }
    let mut preimage = entry.preimage;
    preimage[0] ^= u8::from(fault == Fault::OtherPreimage);
    Some(paid(face, entry, &hex::encode(preimage)))
}

fn failed(face: Face) -> (u16, String) {
    let (status, body) = match face {
        Face::Lnd => (
            200,
            json!({"result": {"status": "FAILED", "failure_reason": "FAILURE_REASON_NO_ROUTE"}}),
        ),
        Face::Cln => (
            500,
            json!({"code": 205, "message": "Could not find a route"}),
        ),
        Face::Phoenixd => (200, json!({"paymentId": "x", "reason": "no route"})),
        Face::Lnbits => (
            520,
            json!({"detail": "Payment failed: no route", "status": "failed"}),
        ),
    };
    (status, format!("{body}\n"))
}

fn paid(face: Face, entry: &Entry, preimage: &str) -> (u16, String) {
    let (hash, msat) = (hex::encode(entry.hash), entry.msat);
    let (status, body) = match face {
        Face::Lnd => (
            200,
            json!({"result": {
                "status": "SUCCEEDED", "payment_hash": hash, "payment_preimage": preimage,
                "value_msat": msat.to_string(), "fee_msat": FEE_MSAT.to_string(),
                "failure_reason": "FAILURE_REASON_NONE",
            }}),
        ),
        Face::Cln => (
            201,
            json!({
                "status": "complete", "payment_preimage": preimage, "payment_hash": hash,
                "amount_msat": msat, "amount_sent_msat": msat + FEE_MSAT, "parts": 1,
            }),
        ),
        Face::Phoenixd => (
            200,
            json!({
                "recipientAmountSat": msat / 1000, "routingFeeSat": FEE_MSAT / 1000,
                "paymentId": "x", "paymentHash": hash, "paymentPreimage": preimage,
            }),
        ),
        Face::Lnbits => (
            201,
            json!({
                "checking_id": hash, "payment_hash": hash, "amount": -i64::try_from(msat).unwrap(),
                "fee": -i64::try_from(FEE_MSAT).unwrap(), "status": "success", "preimage": preimage,
            }),
        ),
    };
    (status, format!("{body}\n"))
}

/// What became of a payment.
fn look(face: Face, state: &State, hash: &str) -> Option<(u16, String)> {
    let entry = state.entries.get(hash);
    let known = entry.filter(|e| e.stands != Stands::Open);
    let Some(entry) = known else {
        return Some(match face {
            Face::Lnd => (
                404,
                json!({"code": 5, "message": "payment isn't initiated"}).to_string(),
            ),
            Face::Cln => (201, json!({"pays": []}).to_string()),
            Face::Phoenixd => (404, "Not found".to_owned()),
            Face::Lnbits => (
                404,
                json!({"detail": "Payment does not exist."}).to_string(),
            ),
        });
    };
    let preimage = hex::encode(entry.preimage);
    let paid = entry.stands == Stands::Paid;
    let word = |words: [&'static str; 3]| match entry.stands {
        Stands::Open | Stands::Pending => words[0],
        Stands::Paid => words[1],
        Stands::Failed => words[2],
    };
    let shown = if paid { preimage } else { "00".repeat(32) };
    let body = match face {
        Face::Lnd => json!({"result": {
            "status": word(["IN_FLIGHT", "SUCCEEDED", "FAILED"]),
            "payment_preimage": shown, "fee_msat": FEE_MSAT.to_string(),
        }}),
        Face::Cln => json!({"pays": [{
            "status": word(["pending", "complete", "failed"]), "preimage": shown,
            "amount_msat": entry.msat, "amount_sent_msat": entry.msat + FEE_MSAT,
        }]}),
        Face::Phoenixd => match word(["open", "paid", "failed"]) {
            "open" => json!({"isPaid": false, "createdAt": 1}),
            "failed" => json!({"isPaid": false, "createdAt": 1, "completedAt": 2}),
            _ => json!({"isPaid": true, "preimage": shown, "fees": FEE_MSAT, "completedAt": 2}),
        },
        Face::Lnbits => json!({
            "paid": paid, "preimage": paid.then_some(shown),
            "details": {"status": word(["pending", "success", "failed"]), "fee": -2000},
        }),
    };
    let status = if face == Face::Cln { 201 } else { 200 };
    Some((status, body.to_string()))
}
