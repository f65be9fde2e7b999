//! The x402 `SettlementResponse`: what a merchant claims about the settlement. Each member is kept
//! only when well formed; free text never is.

use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::encoding;
use super::entry::text;
use super::{statements, x402_v2};
use crate::evm;
use crate::money::{Network, v1_network};
use crate::payment::{Claim, Receipt};

/// Bytes of an MPP receipt, encoded.
const RECEIPT_MAX: usize = 64 << 10;

/// Characters that are kept of `errorReason`.
const WHY_MAX: usize = 64;

/// The members that are looked at. `errorMessage` is not among them: it can hold a whole signature
/// that is still valid.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settlement<'a> {
    success: bool,
    #[serde(borrow)]
    transaction: Option<&'a RawValue>,
    #[serde(borrow)]
    network: Option<&'a RawValue>,
    #[serde(borrow)]
    payer: Option<&'a RawValue>,
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    #[serde(borrow)]
    error_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
}

/// Reads the receipt of a version in its own header, or where that is absent in the other version's, as the official
/// clients do.
pub(super) fn read(headers: &HeaderMap, own: &str, other: &str) -> Receipt {
    let name = if headers.contains_key(own) {
        own
    } else {
        other
    };
    try_read(headers, name).unwrap_or_default()
}

fn try_read(headers: &HeaderMap, name: &str) -> Option<Receipt> {
    let value = encoding::only(headers, name).ok()??;
    let json = encoding::decode(value).ok()?;
    encoding::check(&json).ok()?;
    let settlement: Settlement<'_> = encoding::object(&json).ok()?;
    let transaction = settlement
        .transaction
        .and_then(text)
        .filter(|t| is_transaction(t));
    if !settlement.success {
        let why = settlement.error_reason.and_then(text).unwrap_or_default();
        let why = plain(&why);
        return Some(Receipt::Denied { why, transaction });
    }
    let mut odd = false;
    Some(Receipt::Claimed(Claim {
        transaction,
        network: member(settlement.network, network, &mut odd),
        payer: member(settlement.payer, account, &mut odd),
        amount: member(settlement.amount, |a| a.parse().ok(), &mut odd),
        odd,
        signed: settlement
            .extensions
            .and_then(statements::receipt)
            .map(Box::new),
    }))
}

/// A network, as either version names it.
fn network(name: &str) -> Option<Network> {
    v1_network(name).or_else(|| x402_v2::network(name))
}

/// A member that is there and says something, read; `odd` when it cannot be.
fn member<T>(
    raw: Option<&RawValue>,
    read: impl Fn(&str) -> Option<T>,
    odd: &mut bool,
) -> Option<T> {
    let raw = raw.filter(|raw| raw.get() != "\"\"")?;
    let value = text(raw).and_then(|text| read(&text));
    *odd |= value.is_none();
    value
}

/// The members of an MPP receipt that are looked at. It names neither sum nor payer.
#[derive(Deserialize)]
struct Noted<'a> {
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    reference: Option<&'a RawValue>,
}

/// Reads the MPP receipt in this header.
pub(super) fn read_mpp(headers: &HeaderMap, name: &str) -> Receipt {
    try_read_mpp(headers, name).unwrap_or_default()
}

fn try_read_mpp(headers: &HeaderMap, name: &str) -> Option<Receipt> {
    let value = encoding::only(headers, name).ok()??;
    let value = value.to_str().ok().filter(|v| v.len() <= RECEIPT_MAX)?;
    let json = encoding::decode_url(value)?;
    encoding::check(&json).ok()?;
    let noted: Noted<'_> = encoding::object(&json).ok()?;
    let status = noted.status.and_then(text)?;
    let transaction = noted.reference.and_then(text);
    let transaction = transaction.filter(|t| is_transaction(t));
    if status != "success" {
        let why = plain(&status);
        return Some(Receipt::Denied { why, transaction });
    }
    Some(Receipt::Claimed(Claim {
        transaction,
        ..Claim::default()
    }))
}

/// Letters, digits, `_`, `-` and `.`: safe in a log, a header and a prompt.
fn plain(why: &str) -> String {
    let safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    why.chars().filter(safe).take(WHY_MAX).collect()
}

/// An EVM transaction hash, or a Solana signature in base58.
fn is_transaction(text: &str) -> bool {
    let hash = text
        .strip_prefix("0x")
        .is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
    hash || is_base58(text, 64..=88)
}

/// An EVM address, or a Solana account in base58.
fn account(text: &str) -> Option<String> {
    let is_account = evm::Address::from_hex(text).is_ok() || is_base58(text, 32..=44);
    is_account.then(|| text.to_owned())
}

fn is_base58(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    let digit = |b: u8| b.is_ascii_alphanumeric() && !matches!(b, b'0' | b'O' | b'I' | b'l');
    length.contains(&text.len()) && text.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use http::HeaderName;
    use serde_json::{Value, json};

    use super::*;
    use crate::money::Amount;

    const HASH: &str = "0x9481d211237d4962273ddca7037c0fa6278033671539f2b0dabecd5b0b44f516";
    const PAYER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

    fn lines(values: &[&str]) -> Receipt {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("payment-response", value.parse().unwrap());
        }
        read(&headers, "payment-response", "x-payment-response")
    }

    fn receipt(json: &Value) -> Receipt {
        lines(&[&STANDARD.encode(json.to_string())])
    }

    #[test]
    fn a_claim_keeps_its_well_formed_members_only() {
        let honest = json!({"success": true, "transaction": HASH, "network": "eip155:84532",
            "payer": PAYER, "amount": "10000", "extensions": {"x": 1}});
        let claim = Claim {
            transaction: Some(HASH.into()),
            network: Some("eip155:84532".parse().unwrap()),
            payer: Some(PAYER.into()),
            amount: Some(Amount(10_000)),
            signed: None,
            odd: false,
        };
        assert_eq!(receipt(&honest), Receipt::Claimed(claim));
        let nothing = |odd| {
            Receipt::Claimed(Claim {
                odd,
                ..Claim::default()
            })
        };
        for silent in [
            json!({"success": true}),
            json!({"success": true, "transaction": "", "network": "", "payer": "", "amount": ""}),
            json!({"success": true, "transaction": format!("0x{}", "g".repeat(64))}),
            json!({"success": true, "network": null, "payer": null, "amount": null}),
        ] {
            assert_eq!(receipt(&silent), nothing(false), "{silent}");
        }
        for odd in [
            json!({"success": true, "transaction": "0x12", "network": 1, "payer": {}, "amount": 5}),
            json!({"success": true, "transaction": "ignore\r\nall", "amount": "-1", "network": null}),
            json!({"success": true, "network": "lightning"}),
            json!({"success": true, "payer": "you"}),
            json!({"success": true, "amount": 10_000}),
        ] {
            assert_eq!(receipt(&odd), nothing(true), "{odd}");
        }
    }

    #[test]
    fn the_other_versions_header_and_names_of_networks_are_read_too() {
        let named =
            |network: &str| json!({"success": true, "transaction": HASH, "network": network});
        let claim = |headers: &[(&'static str, &Value)]| {
            let values = headers.iter().map(|(name, json)| {
                let value = STANDARD.encode(json.to_string()).parse().unwrap();
                (HeaderName::from_static(name), value)
            });
            match read(&values.collect(), "payment-response", "x-payment-response") {
                Receipt::Claimed(claim) => claim,
                other => panic!("{other:?}"),
            }
        };
        let (own, other) = (named("eip155:84532"), named("base-sepolia"));
        for headers in [
            &[("payment-response", &own)][..],
            &[("payment-response", &other)],
            &[("x-payment-response", &other)],
            &[("x-payment-response", &own)],
        ] {
            let claim = claim(headers);
            assert_eq!(claim.network, Some("eip155:84532".parse().unwrap()));
            assert!(!claim.odd, "{headers:?}");
        }
        // What is said in its own place counts.
        let denied = json!({"success": false});
        let mut both = HeaderMap::new();
        for (name, json) in [("payment-response", &denied), ("x-payment-response", &own)] {
            let value = STANDARD.encode(json.to_string());
            both.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        let denial = read(&both, "payment-response", "x-payment-response");
        assert!(matches!(denial, Receipt::Denied { .. }), "{denial:?}");
        let other = read(&both, "x-payment-response", "payment-response");
        assert!(matches!(other, Receipt::Claimed(_)), "{other:?}");
        both.insert("payment-response", "%%".parse().unwrap());
        let garbled = read(&both, "payment-response", "x-payment-response");
        assert_eq!(garbled, Receipt::Absent);
    }

    #[test]
    fn a_denial_keeps_no_free_text() {
        let secret = format!("args: 0x{}", "ab".repeat(65));
        let reason = format!("nonce already\r\nused_{}", "x".repeat(100));
        let denied = json!({"success": false, "transaction": HASH, "errorReason": reason,
            "errorMessage": secret, "network": "eip155:84532"});
        let Receipt::Denied { why, transaction } = receipt(&denied) else {
            panic!("not denied");
        };
        assert_eq!(why, format!("noncealreadyused_{}", "x".repeat(47)));
        assert_eq!(transaction.as_deref(), Some(HASH));
        let bare = json!({"success": false, "errorReason": 7, "transaction": ""});
        let nothing = Receipt::Denied {
            why: String::new(),
            transaction: None,
        };
        assert_eq!(receipt(&bare), nothing);
    }

    #[test]
    fn what_cannot_be_read_in_one_way_is_absent() {
        let good = STANDARD.encode(json!({"success": true}).to_string());
        assert_ne!(lines(&[&good]), Receipt::Absent);
        assert_eq!(lines(&[&good, &good]), Receipt::Absent);
        assert_eq!(lines(&["%%%not-base64%%%"]), Receipt::Absent);
        assert_eq!(lines(&[""]), Receipt::Absent);
        assert_eq!(lines(&[]), Receipt::Absent);
        for text in [
            r#"{"success":"true"}"#,
            r#"{"success":1}"#,
            r#"{"success":true,"success":false}"#,
            r#"{"success":true,"extensions":{"a":1,"\u0061":2}}"#,
            r#"{"transaction":"0x"}"#,
            "[true]",
            "[true,null,null,null,null,null,null]",
            "true",
        ] {
            assert_eq!(lines(&[&STANDARD.encode(text)]), Receipt::Absent, "{text}");
        }
        let long = json!({"success": true, "x": "y".repeat(70_000)});
        assert_eq!(receipt(&long), Receipt::Absent);
    }
}
