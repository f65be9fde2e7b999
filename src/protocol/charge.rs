//! Intent `charge` of MPP: one payment for one request. `evm/charge` by an EIP-3009 authorization is
//! paid here, `tempo/charge` in a file of its own; every other method and intent is refused by name.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::encoding::object;
use super::entry::{amount, word};
use super::tempo_charge;
use crate::money::{Asset, Network};
use crate::payment::{Problem, Reason, Requirement};

/// Seconds that a payment lives where the challenge does not say, as the official client has it.
const USUAL: u64 = 300;

/// What we call a charge on an EVM chain.
pub(super) const EVM_CHARGE: &str = "evm/charge";

/// Intents that are not paid, and why.
const INTENTS: &[(&str, &str)] = &[
    (
        "session",
        "an MPP session takes a deposit larger than the price, so it is not paid",
    ),
    (
        "subscription",
        "an MPP subscription charges again and again, so it is not paid",
    ),
];

/// Methods that are known and not paid.
const METHODS: &[(&str, &str)] = &[
    ("stripe", "payments by Stripe tokens are not spoken"),
    ("card", "payments by card are not spoken"),
    ("lightning", "payments by Lightning are not spoken in MPP"),
    ("solana", "payments on Solana are not spoken in MPP"),
];

/// Credential types that are not signed, and why.
const CREDENTIALS: &[(&str, &str)] = &[
    (
        "hash",
        "the payer would have to send the transaction itself, whose fee no price bounds",
    ),
    (
        "transaction",
        "the payer would have to pay for the transaction, whose fee no price bounds",
    ),
    ("permit2", "MPP payments by Permit2 are not spoken"),
];

/// The members that decide (draft-payment-intent-charge-00). `description` and others decide nothing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Charge<'a> {
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    #[serde(borrow)]
    currency: Option<&'a RawValue>,
    #[serde(borrow)]
    recipient: Option<&'a RawValue>,
    #[serde(borrow)]
    method_details: Option<&'a RawValue>,
}

/// `methodDetails` of `evm`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    chain_id: Option<u64>,
    credential_types: Option<Vec<String>>,
    decimals: Option<u64>,
    #[serde(borrow)]
    splits: Option<Vec<&'a RawValue>>,
}

/// What the request of a challenge asks for, if that is paid.
pub(super) fn read(method: &str, intent: &str, request: &str) -> Result<Requirement, Problem> {
    let unsupported = |detail| Problem::new(Reason::SchemeUnsupported, detail);
    let named = |table: &[(&str, &'static str)], name: &str| {
        let known = table.iter().find(|(known, _)| *known == name);
        known.map(|(_, why)| *why)
    };
    if intent != "charge" {
        let why = named(INTENTS, intent).unwrap_or("the intent of the challenge is not known");
        return Err(unsupported(why));
    }
    let charge: Charge<'_> = object(request)?;
    // The same for every method: what moves no money is a login.
    if word(charge.amount).as_deref() == Some("0") {
        let detail =
            "a price of nothing asks for a signature that proves who pays, and moves no money";
        return Err(Problem::new(Reason::MessageSigningRefused, detail));
    }
    match method {
        "evm" => evm(&charge),
        "tempo" => tempo_charge::read(&tempo_charge::Asked {
            amount: charge.amount,
            currency: charge.currency,
            recipient: charge.recipient,
            method_details: charge.method_details,
            request,
        }),
        other => {
            let why = named(METHODS, other).unwrap_or("the payment method is not known");
            Err(unsupported(why))
        }
    }
}

fn evm(charge: &Charge<'_>) -> Result<Requirement, Problem> {
    let malformed = |detail| Problem::new(Reason::MalformedChallenge, detail);
    let details = details(charge.method_details)?;
    let chain = details.chain_id.map(|id| format!("eip155:{id}"));
    let network = chain.and_then(|name| name.parse::<Network>().ok());
    let network = network.ok_or_else(|| {
        let detail = "the challenge does not say by its number on which chain it is paid";
        Problem::new(Reason::NetworkNotAllowed, detail)
    })?;
    let amount = amount(charge.amount)?;
    let asset =
        word(charge.currency).ok_or_else(|| malformed("the challenge names no currency"))?;
    let pay_to = word(charge.recipient).ok_or_else(|| {
        let detail = "the challenge names no recipient";
        Problem::new(Reason::RecipientInvalid, detail)
    })?;
    if details.splits.is_some_and(|splits| !splits.is_empty()) {
        let detail = "an authorization pays one recipient, and the challenge has several";
        return Err(Problem::new(Reason::SplitInvalid, detail));
    }
    authorizes(details.credential_types.as_deref().unwrap_or_default())?;
    Ok(Requirement {
        protocol: "mpp",
        scheme: EVM_CHARGE.into(),
        network,
        asset,
        amount,
        pay_to,
        valid_for: USUAL,
        expires: None,
        transfer_method: "eip3009".into(),
        facilitator: None,
        splits: vec![],
        own_fee: false,
        resource: None,
        mime_type: None,
        offer: std::sync::Arc::default(),
    })
}

fn details(raw: Option<&RawValue>) -> Result<Details<'_>, Problem> {
    let Some(raw) = raw else {
        return Ok(Details::default());
    };
    object(raw.get()).map_err(|_| {
        let detail = "the details of the payment method cannot be read";
        Problem::new(Reason::MalformedChallenge, detail)
    })
}

/// Is an EIP-3009 authorization among the credentials that are taken?
fn authorizes(types: &[String]) -> Result<(), Problem> {
    if types.iter().any(|t| t == "authorization") {
        return Ok(());
    }
    let known = CREDENTIALS
        .iter()
        .find(|(n, _)| types.iter().any(|t| t == n));
    let why = known.map_or(
        "the challenge takes no EIP-3009 authorization",
        |(_, why)| why,
    );
    Err(Problem::new(Reason::TransferMethodUnsupported, why))
}

/// Does the challenge count the asset as our own table does? Silence is no disagreement.
pub(super) fn counts_as(request: &str, asset: &Asset) -> Result<(), Problem> {
    let charge: Charge<'_> = object(request)?;
    let said = details(charge.method_details)?.decimals;
    if said.is_none_or(|decimals| decimals == u64::from(asset.decimals)) {
        return Ok(());
    }
    let detail = "the challenge counts the asset in other decimals than the table of assets does";
    Err(Problem::new(Reason::AssetNotAllowed, detail))
}
