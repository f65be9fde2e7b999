//! What counts in the accounts of a kind, kept small while it is read: an account for each host that was
//! ever paid is many.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::budget::Counted;
use crate::money::Usd;

/// What counts in the accounts of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Those in which the most counts, the fullest first, then in the order of their names.
    pub fullest: Vec<(String, Counted)>,
    /// In how many something counts.
    pub in_use: usize,
    /// Payments of whichever has the most.
    pub most_payments: u32,
}

/// The order in which they are told.
type Place = (Usd, u32, Reverse<String>);

/// Takes accounts in as they are read, and keeps so many of them.
pub(super) struct Fullest {
    most: usize,
    kept: BinaryHeap<Reverse<Place>>,
    in_use: usize,
    most_payments: u32,
}

impl Fullest {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            kept: BinaryHeap::new(),
            in_use: 0,
            most_payments: 0,
        }
    }

    /// One more account; one in which nothing counts is none.
    pub(super) fn put(&mut self, name: String, counted: Counted) {
        if counted.payments == 0 {
            return;
        }
        self.in_use = self.in_use.saturating_add(1);
        self.most_payments = self.most_payments.max(counted.payments);
        let place = (counted.amount, counted.payments, Reverse(name));
        self.kept.push(Reverse(place));
        if self.kept.len() > self.most {
            self.kept.pop();
        }
    }

    pub(super) fn done(self) -> Accounts {
        let row = |Reverse((amount, payments, Reverse(name))): Reverse<Place>| {
            (name, Counted { amount, payments })
        };
        let fullest = self.kept.into_sorted_vec().into_iter().map(row);
        Accounts {
            fullest: fullest.collect(),
            in_use: self.in_use,
            most_payments: self.most_payments,
        }
    }
}
