//! What it answers with: an authorization that it made, believed where it is on the terms that were agreed.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

use super::super::ask::{Account, Paying};
use super::super::failure::{Failure, unmade};
use super::super::key::verified;
use super::super::remote;
use super::super::solana_key::is_signature;
use crate::evm::{Address, Domain, TransferWithAuthorization};
use crate::payment::{Instruction, Signature};
use crate::solana;

/// How the credential of a challenge begins.
const SCHEME: &str = "Payment ";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    payment_output: Output,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    crypto_x402: Option<Crypto>,
    mpp: Option<Mpp>,
}

#[derive(Deserialize)]
struct Crypto {
    payload: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mpp {
    payment_credential: String,
}

/// No `Debug`: it can take the money.
#[derive(Deserialize)]
struct Signed {
    signature: String,
    authorization: Authorization,
}

/// What a credential carries. No `Debug`, as above.
#[derive(Deserialize)]
struct Charged {
    r#type: String,
    signature: String,
    #[serde(flatten)]
    authorization: Authorization,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    from: String,
    to: String,
    value: String,
    valid_after: String,
    valid_before: String,
    nonce: String,
}

impl Authorization {
    /// What was authorized, on the network and for the asset that we asked for: the signature says whether
    /// that is so.
    fn transfer(&self, domain: &Domain) -> Option<TransferWithAuthorization> {
        let mut nonce = [0; 32];
        hex::decode_to_slice(self.nonce.strip_prefix("0x")?, &mut nonce).ok()?;
        Some(TransferWithAuthorization {
            domain: domain.clone(),
            from: Address::from_hex(&self.from).ok()?,
            to: Address::from_hex(&self.to).ok()?,
            value: self.value.parse().ok()?,
            valid_after: self.valid_after.parse().ok()?,
            valid_before: self.valid_before.parse().ok()?,
            nonce,
        })
    }
}

/// Is it what was asked for, and dead when our hold thinks so? A challenge decides the nonce, too.
fn agrees(
    theirs: &TransferWithAuthorization,
    asked: &TransferWithAuthorization,
    challenged: bool,
) -> bool {
    let bound = !challenged || theirs.nonce == asked.nonce;
    theirs.from == asked.from
        && theirs.to == asked.to
        && theirs.value == asked.value
        && theirs.domain == asked.domain
        && theirs.valid_before <= asked.valid_before
        && theirs.valid_after < theirs.valid_before
        && bound
}

/// Of x402 the inner payload, or the whole of it: both are documented. Of MPP what the credential carries.
fn signed(answer: &[u8], challenged: bool) -> Option<Signed> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let output = answer.payment_output;
    if !challenged {
        let payload = output.crypto_x402?.payload;
        let inner = payload.get("payload").cloned().unwrap_or(payload);
        return serde_json::from_value(inner).ok();
    }
    let credential = output.mpp?.payment_credential;
    let token = credential.strip_prefix(SCHEME).unwrap_or(&credential);
    let json = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).ok()?;
    let credential: Value = serde_json::from_slice(&json).ok()?;
    let charged: Charged = serde_json::from_value(credential.get("payload")?.clone()).ok()?;
    (charged.r#type == "authorization").then_some(Signed {
        signature: charged.signature,
        authorization: charged.authorization,
    })
}

/// What an answer authorizes for this token, and the signature that it comes with, in its words. Nothing of it is
/// checked yet. `None`: there is none.
#[must_use]
pub fn authorized(
    answer: &[u8],
    challenged: bool,
    domain: &Domain,
) -> Option<(TransferWithAuthorization, String)> {
    let signed = signed(answer, challenged)?;
    let transfer = signed.authorization.transfer(domain)?;
    Some((transfer, signed.signature))
}

/// The transaction of Solana in an answer, in base64, where there is one.
fn transaction(answer: &[u8]) -> Option<Vec<u8>> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let payload = answer.payment_output.crypto_x402?.payload;
    let inner = payload.get("payload").unwrap_or(&payload);
    STANDARD.decode(inner.get("transaction")?.as_str()?).ok()
}

/// What it made, checked. `None`: its signature is another's, or over something else.
///
/// # Errors
/// When there is nothing that can be read, or it is on other terms.
pub(super) fn read(
    paying: &Paying,
    account: Account,
    answer: &[u8],
) -> Result<Option<Signature>, Failure> {
    let other = || Failure::Unreadable("it signed other terms than were asked for");
    match (&paying.instruction, account) {
        (Instruction::Transfer(asked), Account::Evm(address)) => {
            let challenged = paying.challenge.is_some();
            let made = authorized(answer, challenged, &asked.domain);
            let (theirs, signature) = made.ok_or(Failure::Unreadable("no authorization in it"))?;
            if !agrees(&theirs, asked, challenged) {
                return Err(other());
            }
            let signature = remote::hex_signature(&signature)?;
            let digest = theirs.digest();
            let right = signature.iter().find_map(|signature| {
                let bytes = signature.as_slice().try_into().ok()?;
                verified(bytes, digest, address)
            });
            Ok(right.map(|signature| Signature::Authorization {
                transfer: Box::new(theirs),
                signature,
            }))
        }
        (Instruction::Tokens { transfer, .. }, Account::Solana(owner)) => {
            let bytes = transaction(answer);
            let bytes = bytes.ok_or(Failure::Unreadable("no transaction in it"))?;
            let made = solana::same(&bytes, transfer).ok_or_else(other)?;
            let right = is_signature(made.signature, made.message, owner);
            Ok(right.then_some(Signature::Transaction(bytes)))
        }
        (
            Instruction::Transfer(_)
            | Instruction::Permit(_)
            | Instruction::Tokens { .. }
            | Instruction::Tempo(_)
            | Instruction::Invoice { .. },
            Account::Evm(_) | Account::Solana(_),
        ) => Err(unmade("it makes no such payments")),
    }
}

#[cfg(test)]
mod tests;
