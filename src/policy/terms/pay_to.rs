//! `pay_to: any`, a list, or whoever was seen first: who may be paid. Whoever it is, it is an address
//! that can be paid.

use crate::evm::Address;
use crate::payment::{Reason, Refusal};
use crate::policy::{Duties, payee_text};
use crate::section::{Section, SectionError};
use crate::solana::{self, Pubkey};

use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "pay_to",
    doc: "recipients that may be paid: any (if not written), first-seen, or a list of addresses",
    about: About::Deal,
    build: Build::Key(|section, _| Ok(Some(Box::new(section.map_or(Ok(PayTo::Any), read)?)))),
};

enum PayTo {
    Any,
    Listed(Vec<Payee>),
    /// The one that was paid first at this host on this network.
    FirstSeen(OnChange),
}

/// What another recipient does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnChange {
    /// It is refused.
    Deny,
    /// It is paid, and the operator is told.
    Alert,
}

const ON_CHANGE: &[(&str, OnChange)] = &[("deny", OnChange::Deny), ("alert", OnChange::Alert)];

#[derive(PartialEq, Eq)]
enum Payee {
    Evm(Address),
    Solana(Pubkey),
    Other(String),
}

impl Payee {
    fn text(&self) -> String {
        match self {
            Self::Evm(address) => address.to_string(),
            Self::Solana(account) => account.to_string(),
            Self::Other(text) => text.clone(),
        }
    }
}

fn read(section: Section) -> Result<PayTo, SectionError> {
    let expected = || Err(section.expected("any, first-seen, or a list of addresses"));
    match section.clone().text().as_deref() {
        Ok("any") => return Ok(PayTo::Any),
        Ok("first-seen") => return Ok(PayTo::FirstSeen(OnChange::Deny)),
        Ok(_) => return expected(),
        Err(_) if section.is_nothing() => return expected(),
        Err(_) => {}
    }
    if section.is_map() {
        let mut map = section;
        let on_change = map.need("first-seen")?.word(ON_CHANGE)?;
        map.finish()?;
        return Ok(PayTo::FirstSeen(on_change));
    }
    let place = section.clone();
    let payees = section.list(payee)?;
    if payees.is_empty() {
        return Err(place.error("the list of recipients is empty, so nobody can be paid"));
    }
    Ok(PayTo::Listed(payees))
}

fn payee(item: Section) -> Result<Payee, SectionError> {
    let text = item.clone().text()?;
    if text.starts_with("0x") {
        return item.parse::<Address>().map(Payee::Evm);
    }
    if let Ok(payee) = text.parse() {
        return Ok(Payee::Solana(payee));
    }
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric());
    if !plain || !(32..=66).contains(&text.len()) {
        return Err(item.expected("an address"));
    }
    Ok(Payee::Other(text))
}

impl Term for PayTo {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        const UNSIGNED: &str = "pay_to (accounts of programs)";
        const FIRST: &str = "first-seen";
        match self {
            Self::Any => vec![(UNSIGNED, Bound::only::<&str>([]))],
            Self::FirstSeen(on_change) => {
                let mut bounds = vec![
                    (UNSIGNED, Bound::only::<&str>([])),
                    ("pay_to (alert)", Bound::holds([FIRST])),
                ];
                match on_change {
                    OnChange::Deny => bounds.push(("pay_to", Bound::only([FIRST]))),
                    OnChange::Alert => {}
                }
                bounds
            }
            Self::Listed(list) => {
                let unsigned = list.iter().filter(|payee| nobody_signs(payee));
                vec![
                    (UNSIGNED, Bound::only(unsigned.map(Payee::text))),
                    ("pay_to", Bound::only(list.iter().map(Payee::text))),
                ]
            }
        }
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let payees = ask.requirement.payees().map(|payee| sane(ask, payee));
        let payees = payees.collect::<Result<Vec<_>, _>>()?;
        match self {
            Self::Listed(list) if !payees.iter().all(|payee| list.contains(payee)) => {
                let detail = "the recipient is not on the rule's list";
                Err(Refusal::new(Reason::RecipientChanged, detail))
            }
            Self::Any | Self::FirstSeen(_) if payees.iter().any(nobody_signs) => {
                let detail = "no key can sign for the recipient: name it in the rule's list if it is a program's";
                Err(Refusal::new(Reason::RecipientInvalid, detail))
            }
            Self::FirstSeen(OnChange::Deny) if changed(ask) => {
                let detail = "the recipient differs from the one that was paid first at this host";
                Err(Refusal::new(Reason::RecipientChanged, detail))
            }
            Self::Any | Self::Listed(_) | Self::FirstSeen(_) => Ok(()),
        }
    }

    fn duties(&self, ask: &Ask<'_>, duties: &mut Duties) {
        match self {
            Self::Any | Self::Listed(_) => {}
            // The first one stays known, so that every payment to another is told.
            Self::FirstSeen(OnChange::Alert) if changed(ask) => duties.recipient_changed = true,
            Self::FirstSeen(_) => duties.payee = Some(payee_text(ask.requirement)),
        }
    }

    fn remembers(&self) -> bool {
        matches!(self, Self::FirstSeen(_))
    }
}

/// Was somebody else paid first at this host on this network?
pub(super) fn changed(ask: &Ask<'_>) -> bool {
    let known = ask.known.payee(&ask.requirement.network);
    known.is_some_and(|known| known != payee_text(ask.requirement))
}

/// Threat M-06: form, checksum, reserved addresses, the token itself, ourselves.
fn sane(ask: &Ask<'_>, payee: &str) -> Result<Payee, Refusal> {
    let refuse = |detail| Err(Refusal::new(Reason::RecipientInvalid, detail));
    let requirement = ask.requirement;
    if requirement.network.is_solana() {
        return sane_on_solana(ask);
    }
    if requirement.network.namespace() != "eip155" {
        let own = ask.payers.iter().any(|(_, a)| a == payee);
        return match payee {
            "" => refuse("the recipient is empty"),
            to if to == requirement.asset => refuse("the recipient is the asset itself"),
            _ if own => refuse("the recipient is a wallet of this proxy"),
            to => Ok(Payee::Other(to.into())),
        };
    }
    let Ok(to) = payee.parse::<Address>() else {
        return refuse("the recipient is no address, or its checksum is wrong");
    };
    if to.is_reserved() {
        return refuse("the recipient is a reserved address that nobody owns");
    }
    if Address::from_hex(&requirement.asset) == Ok(to) {
        return refuse("the recipient is the asset's own contract");
    }
    let own = |(_, address): &(_, String)| Address::from_hex(address) == Ok(to);
    if ask.payers.iter().any(own) {
        return refuse("the recipient is a wallet of this proxy");
    }
    Ok(Payee::Evm(to))
}

/// The same for Solana: form, programs, the token itself, ourselves. What an account may not be besides is
/// seen when the transaction is made.
fn sane_on_solana(ask: &Ask<'_>) -> Result<Payee, Refusal> {
    let refuse = |detail| Err(Refusal::new(Reason::RecipientInvalid, detail));
    let Ok(to) = ask.requirement.pay_to.parse::<Pubkey>() else {
        return refuse("the recipient is no Solana address");
    };
    if solana::is_program(&to) {
        return refuse("the recipient is a program that nobody owns");
    }
    if ask.requirement.asset.parse() == Ok(to) {
        return refuse("the recipient is the asset itself");
    }
    let own = |(_, address): &(_, String)| address.parse() == Ok(to);
    if ask.payers.iter().any(own) {
        return refuse("the recipient is a wallet of this proxy");
    }
    Ok(Payee::Solana(to))
}

/// An account of a program: its owner may be somebody's, and may be nobody's. A token account is one too,
/// and what is paid to one of those as if it were an owner is lost.
fn nobody_signs(payee: &Payee) -> bool {
    match payee {
        Payee::Solana(account) => !account.is_on_curve(),
        Payee::Evm(_) | Payee::Other(_) => false,
    }
}
