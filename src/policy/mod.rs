//! May this agent pay this requirement? The first rule that matches decides; what matches nothing is
//! not paid.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::money::{Amount, Asset, Network, Usd};
use crate::payment::{Asked, Challenge, Limit, Reason, Refusal, Requirement};
use crate::section::{Problems, Section};
use crate::settings::{HostPattern, Rate};
use crate::signer::Key;

mod catalog;
mod contest;
mod difference;
mod glob;
mod hash;
mod known;
mod path;
mod rule;
mod signers;
mod suppose;
pub mod terms;
mod trial;
mod weaker;

pub use catalog::{Budget, Catalog, Scope};
pub use contest::Verdict;
pub use difference::difference;
pub use known::{Consent, Duties, Known, Warning, payee_text, plain_payee};
pub(crate) use path::plain_spelling;
use rule::{Rule, Says};
pub use suppose::{NotSupposed, Supposed, is_nobody};
pub use trial::{Answer, Assumed, NotUrl, OURSELVES, Question};
pub use weaker::weaker;

/// The operator's policy, compiled. One request sees one policy from start to end.
pub struct Policy {
    mode: Mode,
    rules: Vec<Rule>,
    catalog: Catalog,
    tests: Vec<trial::Trial>,
    hash: String,
    written: serde_json::Value,
    remembers: bool,
}

/// What a decision must know besides the policy: facts of the ledger and the wallets, read before.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Every network that a wallet may pay on, with the address that would pay.
    pub payers: Vec<(Network, String)>,
    /// What the ledger remembers of the merchant and the route.
    pub known: Known,
    /// Time as merchants see it, where that may be another one than the `now` of the question: of a clock that was
    /// corrected.
    pub wall: Option<Timestamp>,
}

/// What a payment does when its outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// Send the same payload again, never a new one.
    ResendSame,
    /// Send nothing more.
    Hold,
}

/// Permission to pay one requirement: what was decided on is what will be signed.
#[derive(Clone, Debug)]
pub struct Approval {
    /// The rule that allowed it.
    pub rule: String,
    /// The chosen requirement.
    pub requirement: Requirement,
    /// Its asset, from our own table.
    pub asset: Asset,
    /// Its price with the most that the network may take, rounded up.
    pub price: Usd,
    /// Most that the network may take besides, atomic units; nothing where the payer does not pay it.
    pub fee: Amount,
    /// What the ledger must keep, the session's cap first.
    pub limits: Vec<Limit>,
    /// What else comes with it.
    pub duties: Duties,
    /// Seconds the payload may live.
    pub valid_for: u64,
    /// What to do when the outcome is not known.
    pub on_unknown: OnUnknown,
    /// May the next request like it be paid in advance?
    pub prepay: bool,
}

/// Enforce, or only watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Decide and pay.
    #[default]
    Enforce,
    /// Decide and log, never sign.
    Observe,
}

const MODES: &[(&str, Mode)] = &[("enforce", Mode::Enforce), ("observe", Mode::Observe)];

impl Policy {
    /// Takes its keys (`mode`, `budgets`, `rules`, `tests`) out of the file and compiles them.
    /// `catalog` comes with the assets and the limits; its budgets are read here. What is wrong goes
    /// to `problems`, and the policy must then not be used.
    pub fn read(file: &mut Section, catalog: Catalog, problems: &mut Problems) -> Self {
        let mut catalog = catalog;
        let hash = hash::hash(file, &catalog);
        let written = hash::written(file, &catalog);
        let mode = file.or("mode", Mode::Enforce, |s| s.word(MODES));
        let mode = problems.keep(mode).unwrap_or_default();
        (catalog.budgets, catalog.unread) = catalog::budgets(file.take("budgets"), problems);
        let rules = file.take("rules");
        catalog.everywhere = catalog::unnamed(&catalog.budgets, rules.as_ref());
        catalog.categories = catalog::categories(file.take("categories"), problems);
        catalog.signers = signers::read(file.take("signers"), problems);
        let rules = rule::rules(rules, &catalog, problems);
        let tests = trial::read(file.take("tests"), problems);
        let asks = |rule: &Rule| match &rule.says {
            Says::Pay(pay) => pay.terms.iter().any(|named| named.term.remembers()),
            Says::Deny => false,
        };
        Self {
            remembers: rules.iter().any(asks),
            mode,
            rules,
            catalog,
            tests,
            hash,
            written,
        }
    }

    /// Could any rule pay at this host? Otherwise no body is kept for a retry.
    #[must_use]
    pub fn payable(&self, host: &str, port: u16) -> bool {
        for rule in self.rules.iter().filter(|r| r.names_host(host, port)) {
            match rule.says {
                Says::Pay(_) => return true,
                Says::Deny if rule.is_about_hosts_only() => return false,
                Says::Deny => {}
            }
        }
        false
    }

    /// May a body be looked into, to see what it asks for? Nothing is known of it yet.
    #[must_use]
    pub fn may_read(&self, asked: &Asked) -> bool {
        rule::may_read(&self.rules, asked)
    }

    /// Does the rule that decides about this tool pay what bodies ask for?
    #[must_use]
    pub fn reads_bodies(&self, asked: &Asked) -> bool {
        rule::first(&self.rules, asked).is_ok_and(|rule| rule.says.reads_bodies())
    }

    /// Why what a tool costs would not even be seen: it asks for money in bodies, and the rule that would pay
    /// reads none.
    #[must_use]
    pub fn overlooks(&self, asked: &Asked) -> Option<Refusal> {
        asked.tool.name()?;
        let rule = rule::first(&self.rules, asked).ok()?;
        let pays = matches!(rule.says, Says::Pay(_)) && !rule.says.reads_bodies();
        let name = &rule.name;
        let detail = format!(
            "tools ask for money in bodies, and the rule `{name}` reads none: it needs `mcp: true`"
        );
        pays.then(|| Refusal {
            rule: Some(name.clone()),
            ..Refusal::new(Reason::HostNotAllowed, detail)
        })
    }

    /// The patterns of the hosts that some rule pays, in the order of the rules.
    pub fn paid_patterns(&self) -> impl Iterator<Item = &HostPattern> {
        let paying = self.rules.iter().filter(|r| matches!(r.says, Says::Pay(_)));
        paying.flat_map(Rule::hosts)
    }

    /// Does the first rule that matches pay at all?
    #[must_use]
    pub fn pays(&self, asked: &Asked) -> bool {
        rule::first(&self.rules, asked).is_ok_and(|rule| matches!(rule.says, Says::Pay(_)))
    }

    /// What the rule that pays this does where nobody knows the fate of a payload. `None`: no rule pays it.
    #[must_use]
    pub fn on_unknown(&self, asked: &Asked) -> Option<OnUnknown> {
        match &rule::first(&self.rules, asked).ok()?.says {
            Says::Pay(pay) => Some(pay.on_unknown),
            Says::Deny => None,
        }
    }

    /// Might this way to pay be taken at all, by what it is and not by what it costs?
    #[must_use]
    pub fn may_take(
        &self,
        asked: &Asked,
        requirement: &Requirement,
        payers: &[(Network, String)],
    ) -> bool {
        let Ok(rule) = rule::first(&self.rules, asked) else {
            return false;
        };
        let Says::Pay(pay) = &rule.says else {
            return false;
        };
        let facts = Facts {
            payers: payers.to_vec(),
            ..Facts::default()
        };
        let by = (&*rule.name, pay.fee(self, requirement));
        let ask = contest::ask(self, by, asked, requirement, &facts, Timestamp(0));
        contest::has_means(pay, &ask)
    }

    /// May the wallet sign in there, where it has paid before?
    #[must_use]
    pub fn signs_in(&self, asked: &Asked) -> bool {
        let signs = |rule: &Rule| matches!(&rule.says, Says::Pay(pay) if pay.sign_in);
        rule::first(&self.rules, asked).is_ok_and(signs)
    }

    /// The hosts that some rule pays and names in full, each with its port, in the order of the rules.
    #[must_use]
    pub fn paid_hosts(&self) -> Vec<(String, u16)> {
        let paying = self.rules.iter().filter(|r| matches!(r.says, Says::Pay(_)));
        let mut all: Vec<(String, u16)> = vec![];
        for host in paying.flat_map(Rule::named_hosts) {
            if !all.contains(&host) {
                all.push(host);
            }
        }
        all
    }

    /// SHA-256 of the policy, 16 hexadecimal digits, as recorded with every spend. Comments and the
    /// order of keys do not count, nor do limits that are written as they are by default.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What the hash is about, as the operator wrote it: `budgets`, `categories`, `rules`, `assets`, `signers`;
    /// and `limits` that are not the default, and the `prices` of assets that wallets price.
    #[must_use]
    pub fn written(&self) -> &serde_json::Value {
        &self.written
    }

    /// Enforce, or only watch.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Most payments for one and the same request.
    #[must_use]
    pub fn identical_payments(&self) -> Option<Rate> {
        self.catalog.identical_payments
    }

    /// Does any rule ask what the ledger remembers of merchants?
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.remembers
    }

    /// The keys that speak for a host.
    #[must_use]
    pub fn keys(&self, host: &str, port: u16) -> Vec<Key> {
        self.catalog.keys(host, port).cloned().collect()
    }

    /// Every budget of the file.
    #[must_use]
    pub fn budgets(&self) -> &[Arc<Budget>] {
        &self.catalog.budgets
    }

    /// The asset that an address on a network names, if it has a price.
    #[must_use]
    pub fn asset(&self, network: &Network, address: &str) -> Option<&Asset> {
        self.catalog.asset(network, address)
    }

    /// Every asset that has a price.
    #[must_use]
    pub fn assets(&self) -> &[Asset] {
        &self.catalog.assets
    }
}

/// Is the URL that a statement names on the host and port that were asked? `None`: it names no host.
#[must_use]
pub fn is_of(asked: &Asked, resource: &str) -> Option<bool> {
    terms::resource::is_of(asked, resource)
}

/// Picks the cheapest requirement that the first matching rule accepts, among equals in the order of
/// its `schemes` and then the merchant's; otherwise the refusal that names what was nearest to being paid.
///
/// # Errors
/// A refusal with its rule, when nothing may be paid.
pub fn decide(
    policy: &Policy,
    asked: &Asked,
    challenge: &Challenge,
    facts: &Facts,
    now: Timestamp,
) -> Result<Approval, Refusal> {
    judge(policy, asked, challenge, facts, now).map_err(|(refusal, _)| refusal)
}

/// [`decide`]. A refusal comes with the place of the requirement that was nearest to being paid, where they were
/// looked at.
pub(crate) fn judge(
    policy: &Policy,
    asked: &Asked,
    challenge: &Challenge,
    facts: &Facts,
    now: Timestamp,
) -> Result<Approval, (Refusal, Option<usize>)> {
    if now >= asked.session.expires {
        return Err((Refusal::session_expired(asked.session.expires), None));
    }
    let rule = rule::first(&policy.rules, asked).map_err(|refusal| (refusal, None))?;
    let by_rule = |refusal: Refusal| Refusal {
        rule: Some(rule.name.clone()),
        ..refusal
    };
    let refuse = |refusal| Err((by_rule(refusal), None));
    let pay = match &rule.says {
        Says::Pay(pay) => pay,
        Says::Deny => {
            let detail = format!("the rule `{}` denies it", rule.name);
            return refuse(Refusal::new(Reason::DeniedByRule, detail));
        }
    };
    let most = policy.catalog.requirements;
    if challenge.requirements.len() > most {
        let detail = format!("the challenge offers more than {most} ways to pay");
        return refuse(Refusal::new(Reason::LimitsExceeded, detail));
    }
    let ask = |requirement| {
        let fee = pay.fee(policy, requirement);
        contest::ask(policy, (&rule.name, fee), asked, requirement, facts, now)
    };
    match contest::cheapest(pay, challenge.requirements.iter().map(ask)) {
        Ok(ask) => match contest::approve(policy, rule, pay, &ask) {
            Some(approval) => Ok(approval),
            None => refuse(Refusal::new(
                Reason::NoAcceptableOption,
                "nothing was priced",
            )),
        },
        Err(missed) => {
            let problems = contest::problems(pay, challenge);
            let (refusal, which) = contest::nearest(missed, &problems);
            Err((by_rule(refusal), which))
        }
    }
}
