//! Killed at each step of a payment, again and again: what the merchant saw is in the ledger, no sum
//! is lower than what happened, and a restart pays on within the same budget (threat M-10).
//!
//! `FAREPASS_KILLS=50` kills so often at each point; an ordinary run does it six times.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use farepass::budget::Entry;
use farepass::clock::Timestamp;
use farepass::event::{SpendEvent, State};
use farepass::ledger::{self, Filter, Post};
use farepass::money::Usd;
use farepass::payment::{PaymentId, SessionId};
use serde_json::{Value, json};

use crate::support::agent::{Agent, Ask};
use crate::support::chain::Transfer;
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant, Seen};
use crate::support::proxy::{Proxy, Setup};
use crate::support::{USDC, until};

const HOST: &str = "shop.stand.test";
/// Of one page: 10000 atomic units, a cent.
const PRICE: Usd = Usd(10_000_000);
/// Agents that pay at the same time.
const AGENTS: usize = 4;
/// Payments that one kill may cost: three before it, and one in the hands of each agent.
const PER_KILL: usize = 3 + AGENTS + 1;
/// Dead payments that the sweeper finds at each start.
const DEAD: usize = 4;

fn kills() -> usize {
    let times = std::env::var("FAREPASS_KILLS").ok();
    times.map_or(6, |n| n.parse().expect("FAREPASS_KILLS is a number"))
}

fn encoded(value: &Value) -> String {
    STANDARD.encode(value.to_string())
}

fn transfer(seen: &Seen) -> Option<Transfer> {
    let payment = STANDARD.decode(seen.payment()?).ok()?;
    Transfer::of(&serde_json::from_slice(&payment).ok()?)
}

/// Sells any page for a cent, and believes every payment.
fn shop() -> Merchant {
    Merchant::start(|seen, out| {
        let (status, name, value) = match transfer(seen) {
            Some(paid) => (
                "200 OK",
                "PAYMENT-RESPONSE",
                json!({ "success": true, "transaction": paid.nonce, "network": "eip155:84532", "payer": paid.from }),
            ),
            None => (
                "402 Payment Required",
                "PAYMENT-REQUIRED",
                json!({
                    "x402Version": 2,
                    "resource": { "url": format!("https://{HOST}{}", seen.target) },
                    "accepts": [{
                        "scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": USDC,
                        "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C", "maxTimeoutSeconds": 60,
                        "extra": { "name": "USDC", "version": "2" },
                    }],
                }),
            ),
        };
        let value = encoded(&value);
        write!(
            out,
            "HTTP/1.1 {status}\r\n{name}: {value}\r\nContent-Length: 4\r\n\r\ntext"
        )?;
        Ok(After::Keep)
    })
}

/// A page that nobody asked for before: what a killed proxy left open is paid once.
fn page() -> Ask {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    Ask::get(&format!("https://{HOST}/page?n={n}"))
}

fn agent(proxy: &Proxy) -> Agent {
    proxy.agent(Duration::from_secs(20))
}

fn buy(proxy: &Proxy) -> Answer {
    agent(proxy).send(&page()).unwrap()
}

/// Agents ask until the proxy is gone.
fn until_killed(proxy: &mut Proxy) {
    let (gone, agent) = (AtomicBool::new(false), agent(proxy));
    std::thread::scope(|scope| {
        for _ in 0..AGENTS {
            scope.spawn(|| {
                while !gone.load(Ordering::Relaxed) {
                    let _ = agent.send(&page());
                }
            });
        }
        let ended = until("the fail point", Duration::from_secs(60), || proxy.ended());
        gone.store(true, Ordering::Relaxed);
        assert_eq!(ended.signal(), Some(9), "{ended}: {}", proxy.stderr());
    });
}

/// What the stopped ledger says: the newest event of each payment, and what the session has spent.
struct Books {
    events: Vec<SpendEvent>,
    spent: Usd,
    payments: u32,
}

/// Runs a question to a ledger to its end.
fn wait<T>(question: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(question)
}

fn books(state: &Path) -> Books {
    let reader = ledger::read(state).unwrap();
    let id = SessionId(ledger::sessions::DEFAULT.into());
    wait(async {
        let row = reader.session(&id).await.unwrap().unwrap();
        Books {
            events: reader.payments(Filter::default()).await.unwrap(),
            spent: row.spent,
            payments: row.payments,
        }
    })
}

/// The promise, with the proxy stopped or killed.
fn assert_whole(shop: &Merchant, proxy: &Proxy, budget: Usd) {
    proxy.assert_verifies();
    let books = books(&proxy.setup.state());
    assert!(books.spent <= budget, "{} of {budget}", books.spent);
    let charged = books.events.iter().filter_map(|e| e.charged);
    let told = charged.fold(Usd(0), |sum, c| sum.plus(c).unwrap());
    assert_eq!(books.spent, told, "the sum and what the events say");
    let counting = books.events.iter().filter(|e| e.charged.is_some());
    assert_eq!(books.payments as usize, counting.count());

    let known: BTreeSet<_> = books
        .events
        .iter()
        .filter_map(|e| e.nonce.clone())
        .collect();
    let mut by_page = BTreeMap::new();
    for seen in shop.seen() {
        if let Some(paid) = transfer(&seen) {
            let nonce = paid.nonce.to_ascii_lowercase();
            assert!(known.contains(&nonce), "the ledger does not know {nonce}");
            let first = by_page.entry(seen.target.clone()).or_insert(nonce.clone());
            assert_eq!(*first, nonce, "{} was paid twice", seen.target);
        }
    }
}

/// Puts payments into the stopped ledger that nobody can charge any more.
fn leave_dead_payments(state: &Path) {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let ledger = ledger::open(state).unwrap();
    let session = SessionId(ledger::sessions::DEFAULT.into());
    for n in (0..DEAD).map(|_| NEXT.fetch_add(1, Ordering::Relaxed)) {
        let (id, nonce) = (PaymentId(n as u128), format!("0x{n:064x}"));
        let event = SpendEvent {
            id,
            state: State::Reserved,
            session: session.clone(),
            price: Some(PRICE),
            charged: Some(PRICE),
            nonce: Some(nonce.clone()),
            wallet: "main".into(),
            ..SpendEvent::default()
        };
        let entry = Entry::Reserve {
            id,
            session: session.clone(),
            amount: PRICE,
            limits: vec![],
            until: Timestamp(2),
            now: Timestamp(1),
            nonce,
            host: String::new(),
        };
        let post = Post {
            time: Timestamp(1),
            entries: vec![entry],
            event: Some(event),
        };
        wait(ledger.post(post)).unwrap();
    }
}

fn killed_at(point: &str) {
    let (shop, kills, sweeping) = (shop(), kills(), point.ends_with("-close"));
    let payments = kills * PER_KILL + 2;
    let budget = Usd(PRICE.0 * payments as u64);
    let mut setup = Setup::new();
    setup
        .root(&shop.root)
        .resolve(&format!("{HOST}:443"), shop.tls.port().into())
        .budget(&budget.to_string());
    let mut proxy = setup.start();
    assert!(proxy.stop().success());
    for kill in 0..kills {
        if sweeping {
            leave_dead_payments(&proxy.setup.state());
        }
        if proxy.start_to_die(&format!("{point}:{}", kill % 3 + 1)) {
            until_killed(&mut proxy);
        }
        assert_eq!(
            proxy.ended().unwrap().signal(),
            Some(9),
            "{}",
            proxy.stderr()
        );
        assert_whole(&shop, &proxy, budget);
    }
    proxy.start_again();
    let answer = buy(&proxy);
    assert_eq!(
        answer.status,
        200,
        "a restart pays again: {}",
        answer.text()
    );
    let refused = (0..=payments)
        .map(|_| buy(&proxy))
        .find(|a| a.status == 402);
    let reason = refused.as_ref().and_then(Answer::reason);
    assert_eq!(reason.as_deref(), Some("over_session_cap"));
    assert!(proxy.stop().success());
    assert_whole(&shop, &proxy, budget);
    let books = books(&proxy.setup.state());
    assert_eq!(books.spent, budget, "all of it is spent, and nothing twice");
    if sweeping {
        let dead = books.events.iter().filter(|e| e.id.0 <= 1 << 64);
        assert!(dead.clone().count() >= kills * DEAD);
        assert!(
            dead.clone().all(|e| e.state == State::Settled),
            "{:?}",
            dead.collect::<Vec<_>>()
        );
    }
}

#[test]
fn before_a_reservation() {
    killed_at("before-reserve");
}

#[test]
fn before_a_commit() {
    killed_at("before-commit");
}

#[test]
fn after_a_commit() {
    killed_at("after-commit");
}

#[test]
fn before_a_signature() {
    killed_at("before-sign");
}

#[test]
fn after_a_signature() {
    killed_at("after-sign");
}

#[test]
fn before_the_payment_leaves() {
    killed_at("before-send");
}

#[test]
fn after_the_payment_left() {
    killed_at("after-send");
}

#[test]
fn before_a_settlement() {
    killed_at("before-settle");
}

#[test]
fn after_a_settlement() {
    killed_at("after-settle");
}

#[test]
fn before_the_sweeper_closes() {
    killed_at("before-close");
}

#[test]
fn after_the_sweeper_closed() {
    killed_at("after-close");
}

/// Every fail point of the program is one of the tests above.
#[test]
fn each_point_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // What only a Lightning node does has its test beside the others of its kind.
    let files = [
        "tests/real/fail_points.rs",
        "tests/real/lightning/faults.rs",
    ];
    let tests = files.map(|file| std::fs::read_to_string(root.join(file)).unwrap());
    let tests = tests.concat();
    // Both ledgers have the points of a commit.
    let mut found = BTreeSet::new();
    for file in sources(&root.join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for rest in text.split("failpoint::reach(\"").skip(1) {
            let name = rest.split('"').next().unwrap();
            let test = format!("    killed_at(\"{name}\");");
            assert!(tests.contains(&test), "{}: {name}", file.display());
            found.insert(name.to_owned());
        }
    }
    assert_eq!(found.len(), tests.matches("\n    killed_at(\"").count());
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let below = entries
        .map(|e| e.unwrap().path())
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        });
    below.collect()
}
