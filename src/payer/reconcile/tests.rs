//! What the looks of one round share: whoever is silent is asked once, and nobody else is held silent for it.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::budget::Stage;
use crate::chain::fake::{BASE, Chain, Fake, about, chains, endless};
use crate::chain::{Found, Keeper, Sent};
use crate::clock::Fixed;
use crate::event::SETTLED_AS_CLAIMED;
use crate::ledger;
use crate::money::{Amount, Network, Usd};
use crate::payment::{Instruction, Nonce, Signature};
use crate::wallet::{Standing, WalletError};

const NOW: u64 = 1_800_000_000;
const DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";

fn house(chains: Chains) -> Reconciler {
    let clock = Arc::new(Fixed(Timestamp::from_secs(NOW)));
    Reconciler::new(ledger::in_memory(), chains, vec![], clock, Arc::new([]))
}

fn payment() -> Payment {
    Payment {
        stage: Stage::Settled,
        amount: Usd(1),
        marks: vec![],
        until: Timestamp(0),
        nonce: String::new(),
    }
}

fn event(network: &str) -> SpendEvent {
    SpendEvent {
        state: State::Settled,
        network: network.into(),
        wallet: "node".into(),
        nonce: Some("0x00".into()),
        ..SpendEvent::default()
    }
}

async fn recorded(house: &Reconciler, id: u128, confirmed: bool) {
    let id = PaymentId(id);
    let event = SpendEvent {
        id,
        confirmed,
        ..event(BASE)
    };
    let post = Post {
        time: Timestamp(0),
        entries: vec![crate::budget::Entry::Note { id }],
        event: Some(event),
    };
    house.ledger.post(post).await.unwrap();
}

/// What was confirmed before a start is not looked at again before what is new.
#[tokio::test]
async fn a_first_reading_leaves_out_what_was_confirmed_long_ago() {
    let house = house(chains(BASE, 1));
    for id in 1..=50 {
        recorded(&house, id, false).await;
        recorded(&house, id, true).await;
    }
    recorded(&house, 51, false).await;
    house.notice().await.unwrap();
    let late = Timestamp::from_secs(NOW);
    assert_eq!(house.waiting().due(late, 100), [PaymentId(51)]);
    // What comes from there on is read too.
    recorded(&house, 52, false).await;
    house.notice().await.unwrap();
    assert_eq!(house.waiting().due(late, 100), [PaymentId(52)]);
}

/// A wallet that never answers.
#[derive(Default)]
struct Mute(AtomicUsize);

#[async_trait]
impl Wallet for Mute {
    fn name(&self) -> &str {
        "node"
    }

    fn kind(&self) -> &'static str {
        "mute"
    }

    fn address(&self, _: &Network) -> Option<String> {
        None
    }

    fn networks(&self) -> &[Network] {
        &[]
    }

    async fn sign(&self, _: &Instruction) -> Result<Signature, WalletError> {
        Err(WalletError::Unsupported)
    }

    async fn standing(&self, _: Nonce) -> Option<Standing> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Some(Standing::Silent)
    }
}

#[tokio::test]
async fn a_wallet_that_is_silent_is_asked_once_in_a_round() {
    let house = house(Chains::default());
    let wallet = Arc::new(Mute::default());
    let (payment, last) = (payment(), event("lightning:regtest"));
    for round in 1..=2 {
        let mut pass = house.pass();
        for nth in 0..3 {
            let asked = Arc::clone(&wallet) as Arc<dyn Wallet>;
            let found = pass.look_at_node(&payment, &last, asked, Nonce([1; 32]));
            let found = found.await.unwrap();
            // The ledger knows nothing of this payment, and is read where a wallet was asked.
            if nth > 0 {
                assert_eq!(found.detail.as_deref(), Some("no answer"));
                assert_eq!(found.outcome, Outcome::Unanswered);
            }
        }
        assert_eq!(wallet.0.load(Ordering::SeqCst), round);
    }
}

#[tokio::test]
async fn a_cluster_that_is_silent_is_asked_once_in_a_round() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let house = house(chains(DEVNET, port));
    let (payment, last) = (payment(), event(DEVNET));
    let sent = Sent {
        owner: "payer".into(),
        id: [1; 32],
        amount: 1,
        since: NOW,
        until: NOW,
        claimed: None,
    };
    let mut pass = house.pass();
    let first = pass.look_at_cluster(&payment, &last, sent.clone()).await;
    let first = first.unwrap();
    assert!(first.detail.as_ref().unwrap().contains("no connection"));
    // Now there is somebody, for the next round.
    let node = Fake::start_at(port, |_, _| endless());
    let again = pass.look_at_cluster(&payment, &last, sent.clone()).await;
    assert_eq!((again.unwrap(), node.asked("getGenesisHash")), (first, 0));
    let next = house.pass().look_at_cluster(&payment, &last, sent).await;
    assert_eq!(next.unwrap().outcome, Outcome::Unanswered);
    assert_eq!(node.asked("getGenesisHash"), 1);
}

/// What cannot be read of one payment keeps nobody from looking at the next.
#[tokio::test]
async fn a_chain_that_says_too_much_of_one_payment_is_asked_about_the_next() {
    let mut chain = Chain {
        start: NOW - 10_000,
        millis: 2000,
        newest: 5000,
        row: 1000,
        about: about(Keeper::Token, NOW - 1000, 60),
        taken: None,
    };
    chain.taken = Some(chain.at(NOW - 990));
    let good = chain.about.clone();
    let mut other = good.clone();
    other.nonce = [5; 32];
    let odd = hex::encode(other.nonce);
    let node = Fake::start(move |method, params| {
        let data = params[0]["data"].as_str().unwrap_or_default();
        match data.contains(&odd) {
            true => endless(),
            false => chain.answer(method, params),
        }
    });
    let house = house(node.chains(BASE));
    let mut pass = house.pass();
    let error = pass.sight(BASE, &other).await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
    let sight = pass.sight(BASE, &good).await;
    assert!(matches!(sight, Ok(Some(Sight::Taken(_)))), "{sight:?}");
}

/// A node that is configured later shows what a receipt kept to itself.
#[test]
fn more_than_a_receipt_named_is_flagged_though_it_was_believed() {
    let now = Timestamp::from_secs(NOW);
    for (taken, flagged) in [(40, false), (70, true)] {
        let last = SpendEvent {
            amount: Some(Amount(100)),
            price: Some(Usd(100)),
            amount_settled: Some(Amount(40)),
            charged: Some(Usd(40)),
            receipt: Some("claimed".into()),
            reason: Some(SETTLED_AS_CLAIMED.into()),
            ..event(BASE)
        };
        let found = Found {
            transaction: "0xab".into(),
            block: 7,
            value: taken,
        };
        let concluded = conclude(&payment(), &last, Sight::Taken(found), now, now).unwrap();
        let event = concluded.event;
        let flags = event.flags.contains(&Flag::ReceiptMismatch);
        assert_eq!((flags, event.confirmed), (flagged, true), "{taken}");
        assert_eq!(event.amount_settled, Some(Amount(taken)));
        assert_eq!(event.charged, Some(Usd(40)), "closed stays as it is");
    }
}
