//! A payer on a ledger in memory, with a wallet that does as it is told, a clock that is set by hand,
//! and somebody who watches.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use farepass::chain::Chains;
use farepass::clock::{Clock, Timestamp};
use farepass::event::{Notice, Sink, SpendEvent, State};
use farepass::ledger::sessions::{self, Wanted};
use farepass::ledger::{self, Filter, Ledger};
use farepass::money::{Network, Usd, canonical_assets};
use farepass::payer::{self, Parts, Payer, Signed};
use farepass::payment::{
    Asked, Challenge, Instruction, Nonce, PaymentId, Refusal, Session, Signature, Tool,
};
use farepass::policy::{Catalog, Policy};
use farepass::protocol;
use farepass::section::{Problems, Section};
use farepass::settings::{Rate, Unproven};
use farepass::wallet::{Wallet, WalletError};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

pub(crate) const NETWORK: &str = "eip155:84532";
pub(crate) const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
pub(crate) const MERCHANT: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
pub(crate) const PAYER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
pub(crate) const POLICY: &str = "
rules:
  - name: data
    match: { hosts: [api.example.com] }
    pay: { max: \"0.05 USD\" }
";

pub(crate) struct Hands(pub(crate) AtomicU64, pub(crate) AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        let ahead = self.1.load(Ordering::SeqCst);
        Timestamp::from_secs(self.now().secs().saturating_add_signed(ahead))
    }
}

/// What the wallet does when it is asked, and what the ledger said at that moment.
pub(crate) struct Scripted {
    pub(crate) answer: Mutex<Result<(), WalletError>>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) networks: Vec<Network>,
    pub(crate) seen: Mutex<Vec<State>>,
    pub(crate) chain: Option<bool>,
    /// Whoever has this lets it wait.
    pub(crate) gate: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Wallet for Scripted {
    fn name(&self) -> &str {
        "main"
    }

    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn address(&self, network: &Network) -> Option<String> {
        self.networks.contains(network).then(|| PAYER.into())
    }

    fn networks(&self) -> &[Network] {
        &self.networks
    }

    async fn sign(&self, _: &Instruction) -> Result<Signature, WalletError> {
        let rows = self.ledger.payments(Filter::default()).await.unwrap();
        self.seen.lock().unwrap().push(rows[0].state);
        let _open = self.gate.lock().await;
        self.answer
            .lock()
            .unwrap()
            .clone()
            .map(|()| Signature::Evm([7; 65]))
    }

    async fn settled(&self, _: PaymentId) -> Option<bool> {
        self.chain
    }
}

/// States, flags, notices.
#[derive(Default)]
pub(crate) struct Watcher(
    pub(crate) Mutex<Vec<SpendEvent>>,
    pub(crate) Mutex<Vec<SpendEvent>>,
    pub(crate) Mutex<Vec<Notice>>,
);

impl Sink for Watcher {
    fn observe(&self, event: &SpendEvent) {
        self.0.lock().unwrap().push(event.clone());
    }

    fn flagged(&self, event: &SpendEvent) {
        self.1.lock().unwrap().push(event.clone());
    }

    fn notice(&self, notice: &Notice) {
        self.2.lock().unwrap().push(notice.clone());
    }
}

pub(crate) struct Stage {
    pub(crate) payer: Arc<Payer>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) wallet: Arc<Scripted>,
    pub(crate) clock: Arc<Hands>,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) session: Arc<Session>,
}

pub(crate) struct Setup {
    pub(crate) policy: &'static str,
    pub(crate) budget: Usd,
    pub(crate) chain: Option<bool>,
    pub(crate) unproven: Unproven,
    pub(crate) ledger: Option<Arc<dyn Ledger>>,
    pub(crate) stopped: payer::Stopped,
    /// Whether the operating system has randomness.
    pub(crate) random: bool,
    /// `limits.identical_payments`.
    pub(crate) identical: Option<Rate>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: POLICY,
            budget: Usd(25_000_000),
            chain: None,
            unproven: Unproven::Count,
            ledger: None,
            stopped: Box::new(|| false),
            random: true,
            identical: None,
        }
    }
}

/// These rules, with this `limits.identical_payments`.
pub(crate) fn policy(text: &'static str, identical: Option<Rate>) -> Policy {
    let mut file = Section::file("test.yaml", text).unwrap();
    let catalog = Catalog {
        assets: canonical_assets(),
        validity: 300,
        requirements: 32,
        identical_payments: identical,
        ..Catalog::default()
    };
    let mut problems = Problems::default();
    let policy = Policy::read(&mut file, catalog, &mut problems);
    assert!(problems.is_empty(), "{:?}", problems.into_sorted());
    policy
}

impl Setup {
    pub(crate) async fn stage(self) -> Stage {
        let policy = policy(self.policy, self.identical);
        let ledger = self.ledger.unwrap_or_else(ledger::in_memory);
        let clock = Arc::new(Hands(AtomicU64::new(1_800_000_000), AtomicI64::new(0)));
        let wallet = Arc::new(Scripted {
            answer: Mutex::new(Ok(())),
            ledger: Arc::clone(&ledger),
            networks: vec![NETWORK.parse().unwrap()],
            seen: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            chain: self.chain,
        });
        let wanted = Wanted {
            agent: "bot".into(),
            budget: self.budget,
            expires: Duration::from_secs(3600),
        };
        let (draft, _) = sessions::Draft::new(wanted, &*clock).unwrap();
        draft.open(&*ledger).await.unwrap();
        let watcher = Arc::new(Watcher::default());
        static STAGES: AtomicUsize = AtomicUsize::new(0);
        let base = STAGES.fetch_add(1, Ordering::SeqCst) * 100_000;
        let next = AtomicUsize::new(1);
        let payer = Payer::new(Parts {
            policy: Arc::new(policy),
            ledger: Arc::clone(&ledger),
            wallets: vec![Arc::clone(&wallet) as Arc<dyn Wallet>],
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            fresh: Box::new(move || {
                if !self.random {
                    return None;
                }
                let n = next.fetch_add(1, Ordering::SeqCst);
                let mut nonce = [0; 32];
                nonce[24..].copy_from_slice(&(n as u64).to_be_bytes());
                nonce[16..24].copy_from_slice(&(base as u64).to_be_bytes());
                Some((PaymentId((base + n) as u128), Nonce(nonce)))
            }),
            sinks: vec![Arc::clone(&watcher) as Arc<dyn Sink>],
            unproven: self.unproven,
            admin_url: "http://127.0.0.1:4022".into(),
            stopped: self.stopped,
            chains: Chains::default(),
        });
        Stage {
            payer: Arc::new(payer),
            ledger,
            wallet,
            clock,
            watcher,
            session: Arc::new(draft.session),
        }
    }
}

impl Stage {
    pub(crate) async fn usual() -> Self {
        Setup::default().stage().await
    }

    pub(crate) fn asked(&self, host: &str) -> Asked {
        Asked {
            session: Arc::clone(&self.session),
            method: http::Method::GET,
            secure: true,
            host: host.into(),
            port: 443,
            path: "/v1/x".into(),
            tool: Tool::None,
            request: None,
            trace: None,
        }
    }

    pub(crate) async fn buy(&self, amount: &str) -> Result<farepass::payer::Signed, Refusal> {
        let asked = self.asked("api.example.com");
        self.payer.authorize(&asked, &challenge(amount)).await
    }

    pub(crate) async fn newest(&self) -> SpendEvent {
        self.ledger.flush().await.unwrap();
        let all = Filter {
            denied: true,
            ..Filter::default()
        };
        self.ledger.payments(all).await.unwrap().remove(0)
    }

    pub(crate) async fn spent(&self) -> (Usd, u32) {
        self.ledger.flush().await.unwrap();
        let row = self
            .ledger
            .session(&self.session.id)
            .await
            .unwrap()
            .unwrap();
        (row.spent, row.payments)
    }
}

#[must_use]
pub(crate) fn challenge(amount: &str) -> Challenge {
    challenge_of(&json!([{
        "scheme": "exact", "network": NETWORK, "amount": amount, "asset": USDC,
        "payTo": MERCHANT, "maxTimeoutSeconds": 60,
        "extra": { "name": "USDC", "version": "2" }
    }]))
}

pub(crate) fn challenge_of(accepts: &Value) -> Challenge {
    challenge_with(accepts, &json!({}))
}

/// One offer of this amount to this recipient, in USDC.
pub(crate) fn offer(amount: &str, pay_to: &str) -> Challenge {
    challenge_of(&json!([{
        "scheme": "exact", "network": NETWORK, "amount": amount, "asset": USDC, "payTo": pay_to,
        "maxTimeoutSeconds": 60, "extra": { "name": "USDC", "version": "2" }
    }]))
}

/// The payment for such an offer.
pub(crate) async fn pay(stage: &Stage, amount: &str, pay_to: &str) -> Result<Signed, Refusal> {
    let asked = stage.asked("api.example.com");
    let offer = offer(amount, pay_to);
    stage.payer.authorize(&asked, &offer).await
}

pub(crate) fn challenge_with(accepts: &Value, extensions: &Value) -> Challenge {
    let required = json!({
        "x402Version": 2,
        "resource": { "url": "https://api.example.com/v1/x" },
        "accepts": accepts,
        "extensions": extensions
    });
    let mut response = http::Response::new(());
    *response.status_mut() = StatusCode::PAYMENT_REQUIRED;
    let value = HeaderValue::try_from(STANDARD.encode(required.to_string())).unwrap();
    response.headers_mut().insert("payment-required", value);
    let (head, ()) = response.into_parts();
    protocol::read(&protocol::recognise(&head), &head, None)
}

pub(crate) fn receipt(content: &Value) -> HeaderMap {
    let value = HeaderValue::try_from(STANDARD.encode(content.to_string())).unwrap();
    HeaderMap::from_iter([(http::HeaderName::from_static("payment-response"), value)])
}

pub(crate) fn paid() -> Value {
    json!({ "success": true, "transaction": format!("0x{}", "ab".repeat(32)), "network": NETWORK, "payer": PAYER })
}
