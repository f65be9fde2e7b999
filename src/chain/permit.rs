//! Permit2 keeps a bit for each nonce and tells nobody when one is used. Which transaction used it is
//! seen in the call of x402's proxy alone, and what was taken in the token's own log of that transaction.

use serde::Deserialize;

use super::words::{Bytes, Log, Receipt, Word, hash, word};
use super::{Authorization, ChainError, Found, Sight, View, if_told, search};
use crate::evm::{Charge, keccak};

/// Transactions that are looked into for one payment. A payer that pays one recipient more often than
/// that within one validity learns that it was taken, and not where.
const LOOKS: usize = 32;

/// `settle` of the proxy for `exact` (x402 `scheme_exact_evm`).
const SETTLE: &[u8] =
    b"settle(((address,uint256),uint256,uint256),address,(address,uint256),bytes)";

/// `settle` of the proxy for `upto` (x402 `scheme_upto_evm`).
const SETTLE_UPTO: &[u8] =
    b"settle(((address,uint256),uint256,uint256),uint256,address,(address,address,uint256),bytes)";

/// A transaction, as it was sent.
#[derive(Deserialize)]
pub(super) struct Sent {
    pub(super) hash: Word,
    #[serde(default)]
    to: Option<Bytes<20>>,
    input: String,
}

/// Where Permit2 keeps the bit of a nonce: the number of the word, and its place there.
pub(super) fn place(nonce: &[u8; 32]) -> (Word, u8) {
    let mut number = [0; 32];
    let [rest @ .., bit] = nonce;
    for (to, from) in number.iter_mut().skip(1).zip(rest) {
        *to = *from;
    }
    (Bytes(number), *bit)
}

/// Is this bit of a word set? Bit 0 is the lowest of the last byte.
pub(super) fn is_set(word: &Word, bit: u8) -> bool {
    let byte = word.0.iter().rev().nth(usize::from(bit / 8));
    byte.is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
}

impl Sent {
    /// Is it the call of x402's own proxy that uses this nonce of this payer for this token? Then
    /// nothing but our signature can have made it succeed.
    fn settles(&self, about: &Authorization, charge: Charge) -> bool {
        let (kind, owner) = match charge {
            Charge::Whole => (SETTLE, 4),
            Charge::UpTo { .. } => (SETTLE_UPTO, 5),
        };
        let [a, b, c, d, ..] = keccak(kind);
        let input = self.input.strip_prefix("0x").unwrap_or_default();
        let input = hex::decode(input).unwrap_or_default();
        let at = |index: usize| {
            let from = 4 + 32 * index;
            input.get(from..from + 32)
        };
        self.to.is_some_and(|to| to.0 == charge.spender().0)
            && input.starts_with(&[a, b, c, d])
            && at(0) == Some(&word(about.token).0)
            && at(2) == Some(&about.nonce)
            && at(owner) == Some(&word(about.from).0)
    }
}

impl View {
    /// By which transaction, and how much: from the one that the receipt names, else from those that
    /// moved this token from payer to payee.
    pub(super) async fn permitted(
        &self,
        about: &Authorization,
        charge: Charge,
    ) -> Result<Sight, ChainError> {
        if let Some(claimed) = about.claimed.as_deref().and_then(hash)
            && let Some(sight) = if_told(self.settled_in(about, charge, &claimed).await)?
        {
            return Ok(sight);
        }
        let logs = search::movements(&self.node, &self.deep, about).await?;
        for log in logs.iter().take(LOOKS) {
            let hash = &log.transaction_hash;
            match self.settled_in(about, charge, hash).await {
                // Anybody can move nothing between these two, in a transaction of any length.
                Err(error) if error.is_too_long() => {}
                Err(error) => return Err(error),
                Ok(Some(sight)) => return Ok(sight),
                Ok(None) => {}
            }
        }
        Ok(self.spent())
    }

    /// What this transaction took, if it is the one.
    async fn settled_in(
        &self,
        about: &Authorization,
        charge: Charge,
        hash: &Word,
    ) -> Result<Option<Sight>, ChainError> {
        let Some(receipt) = self.node.receipt(hash).await? else {
            return Ok(None);
        };
        if !receipt.stands(self.deep.number) {
            return Ok(None);
        }
        let sent = self.node.sent(hash).await?;
        if !sent.is_some_and(|sent| sent.settles(about, charge)) {
            return Ok(None);
        }
        Ok(Some(judged(about, charge, &receipt)))
    }
}

/// Did the money move as agreed: once, to the payee, all of it or at most the maximum?
fn judged(about: &Authorization, charge: Charge, receipt: &Receipt) -> Sight {
    let mut moved: Vec<&Log> = receipt.leaving(about).collect();
    let value = match (moved.pop(), moved.is_empty()) {
        (Some(log), true) => log.paid(about),
        (Some(_), false) | (None, _) => None,
    };
    let found = |value| Found {
        transaction: receipt.transaction_hash.to_string(),
        block: receipt.block_number.0,
        value,
    };
    let agreed = |value: &u128| match charge {
        Charge::Whole => *value == about.value,
        Charge::UpTo { .. } => *value <= about.value,
    };
    match value.filter(agreed) {
        Some(value) => Sight::Taken(found(value)),
        None => Sight::Otherwise(found(about.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evm::Address;

    #[test]
    fn a_nonce_has_its_bit() {
        let mut nonce = [0; 32];
        (nonce[0], nonce[30], nonce[31]) = (0xab, 0xcd, 9);
        let (number, bit) = place(&nonce);
        assert_eq!(
            (number.0[0], number.0[1], number.0[31], bit),
            (0, 0xab, 0xcd, 9)
        );
        let mut word = [0; 32];
        word[30] = 0b10;
        assert!(is_set(&Bytes(word), 9));
        let others = (0..=255).filter(|b| *b != 9);
        assert!(others.into_iter().all(|b| !is_set(&Bytes(word), b)));
        assert!(is_set(&Bytes([0xff; 32]), 255) && !is_set(&Bytes([0; 32]), 0));
    }

    #[test]
    fn only_the_call_that_spends_the_nonce_is_it() {
        let address = |n: u8| Address([n; 20]);
        let about = Authorization {
            keeper: super::super::Keeper::Permit2(Charge::Whole),
            token: address(1),
            from: address(2),
            to: address(3),
            value: 5,
            nonce: [4; 32],
            since: 0,
            valid_before: 60,
            claimed: None,
        };
        let call = |kind: &[u8], words: &[[u8; 32]], to: Address| Sent {
            hash: Bytes([0; 32]),
            to: Some(Bytes(to.0)),
            input: format!(
                "0x{}",
                hex::encode([&keccak(kind)[..4], &words.concat()].concat())
            ),
        };
        let (token, from, other) = (word(about.token).0, word(about.from).0, [7; 32]);
        let words = [token, other, about.nonce, other, from, other];
        let whole = Charge::Whole;
        let good = call(SETTLE, &words, whole.spender());
        assert!(good.settles(&about, whole));
        let facilitator = address(9);
        let upto = Charge::UpTo { facilitator };
        let words_upto = [token, other, about.nonce, other, other, from];
        assert!(call(SETTLE_UPTO, &words_upto, upto.spender()).settles(&about, upto));
        assert!(!call(SETTLE_UPTO, &words_upto, upto.spender()).settles(&about, whole));
        assert!(
            !call(SETTLE, &words, address(8)).settles(&about, whole),
            "another contract"
        );
        assert!(!call(b"other(bytes)", &words, whole.spender()).settles(&about, whole));
        assert!(
            !call(SETTLE, &words[..4], whole.spender()).settles(&about, whole),
            "cut short"
        );
        for at in [0, 2, 4] {
            let mut wrong = words;
            wrong[at] = [8; 32];
            assert!(
                !call(SETTLE, &wrong, whole.spender()).settles(&about, whole),
                "{at}"
            );
        }
        // A nonce somewhere behind is not the one that is used.
        let mut behind = words;
        (behind[2], behind[5]) = (other, about.nonce);
        assert!(!call(SETTLE, &behind, whole.spender()).settles(&about, whole));
    }
}
