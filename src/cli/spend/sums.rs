//! Sums over payments: pure. Money of one group is added in the unit of account; atomic units are added
//! per asset and network only, because a unit of one is none of another.

use std::collections::BTreeMap;

use serde::Serializer;

use crate::event::{SpendEvent, State};
use crate::money::{Amount, Usd};

/// What payments are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Key {
    Session,
    Agent,
    Host,
    Day,
    Month,
    Network,
    Asset,
    Wallet,
    Rule,
}

impl Key {
    /// The word on the command line and in JSON.
    pub(super) fn name(self) -> &'static str {
        self.names().0
    }

    /// The head of its column.
    pub(super) fn head(self) -> &'static str {
        self.names().1
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Session => ("session", "SESSION"),
            Self::Agent => ("agent", "AGENT"),
            Self::Host => ("host", "HOST"),
            Self::Day => ("day", "DAY"),
            Self::Month => ("month", "MONTH"),
            Self::Network => ("network", "NETWORK"),
            Self::Asset => ("asset", "ASSET"),
            Self::Wallet => ("wallet", "WALLET"),
            Self::Rule => ("rule", "RULE"),
        }
    }

    /// Does it tell one moment from another? Then groups are in the order of time.
    pub(super) fn is_time(self) -> bool {
        match self {
            Self::Day | Self::Month => true,
            Self::Session
            | Self::Agent
            | Self::Host
            | Self::Network
            | Self::Asset
            | Self::Wallet
            | Self::Rule => false,
        }
    }

    /// A payment belongs to the moment it was made at, UTC, whatever became of it later.
    fn of(self, event: &SpendEvent) -> String {
        let made = |length| {
            let time = event.id.made().to_string();
            time.get(..length).unwrap_or_default().to_owned()
        };
        match self {
            Self::Session => event.session.to_string(),
            Self::Agent => event.agent.clone(),
            Self::Host => event.host.clone(),
            Self::Day => made(10),
            Self::Month => made(7),
            Self::Network => event.network.clone(),
            Self::Asset => event.asset.clone(),
            Self::Wallet => event.wallet.clone(),
            Self::Rule => event.rule.clone().unwrap_or_default(),
        }
    }
}

/// Money of one kind: all of it, and how sure it is that it moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Split<T> {
    /// What counts against the budgets: the three others together.
    pub(super) spent: T,
    /// A chain or a preimage shows that it moved.
    pub(super) confirmed: T,
    /// Settled: a receipt claims it, or nothing proves the opposite.
    pub(super) claimed: T,
    /// Reserved or unknown: it may have moved, or may still.
    pub(super) held: T,
}

/// Of one asset on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Units {
    pub(super) network: String,
    pub(super) asset: String,
    pub(super) payments: u64,
    /// Atomic units.
    #[serde(flatten)]
    pub(super) amount: Split<Amount>,
}

/// Of one group, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Sums {
    pub(super) payments: u64,
    #[serde(flatten)]
    pub(super) money: Split<Usd>,
    pub(super) refused: u64,
    #[serde(serialize_with = "values")]
    pub(super) assets: BTreeMap<(String, String), Units>,
}

fn values<S: Serializer>(
    assets: &BTreeMap<(String, String), Units>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(assets.values())
}

/// A sum that no number holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payments add up to more than can be counted")]
pub(super) struct TooMuch;

/// Where the money of a payment stands.
enum Stand {
    Confirmed,
    Claimed,
    Held,
}

impl<T: Copy> Split<T> {
    fn add(&mut self, part: T, stand: &Stand, plus: fn(T, T) -> Option<T>) -> Result<(), TooMuch> {
        let kind = match stand {
            Stand::Confirmed => &mut self.confirmed,
            Stand::Claimed => &mut self.claimed,
            Stand::Held => &mut self.held,
        };
        *kind = plus(*kind, part).ok_or(TooMuch)?;
        self.spent = plus(self.spent, part).ok_or(TooMuch)?;
        Ok(())
    }
}

impl Sums {
    fn add(&mut self, event: &SpendEvent) -> Result<(), TooMuch> {
        let stand = match event.state {
            State::Denied => {
                self.refused += 1;
                return Ok(());
            }
            State::Released => return Ok(()),
            State::Settled if event.confirmed => Stand::Confirmed,
            State::Settled => Stand::Claimed,
            State::Reserved | State::Unknown => Stand::Held,
        };
        let money = event.charged.or(event.price).unwrap_or_default();
        self.payments += 1;
        self.money.add(money, &stand, Usd::plus)?;
        let named = (event.network.clone(), event.asset.clone());
        let units = self.assets.entry(named).or_insert_with(|| Units {
            network: event.network.clone(),
            asset: event.asset.clone(),
            ..Units::default()
        });
        units.payments += 1;
        units.amount.add(counted(event), &stand, Amount::plus)
    }
}

/// How many atomic units of a payment count: what was signed, or the part of a maximum that was taken.
fn counted(event: &SpendEvent) -> Amount {
    let signed = event.amount.unwrap_or_default();
    let part = event.amount_settled.filter(|part| {
        event.state == State::Settled && *part < signed && event.share(*part) == event.charged
    });
    part.unwrap_or(signed)
}

/// All payments, in groups.
pub(super) struct Book {
    by: Vec<Key>,
    groups: BTreeMap<Vec<String>, Sums>,
    /// Of all of them.
    pub(super) total: Sums,
}

impl Book {
    /// Without payments. Two keys of one name would be two columns that say the same.
    pub(super) fn new(mut by: Vec<Key>) -> Self {
        let mut seen = vec![];
        by.retain(|key| {
            let new = !seen.contains(key);
            seen.push(*key);
            new
        });
        Self {
            by,
            groups: BTreeMap::new(),
            total: Sums::default(),
        }
    }

    /// Counts the newest event of a payment or refusal.
    ///
    /// # Errors
    /// When a sum does not fit.
    pub(super) fn add(&mut self, event: &SpendEvent) -> Result<(), TooMuch> {
        let values = self.by.iter().map(|key| key.of(event)).collect();
        self.groups.entry(values).or_default().add(event)?;
        self.total.add(event)
    }

    /// What the groups are made by, in the order that was asked for.
    pub(super) fn by(&self) -> &[Key] {
        &self.by
    }

    /// Each group with its values: in the order of time where that is the first key, else the dearest
    /// first.
    pub(super) fn groups(&self) -> Vec<(&[String], &Sums)> {
        let pairs = self.groups.iter();
        let mut rows: Vec<_> = pairs.map(|(values, sums)| (&values[..], sums)).collect();
        if !self.by.first().is_some_and(|key| key.is_time()) {
            rows.sort_by_key(|(_, sums)| std::cmp::Reverse((sums.money.spent, sums.refused)));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::payment::PaymentId;

    const LATE: u64 = 1_769_903_999_999; // 2026-01-31T23:59:59.999Z

    fn event(state: State, network: &str, atoms: u128, nanos: u64) -> SpendEvent {
        SpendEvent {
            id: PaymentId::new(Timestamp(LATE), [7; 10]),
            time: Timestamp(LATE + 5_000),
            state,
            host: "api.example.com".into(),
            network: network.into(),
            asset: "USDC".into(),
            amount: Some(Amount(atoms)),
            price: Some(Usd(nanos)),
            charged: Some(Usd(nanos)),
            ..SpendEvent::default()
        }
    }

    fn book(by: &[Key], events: &[SpendEvent]) -> Book {
        let mut book = Book::new(by.to_vec());
        for event in events {
            book.add(event).unwrap();
        }
        book
    }

    #[test]
    fn units_of_one_network_are_not_added_to_those_of_another() {
        let chain = SpendEvent {
            confirmed: true,
            ..event(State::Settled, "eip155:8453", 7, 7_000)
        };
        let events = [
            chain,
            event(State::Settled, "eip155:8453", 10, 10_000),
            event(State::Unknown, "eip155:8453", 100, 100_000),
            event(State::Reserved, "eip155:1", 1_000, 1_000_000),
            event(State::Released, "eip155:1", 5, 5),
            event(State::Denied, "eip155:1", 9, 9),
        ];
        let sums = book(&[Key::Host], &events).total;
        let money = Split {
            spent: Usd(1_117_000),
            confirmed: Usd(7_000),
            claimed: Usd(10_000),
            held: Usd(1_100_000),
        };
        assert_eq!((sums.payments, sums.refused, sums.money), (4, 1, money));
        let units: Vec<_> = sums
            .assets
            .values()
            .map(|u| (&*u.network, u.amount.spent))
            .collect();
        assert_eq!(
            units,
            [("eip155:1", Amount(1_000)), ("eip155:8453", Amount(117))]
        );
    }

    #[test]
    fn of_a_maximum_the_part_counts_that_was_taken() {
        let part = SpendEvent {
            amount_settled: Some(Amount(3)),
            charged: Some(Usd(3_000)),
            ..event(State::Settled, "eip155:1", 10, 10_000)
        };
        assert_eq!(counted(&part), Amount(3));
        // What a receipt names is no proof: all of it counts, in dollars and in units.
        let held = SpendEvent {
            charged: Some(Usd(10_000)),
            state: State::Unknown,
            ..part.clone()
        };
        assert_eq!(counted(&held), Amount(10));
        let closed = SpendEvent {
            charged: Some(Usd(10_000)),
            ..part
        };
        assert_eq!(counted(&closed), Amount(10));
    }

    #[test]
    fn a_payment_belongs_to_the_day_it_was_made_on() {
        let book = book(
            &[Key::Day, Key::Month, Key::Day],
            &[event(State::Settled, "eip155:1", 1, 1)],
        );
        assert_eq!(book.by(), [Key::Day, Key::Month]);
        assert_eq!(book.groups()[0].0, ["2026-01-31", "2026-01"]);
    }

    #[test]
    fn the_dearest_is_first_and_days_are_in_order() {
        let at = |millis: u64, nanos: u64| SpendEvent {
            id: PaymentId::new(Timestamp(millis), [7; 10]),
            host: nanos.to_string(),
            ..event(State::Settled, "eip155:1", 1, nanos)
        };
        let events = [at(86_400_000, 2), at(0, 1), at(2 * 86_400_000, 3)];
        let firsts = |by| {
            let book = book(&[by], &events);
            let groups = book.groups().into_iter();
            groups
                .map(|(values, _)| values[0].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(firsts(Key::Host), ["3", "2", "1"]);
        assert_eq!(firsts(Key::Day), ["1970-01-01", "1970-01-02", "1970-01-03"]);
    }

    #[test]
    fn a_sum_that_does_not_fit_is_told() {
        let mut book = book(
            &[Key::Host],
            &[event(State::Settled, "eip155:1", 1, u64::MAX)],
        );
        let one = event(State::Settled, "eip155:1", 1, 1);
        assert_eq!(book.add(&one), Err(TooMuch));
    }

    proptest::proptest! {
        #[test]
        fn groups_add_up_to_the_total(rows in proptest::collection::vec((0..5usize, 0..3u8, 0..1_000_000u128, 0..3u64), 0..50)) {
            let states = [State::Settled, State::Unknown, State::Reserved, State::Released, State::Denied];
            let events: Vec<_> = rows.iter().map(|(state, network, atoms, day)| SpendEvent {
                id: PaymentId::new(Timestamp(day * 86_400_000), [7; 10]),
                confirmed: atoms % 2 == 0,
                ..event(states[*state], &format!("eip155:{}", network + 1), *atoms, 7)
            }).collect();
            let book = book(&[Key::Day, Key::Network], &events);
            let mut all = Sums::default();
            for (_, sums) in book.groups() {
                all.payments += sums.payments;
                all.refused += sums.refused;
                let (a, b) = (&mut all.money, &sums.money);
                for (into, from) in [(&mut a.spent, b.spent), (&mut a.confirmed, b.confirmed), (&mut a.claimed, b.claimed), (&mut a.held, b.held)] {
                    *into = into.plus(from).unwrap();
                }
                proptest::prop_assert_eq!(b.spent.0, b.confirmed.0 + b.claimed.0 + b.held.0);
            }
            proptest::prop_assert_eq!(&all.money, &book.total.money);
            proptest::prop_assert_eq!((all.payments, all.refused), (book.total.payments, book.total.refused));
            let atoms: u128 = book.total.assets.values().map(|u| u.amount.spent.0).sum();
            let counts = |e: &&SpendEvent| !matches!(e.state, State::Released | State::Denied);
            proptest::prop_assert_eq!(atoms, events.iter().filter(counts).map(|e| e.amount.unwrap().0).sum::<u128>());
        }
    }
}
