//! Tempo charges as merchants, honest and hostile, write them, and the transaction that is made of them.

use proptest::prelude::*;

use super::mpp_read::{line, only, refused, request};
use super::*;
use crate::evm::{Address, TempoFee, TempoTransfer};
use crate::money::Amount;
use crate::protocol::mpp::Mpp;

const PATH_USD: &str = "0x20C0000000000000000000000000000000000000";
const OTHER: &str = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65";
const NOW: u64 = 1_800_000_000;

fn asked(changes: Value) -> String {
    let mut whole = json!({ "currency": PATH_USD, "methodDetails": {"chainId": 42431} });
    let more = changes.as_object().unwrap().clone();
    whole.as_object_mut().unwrap().extend(more);
    line(&request(whole).to_string(), &[("method", "tempo")])
}

/// With these details besides the chain.
fn detailed(details: Value) -> String {
    let mut whole = json!({ "chainId": 42431 });
    let more = details.as_object().unwrap().clone();
    whole.as_object_mut().unwrap().extend(more);
    asked(json!({ "methodDetails": whole }))
}

fn path_usd() -> Asset {
    let mut all = crate::money::canonical_assets().into_iter();
    all.find(|a| a.network.as_str() == "eip155:42431").unwrap()
}

fn instruct(offer: &Requirement, fee: u128, valid_for: u64) -> Result<TempoTransfer, Problem> {
    let terms = Terms {
        requirement: offer,
        asset: &path_usd(),
        payer: BUYER,
        id: PaymentId(1),
        nonce: Nonce([7; 32]),
        now: Timestamp::from_secs(NOW),
        valid_for,
        fee: Amount(fee),
        blockhash: None,
    };
    match Mpp.instruct(&terms)? {
        Instruction::Tempo(transfer) => Ok(transfer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_honest_tempo_charge_is_read_in_whole() {
    let memo = format!("0x{}", "ab".repeat(32));
    let shares = json!([{"amount": "2000", "recipient": OTHER, "memo": memo}]);
    let read = only(&detailed(
        json!({"feePayer": true, "splits": shares, "machineTokenEnabled": true}),
    ));
    assert_eq!(
        (&*read.scheme, &*read.transfer_method),
        ("tempo/charge", "tip20")
    );
    assert_eq!(
        (read.network.as_str(), read.amount),
        ("eip155:42431", Amount(10_000))
    );
    assert!(!read.own_fee);
    assert_eq!(read.payees().collect::<Vec<_>>(), [SELLER, OTHER]);
    assert_eq!(read.splits[0].memo, Some([0xab; 32]));
    for details in [
        json!({}),
        json!({"feePayer": false}),
        json!({"supportedModes": ["push", "pull"]}),
    ] {
        assert!(only(&detailed(details)).own_fee);
    }
}

#[test]
fn tempo_charges_that_are_not_paid_are_named() {
    let share = |amount: Value| json!({"splits": [{"amount": amount, "recipient": OTHER}]});
    for (line, reason, word) in [
        (
            asked(json!({"methodDetails": null})),
            Reason::NetworkNotAllowed,
            "chain",
        ),
        (
            asked(json!({"methodDetails": []})),
            Reason::MalformedChallenge,
            "object",
        ),
        (
            detailed(json!({"chainId": "42431"})),
            Reason::MalformedChallenge,
            "details",
        ),
        (
            detailed(json!({"feePayer": "yes"})),
            Reason::MalformedChallenge,
            "details",
        ),
        (
            detailed(json!({"supportedModes": ["push"]})),
            Reason::TransferMethodUnsupported,
            "send",
        ),
        (
            detailed(json!({"supportedModes": ["x"]})),
            Reason::TransferMethodUnsupported,
            "takes no",
        ),
        (
            detailed(share(json!("10000"))),
            Reason::SplitInvalid,
            "leave nothing",
        ),
        (
            detailed(share(json!("10001"))),
            Reason::SplitInvalid,
            "leave nothing",
        ),
        (detailed(share(json!("0"))), Reason::SplitInvalid, "nothing"),
        (detailed(share(json!(5))), Reason::AmountInvalid, ""),
        (
            detailed(json!({"splits": [7]})),
            Reason::MalformedChallenge,
            "object",
        ),
        (
            detailed(json!({"splits": [{"amount": "1"}]})),
            Reason::SplitInvalid,
            "no recipient",
        ),
        (
            detailed(json!({"splits": [{"amount": "1", "recipient": OTHER, "memo": "0x12"}]})),
            Reason::SplitInvalid,
            "32 bytes",
        ),
        (
            detailed(json!({"splits": [{"amount": "1", "recipient": OTHER, "data": "0x"}]})),
            Reason::ExtensionRefused,
            "`data`",
        ),
        (
            detailed(json!({"memo": "0x00"})),
            Reason::ExtensionRefused,
            "memo",
        ),
        (
            detailed(json!({"calls": []})),
            Reason::ExtensionRefused,
            "`calls`",
        ),
        (
            detailed(json!({"nonceKey": "1"})),
            Reason::ExtensionRefused,
            "`nonceKey`",
        ),
        (
            asked(json!({"transaction": "0x76"})),
            Reason::ExtensionRefused,
            "`transaction`",
        ),
        (
            asked(json!({"amount": "0"})),
            Reason::MessageSigningRefused,
            "proves",
        ),
    ] {
        let (found, detail) = refused(&line);
        assert_eq!(found, reason, "{line}: {detail}");
        assert!(detail.contains(word), "{detail}");
    }
}

#[test]
fn the_transaction_lives_shortly_and_costs_no_more_than_the_rule_allows() {
    let own = only(&detailed(json!({})));
    let transfer = instruct(&own, 20_000, 120).unwrap();
    assert_eq!(transfer.valid_before, NOW + 25);
    assert!(0 < transfer.valid_after && transfer.valid_after < NOW);
    assert_eq!(transfer.fee, TempoFee::Own(Some(transfer.token)));
    let most = transfer.max_fee_per_gas * u128::from(transfer.gas);
    assert!(most <= 20_000 * 1_000_000_000_000, "{most}");
    assert!(transfer.max_priority_fee_per_gas <= transfer.max_fee_per_gas);
    assert_eq!(instruct(&own, 20_000, 10).unwrap().valid_before, NOW + 10);
    // So little buys no gas, or no priority.
    let little = instruct(&own, 1, 120).unwrap();
    assert_eq!(little.max_priority_fee_per_gas, little.max_fee_per_gas);
    let none = instruct(&own, 0, 120).unwrap_err();
    assert_eq!(none.reason, Reason::TransferMethodUnsupported);
    // A fee payer wants more of the challenge left, and takes nothing of ours.
    let sponsored = only(&detailed(json!({"feePayer": true})));
    assert_eq!(
        instruct(&sponsored, 0, 15).unwrap().fee,
        TempoFee::Sponsored
    );
    for (offer, seconds) in [(&sponsored, 14), (&own, 1)] {
        let late = instruct(offer, 20_000, seconds).unwrap_err();
        assert_eq!(late.reason, Reason::ChallengeExpired);
    }
}

#[test]
fn nobody_is_paid_who_cannot_be_meant() {
    let to = |to: &str| asked(json!({ "recipient": to }));
    let share = |to: &str| detailed(json!({"splits": [{"amount": "1", "recipient": to}]}));
    let (token, zero) = (
        "0x20c0000000000000000000000000000000000009",
        format!("0x{}", "0".repeat(40)),
    );
    for payee in [BUYER, PATH_USD, token, &zero, "merchant"] {
        for line in [to(payee), share(payee)] {
            let problem = instruct(&only(&line), 20_000, 60).unwrap_err();
            assert_eq!(problem.reason, Reason::RecipientInvalid, "{line}");
        }
    }
    let foreign = only(&asked(json!({ "currency": USDC })));
    let problem = instruct(&foreign, 20_000, 60).unwrap_err();
    assert_eq!(problem.reason, Reason::AssetNotAllowed);
    // A token that is none of Tempo's, though the table has it there.
    let offer = only(&asked(json!({ "currency": OTHER })));
    let terms = Terms {
        requirement: &offer,
        asset: &Asset {
            address: OTHER.into(),
            ..path_usd()
        },
        payer: BUYER,
        id: PaymentId(1),
        nonce: Nonce([7; 32]),
        now: Timestamp::from_secs(NOW),
        valid_for: 60,
        fee: Amount(20_000),
        blockhash: None,
    };
    let problem = Mpp.instruct(&terms).unwrap_err();
    assert_eq!(problem.reason, Reason::AssetNotAllowed);
    assert!(problem.detail.contains("TIP-20"), "{}", problem.detail);
}

proptest! {
    #[test]
    fn every_unit_goes_where_the_challenge_says(
        shares in prop::collection::vec(1u128..1_000_000, 0..11),
        rest in 1u128..1_000_000,
        fee in 1u128..10_000_000,
        sponsored in any::<bool>(),
    ) {
        let amount = rest + shares.iter().sum::<u128>();
        let splits: Vec<_> = shares.iter().map(|a| json!({"amount": a.to_string(), "recipient": OTHER})).collect();
        let line = asked(json!({
            "amount": amount.to_string(),
            "methodDetails": {"chainId": 42431, "feePayer": sponsored, "splits": splits},
        }));
        let offer = only(&line);
        let transfer = instruct(&offer, fee, 60).unwrap();
        prop_assert_eq!(transfer.total(), Some(amount));
        prop_assert_eq!(transfer.calls[0].value, rest);
        prop_assert_eq!(transfer.calls[0].to, Address::from_hex(SELLER).unwrap());
        let others: Vec<_> = transfer.calls[1..].iter().map(|c| c.value).collect();
        prop_assert_eq!(others, shares);
        let most = transfer.max_fee_per_gas * u128::from(transfer.gas);
        prop_assert!(sponsored || most <= fee * 1_000_000_000_000);
        // What fee payers take by default: gas, its price, and both together.
        prop_assert!(transfer.gas <= 2_000_000);
        prop_assert!(!sponsored || transfer.max_fee_per_gas <= 100_000_000_000);
        prop_assert!(!sponsored || most <= 50_000_000_000_000_000);
        // What is signed for one is not the payload of another.
        let instruction = Instruction::Tempo(transfer);
        let signature = Signature::Evm([1; 65]);
        prop_assert!(Mpp.payload(&offer, &instruction, &signature, PaymentId(1)).is_ok());
        let mut other = offer.clone();
        other.amount = Amount(amount + 1);
        prop_assert!(Mpp.payload(&other, &instruction, &signature, PaymentId(1)).is_err());
        other = offer;
        other.pay_to = OTHER.into();
        prop_assert!(Mpp.payload(&other, &instruction, &signature, PaymentId(1)).is_err());
    }
}
