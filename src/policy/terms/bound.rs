//! How much a term lets through, so that two policies can be compared without any request.

use std::collections::BTreeSet;

use crate::settings::Rate;

/// One aspect of a term. The same aspect of another policy is as strict, or it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A larger number lets more through.
    AtMost(u128),
    /// So many in a time. Another time counts anew, so it lets more through.
    Rate(Rate),
    /// What is listed may be; a longer list lets more through.
    Only(BTreeSet<String>),
    /// What is listed must hold; a shorter list lets more through.
    Holds(BTreeSet<String>),
}

impl Bound {
    /// A list of what may be.
    pub(super) fn only<T: ToString>(items: impl IntoIterator<Item = T>) -> Self {
        Self::Only(items.into_iter().map(|item| item.to_string()).collect())
    }

    /// A list of what must hold.
    pub(super) fn holds<T: ToString>(items: impl IntoIterator<Item = T>) -> Self {
        Self::Holds(items.into_iter().map(|item| item.to_string()).collect())
    }

    /// Does it let nothing through that the other would not?
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AtMost(own), Self::AtMost(theirs)) => own <= theirs,
            (Self::Rate(own), Self::Rate(theirs)) => {
                own.seconds == theirs.seconds && own.count <= theirs.count
            }
            (Self::Only(own), Self::Only(theirs)) => own.is_subset(theirs),
            (Self::Holds(own), Self::Holds(theirs)) => own.is_superset(theirs),
            (Self::AtMost(_) | Self::Rate(_) | Self::Only(_) | Self::Holds(_), _) => false,
        }
    }
}
