//! Questions without a merchant: the `tests:` of the file, and `explain`.

use std::sync::Arc;

use http::Uri;

use crate::clock::Timestamp;
use crate::money::{Amount, Network, Usd};
use crate::payment::{Asked, Challenge, Limit, Reason, Refusal, Requirement, Session};
use crate::section::{Problems, Section, SectionError, nearest};
use crate::settings::{network, normalise_host, port};

use super::contest::{self, Verdict};
use super::rule::{self, Says};
use super::suppose::{self, Supposed};
use super::{Approval, Facts, Policy, decide};

/// What if this agent asked for this URL, and the merchant wanted this much?
#[derive(Clone, Debug)]
pub struct Question {
    /// Is it https?
    pub secure: bool,
    /// The host, normalised.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path without query.
    pub path: String,
    /// The method. GET if not said, POST for a tool.
    pub method: http::Method,
    /// The MCP tool, prompt or resource that is asked for.
    pub tool: Option<String>,
    /// What the merchant wants. The smallest amount there is, if not said.
    pub amount: Option<Usd>,
    /// The ways to pay that it offers. One, by `exact`, if none.
    pub offers: Vec<Supposed>,
    /// Where it wants it. The first wallet's first network, if not said.
    pub network: Option<Network>,
    /// In which asset, by symbol or address. The first that can be paid there, if not said.
    pub asset: Option<String>,
    /// Who wants it. Somebody the rule allows, if not said.
    pub pay_to: Option<String>,
}

/// Why a text is no URL to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a whole URL, for example \"https://api.example.com/v1/x\"")]
pub struct NotUrl;

/// What the policy says, and why.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The rule that decided.
    pub rule: Option<String>,
    /// The offers that were assumed; none without any asset.
    pub offers: Vec<Assumed>,
    /// The decision, before anything was spent.
    pub outcome: Result<Approval, Refusal>,
}

/// The address of a wallet that is not opened.
pub const OURSELVES: &str = "0x2222222222222222222222222222222222222222";

/// Who asks in a test that names nobody.
const DEFAULT: &str = "default";

/// An offer that was assumed.
#[derive(Clone, Debug)]
pub struct Assumed {
    /// The offer.
    pub requirement: Requirement,
    /// What every term of the rule says; nothing without a rule that pays.
    pub verdicts: Vec<Verdict>,
}

impl Answer {
    /// The offer that is taken, or else the first.
    #[must_use]
    pub fn chosen(&self) -> Option<&Assumed> {
        let taken = self.outcome.as_ref().ok().map(|a| &a.requirement.offer);
        let is_taken = |o: &&Assumed| taken.is_some_and(|t| Arc::ptr_eq(t, &o.requirement.offer));
        self.offers.iter().find(is_taken).or(self.offers.first())
    }
}

impl std::str::FromStr for Question {
    type Err = NotUrl;

    fn from_str(url: &str) -> Result<Self, NotUrl> {
        let uri: Uri = url.parse().map_err(|_| NotUrl)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(NotUrl),
        };
        let authority = uri.authority().ok_or(NotUrl)?;
        if authority.as_str().contains('@') {
            return Err(NotUrl);
        }
        Ok(Self {
            secure,
            host: normalise_host(authority.host()).map_err(|_| NotUrl)?,
            port: port(authority, if secure { 443 } else { 80 }).ok_or(NotUrl)?,
            path: uri.path().into(),
            method: Self::usual_method(None),
            tool: None,
            amount: None,
            network: None,
            asset: None,
            pay_to: None,
            offers: vec![],
        })
    }
}

impl Question {
    /// What is asked for with POST (MCP), and everything else with GET.
    #[must_use]
    pub fn usual_method(tool: Option<&str>) -> http::Method {
        tool.map_or(http::Method::GET, |_| http::Method::POST)
    }

    /// The request that it is about.
    #[must_use]
    pub fn asked(&self, session: &Session) -> Asked {
        Asked {
            session: Arc::new(session.clone()),
            method: self.method.clone(),
            secure: self.secure,
            host: (&*self.host).into(),
            port: self.port,
            path: (&*self.path).into(),
            tool: self.tool.as_deref().into(),
            request: None,
            trace: None,
        }
    }
}

impl Policy {
    /// What would be decided, were this session to ask.
    #[must_use]
    pub fn answer(
        &self,
        question: &Question,
        session: &Session,
        facts: &Facts,
        now: Timestamp,
    ) -> Answer {
        let asked = question.asked(session);
        let rule = rule::first(&self.rules, &asked).ok();
        let pay = rule.and_then(|rule| match &rule.says {
            Says::Pay(pay) => Some(pay),
            Says::Deny => None,
        });
        let mut payees = pay.map_or_else(Vec::new, |pay| pay.payees.clone());
        let known = facts.payers.first().and_then(|(network, _)| {
            let network = question.network.as_ref().unwrap_or(network);
            // Whoever shared is no part of the question.
            facts.known.payee(network)?.split('+').next()
        });
        payees.extend(known.map(Into::into));
        let name = rule.map_or("", |rule| &rule.name);
        let requirements = suppose::all(&self.catalog.assets, question, &payees, facts);
        let verdicts = |requirement: &Requirement| {
            let fee = pay.map_or(Amount(0), |pay| pay.fee(self, requirement));
            let ask = contest::ask(self, (name, fee), &asked, requirement, facts, now);
            pay.map(|pay| contest::verdicts(pay, &ask))
        };
        let offers = requirements.iter().map(|requirement| Assumed {
            verdicts: verdicts(requirement).unwrap_or_default(),
            requirement: requirement.clone(),
        });
        let offers = offers.collect();
        let challenge = Challenge {
            requirements,
            problems: vec![],
        };
        Answer {
            rule: rule.map(|rule| rule.name.clone()),
            offers,
            outcome: match self.overlooks(&asked) {
                Some(refusal) => Err(refusal),
                None => decide(self, &asked, &challenge, facts, now),
            },
        }
    }

    /// Runs the `tests:` of the file with a fresh session of this budget and with wallets on these
    /// networks. Returns how many ran, and one error for each that failed.
    #[must_use]
    pub fn run_tests(&self, networks: &[Network], budget: Usd) -> (usize, Vec<SectionError>) {
        let now = Timestamp::from_secs(1);
        let payer = |network: &Network| (network.clone(), OURSELVES.to_owned());
        let facts = Facts {
            payers: networks.iter().map(payer).collect(),
            ..Facts::default()
        };
        let session = |agent: &str| Session {
            id: crate::payment::SessionId("test".into()),
            agent: agent.into(),
            budget,
            created: now,
            expires: Timestamp(u64::MAX),
        };
        let run = |trial: &Trial| {
            let judge = |session| {
                let answer = self.answer(&trial.question, &session, &facts, now);
                trial.judge(answer).err()
            };
            let Some(agent) = &trial.agent else {
                let nobody = session(DEFAULT);
                let asked = trial.question.asked(&nobody);
                let failed = judge(nobody)?;
                // No denial comes of it, as only a rule that pays is asked so.
                return match rule::somebody(&self.rules, &asked) {
                    Some(agent) => judge(session(&agent)),
                    None => Some(failed),
                };
            };
            judge(session(agent))
        };
        let failed = self.tests.iter().filter_map(run).collect();
        (self.tests.len(), failed)
    }
}

/// The refusal of the first limit that this payment alone would pass.
pub(super) fn beyond(approval: &Approval) -> Option<Refusal> {
    let over = |limit: &&Limit| approval.price > limit.amount;
    let limit = approval.limits.iter().find(over)?;
    let reason = match limit.is_session() {
        true => Reason::OverSessionCap,
        false => Reason::OverBudget,
    };
    let detail = format!(
        "{} is more than the limit of {}",
        approval.price, limit.amount
    );
    Some(Refusal {
        limit: Some(limit.amount),
        price: Some(approval.price),
        rule: Some(approval.rule.clone()),
        ..Refusal::new(reason, detail)
    })
}

/// What the agent is told while nobody has agreed, where a person is asked.
fn asks(approval: &Approval) -> Option<Refusal> {
    let consent = approval.duties.consent.as_ref()?;
    let detail = format!("a person is asked ({})", consent.because.join(", "));
    Some(Refusal {
        price: Some(approval.price),
        rule: Some(approval.rule.clone()),
        ..Refusal::new(Reason::ApprovalRequired, detail)
    })
}

/// One entry of `tests:`.
pub(super) struct Trial {
    place: Section,
    question: Question,
    /// As `default`, and where that fails as whom the rule names, if not said.
    agent: Option<String>,
    expect: Expect,
    rule: Option<String>,
}

/// What a test expects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Pay,
    /// Any refusal.
    Refuse,
    /// A refusal for this reason.
    Because(Reason),
}

impl Trial {
    fn read(mut section: Section) -> Result<Self, SectionError> {
        let place = section.clone();
        let mut question: Question = section.need("url")?.parse()?;
        let text = |s: Section| s.text();
        question.tool = section.take("tool").map(text).transpose()?;
        let usual = Question::usual_method(question.tool.as_deref());
        question.method = section.or("method", usual, rule::method)?;
        question.amount = section.take("amount").map(Section::parse).transpose()?;
        question.network = section.take("network").map(network).transpose()?;
        question.asset = section.take("asset").map(text).transpose()?;
        question.pay_to = section.take("pay_to").map(text).transpose()?;
        let scheme = |s: Section| s.word(&suppose::SCHEMES.map(|w| (w, w)));
        let scheme = section.take("scheme").map(scheme).transpose()?;
        question.offers = scheme.into_iter().map(Supposed::by).collect();
        let agent = section.take("agent").map(text).transpose()?;
        let expect = expectation(section.need("expect")?)?;
        let expect = match (section.take("reason"), expect) {
            (None, expect) => expect,
            (Some(why), Expect::Refuse) => Expect::Because(reason(why)?),
            (Some(why), _) => return Err(why.error("only `expect: refuse` has a `reason`")),
        };
        let rule = section.take("rule").map(text).transpose()?;
        section.finish()?;
        Ok(Self {
            place,
            question,
            agent,
            expect,
            rule,
        })
    }

    fn judge(&self, answer: Answer) -> Result<(), SectionError> {
        let refusal = match &answer.outcome {
            Ok(approval) => beyond(approval).or_else(|| asks(approval)),
            Err(refusal) => Some(refusal.clone()),
        };
        let said = match &refusal {
            Some(refusal) => format!("{refusal}"),
            None => "it would be paid".into(),
        };
        let fail = |wanted: &str| Err(self.place.error(format!("expected {wanted}; {said}")));
        match (self.expect, &refusal) {
            (Expect::Pay, Some(_)) => return fail("pay"),
            (Expect::Refuse, None) => return fail("refuse"),
            (Expect::Because(reason), None) => return fail(reason.code()),
            (Expect::Because(reason), Some(r)) if r.reason != reason => return fail(reason.code()),
            _ => {}
        }
        match (&self.rule, answer.rule) {
            (Some(rule), Some(found)) if *rule != found => {
                fail(&format!("the rule `{rule}` to decide, not `{found}`"))
            }
            (Some(rule), None) => fail(&format!("the rule `{rule}` to decide, not none")),
            _ => Ok(()),
        }
    }
}

/// `pay`, `refuse`, `deny`, or the code of a reason.
fn expectation(section: Section) -> Result<Expect, SectionError> {
    let words = [
        ("pay", Expect::Pay),
        ("refuse", Expect::Refuse),
        ("deny", Expect::Because(Reason::DeniedByRule)),
    ];
    let codes = Reason::ALL.iter().map(|r| (r.code(), Expect::Because(*r)));
    let words: Vec<_> = words.into_iter().chain(codes).collect();
    section.clone().word(&words).map_err(|error| {
        let text = section.text().unwrap_or_default();
        match nearest(&text, words.iter().map(|(word, _)| *word)) {
            Some(_) => error,
            None => error.hint("pay, refuse, deny, or a reason's code such as over_request_cap"),
        }
    })
}

fn reason(section: Section) -> Result<Reason, SectionError> {
    let words: Vec<_> = Reason::ALL.iter().map(|r| (r.code(), *r)).collect();
    section.word(&words)
}

/// Reads `tests:`.
pub(super) fn read(section: Option<Section>, problems: &mut Problems) -> Vec<Trial> {
    let items = problems.keep(section.map_or(Ok(vec![]), Section::items));
    let items = items.unwrap_or_default().into_iter();
    items
        .filter_map(|item| problems.keep(Trial::read(item)))
        .collect()
}
