//! Transactions of other makes, and what must not be taken for the one that was asked for.

use super::super::tests::terms;
use super::*;
use crate::solana::{Blockhash, Transfer};

fn asked() -> TokenTransfer {
    TokenTransfer::new(terms()).unwrap()
}

/// Where this begins in the message.
fn find(message: &[u8], part: &[u8]) -> usize {
    message
        .windows(part.len())
        .position(|bytes| bytes == part)
        .unwrap()
}

/// With signatures around it that are not looked at.
fn around(message: &[u8]) -> Vec<u8> {
    [&[2][..], &[0; 64], &[7; 64], message].concat()
}

#[test]
fn what_we_would_have_made_is_the_same_with_any_block_and_memo() {
    let asked = asked();
    let ours = asked.transaction(&[7; 64]);
    let made = same(&ours, &asked).unwrap();
    assert_eq!(
        (made.signature, made.message),
        (&[7; 64], &*asked.message())
    );
    let other = Transfer {
        blockhash: Blockhash([3; 32]),
        memo: "another".repeat(30),
        ..terms()
    };
    let other = TokenTransfer::new(other).unwrap();
    assert!(same(&other.transaction(&[7; 64]), &asked).is_some());
    // A message without a version says the same with two bytes less.
    let message = asked.message();
    let legacy = &message[1..message.len() - 1];
    assert!(same(&around(legacy), &asked).is_some());
}

#[test]
fn each_changed_bit_that_moves_something_else_is_seen() {
    let asked = asked();
    let message = asked.message();
    let count = usize::from(message[4]);
    let block = 5 + 32 * count;
    let limit = find(&message, &[2, 0x20, 0x4e, 0, 0]);
    let price = find(&message, &[3, 1, 0, 0, 0, 0, 0, 0, 0]);
    let memo = find(&message, terms().memo.as_bytes());
    // The fee payer's bounds, the block and the memo are free, and so is how accounts are locked that are not ours.
    let free = [
        2..4,
        block..block + 32,
        limit..limit + 5,
        price..price + 9,
        memo..memo + terms().memo.len(),
    ];
    for at in 0..message.len() {
        for bit in 0..8 {
            let mut changed = message.clone();
            changed[at] ^= 1 << bit;
            let taken = same(&around(&changed), &asked).is_some();
            let is_free = free.iter().any(|range| range.contains(&at));
            assert!(!taken || is_free, "byte {at}, bit {bit}");
        }
    }
    for other in [
        Transfer {
            amount: terms().amount + 1,
            ..terms()
        },
        Transfer {
            decimals: terms().decimals + 1,
            ..terms()
        },
        Transfer {
            payee: terms().fee_payer,
            fee_payer: terms().payee,
            ..terms()
        },
        Transfer {
            program: crate::solana::TokenProgram::Token2022,
            ..terms()
        },
    ] {
        let other = TokenTransfer::new(other).unwrap();
        assert!(same(&other.transaction(&[7; 64]), &asked).is_none());
    }
}

#[test]
fn nothing_more_is_done_and_nobody_else_signs() {
    let asked = asked();
    let message = asked.message();
    let calls = 5 + 32 * usize::from(message[4]) + 32;
    let body = &message[calls + 1..message.len() - 1];
    let with = |count: u8, more: &[u8], tables: &[u8]| {
        let head = &message[..calls];
        around(&[head, &[count], body, more, tables].concat())
    };
    assert!(same(&with(4, &[], &[0]), &asked).is_some());
    let first = find(body, &[12]);
    // The whole call of the transfer: its program, four accounts, ten bytes.
    let twice = &body[first - 7..first + 10];
    assert_eq!(twice[1], 4);
    assert!(same(&with(5, twice, &[0]), &asked).is_none(), "moved twice");
    let token = twice[0];
    let owner = 1;
    let approve = [token, 3, twice[2], 2, owner, 9, 4, 1, 0, 0, 0, 0, 0, 0, 0];
    assert!(same(&with(5, &approve, &[0]), &asked).is_none(), "approved");
    let close = [token, 3, twice[2], 2, owner, 1, 9];
    assert!(same(&with(5, &close, &[0]), &asked).is_none(), "closed");
    let table = [&[1][..], &[9; 32], &[0, 0]].concat();
    assert!(same(&with(4, &[], &table), &asked).is_none(), "a table");
    assert!(
        same(&with(4, &[], &[0, 0]), &asked).is_none(),
        "a byte more"
    );
    assert!(
        same(&with(3, &[], &[0]), &asked).is_none(),
        "a call left over"
    );
    let mut three = around(&message);
    three[1 + 128 + 1] = 3;
    assert!(same(&three, &asked).is_none(), "three signers");
    let lone = [&[1][..], &[7; 64], &message].concat();
    assert!(same(&lone, &asked).is_none(), "one signature");
    let whole = asked.transaction(&[7; 64]);
    for end in 0..whole.len() {
        assert!(same(&whole[..end], &asked).is_none(), "cut at {end}");
    }
    assert!(same(&[0; 1300], &asked).is_none());
}
