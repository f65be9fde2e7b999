//! What is signed and sent for a challenge, and what never is.

use super::*;
use crate::evm::TransferWithAuthorization;
use crate::money;

pub(super) fn terms<'a>(requirement: &'a Requirement, asset: &'a Asset) -> Terms<'a> {
    Terms {
        requirement,
        asset,
        payer: BUYER,
        id: PaymentId(0x6df7_4ef9_c78a_41d1_88ac_1f23_2890_a828),
        nonce: Nonce([7; 32]),
        now: Timestamp::from_secs(1_800_000_000),
        valid_for: 60,
        blockhash: None,
        fee: crate::money::Amount(20_000),
    }
}

fn usdc() -> Asset {
    let assets = money::canonical_assets();
    let found = assets
        .into_iter()
        .find(|a| a.network.as_str() == "eip155:84532");
    found.unwrap()
}

fn asked(changes: Value) -> Result<TransferWithAuthorization, Reason> {
    let read = v2(&challenge(json!([entry(changes)]), json!({})));
    let requirement = &read.requirements[0];
    let protocol = by_name(requirement.protocol).unwrap();
    let instruction = protocol.instruct(&terms(requirement, &usdc()));
    Ok(transfer(instruction.map_err(|p| p.reason)?))
}

fn transfer(instruction: Instruction) -> TransferWithAuthorization {
    match instruction {
        Instruction::Transfer(transfer) => transfer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_objection_to_signing_is_raised_before_anything_is_signed() {
    let domain = |name: &str, version: &str| json!({"extra": {"name": name, "version": version}});
    for (changes, reason) in [
        (json!({"scheme": "subscription"}), Reason::SchemeUnsupported),
        (
            json!({"network": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"}),
            Reason::AssetNotAllowed,
        ),
        (
            json!({"network": "stellar:pubnet"}),
            Reason::SchemeUnsupported,
        ),
        (
            json!({"extra": {"assetTransferMethod": "erc7710"}}),
            Reason::TransferMethodUnsupported,
        ),
        (json!({"network": "eip155:8453"}), Reason::AssetNotAllowed),
        (
            json!({"asset": "0x000000000000000000000000000000000000dEaD"}),
            Reason::AssetNotAllowed,
        ),
        (domain("USD Coin", "2"), Reason::AssetNotAllowed),
        (domain("USDC", "1"), Reason::AssetNotAllowed),
        (json!({"extra": {"name": 1}}), Reason::AssetNotAllowed),
        (json!({"payTo": BUYER}), Reason::RecipientInvalid),
        (json!({"payTo": USDC}), Reason::RecipientInvalid),
        (json!({"payTo": "0xabc"}), Reason::RecipientInvalid),
        (json!({"payTo": "merchant"}), Reason::RecipientInvalid),
        (
            json!({"payTo": format!("0x{}", "0".repeat(40))}),
            Reason::RecipientInvalid,
        ),
        (
            json!({"payTo": format!("0x{:040x}", 9)}),
            Reason::RecipientInvalid,
        ),
        (
            json!({"payTo": SELLER.replace("F79", "f79")}),
            Reason::RecipientInvalid,
        ),
    ] {
        assert_eq!(asked(changes.clone()), Err(reason), "{changes}");
    }
    for extra in [
        json!({"extra": {}}),
        json!({"extra": null}),
        domain("USDC", "2"),
    ] {
        let transfer = asked(extra).unwrap();
        assert_eq!(
            (transfer.domain.name.as_str(), transfer.domain.chain_id),
            ("USDC", 84532)
        );
        assert_eq!(
            (transfer.valid_after, transfer.valid_before),
            (0, 1_800_000_060)
        );
    }
    let mut asset = usdc();
    asset.eip3009 = false;
    let read = v2(&challenge(json!([entry(json!({}))]), json!({})));
    let protocol = by_name("x402-v2").unwrap();
    let refused = protocol
        .instruct(&terms(&read.requirements[0], &asset))
        .unwrap_err();
    assert_eq!(refused.reason, Reason::TransferMethodUnsupported);
}

#[test]
fn the_echo_is_what_was_offered_to_the_byte() {
    let entry = r#"{ "scheme":"exact","network":"eip155:84532","amount":"10000","asset":"0x036cbd53842c5426634e7929541ec2318f3dcf7e","payTo":"0x90f79bf6eb2c4f870365e785982e1f101e93b906","maxTimeoutSeconds":60,"extra":{"n":1.50,"\u0078":null},"z":[1, 2] }"#;
    let resource = r#"{"url":"https://api.example.com/w","more":"Zahlung nötig 💸"}"#;
    let id = r#"{"schema":{"b":1,"a":2},"info":{"required":true}}"#;
    let extensions = format!(r#"{{"zeta":{{"n":1e2}},"payment-identifier":{id},"alpha":[]}}"#);
    let json = format!(
        r#"{{"x402Version":2,"accepts":[{entry}],"resource":{resource},"extensions":{extensions}}}"#
    );
    let read = v2_text(&json);
    let protocol = by_name("x402-v2").unwrap();
    let asset = usdc();
    let terms = terms(&read.requirements[0], &asset);
    let instruction = protocol.instruct(&terms).unwrap();
    let signature = Signature::Evm([1; 65]);
    let payload = protocol
        .payload(terms.requirement, &instruction, &signature, terms.id)
        .unwrap();
    let sent = String::from_utf8(STANDARD.decode(payload.value.as_bytes()).unwrap()).unwrap();
    assert!(
        sent.contains(&format!(r#","accepted":{entry}}}"#)),
        "{sent}"
    );
    assert!(
        sent.contains(&format!(r#""resource":{resource}"#)),
        "{sent}"
    );
    let identified = extensions.replace(
        "true}",
        r#"true,"id":"pay_6df74ef9c78a41d188ac1f232890a828"}"#,
    );
    assert!(
        sent.contains(&format!(r#""extensions":{identified}"#)),
        "{sent}"
    );
    assert!(
        sent.contains(r#""to":"0x90F79bf6EB2c4f870365E785982E1f101E93b906""#),
        "{sent}"
    );
    assert!(payload.value.is_sensitive());
}

#[test]
fn an_id_goes_in_where_the_merchant_left_room_for_one() {
    let id = PaymentId(5);
    for (sent, expected) in [
        (json!({"info": {}}), json!({"info": {"id": id.to_string()}})),
        (
            json!({"info": {"id": "theirs"}}),
            json!({"info": {"id": "theirs"}}),
        ),
        (json!({"info": []}), json!({"info": []})),
        (json!({"schema": {}}), json!({"schema": {}})),
        (json!("x"), json!("x")),
    ] {
        let extensions = json!({ "payment-identifier": sent }).to_string();
        let echoed = extensions::Extensions::echo(&extensions, id).unwrap();
        let echoed: Value = serde_json::from_str(&echoed).unwrap();
        assert_eq!(echoed["payment-identifier"], expected);
    }
}

#[test]
fn version_1_pays_to_the_address_as_offered() {
    let body = json!({"x402Version": 1, "accepts": [v1_entry()]}).to_string();
    let read = v1_text(&body);
    let protocol = by_name("x402-v1").unwrap();
    let asset = usdc();
    let terms = terms(&read.requirements[0], &asset);
    let instruction = protocol.instruct(&terms).unwrap();
    let transfer = transfer(instruction.clone());
    assert_eq!(
        (transfer.valid_after, transfer.valid_before),
        (1_799_999_400, 1_800_000_060)
    );
    let signature = Signature::Evm([1; 65]);
    let payload = protocol
        .payload(terms.requirement, &instruction, &signature, terms.id)
        .unwrap();
    let sent: Value = serde_json::from_slice(&STANDARD.decode(payload.value).unwrap()).unwrap();
    assert_eq!(
        sent["payload"]["authorization"]["to"],
        SELLER.to_lowercase()
    );
    assert_eq!(sent["network"], "base-sepolia");
}

#[test]
fn nothing_but_what_was_approved_is_sent() {
    let read = v2(&challenge(json!([entry(json!({}))]), json!({})));
    let protocol = by_name("x402-v2").unwrap();
    let asset = usdc();
    let terms = terms(&read.requirements[0], &asset);
    let mut transfer = transfer(protocol.instruct(&terms).unwrap());
    transfer.value += 1;
    let other = Instruction::Transfer(transfer);
    let payload = protocol.payload(
        terms.requirement,
        &other,
        &Signature::Evm([1; 65]),
        terms.id,
    );
    assert!(payload.is_err());
}
