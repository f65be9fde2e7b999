//! One entry of an x402 `accepts` list, read into a requirement. Versions 1 and 2 differ in the
//! names of two members and of the networks only.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::encoding::{not_json, object};
use super::statements::Offered;
use crate::money::{Amount, Network, NotAmount};
use crate::payment::{Challenge, Offer, Problem, Reason, Requirement, Signed};

mod standing;

pub(super) use standing::stands;

/// Entries that are read. Real challenges have fewer than ten.
const ENTRIES_MAX: usize = 32;

/// Raw text that one payment may have to echo: entry, resource and extensions together. Servers
/// commonly refuse request heads above 16 to 32 KiB, and would do so with our payload in it.
const ECHO_MAX: usize = 16 << 10;

/// Characters of an address, a scheme or a method.
const WORD_MAX: usize = 128;

/// What version 1 and version 2 write differently.
pub(super) struct Dialect {
    /// Name of the protocol.
    pub(super) protocol: &'static str,
    /// The text that holds the price.
    pub(super) price: for<'a> fn(&Entry<'a>) -> Option<&'a RawValue>,
    /// What a network is called.
    pub(super) network: fn(&str) -> Option<Network>,
    /// Its schemes. Those of other protocols are no schemes of this one, whatever they are called there.
    pub(super) schemes: &'static [&'static str],
    /// Does it have Permit2?
    pub(super) permits: bool,
    /// Does a payment repeat the entry that it is for?
    pub(super) echoes: bool,
}

/// What a version 2 challenge says once for all of its entries.
#[derive(Default)]
pub(super) struct Shared {
    /// `resource`, verbatim.
    pub(super) resource: Option<Arc<str>>,
    /// The URL in it.
    pub(super) url: Option<String>,
    /// The media type in it.
    pub(super) mime_type: Option<String>,
    /// `extensions`, verbatim.
    pub(super) extensions: Option<Arc<str>>,
    /// Does it offer to take an approval for the asset?
    pub(super) approvals: bool,
    /// The offers that the merchant signed, if it signs any.
    pub(super) signed: Option<Vec<Offered>>,
}

/// One entry, its members still as written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    scheme: Option<&'a RawValue>,
    #[serde(borrow)]
    network: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) amount: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) max_amount_required: Option<&'a RawValue>,
    #[serde(borrow)]
    asset: Option<&'a RawValue>,
    #[serde(borrow)]
    pay_to: Option<&'a RawValue>,
    #[serde(borrow)]
    max_timeout_seconds: Option<&'a RawValue>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    mime_type: Option<&'a RawValue>,
    #[serde(borrow)]
    extra: Option<&'a RawValue>,
}

impl<'a> Entry<'a> {
    fn extra(&self) -> Result<Extra<'a>, Problem> {
        self.extra
            .map_or(Ok(Extra::default()), |raw| object(raw.get()))
    }
}

/// `extra` of an entry, as far as it decides what is signed.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Extra<'a> {
    #[serde(borrow)]
    asset_transfer_method: Option<&'a RawValue>,
    #[serde(borrow)]
    facilitator_address: Option<&'a RawValue>,
    #[serde(borrow)]
    payment_flow: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    fee_payer: Option<&'a RawValue>,
    #[serde(borrow)]
    memo: Option<&'a RawValue>,
}

/// What `extra` names on Solana.
#[derive(Default)]
pub(super) struct Named {
    /// Who pays for the transaction.
    pub(super) fee_payer: Option<String>,
    /// The memo that is to be in it.
    pub(super) memo: Option<String>,
}

/// Reads every entry of an `accepts` list, in the merchant's order.
pub(super) fn read_all(
    dialect: &Dialect,
    accepts: Option<&RawValue>,
    shared: &Shared,
    into: &mut Challenge,
) -> Result<(), Problem> {
    let missing = || {
        Problem::new(
            Reason::MalformedChallenge,
            "the challenge lists no way to pay",
        )
    };
    let accepts = accepts.ok_or_else(missing)?;
    let entries: Vec<&RawValue> = serde_json::from_str(accepts.get()).map_err(|_| not_json())?;
    if entries.is_empty() {
        return Err(missing());
    }
    if entries.len() > ENTRIES_MAX {
        let detail = format!("only the first {ENTRIES_MAX} ways to pay are read");
        into.problems
            .push(Problem::new(Reason::LimitsExceeded, detail));
    }
    for entry in entries.into_iter().take(ENTRIES_MAX) {
        match read(dialect, entry.get(), shared) {
            Ok(requirement) => into.requirements.push(requirement),
            Err(problem) => into.problems.push(problem),
        }
    }
    Ok(())
}

fn read(dialect: &Dialect, raw: &str, shared: &Shared) -> Result<Requirement, Problem> {
    let entry: Entry<'_> = object(raw)?;
    let scheme = word(entry.scheme)
        .ok_or_else(|| Problem::new(Reason::MalformedChallenge, "an entry names no scheme"))?;
    let unpaid = unpaid_scheme(dialect, &scheme);
    let foreign = super::speaks(&scheme);
    let filled = fill(dialect, &entry, scheme, raw, shared);
    match unpaid {
        None => filled,
        // A rule that allows it means another protocol, which asks for it in another way.
        Some(unpaid) if foreign => Err(unpaid),
        // Whatever else is odd about a scheme that nobody here speaks: that is why it is not paid.
        Some(unpaid) => filled.map_err(|_| unpaid),
    }
}

/// Schemes that exist, and why none of their offers is taken.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["batch-settlement"],
        "the scheme `batch-settlement` takes a deposit larger than the price, so it is not spoken",
    ),
    (
        &["auth-capture", "authCapture", "commerce", "escrow"],
        "schemes that hold money to be captured later are not spoken",
    ),
];

/// Why nothing of this scheme is paid, whatever the offer.
fn unpaid_scheme(dialect: &Dialect, scheme: &str) -> Option<Problem> {
    let detail = match scheme {
        spoken if dialect.schemes.contains(&spoken) => return None,
        "upto" => "version 1 of the protocol has no scheme `upto`",
        other => {
            let refused = REFUSED.iter().find(|(names, _)| names.contains(&other));
            refused.map_or("the payment scheme is not known", |(_, why)| why)
        }
    };
    Some(Problem::new(Reason::SchemeUnsupported, detail))
}

fn fill(
    dialect: &Dialect,
    entry: &Entry<'_>,
    scheme: String,
    raw: &str,
    shared: &Shared,
) -> Result<Requirement, Problem> {
    let malformed = |detail: &str| Problem::new(Reason::MalformedChallenge, detail);
    let network = word(entry.network).and_then(|n| (dialect.network)(&n));
    let network = network.ok_or_else(|| {
        let detail = "the network is not written as this protocol version names networks";
        Problem::new(Reason::NetworkNotAllowed, detail)
    })?;
    let amount = amount((dialect.price)(entry))?;
    let asset = word(entry.asset).ok_or_else(|| malformed("an entry names no asset"))?;
    let pay_to = word(entry.pay_to)
        .ok_or_else(|| Problem::new(Reason::RecipientInvalid, "an entry names no recipient"))?;
    let extra = entry.extra()?;
    let extra = Some(&extra);
    let transfer_method = transfer_method(&network, &scheme, extra)?;
    if transfer_method == "permit2" && !dialect.permits {
        let detail = "version 1 of the protocol moves no asset by Permit2";
        return Err(Problem::new(Reason::TransferMethodUnsupported, detail));
    }
    payment_flow(extra)?;
    if transfer_method == "permit2" && shared.approvals {
        let detail = "the payment would come with an approval that outlives it";
        return Err(Problem::new(Reason::ExtensionRefused, detail));
    }
    let valid_for = valid_for(entry.max_timeout_seconds)?;
    let resource = match (&shared.url, entry.resource) {
        (Some(url), _) => Some(url.clone()),
        (None, Some(raw)) => Some(text(raw).ok_or_else(|| malformed("the resource is not a URL"))?),
        (None, None) => None,
    };
    let mut requirement = Requirement {
        protocol: dialect.protocol,
        scheme,
        network,
        asset,
        amount,
        pay_to,
        valid_for,
        expires: None,
        transfer_method,
        facilitator: word(extra.and_then(|e| e.facilitator_address)),
        splits: vec![],
        own_fee: false,
        resource,
        mime_type: shared
            .mime_type
            .clone()
            .or_else(|| media_type(entry.mime_type)),
        offer: Arc::default(),
    };
    let mut offer = offer(dialect, raw, shared)?;
    if let Some(signed) = &shared.signed {
        let here = signed.iter().filter(|offered| offered.is_for(&requirement));
        offer.signed = Signed::Offers(here.map(Offered::offer).collect());
    }
    requirement.offer = Arc::new(offer);
    Ok(requirement)
}

/// What the payload will echo, if that is short enough to be sent.
fn offer(dialect: &Dialect, raw: &str, shared: &Shared) -> Result<Offer, Problem> {
    let length = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |t| t.len());
    let echo = raw.len() + length(&shared.resource) + length(&shared.extensions);
    if dialect.echoes && echo > ECHO_MAX {
        let detail = format!("an entry with its echo is longer than {ECHO_MAX} bytes");
        return Err(Problem::new(Reason::LimitsExceeded, detail));
    }
    Ok(Offer {
        entry: raw.into(),
        resource: shared.resource.clone(),
        extensions: shared.extensions.clone(),
        signed: Signed::None,
    })
}

/// A price in atomic units: a string of digits. What no budget can hold is over every cap, not
/// malformed, and must not be cut down to something that fits.
pub(super) fn amount(raw: Option<&RawValue>) -> Result<Amount, Problem> {
    let invalid = || {
        let detail = "the amount is not a string of decimal digits below 2^256";
        Problem::new(Reason::AmountInvalid, detail)
    };
    let written = raw.and_then(text).ok_or_else(invalid)?;
    written.parse().map_err(|problem| match problem {
        NotAmount::Grammar | NotAmount::TooLarge => invalid(),
        NotAmount::BeyondBudgets => {
            Problem::new(Reason::OverRequestCap, "the price is beyond any budget")
        }
    })
}

/// `extra.assetTransferMethod`; absent and `null` mean Permit2 for `upto`, which has no other way,
/// EIP-3009 for `exact` on EVM chains, and the chain's own plain transfer elsewhere.
fn transfer_method(
    network: &Network,
    scheme: &str,
    extra: Option<&Extra<'_>>,
) -> Result<String, Problem> {
    match extra.and_then(|e| e.asset_transfer_method) {
        None if network.namespace() == "eip155" && scheme == "upto" => Ok("permit2".into()),
        None if network.namespace() == "eip155" => Ok("eip3009".into()),
        None => Ok("transfer".into()),
        Some(raw) => word(Some(raw)).ok_or_else(|| {
            let detail = "the way of moving the asset is not named";
            Problem::new(Reason::TransferMethodUnsupported, detail)
        }),
    }
}

/// `extra.paymentFlow`. `upfront` (settle, then serve) is the same signature and the same risk: a
/// merchant can settle early under any flow. Others may charge twice or hold a deposit.
fn payment_flow(extra: Option<&Extra<'_>>) -> Result<(), Problem> {
    let unsupported = |detail: &str| Err(Problem::new(Reason::SchemeUnsupported, detail));
    let Some(raw) = extra.and_then(|e| e.payment_flow) else {
        return Ok(());
    };
    match text(raw).as_deref() {
        Some("authorization" | "upfront") => Ok(()),
        Some("escrow") => unsupported("the payment flow `escrow` is not supported"),
        _ => unsupported("the payment flow is not known"),
    }
}

/// `maxTimeoutSeconds`: whole seconds, more than none. How many are too many is policy.
fn valid_for(raw: Option<&RawValue>) -> Result<u64, Problem> {
    let seconds = raw.and_then(|raw| serde_json::from_str::<u64>(raw.get()).ok());
    match seconds {
        Some(seconds) if seconds > u64::from(u32::MAX) => Err(Problem::new(
            Reason::ValidityTooLong,
            "the payload would be valid for more than a hundred years",
        )),
        Some(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(Problem::new(
            Reason::MalformedChallenge,
            "the validity is not a positive number of whole seconds",
        )),
    }
}

/// Where the challenge disagrees with the signing domain of our own table, for the entry that is
/// about to be signed. Silence is no disagreement.
pub(super) fn names_domain(raw: &str, name: &str, version: &str) -> Result<bool, Problem> {
    let entry: Entry<'_> = object(raw)?;
    let extra = entry.extra()?;
    let agrees = |said: Option<&RawValue>, ours: &str| {
        said.is_none_or(|raw| text(raw).is_some_and(|text| text == ours))
    };
    Ok(agrees(extra.name, name) && agrees(extra.version, version))
}

/// What the entry that is about to be signed names on Solana (`scheme_exact_svm`). The recent block that it
/// may name too is not looked at: ours comes from a node of our own.
pub(super) fn cluster(raw: &str) -> Result<Named, Problem> {
    let entry: Entry<'_> = object(raw)?;
    let extra = entry.extra()?;
    let written = |raw: Option<&RawValue>, what: &str| {
        let odd = || {
            let detail = format!("the {what} of an entry is not a string");
            Problem::new(Reason::MalformedChallenge, detail)
        };
        raw.map(|raw| text(raw).ok_or_else(odd)).transpose()
    };
    Ok(Named {
        fee_payer: written(extra.fee_payer, "fee payer")?,
        memo: written(extra.memo, "memo")?,
    })
}

/// A JSON string.
pub(super) fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// A short JSON string that is not empty.
pub(super) fn word(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(text)
        .filter(|word| !word.is_empty() && word.len() <= WORD_MAX)
}

/// A media type worth comparing with what comes back; anything odd is no promise.
pub(super) fn media_type(raw: Option<&RawValue>) -> Option<String> {
    word(raw).filter(|word| word.bytes().all(|b| b.is_ascii_graphic() || b == b' '))
}
