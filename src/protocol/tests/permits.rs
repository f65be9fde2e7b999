//! Permit2 payments: what is signed and sent for `exact` and `upto`, and what never is.

use super::payloads::terms;
use super::*;
use crate::evm::{Address, Charge, PERMIT2, PermitTransfer};
use crate::money;

const FACILITATOR: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

fn usdc() -> Asset {
    let assets = money::canonical_assets();
    let found = assets
        .into_iter()
        .find(|a| a.network.as_str() == "eip155:84532");
    found.unwrap()
}

/// An `exact` offer by Permit2, changed.
fn exact(changes: Value) -> Value {
    let mut entry =
        entry(json!({"extra": {"name": "USDC", "version": "2", "assetTransferMethod": "permit2"}}));
    for (key, value) in changes.as_object().unwrap() {
        match key.strip_prefix("extra.") {
            Some(key) => entry["extra"][key] = value.clone(),
            None => entry[key] = value.clone(),
        }
    }
    entry
}

/// An `upto` offer, changed.
fn upto(changes: Value) -> Value {
    let mut entry = exact(json!({"scheme": "upto", "extra.facilitatorAddress": FACILITATOR}));
    for (key, value) in changes.as_object().unwrap() {
        match key.strip_prefix("extra.") {
            Some(key) => entry["extra"][key] = value.clone(),
            None => entry[key] = value.clone(),
        }
    }
    entry
}

fn signs(entry: &Value, asset: &Asset) -> Result<PermitTransfer, Reason> {
    let read = v2(&challenge(json!([entry]), json!({})));
    let Some(requirement) = read.requirements.first() else {
        return Err(read.problems[0].reason);
    };
    let protocol = by_name(requirement.protocol).unwrap();
    match protocol.instruct(&terms(requirement, asset)) {
        Ok(Instruction::Permit(permit)) => Ok(permit),
        Ok(other) => panic!("{other:?}"),
        Err(problem) => Err(problem.reason),
    }
}

#[test]
fn the_spender_is_ours_whatever_the_offer_says() {
    let liar = "0x000000000000000000000000000000000000dEaD";
    for entry in [
        exact(json!({})),
        exact(json!({"extra.spender": liar, "spender": liar, "extra.permit2": liar})),
        // Who says how much is nobody's business when all of it is paid.
        exact(json!({"extra.facilitatorAddress": liar})),
        exact(json!({"extra.amount": "1", "extra.token": liar, "extra.to": liar})),
    ] {
        let permit = signs(&entry, &usdc()).unwrap();
        assert_eq!(permit.charge, Charge::Whole, "{entry}");
        assert_eq!((permit.amount, permit.chain_id), (10_000, 84532));
        assert_eq!(permit.token.to_string(), usdc().address);
        assert_eq!(permit.to.to_string(), SELLER);
        assert_eq!((permit.valid_after, permit.deadline), (0, 1_800_000_060));
        assert_eq!(permit.nonce, [7; 32]);
    }
    let most = upto(json!({"extra.spender": liar, "extra.facilitator": liar}));
    let permit = signs(&most, &usdc()).unwrap();
    let facilitator = Address::from_hex(FACILITATOR).unwrap();
    assert_eq!(permit.charge, Charge::UpTo { facilitator });
    // The only way there is, so it needs no name.
    let silent = upto(json!({"extra.assetTransferMethod": null}));
    assert_eq!(signs(&silent, &usdc()).unwrap(), permit);
}

#[test]
fn what_could_take_more_or_pay_another_is_not_signed() {
    let proxy = "0x402085c248EeA27D92E8b30b2C58ed07f9E20001";
    let second = "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002";
    let beyond = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    for (entry, reason) in [
        (
            exact(json!({"asset": FACILITATOR})),
            Reason::AssetNotAllowed,
        ),
        (
            exact(json!({"network": "eip155:8453"})),
            Reason::AssetNotAllowed,
        ),
        (
            exact(json!({"extra.name": "USD Coin"})),
            Reason::AssetNotAllowed,
        ),
        (exact(json!({"amount": beyond})), Reason::OverRequestCap),
        (exact(json!({"amount": "-1"})), Reason::AmountInvalid),
        (exact(json!({"amount": 10_000})), Reason::AmountInvalid),
        (
            exact(json!({"payTo": PERMIT2.to_string()})),
            Reason::RecipientInvalid,
        ),
        (exact(json!({"payTo": proxy})), Reason::RecipientInvalid),
        (upto(json!({"payTo": second})), Reason::RecipientInvalid),
        (exact(json!({"payTo": USDC})), Reason::RecipientInvalid),
        (exact(json!({"payTo": BUYER})), Reason::RecipientInvalid),
        (
            exact(json!({"extra.assetTransferMethod": "Permit2"})),
            Reason::TransferMethodUnsupported,
        ),
        (
            exact(json!({"extra.assetTransferMethod": "erc7710"})),
            Reason::TransferMethodUnsupported,
        ),
        (
            upto(json!({"extra.assetTransferMethod": "eip3009"})),
            Reason::TransferMethodUnsupported,
        ),
        (upto(json!({"amount": beyond})), Reason::OverRequestCap),
        (
            upto(json!({"extra.facilitatorAddress": null})),
            Reason::MalformedChallenge,
        ),
        (
            upto(json!({"extra.facilitatorAddress": 7})),
            Reason::MalformedChallenge,
        ),
        (
            upto(json!({"extra.facilitatorAddress": "somebody"})),
            Reason::MalformedChallenge,
        ),
        (
            upto(json!({"extra.facilitatorAddress": BUYER})),
            Reason::MalformedChallenge,
        ),
        (
            upto(json!({"extra.facilitatorAddress": "0x0000000000000000000000000000000000000000"})),
            Reason::MalformedChallenge,
        ),
        (
            upto(json!({"extra.facilitatorAddress": "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266"})),
            Reason::MalformedChallenge,
        ),
        (
            exact(json!({"scheme": "batch-settlement"})),
            Reason::SchemeUnsupported,
        ),
        (exact(json!({"scheme": "UPTO"})), Reason::SchemeUnsupported),
    ] {
        assert_eq!(signs(&entry, &usdc()), Err(reason), "{entry}");
    }
}

#[test]
fn an_asset_without_a_domain_of_its_own_can_be_moved_by_permit2() {
    let mut asset = usdc();
    (asset.eip712, asset.eip3009) = (None, false);
    assert!(signs(&exact(json!({})), &asset).is_ok());
    asset.address = FACILITATOR.into();
    assert_eq!(
        signs(&exact(json!({})), &asset),
        Err(Reason::AssetNotAllowed)
    );
}

#[test]
fn nothing_but_what_was_approved_is_sent() {
    let (whole, most) = (exact(json!({})), upto(json!({})));
    for (entry, other) in [(&whole, &most), (&most, &whole)] {
        let read = v2(&challenge(json!([entry]), json!({})));
        let (protocol, asset) = (by_name("x402-v2").unwrap(), usdc());
        let terms = terms(&read.requirements[0], &asset);
        let permit = signs(entry, &asset).unwrap();
        let sends = |permit: PermitTransfer| {
            let (instruction, signature) = (Instruction::Permit(permit), Signature::Evm([1; 65]));
            protocol
                .payload(terms.requirement, &instruction, &signature, terms.id)
                .is_ok()
        };
        assert!(sends(permit.clone()));
        let somebody = Address([9; 20]);
        for wrong in [
            PermitTransfer {
                amount: permit.amount + 1,
                ..permit.clone()
            },
            PermitTransfer {
                to: somebody,
                ..permit.clone()
            },
            PermitTransfer {
                token: somebody,
                ..permit.clone()
            },
            PermitTransfer {
                charge: Charge::UpTo {
                    facilitator: somebody,
                },
                ..permit.clone()
            },
            PermitTransfer {
                charge: signs(other, &asset).unwrap().charge,
                ..permit.clone()
            },
        ] {
            assert!(!sends(wrong.clone()), "{wrong:?}");
        }
    }
}

#[test]
fn version_1_has_neither() {
    for (changes, expected) in [
        (
            json!({"extra": {"assetTransferMethod": "permit2"}}),
            "0 transfer_method_unsupported",
        ),
        (json!({"scheme": "upto"}), "0 scheme_unsupported"),
        (json!({"scheme": "evm/charge"}), "0 scheme_unsupported"),
        (json!({"scheme": "tempo/charge"}), "0 scheme_unsupported"),
        (json!({"scheme": "exact"}), "1"),
    ] {
        let mut entry = v1_entry();
        for (key, value) in changes.as_object().unwrap() {
            entry[key] = value.clone();
        }
        let body = json!({"x402Version": 1, "accepts": [entry]}).to_string();
        let read = v1_text(&body);
        assert_eq!(told(&read), expected, "{changes}");
    }
}

#[test]
fn schemes_that_are_refused_are_named() {
    for (scheme, word) in [
        ("batch-settlement", "batch-settlement"),
        ("auth-capture", "captured later"),
        ("escrow", "captured later"),
        ("IGNORE", "not known"),
    ] {
        // Whatever else is odd about it.
        let read = v2(&challenge(
            json!([exact(json!({"scheme": scheme, "amount": 7}))]),
            json!({}),
        ));
        let [problem] = read.problems.as_slice() else {
            panic!("{:?}", read.problems)
        };
        assert_eq!(problem.reason, Reason::SchemeUnsupported);
        assert!(problem.detail.contains(word), "{}", problem.detail);
    }
}
