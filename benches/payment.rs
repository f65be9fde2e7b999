//! What a payment costs in computing: reading the challenge, making the instruction, signing, writing
//! the payload, reading the receipt. No ledger, no network.

use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anyhow::{Context as _, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use criterion::Criterion;
use farepass::clock::Timestamp;
use farepass::money::{self, Asset};
use farepass::payment::{Challenge, Instruction, Nonce, PaymentId, Requirement, Signature};
use farepass::protocol::{self, Protocol, Terms};
use farepass::section::Section;
use farepass::wallet::{self, Opening, Wallet};
use http::{HeaderMap, HeaderValue, StatusCode, response};
use serde_json::Value;

/// A recorded answer of an official server.
fn recorded(text: &str, step: usize) -> anyhow::Result<(response::Parts, Vec<u8>)> {
    let exchange: Value = serde_json::from_str(text)?;
    let answer = &exchange["steps"][step]["response"];
    let mut headers = HeaderMap::new();
    for (name, value) in answer["headers"].as_object().context("headers")? {
        let name: http::HeaderName = name.parse()?;
        headers.insert(name, value.as_str().context("value")?.parse()?);
    }
    let body = answer["body"].as_str().unwrap_or_default();
    Ok((head(headers), body.as_bytes().to_vec()))
}

fn head(headers: HeaderMap) -> response::Parts {
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = StatusCode::PAYMENT_REQUIRED;
    head.headers = headers;
    head
}

fn read((head, body): &(response::Parts, Vec<u8>)) -> Challenge {
    protocol::read(&protocol::recognise(head), head, Some(body))
}

/// A header of 64 KiB that is as slow to read as the limits allow.
fn worst() -> anyhow::Result<(response::Parts, Vec<u8>)> {
    let keys: String = (0..7_000).map(|i| format!("\"{i:x}\":0,")).collect();
    let json = format!("{{{keys}\"x402Version\":2}}");
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&STANDARD.encode(json))?;
    headers.insert("payment-required", value);
    Ok((head(headers), vec![]))
}

/// A wallet with a key of its own.
fn wallet(folder: &tempfile::TempDir) -> anyhow::Result<Arc<dyn Wallet>> {
    let mut options = std::fs::OpenOptions::new();
    let path = folder.path().join("wallet.key");
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&[b'7'; 64])?;
    Ok(wallet::open(
        "local",
        Opening {
            section: Section::file("farepass.yaml", "key_file: wallet.key")?,
            name: "main".into(),
            networks: vec!["eip155:84532".parse()?],
            base: folder.path().into(),
            fetch: None,
        },
    )?)
}

/// The local wallet never waits.
fn sign(wallet: &dyn Wallet, instruction: &Instruction) -> anyhow::Result<Signature> {
    let future = pin!(wallet.sign(instruction));
    match { future }.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(signed) => Ok(signed?),
        Poll::Pending => bail!("the local wallet waits"),
    }
}

/// Everything that one payment needs.
struct Bench {
    asset: Asset,
    wallet: Arc<dyn Wallet>,
    payer: String,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let wallet = wallet(&folder)?;
        let network = "eip155:84532".parse()?;
        let asset = money::canonical_assets()
            .into_iter()
            .find(|a| a.network == network);
        Ok(Self {
            asset: asset.context("asset")?,
            payer: wallet.address(&network).context("address")?,
            wallet,
            _folder: folder,
        })
    }

    fn terms<'a>(&'a self, requirement: &'a Requirement) -> Terms<'a> {
        Terms {
            requirement,
            asset: &self.asset,
            payer: &self.payer,
            id: PaymentId(1),
            nonce: Nonce([7; 32]),
            now: Timestamp::from_secs(1_800_000_000),
            valid_for: 60,
            blockhash: None,
            fee: money::Amount(0),
        }
    }

    /// From the 402 to the header of the retry.
    fn pay(&self, answer: &(response::Parts, Vec<u8>)) -> anyhow::Result<HeaderValue> {
        let challenge = read(answer);
        let requirement = challenge.requirements.first().context("requirement")?;
        let protocol = protocol::by_name(requirement.protocol).context("protocol")?;
        let failed = |p: farepass::payment::Problem| anyhow::anyhow!(p.detail);
        let terms = self.terms(requirement);
        let instruction = protocol.instruct(&terms).map_err(failed)?;
        let signature = sign(&*self.wallet, &instruction)?;
        let payload = protocol.payload(requirement, &instruction, &signature, terms.id);
        Ok(payload.map_err(failed)?.value)
    }
}

fn steps(
    c: &mut Criterion,
    bench: &Bench,
    answer: &(response::Parts, Vec<u8>),
) -> anyhow::Result<()> {
    let challenge = read(answer);
    let requirement = challenge.requirements.first().context("requirement")?;
    let protocol: &dyn Protocol = protocol::by_name("x402-v2").context("protocol")?;
    let terms = bench.terms(requirement);
    let failed = |p: farepass::payment::Problem| anyhow::anyhow!(p.detail);
    let instruction = protocol.instruct(&terms).map_err(failed)?;
    let signature = sign(&*bench.wallet, &instruction)?;
    c.bench_function("instruct", |b| {
        b.iter(|| protocol.instruct(black_box(&terms)).is_ok())
    });
    c.bench_function("sign, with the check of the signature", |b| {
        b.iter(|| sign(&*bench.wallet, black_box(&instruction)).is_ok());
    });
    c.bench_function("payload", |b| {
        b.iter(|| {
            let payload = protocol.payload(requirement, &instruction, &signature, terms.id);
            payload.map(|p| p.value).ok()
        });
    });
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let folder = "tests/vectors/x402/exchanges";
    let text = |name: &str| std::fs::read_to_string(format!("{folder}/{name}.json"));
    let v2 = recorded(&text("v2-exact-eip3009")?, 0)?;
    let v2_long = recorded(&text("v2-payment-identifier")?, 0)?;
    let v1 = recorded(&text("v1-exact")?, 0)?;
    let receipt = recorded(&text("v2-exact-eip3009")?, 1)?;
    let worst = worst()?;
    let bench = Bench::new()?;
    ensure!(bench.pay(&v1).is_ok(), "the recorded challenge is payable");

    let mut c = Criterion::default().configure_from_args();
    c.bench_function("read a version 2 header", |b| {
        b.iter(|| read(black_box(&v2)))
    });
    c.bench_function("read a version 2 header with an extension", |b| {
        b.iter(|| read(black_box(&v2_long)));
    });
    c.bench_function("read a version 1 body", |b| b.iter(|| read(black_box(&v1))));
    c.bench_function("read the worst header", |b| {
        b.iter(|| read(black_box(&worst)))
    });
    steps(&mut c, &bench, &v2)?;
    let protocol = protocol::by_name("x402-v2").context("protocol")?;
    c.bench_function("read a receipt", |b| {
        b.iter(|| protocol.receipt(black_box(&receipt.0.headers)));
    });
    c.bench_function("from the 402 to the retry's header", |b| {
        b.iter(|| bench.pay(black_box(&v2)).is_ok());
    });
    c.final_summary();
    Ok(())
}
