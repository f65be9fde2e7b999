//! What is known of one payment, in the order in which it came about.

use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::event::{Agreed, Delivery, Flag, Permitted, SpendEvent, State, TempoSigned, Transacted};
use crate::evm::decimal;
use crate::ledger::Trail;
use crate::money::{Amount, Usd};
use crate::payment::PaymentId;
use crate::wallet::Form;

/// The file. A reader of version 1 may meet more members, never other meanings.
#[derive(Debug, Serialize)]
pub(super) struct Evidence {
    version: u8,
    payment: PaymentId,
    made: Timestamp,
    session: String,
    agent: String,
    request: Value,
    /// What was asked.
    offer: Value,
    /// What was signed, as typed data that any EIP-712 implementation hashes; of a Solana transaction
    /// what it says. `null`: the record is older than these fields.
    signed: Option<Value>,
    /// Who decided, by which rule of which policy.
    decided: Value,
    price: Option<Usd>,
    charged: Option<Usd>,
    states: Vec<Reached>,
    delivery: Option<Delivery>,
    /// What the merchant says, true or not.
    claim: Option<Claim>,
    flags: Vec<Flag>,
    /// What its chain showed, when one was asked.
    chain: Option<Shown>,
    /// Where it stands in the hash chain: rows of `ledger export` carry the same numbers and hashes.
    ledger: Place,
}

#[derive(Debug, Serialize)]
struct Reached {
    time: Timestamp,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    record_seq: u64,
    record_hash: String,
}

#[derive(Debug, Serialize)]
struct Claim {
    receipt: String,
    transaction: Option<String>,
    amount_settled: Option<Amount>,
}

#[derive(Debug, Serialize)]
struct Shown {
    confirmed: bool,
    transaction: Option<String>,
    block: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Place {
    head_seq: u64,
    head_hash: String,
}

impl Evidence {
    /// `None`: nothing was ever reserved, so nothing can have been signed.
    pub(super) fn of(trail: &Trail) -> Option<Self> {
        let events = || trail.records.iter().map(|record| &record.event);
        let first = events().find(|e| e.state == State::Reserved)?;
        let last = events().next_back()?;
        let agreed = events().find_map(|e| e.agreed.as_deref());
        Some(Self {
            version: 1,
            payment: last.id,
            made: last.id.made(),
            session: last.session.to_string(),
            agent: last.agent.clone(),
            request: json!({ "method": last.method, "host": last.host, "path": last.path }),
            offer: offer(first, agreed),
            signed: agreed.and_then(|agreed| signed(first, agreed)),
            decided: json!({ "rule": last.rule, "policy": last.policy, "wallet": last.wallet }),
            price: last.price,
            charged: last.charged,
            states: states(trail),
            delivery: last.delivery.clone(),
            claim: events().rev().filter(|e| !of_chain(e)).find_map(claim),
            flags: last.flags.clone(),
            chain: of_chain(last).then(|| shown(last)),
            ledger: Place {
                head_seq: trail.head_seq,
                head_hash: trail.head_hash.clone(),
            },
        })
    }
}

fn offer(event: &SpendEvent, agreed: Option<&Agreed>) -> Value {
    json!({
        "protocol": event.protocol,
        "scheme": event.scheme,
        "network": event.network,
        "asset": event.asset,
        "contract": agreed.map(|a| a.permit.as_ref().map_or(&a.contract, |p| &p.token)),
        "amount": event.amount,
        "pay_to": event.pay_to,
        "max_timeout": agreed.map(|a| a.max_timeout),
        "expires": agreed.and_then(|a| a.expires),
        "resource": agreed.and_then(|a| a.resource.as_ref()),
        "sha256": agreed.map(|a| &a.offer),
    })
}

/// Names and order of EIP-712 and EIP-3009; numbers that may be larger than JSON readers hold are text.
fn signed(event: &SpendEvent, agreed: &Agreed) -> Option<Value> {
    if let Some(transacted) = &agreed.solana {
        return signed_solana(event, agreed, transacted);
    }
    if let Some(permit) = &agreed.permit {
        return signed_permit(event, agreed, permit);
    }
    if let Some(transaction) = &agreed.transaction {
        return signed_transaction(event, agreed, transaction);
    }
    Some(json!({
        "types": Form::Transfer.types(),
        "primaryType": Form::Transfer.primary(),
        "domain": {
            "name": agreed.name,
            "version": agreed.version,
            "chainId": agreed.chain_id,
            "verifyingContract": agreed.contract,
        },
        "message": {
            "from": agreed.from,
            "to": event.pay_to,
            "value": event.amount?.0.to_string(),
            "validAfter": agreed.valid_after.to_string(),
            "validBefore": event.valid_before?.to_string(),
            "nonce": event.nonce.as_ref()?,
        },
    }))
}

/// What the transaction says, and the hash of its message: with the payer's signature in it, a transaction on
/// chain is ours when the message has this hash.
fn signed_solana(event: &SpendEvent, agreed: &Agreed, transacted: &Transacted) -> Option<Value> {
    Some(json!({
        "from": agreed.from,
        "to": event.pay_to,
        "amount": event.amount?.0.to_string(),
        "mint": transacted.mint,
        "decimals": transacted.decimals,
        "program": transacted.program,
        "feePayer": transacted.fee_payer,
        "memo": transacted.memo,
        "recentBlockhash": transacted.blockhash,
        "messageSha256": event.nonce.as_ref()?,
    }))
}

/// A Tempo transaction (type 0x76) under an expiring nonce.
fn signed_transaction(
    event: &SpendEvent,
    agreed: &Agreed,
    transaction: &TempoSigned,
) -> Option<Value> {
    Some(json!({
        "type": "0x76",
        "chainId": agreed.chain_id,
        "from": agreed.from,
        "token": agreed.contract,
        "calls": transaction.calls,
        "gas": transaction.gas,
        "maxFeePerGas": transaction.max_fee_per_gas,
        "maxPriorityFeePerGas": transaction.max_priority_fee_per_gas,
        "feeToken": transaction.fee_token,
        "feePayer": transaction.fee_token.is_none(),
        "validAfter": agreed.valid_after.to_string(),
        "validBefore": event.valid_before?.to_string(),
    }))
}

/// The same for Permit2, whose nonces are numbers.
fn signed_permit(event: &SpendEvent, agreed: &Agreed, permit: &Permitted) -> Option<Value> {
    let mut nonce = [0; 32];
    hex::decode_to_slice(event.nonce.as_ref()?.strip_prefix("0x")?, &mut nonce).ok()?;
    let mut witness = json!({ "to": event.pay_to, "validAfter": agreed.valid_after.to_string() });
    let form = match &permit.facilitator {
        None => Form::Permit,
        Some(facilitator) => {
            witness["facilitator"] = json!(facilitator);
            Form::UptoPermit
        }
    };
    Some(json!({
        "types": form.types(),
        "primaryType": form.primary(),
        "domain": {
            "name": agreed.name,
            "chainId": agreed.chain_id,
            "verifyingContract": agreed.contract,
        },
        "message": {
            "permitted": { "token": permit.token, "amount": event.amount?.0.to_string() },
            "spender": permit.spender,
            "nonce": decimal(&nonce),
            "deadline": event.valid_before?.to_string(),
            "witness": witness,
        },
    }))
}

fn states(trail: &Trail) -> Vec<Reached> {
    let reached = trail.records.iter().map(|record| Reached {
        time: record.event.time,
        state: record.event.state,
        reason: record.event.reason.clone().filter(|r| is_code(r)),
        record_seq: record.record_seq,
        record_hash: record.record_hash.clone(),
    });
    reached.collect()
}

/// A merchant's reason may be prose; a code says something, and cannot say much.
fn is_code(reason: &str) -> bool {
    reason.len() <= 64
        && reason
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Reconciliation writes its transaction over the one that was claimed.
fn of_chain(event: &SpendEvent) -> bool {
    event.confirmed || event.block.is_some()
}

fn claim(event: &SpendEvent) -> Option<Claim> {
    Some(Claim {
        receipt: event.receipt.clone()?,
        transaction: event.transaction.clone(),
        amount_settled: event.amount_settled,
    })
}

fn shown(event: &SpendEvent) -> Shown {
    // Dead and unused, a payment still carries what was claimed.
    let found = event.confirmed || event.flags.contains(&Flag::TakenOtherwise);
    Shown {
        confirmed: event.confirmed,
        transaction: event.transaction.clone().filter(|_| found),
        block: event.block,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::export::Recorded;

    fn record(seq: u64, event: SpendEvent) -> Recorded {
        Recorded {
            event,
            record_seq: seq,
            record_hash: "ab".repeat(32),
        }
    }

    fn settled() -> Trail {
        let reserved = SpendEvent {
            state: State::Reserved,
            amount: Some(Amount(10_000)),
            nonce: Some("0x01".into()),
            valid_before: Some(1_300),
            agreed: Some(Box::new(Agreed {
                valid_after: 400,
                ..Agreed::default()
            })),
            ..SpendEvent::default()
        };
        let claimed = SpendEvent {
            state: State::Settled,
            receipt: Some("claimed".into()),
            transaction: Some("0xclaimed".into()),
            reason: Some("pay me at canary".into()),
            agreed: None,
            ..reserved.clone()
        };
        let seen = SpendEvent {
            confirmed: true,
            transaction: Some("0xseen".into()),
            reason: Some("seen_on_chain".into()),
            block: Some(7),
            ..claimed.clone()
        };
        Trail {
            records: vec![record(3, reserved), record(5, claimed), record(8, seen)],
            head_seq: 9,
            head_hash: "cd".repeat(32),
        }
    }

    #[test]
    fn a_claim_is_told_from_what_the_chain_showed() {
        let file = serde_json::to_value(Evidence::of(&settled()).unwrap()).unwrap();
        assert_eq!(file["claim"]["transaction"], "0xclaimed");
        assert_eq!(file["chain"]["transaction"], "0xseen");
        assert_eq!(file["chain"]["block"], 7);
        assert_eq!(file["signed"]["message"]["validAfter"], "400");
        assert_eq!(file["states"][2]["record_seq"], 8);
        assert_eq!(file["states"][2]["reason"], "seen_on_chain");
        assert!(!file.to_string().contains("canary"), "{file}");
    }

    #[test]
    fn older_records_are_evidence_without_typed_data() {
        let mut trail = settled();
        trail.records[0].event.agreed = None;
        let file = serde_json::to_value(Evidence::of(&trail).unwrap()).unwrap();
        assert_eq!(file["signed"], Value::Null);
        assert_eq!(file["offer"]["sha256"], Value::Null);
        assert_eq!(file["offer"]["amount"], "10000");
    }

    #[test]
    fn a_refusal_is_no_payment() {
        let refused = record(1, SpendEvent::default());
        let trail = Trail {
            records: vec![refused],
            ..Trail::default()
        };
        assert!(Evidence::of(&trail).is_none());
    }
}
