//! `pay_to: any` or a list: who may be paid. Whoever it is, it is an address that can be paid.

use crate::evm::Address;
use crate::payment::{Reason, Refusal};
use crate::section::{Section, SectionError};

use super::{About, Ask, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "pay_to",
    doc: "recipients that may be paid: any (if not written), or a list of addresses",
    about: About::Deal,
    build: Build::Key(|section, _| Ok(Some(Box::new(section.map_or(Ok(PayTo::Any), read)?)))),
};

enum PayTo {
    Any,
    Listed(Vec<Payee>),
}

#[derive(PartialEq, Eq)]
enum Payee {
    Evm(Address),
    Other(String),
}

fn read(section: Section) -> Result<PayTo, SectionError> {
    match section.clone().text().as_deref() {
        Ok("any") => return Ok(PayTo::Any),
        Ok("first-seen") => {
            let error = section.error("`first-seen` is not supported yet");
            return Err(error.hint("write the recipients as a list, or any"));
        }
        Ok(_) => return Err(section.expected("any, first-seen, or a list of addresses")),
        Err(_) => {}
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
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric());
    if !plain || !(32..=66).contains(&text.len()) {
        return Err(item.expected("an address"));
    }
    Ok(Payee::Other(text))
}

impl Term for PayTo {
    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let payee = sane(ask)?;
        match self {
            Self::Listed(list) if !list.contains(&payee) => {
                let detail = "the recipient is not on the rule's list";
                Err(Refusal::new(Reason::RecipientNotAllowed, detail))
            }
            Self::Any | Self::Listed(_) => Ok(()),
        }
    }
}

/// Threat M-06: form, checksum, reserved addresses, the token itself, ourselves.
fn sane(ask: &Ask<'_>) -> Result<Payee, Refusal> {
    let refuse = |detail| Err(Refusal::new(Reason::RecipientInvalid, detail));
    let requirement = ask.requirement;
    if requirement.network.namespace() != "eip155" {
        let own = ask.payers.iter().any(|(_, a)| *a == requirement.pay_to);
        return match &*requirement.pay_to {
            "" => refuse("the recipient is empty"),
            to if to == requirement.asset => refuse("the recipient is the asset itself"),
            _ if own => refuse("the recipient is a wallet of this proxy"),
            to => Ok(Payee::Other(to.into())),
        };
    }
    let Ok(to) = requirement.pay_to.parse::<Address>() else {
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
