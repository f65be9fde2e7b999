//! A transaction on Tempo leaves no nonce that could be asked for. What it leaves is the memo of its first transfer,
//! which only its challenge has, and which only the payer's own signature can put beside a transfer out of its account.

use super::words::{Bytes, Log, Word, word};
use super::{Authorization, ChainError, Found, Sight, View};
use crate::evm::keccak;

/// `TransferWithMemo(address indexed from, address indexed to, uint256 amount, bytes32 indexed memo)` (TIP-20).
pub(super) fn memo_topic() -> Word {
    Bytes(keccak(b"TransferWithMemo(address,address,uint256,bytes32)"))
}

impl Log {
    /// Does it tell of the transfer that has this memo?
    pub(super) fn notes(&self, about: &Authorization) -> bool {
        let topics = [
            memo_topic(),
            word(about.from),
            word(about.to),
            Bytes(about.nonce),
        ];
        self.address.0 == about.token.0 && !self.removed && self.topics == topics
    }
}

impl View {
    /// All transfers of a transaction happen or none, so one log tells of all of them.
    pub(super) async fn noted(&self, about: &Authorization) -> Result<Sight, ChainError> {
        let Some(log) = self.search(about).await? else {
            return Ok(match self.is_dead(about) {
                true => Sight::Unseen,
                false => Sight::Undecided,
            });
        };
        let receipt = self.node.receipt(&log.transaction_hash).await?;
        let shows = receipt.is_some_and(|receipt| {
            let notes = |l: &Log| l.transaction_hash == log.transaction_hash && l.notes(about);
            receipt.stands(self.deep.number)
                && receipt.block_number == log.block_number
                && receipt.logs.iter().any(notes)
        });
        match shows {
            true => Ok(Sight::Taken(Found {
                transaction: log.transaction_hash.to_string(),
                block: log.block_number.0,
                value: about.value,
            })),
            false => Err(self.node.contradiction("a log is in no transaction")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Keeper;
    use super::super::words::Quantity;
    use super::*;
    use crate::evm::Address;

    #[test]
    fn only_the_transfer_with_this_memo_out_of_this_account_is_it() {
        let address = |n: u8| Address([n; 20]);
        let about = Authorization {
            keeper: Keeper::Memo,
            token: address(1),
            from: address(2),
            to: address(3),
            value: 5,
            nonce: [9; 32],
            since: 0,
            valid_before: 100,
            claimed: None,
        };
        let log = Log {
            address: Bytes([1; 20]),
            topics: vec![
                memo_topic(),
                word(address(2)),
                word(address(3)),
                Bytes([9; 32]),
            ],
            data: String::new(),
            block_number: Quantity(1),
            transaction_hash: Bytes([7; 32]),
            log_index: Quantity(0),
            removed: false,
        };
        assert!(log.notes(&about));
        for place in 0..4 {
            let mut other = log.clone();
            other.topics[place] = Bytes([8; 32]);
            assert!(!other.notes(&about), "{place}");
        }
        let (mut other, mut gone, mut more) = (log.clone(), log.clone(), log);
        other.address = Bytes([2; 20]);
        gone.removed = true;
        more.topics.push(Bytes([0; 32]));
        assert!(![other, gone, more].iter().any(|l| l.notes(&about)));
    }
}
