//! L402, formerly LSAT: a token in `WWW-Authenticate` and a Lightning invoice beside it. Whoever pays the
//! invoice learns its preimage; token and preimage together are the credential, good for more than one
//! request.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header, response};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::authenticate::{self, Says};
use super::{Protocol, Repeat, Terms, macaroon};
use crate::clock::Timestamp;
use crate::lightning::{Invoice, NotInvoice};
use crate::money::Amount;
use crate::payment::{
    Challenge, Instruction, Offer, Payload, PaymentId, Problem, Reason, Receipt, Requirement,
    Signature,
};

/// The scheme in lower case, and its older name.
const SCHEMES: [&str; 2] = ["l402", "lsat"];

/// Bytes of a token. Servers commonly refuse request heads above 16 KiB, and would do so with it inside.
const TOKEN_MAX: usize = 8 << 10;

/// Seconds that an invoice must still live: routing takes some.
const MARGIN: u64 = 10;

/// The only version there is.
const VERSION: &str = "0";

/// What `amount` counts: millisatoshi of this asset.
const ASSET: &str = "BTC";

/// L402.
pub(super) struct L402;

/// One challenge, as far as the credential needs it.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// The scheme of the credential: the challenge's own.
    scheme: String,
    token: String,
    invoice: String,
}

impl Protocol for L402 {
    fn name(&self) -> &'static str {
        "l402"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &["l402"]
    }

    /// `Authorization` is told by its scheme (`carried`): other schemes are the agent's own.
    fn payment_headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// The preimage is the receipt, and it comes from the wallet.
    fn receipt_headers(&self) -> &'static [&'static str] {
        &[]
    }

    fn recognises(&self, head: &response::Parts) -> bool {
        let mut names = SCHEMES.iter();
        names.any(|name| authenticate::mentions(&head.headers, name))
    }

    fn needs_body(&self) -> bool {
        false
    }

    fn read(&self, head: &response::Parts, _body: Option<&[u8]>, into: &mut Challenge) {
        let mut offers: Vec<(bool, Requirement)> = vec![];
        let all = authenticate::read(&head.headers);
        into.problems.extend(authenticate::beyond(all.len()));
        for asks in all {
            if !SCHEMES.contains(&&*asks.scheme) {
                continue;
            }
            let current = asks.scheme == SCHEMES[0];
            match asks.says.and_then(|says| requirement(&asks.scheme, &says)) {
                Ok(requirement) => offer(&mut offers, current, requirement),
                Err(problem) => into.problems.push(problem),
            }
        }
        into.requirements.extend(offers.into_iter().map(|(_, r)| r));
    }

    fn fits(&self, _requirement: &Requirement, repeat: &Repeat<'_>) -> Result<(), Problem> {
        if !repeat.headers.contains_key(header::AUTHORIZATION) {
            return Ok(());
        }
        let detail = "the payment would take the place of the agent's own Authorization";
        Err(Problem::new(Reason::AuthorizationConflict, detail))
    }

    fn instruct(&self, terms: &Terms<'_>) -> Result<Instruction, Problem> {
        let Terms {
            requirement,
            asset,
            now,
            ..
        } = terms;
        let (entry, invoice) = reread(requirement)?;
        if asset.network != invoice.network || asset.address != ASSET {
            let detail = "the asset is not the one that was priced";
            return Err(Problem::new(Reason::AssetNotAllowed, detail));
        }
        if invoice.expires < now.secs().saturating_add(MARGIN) {
            let detail = "the invoice has expired, or does so within seconds";
            return Err(Problem::new(Reason::ChallengeExpired, detail));
        }
        let until = macaroon::read(&entry.token).valid_until;
        if until.is_some_and(|until| until < now.secs().saturating_add(MARGIN)) {
            let detail = "the token is of no use any more, or within seconds";
            return Err(Problem::new(Reason::ChallengeExpired, detail));
        }
        let fee = asset.fee.most(invoice.amount_msat.into());
        let fee_most = fee.and_then(|fee| u64::try_from(fee).ok());
        match fee_most.filter(|_| requirement.amount == Amount(invoice.amount_msat.into())) {
            Some(fee_most) => Ok(Instruction::Invoice { invoice, fee_most }),
            None => Err(foreign()),
        }
    }

    fn payload(
        &self,
        requirement: &Requirement,
        instruction: &Instruction,
        signature: &Signature,
        _id: PaymentId,
    ) -> Result<Payload, Problem> {
        let (entry, invoice) = reread(requirement)?;
        let (Instruction::Invoice { invoice: paid, .. }, Signature::Preimage { preimage, .. }) =
            (instruction, signature)
        else {
            return Err(foreign());
        };
        if paid.hash != invoice.hash || Sha256::digest(preimage)[..] != invoice.hash[..] {
            return Err(foreign());
        }
        let text = format!("{} {}:{}", entry.scheme, entry.token, hex::encode(preimage));
        let mut value = HeaderValue::try_from(text).map_err(|_| foreign())?;
        value.set_sensitive(true);
        Ok(Payload {
            name: header::AUTHORIZATION,
            value,
        })
    }

    fn receipt(&self, _headers: &HeaderMap) -> Receipt {
        Receipt::Absent
    }

    /// As long as the merchant takes it; a token may say for how long at most.
    fn reusable_until(&self, requirement: &Requirement) -> Option<Timestamp> {
        let (entry, _) = reread(requirement).ok()?;
        let until = macaroon::read(&entry.token).valid_until;
        Some(until.map_or(Timestamp(u64::MAX), Timestamp::from_secs))
    }
}

/// Two lines with one invoice are one offer, in the newer of its forms.
fn offer(offers: &mut Vec<(bool, Requirement)>, current: bool, requirement: Requirement) {
    let same = |r: &Requirement| r.resource.is_none() && hash(r) == hash(&requirement);
    match offers.iter_mut().find(|(_, known)| same(known)) {
        Some(known) if current && !known.0 => *known = (current, requirement),
        Some(_) => {}
        None => offers.push((current, requirement)),
    }
}

fn hash(requirement: &Requirement) -> Option<[u8; 32]> {
    reread(requirement).ok().map(|(_, invoice)| invoice.hash)
}

fn requirement(scheme: &str, says: &Says) -> Result<Requirement, Problem> {
    let malformed = |detail| Problem::new(Reason::MalformedChallenge, detail);
    if says.get("version").is_some_and(|v| v != VERSION) {
        let detail = "the challenge is of a version of L402 that is not known";
        return Err(Problem::new(Reason::VersionUnsupported, detail));
    }
    let token = match (says.get("token"), says.get("macaroon")) {
        (Some(token), Some(macaroon)) if token != macaroon => {
            let detail = "the challenge names two different tokens";
            return Err(Problem::new(Reason::AmbiguousChallenge, detail));
        }
        (Some(token), _) | (None, Some(token)) => token,
        (None, None) => return Err(malformed("the challenge has no token")),
    };
    fit_for_header(token)?;
    let text = says.get("invoice");
    let text = text.ok_or_else(|| malformed("the challenge has no invoice"))?;
    let text = match text.split_at_checked(10) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("lightning:") => rest,
        Some(_) | None => text,
    };
    let invoice = Invoice::parse(text).map_err(|e| not_payable(&e))?;
    let told = macaroon::read(token);
    if told.hash.is_some_and(|hash| hash != invoice.hash) {
        let detail = "the token is for another payment than the invoice beside it";
        return Err(Problem::new(Reason::TokenMismatch, detail));
    }
    let entry = Entry {
        scheme: scheme.to_ascii_uppercase(),
        token: token.into(),
        invoice: text.into(),
    };
    let entry = serde_json::to_string(&entry).map_err(|_| malformed("it cannot be kept"))?;
    Ok(Requirement {
        protocol: "l402",
        scheme: "l402".into(),
        asset: ASSET.into(),
        amount: Amount(invoice.amount_msat.into()),
        pay_to: hex::encode(invoice.payee),
        // Until its invoice expires.
        valid_for: u64::MAX,
        expires: Some(Timestamp::from_secs(invoice.expires)),
        transfer_method: "lightning".into(),
        facilitator: None,
        splits: vec![],
        own_fee: false,
        resource: None,
        mime_type: None,
        offer: Arc::new(Offer {
            entry: entry.into(),
            ..Offer::default()
        }),
        network: invoice.network,
    })
}

/// A token goes back byte for byte, before a colon and alone.
fn fit_for_header(token: &str) -> Result<(), Problem> {
    if token.len() > TOKEN_MAX {
        let detail = format!("the token is longer than {TOKEN_MAX} bytes");
        return Err(Problem::new(Reason::LimitsExceeded, detail));
    }
    let plain = |b: u8| b.is_ascii_graphic() && !b"\",;\\".contains(&b);
    match !token.is_empty() && token.bytes().all(plain) {
        true => Ok(()),
        false => Err(Problem::new(
            Reason::MalformedChallenge,
            "the token is empty, or has characters that no credential can carry",
        )),
    }
}

fn not_payable(error: &NotInvoice) -> Problem {
    let reason = match error {
        NotInvoice::NoAmount | NotInvoice::Amount => Reason::AmountInvalid,
        NotInvoice::Network => Reason::NetworkNotAllowed,
        NotInvoice::TooLong => Reason::LimitsExceeded,
        NotInvoice::Malformed | NotInvoice::Signature | NotInvoice::NoHash => {
            Reason::InvoiceInvalid
        }
    };
    Problem::new(reason, error.to_string())
}

/// What was kept of the challenge, and its invoice.
fn reread(requirement: &Requirement) -> Result<(Entry, Invoice), Problem> {
    let entry: Entry = serde_json::from_str(&requirement.offer.entry).map_err(|_| foreign())?;
    let invoice = Invoice::parse(&entry.invoice).map_err(|e| not_payable(&e))?;
    Ok((entry, invoice))
}

/// Instruction and requirement do not belong together: a bug, found before anything is sent.
fn foreign() -> Problem {
    let detail = "what was paid is not what was approved";
    Problem::new(Reason::WalletUnavailable, detail)
}
