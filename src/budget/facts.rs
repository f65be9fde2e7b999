//! What the book remembers besides sums: freezes, merchants, and what a person was asked. Each fact has
//! one key; every key that an entry looks at or changes is known before it is judged.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::money::{Amount, Usd};
use crate::payment::{ApprovalId, PaymentId, SessionId};

/// One remembered thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// Nothing is reserved there until the operator says otherwise.
    Frozen {
        /// Since when.
        since: Timestamp,
        /// What the operator wrote.
        why: String,
    },
    /// A host that was paid before.
    Merchant {
        /// First time.
        since: Timestamp,
        /// It is known only because of these payments, and only while one of them stands. Empty: for good.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        behind: Vec<PaymentId>,
    },
    /// Whom payments at a host went to first, on one network.
    Payee {
        /// The recipient, normalised.
        pay_to: String,
        /// First time; by older programs also when a person approved a change.
        since: Timestamp,
        /// As of a merchant.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        behind: Vec<PaymentId>,
    },
    /// The lowest price that was paid on one route. It falls with the price and never rises by itself.
    Price {
        /// The price.
        lowest: Usd,
        /// When it was paid.
        since: Timestamp,
        /// The lowest price that is known for good, and since when, where payments below it stand behind the fact.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<(Usd, Timestamp)>,
        /// Payments below that, each with its price and time. Empty: the lowest price is known for good.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        behind: Vec<(PaymentId, Usd, Timestamp)>,
    },
    /// A payment that a person must approve.
    Approval(Box<Asking>),
}

impl Fact {
    /// Is it an approval that was over before this time?
    #[must_use]
    pub fn expired(&self, before: Timestamp) -> bool {
        match self {
            Self::Approval(asking) => asking.expires < before,
            Self::Frozen { .. }
            | Self::Merchant { .. }
            | Self::Payee { .. }
            | Self::Price { .. } => false,
        }
    }
}

/// Whose payments are frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frozen {
    /// Everybody's.
    All,
    /// Those to one host, on all its ports.
    Host(String),
    /// Those of one agent, in all its sessions.
    Agent(String),
}

impl Frozen {
    /// The freeze among these facts that a payment of this agent to this host would be under.
    #[must_use]
    pub fn among(facts: &BTreeMap<String, Fact>, host: &str, agent: &str) -> Option<Self> {
        let (key, _) = facts.range(key::FREEZES.to_owned()..).next()?;
        if !key.starts_with(key::FREEZES) {
            return None;
        }
        let whose = [
            Self::All,
            Self::Host(host.to_owned()),
            Self::Agent(agent.to_owned()),
        ];
        let mut whose = whose.into_iter();
        whose.find(|what| facts.contains_key(&key::frozen(what)))
    }
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Host(host) => write!(f, "host {host}"),
            Self::Agent(agent) => write!(f, "agent {agent}"),
        }
    }
}

/// One payment that waits for a person, bound to the exact terms by their digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asking {
    /// What people call it.
    pub id: ApprovalId,
    /// SHA-256 over who asks and every term that would be signed, hexadecimal.
    pub digest: String,
    /// Why a person is asked: `above`, `first_host`, `new_payee`, `price_increase`.
    pub because: Vec<String>,
    /// On whose budget.
    pub session: SessionId,
    /// For which agent.
    pub agent: String,
    /// HTTP method.
    pub method: String,
    /// The merchant.
    pub host: String,
    /// Path without query; behind a `#` the tool, prompt or resource that is asked for there.
    pub path: String,
    /// The rule that asks.
    pub rule: String,
    /// CAIP-2.
    pub network: String,
    /// Symbol from our own table.
    pub asset: String,
    /// Atomic units.
    pub amount: Amount,
    /// The recipient.
    pub pay_to: String,
    /// The price, rounded up.
    pub price: Usd,
    /// When it was asked.
    pub asked: Timestamp,
    /// From then on neither answer nor payment.
    pub expires: Timestamp,
    /// How it stands.
    pub stage: Asked,
}

/// How an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Nobody answered yet.
    Waiting,
    /// It may be paid once.
    Approved {
        /// When.
        at: Timestamp,
    },
    /// It must not be paid.
    Denied {
        /// When.
        at: Timestamp,
    },
    /// It was paid.
    Used {
        /// By this payment.
        payment: PaymentId,
    },
}

impl Asking {
    /// Can it still be answered or used at `now`?
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        let over = matches!(self.stage, Asked::Used { .. } | Asked::Denied { .. });
        !over && now < self.expires
    }

    /// Does it wait for an answer at `now`?
    #[must_use]
    pub fn waits(&self, now: Timestamp) -> bool {
        self.stage == Asked::Waiting && now < self.expires
    }

    /// Was it paid?
    #[must_use]
    pub fn is_used(&self) -> bool {
        matches!(self.stage, Asked::Used { .. })
    }
}

/// Keys of facts. Hosts, networks, agents, methods and paths have no spaces in them, so no key can be
/// taken for another.
pub mod key {
    use super::{ApprovalId, Frozen};

    /// All freezes.
    pub const FREEZES: &str = "freeze ";
    /// All approvals.
    pub const APPROVALS: &str = "approval ";
    /// All merchants, and what is known of each.
    pub const MERCHANTS: &str = "merchant ";

    /// Of a freeze.
    #[must_use]
    pub fn frozen(what: &Frozen) -> String {
        format!("{FREEZES}{what}")
    }

    /// The three freezes that a payment could be under.
    #[must_use]
    pub fn freezes(host: &str, agent: &str) -> [String; 3] {
        [
            frozen(&Frozen::All),
            format!("{FREEZES}host {host}"),
            format!("{FREEZES}agent {agent}"),
        ]
    }

    /// Of a host that was paid.
    #[must_use]
    pub fn merchant(host: &str) -> String {
        format!("{MERCHANTS}{host}")
    }

    /// Of everything else that is known of a host.
    #[must_use]
    pub fn about(host: &str) -> String {
        format!("{MERCHANTS}{host} ")
    }

    /// Of all payees of a host.
    #[must_use]
    pub fn payees(host: &str) -> String {
        format!("{MERCHANTS}{host} payee ")
    }

    /// Of its payee on one network.
    #[must_use]
    pub fn payee(host: &str, network: &str) -> String {
        format!("{MERCHANTS}{host} payee {network}")
    }

    /// Of the price of one route.
    #[must_use]
    pub fn price(host: &str, method: &str, path: &str) -> String {
        format!("{MERCHANTS}{host} price {method} {path}")
    }

    /// Of an approval.
    #[must_use]
    pub fn approval(id: ApprovalId) -> String {
        format!("{APPROVALS}{id}")
    }
}
