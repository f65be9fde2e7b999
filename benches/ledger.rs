//! How long a payment waits for the ledger: one payer alone, and 32 at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use farepass::budget::Entry;
use farepass::clock::{Timestamp, Window};
use farepass::event::{SpendEvent, State};
use farepass::ledger::{self, Ledger, Post};
use farepass::money::Usd;
use farepass::payment::{Limit, PaymentId, Session, SessionId};
use mimalloc::MiMalloc;
use tokio::runtime::Runtime;

// The program's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const PAYERS: u64 = 32;

fn session() -> Session {
    Session {
        id: SessionId("default".into()),
        agent: "bot".into(),
        budget: Usd(u64::MAX),
        created: NOW,
        expires: Timestamp(u64::MAX),
    }
}

fn limit(account: &str, window: Window) -> Limit {
    let (first, last) = window.buckets(NOW);
    Limit {
        account: account.into(),
        first,
        last,
        amount: Usd(u64::MAX),
        payments: None,
        resets_at: None,
        rolls: None,
    }
}

/// A reservation as a payment makes it: the session, a rolling and a calendar budget.
fn reserve(n: u64) -> Post {
    let random = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let mut tail = [0; 10];
    tail.copy_from_slice(random.to_be_bytes().split_at(6).1);
    let id = PaymentId::new(Timestamp(NOW.0 + n / 4), tail);
    let entry = Entry::Reserve {
        id,
        session: session().id,
        amount: Usd(10_000_000),
        limits: vec![
            limit("budget:hourly:bot", Window::Rolling { seconds: 3600 }),
            limit("budget:per-host:api.example.com", Window::Day),
        ],
        until: NOW.after_secs(300),
        now: NOW,
        nonce: format!(
            "eip155:84532 0x036CbD53842c5426634e7929541eC2318f3dCF7e 0x857b06519E91e3A54538791bDbb0E22373e36b66 {id}"
        ),
        host: "api.example.com".into(),
    };
    let event = SpendEvent {
        id,
        time: NOW,
        state: State::Reserved,
        session: session().id,
        agent: "bot".into(),
        method: "GET".into(),
        host: "api.example.com".into(),
        path: "/v1/forecast/berlin".into(),
        protocol: "x402-v2".into(),
        scheme: "exact".into(),
        network: "eip155:84532".into(),
        asset: "USDC".into(),
        pay_to: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C".into(),
        price: Some(Usd(10_000_000)),
        charged: Some(Usd(10_000_000)),
        nonce: Some(format!("0x{:064x}", id.0)),
        wallet: "main".into(),
        rule: Some("market-data".into()),
        policy: "0123456789abcdef".into(),
        ..SpendEvent::default()
    };
    Post {
        time: NOW,
        entries: vec![entry],
        event: Some(event),
    }
}

async fn open(dir: &std::path::Path) -> Arc<dyn Ledger> {
    let Ok(ledger) = ledger::open(dir) else {
        return ledger::in_memory();
    };
    let session = Post {
        time: NOW,
        entries: vec![Entry::OpenSession {
            session: session(),
            secret_sha256: None,
        }],
        event: None,
    };
    assert!(ledger.post(session).await.is_ok());
    ledger
}

/// `total` reservations by so many payers, each waiting for its own before the next.
async fn pay(ledger: &Arc<dyn Ledger>, next: &Arc<AtomicU64>, payers: u64, total: u64) -> Duration {
    let end = next.load(Ordering::Relaxed) + total;
    let started = Instant::now();
    let payer = |_| {
        let (ledger, next) = (Arc::clone(ledger), Arc::clone(next));
        tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= end {
                    return;
                }
                assert!(ledger.post(reserve(n)).await.is_ok());
            }
        })
    };
    let tasks: Vec<_> = (0..payers).map(payer).collect();
    for task in tasks {
        assert!(task.await.is_ok());
    }
    started.elapsed()
}

fn reservations(c: &mut Criterion) {
    let (Ok(runtime), Ok(dir)) = (Runtime::new(), tempfile::tempdir()) else {
        return;
    };
    let ledger = runtime.block_on(open(&dir.path().join("state")));
    let next = Arc::new(AtomicU64::new(1));
    let mut group = c.benchmark_group("reserve");
    group.sample_size(20);
    group.measurement_time(Duration::from_secs(8));
    // One iteration is ten reservations of each payer: fewer would measure the start of the tasks.
    for (name, payers) in [("one payer", 1), ("32 payers", PAYERS)] {
        group.throughput(Throughput::Elements(payers * 10));
        group.bench_function(name, |b| {
            b.iter_custom(|n| runtime.block_on(pay(&ledger, &next, payers, n * payers * 10)));
        });
    }
    group.finish();
    c.bench_function("one sync of the same disk", |b| {
        let path = dir.path().join("sync");
        let Ok(mut file) = std::fs::File::create(&path) else {
            return;
        };
        assert!(file.set_len(1 << 20).and_then(|()| file.sync_all()).is_ok());
        b.iter(|| {
            let wrote = std::io::Write::write_all(&mut file, &[7; 4096]);
            let rewound = std::io::Seek::rewind(&mut file);
            assert!(wrote.and(rewound).and_then(|()| file.sync_data()).is_ok());
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    reservations(&mut criterion);
    criterion.final_summary();
}
