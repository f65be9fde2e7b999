//! Accounts against those of the official client, and messages read back by another hand.

use proptest::prelude::*;

use super::*;

const VECTORS: &str = include_str!("../../tests/vectors/x402/signing/svm-exact.json");

fn key(text: &str) -> Pubkey {
    text.parse().unwrap()
}

#[test]
fn programs_are_what_people_call_them() {
    let names = [
        (
            program::COMPUTE_BUDGET,
            "ComputeBudget111111111111111111111111111111",
        ),
        (program::MEMO, "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"),
        (
            program::ASSOCIATED_TOKEN,
            "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL",
        ),
        (
            TokenProgram::Token.id(),
            "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
        ),
        (
            TokenProgram::Token2022.id(),
            "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb",
        ),
    ];
    for (program, name) in names {
        assert_eq!(program.to_string(), name);
        assert!(is_program(&program));
    }
    assert!(is_program(&key("11111111111111111111111111111111")));
    assert!(!is_program(&key(
        "oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass9"
    )));
}

#[test]
fn token_accounts_are_those_of_the_official_client() {
    let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let mint = key(vectors["mint"]["address"].as_str().unwrap());
    for (owner, role) in [
        ("mBKqcnGotbsSb5vNrdyhzZ5EhqZdids9QYiTRckvi7v", "buyer"),
        ("oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass9", "merchant"),
    ] {
        let expected = vectors["atas"][role].as_str().unwrap();
        assert!(key(owner).is_on_curve());
        assert!(!key(expected).is_on_curve());
        let found = Pubkey::token_account(&key(owner), TokenProgram::Token, &mint);
        assert_eq!(found.unwrap().to_string(), expected);
        let other = Pubkey::token_account(&key(owner), TokenProgram::Token2022, &mint);
        assert_ne!(other, found);
    }
}

#[test]
fn addresses_have_one_spelling() {
    for text in [
        "",
        "1",
        "oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass",
        "1oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass9",
        "oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass0",
        "oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass9 ",
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        &"z".repeat(44),
        &"1".repeat(33),
        &"2".repeat(1 << 20),
    ] {
        assert_eq!(text.parse::<Pubkey>(), Err(NotPubkey), "{}", text.len());
    }
}

pub(super) fn terms() -> Transfer {
    Transfer {
        fee_payer: key("7v54NWdBtkjuAFJrLGsS2SXnuk8nKam81mZJeeYxVFi9"),
        owner: key("mBKqcnGotbsSb5vNrdyhzZ5EhqZdids9QYiTRckvi7v"),
        payee: key("oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass9"),
        mint: key("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),
        program: TokenProgram::Token,
        amount: 10_000,
        decimals: 6,
        memo: "01".repeat(16),
        blockhash: Blockhash([9; 32]),
    }
}

#[test]
fn nobody_of_the_payment_pays_its_fee_and_no_program_is_paid() {
    let source = Pubkey::token_account(&terms().owner, TokenProgram::Token, &terms().mint);
    let destination = Pubkey::token_account(&terms().payee, TokenProgram::Token, &terms().mint);
    let (source, destination) = (source.unwrap(), destination.unwrap());
    let token = TokenProgram::Token.id();
    for fee_payer in [
        terms().owner,
        source,
        destination,
        terms().mint,
        token,
        Pubkey([0; 32]),
    ] {
        let other = Transfer {
            fee_payer,
            ..terms()
        };
        assert_eq!(
            TokenTransfer::new(other),
            Err(NotTransfer::FeePayer),
            "{fee_payer}"
        );
    }
    for payee in [terms().owner, source, terms().mint, token, Pubkey([0; 32])] {
        let other = Transfer { payee, ..terms() };
        assert_eq!(
            TokenTransfer::new(other),
            Err(NotTransfer::Payee),
            "{payee}"
        );
    }
    // The facilitator may sell something itself.
    let payee = terms().fee_payer;
    assert!(TokenTransfer::new(Transfer { payee, ..terms() }).is_ok());
    let memo = |length: usize| Transfer {
        memo: "m".repeat(length),
        ..terms()
    };
    assert!(TokenTransfer::new(memo(256)).is_ok());
    assert_eq!(TokenTransfer::new(memo(257)), Err(NotTransfer::Memo));
}

/// Reads a message back, by the layout of the documentation and not by our own writer.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk::<N>().unwrap();
        self.0 = rest;
        *taken
    }

    fn length(&mut self) -> usize {
        let (mut length, mut shift) = (0, 0);
        loop {
            let [byte] = self.take();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return length;
            }
        }
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken.to_vec()
    }
}

/// Program, accounts, data.
type Call = (Pubkey, Vec<Pubkey>, Vec<u8>);

fn decode(message: &[u8]) -> (Vec<Pubkey>, [u8; 32], Vec<Call>) {
    let mut from = Reader(message);
    assert_eq!(from.take(), [0x80, 2, 1, 4]);
    let count = from.length();
    let accounts: Vec<Pubkey> = (0..count).map(|_| Pubkey(from.take())).collect();
    let blockhash = from.take();
    let calls = (0..from.length()).map(|_| {
        let [program] = from.take();
        let count = from.length();
        let used = from.bytes(count);
        let count = from.length();
        let data = from.bytes(count);
        let account = |index: &u8| accounts[usize::from(*index)];
        (account(&program), used.iter().map(account).collect(), data)
    });
    let calls = calls.collect();
    assert_eq!(from.take(), [0]);
    assert!(from.0.is_empty());
    (accounts, blockhash, calls)
}

proptest! {
    /// Whatever was decided on, and nothing else, is what the bytes say.
    #[test]
    fn a_message_says_what_was_decided(
        fee_payer: [u8; 32], owner: [u8; 32], payee: [u8; 32], mint: [u8; 32],
        blockhash: [u8; 32], amount: u64, decimals: u8, memo in ".{0,60}", newer: bool,
    ) {
        let program = if newer { TokenProgram::Token2022 } else { TokenProgram::Token };
        let (owner, payee, mint) = (Pubkey(owner), Pubkey(payee), Pubkey(mint));
        let fee_payer = Pubkey(fee_payer);
        let blockhash = Blockhash(blockhash);
        let terms = Transfer { fee_payer, owner, payee, mint, program, amount, decimals, memo, blockhash };
        let transfer = TokenTransfer::new(terms.clone()).unwrap();
        let (accounts, hash, calls) = decode(&transfer.message());
        let source = Pubkey::token_account(&owner, program, &mint).unwrap();
        let destination = Pubkey::token_account(&payee, program, &mint).unwrap();
        prop_assert_eq!(&accounts[..2], &[fee_payer, owner]);
        prop_assert!(accounts[2..4].contains(&source) && accounts[2..4].contains(&destination));
        prop_assert_eq!(hash, blockhash.0);
        let [limit, price, moved, noted] = &calls[..] else { panic!("{} calls", calls.len()) };
        prop_assert_eq!(limit, &(program::COMPUTE_BUDGET, vec![], [&[2][..], &20_000_u32.to_le_bytes()].concat()));
        prop_assert_eq!(price, &(program::COMPUTE_BUDGET, vec![], [&[3][..], &1_u64.to_le_bytes()].concat()));
        let data = [&[12][..], &amount.to_le_bytes(), &[decimals]].concat();
        prop_assert_eq!(moved, &(program.id(), vec![source, mint, destination, owner], data));
        prop_assert_eq!(noted, &(program::MEMO, vec![], terms.memo.into_bytes()));
        let used = calls.iter().flat_map(|(_, accounts, _)| accounts);
        prop_assert!(used.clone().all(|a| *a != fee_payer));
        let signed = transfer.transaction(&[7; 64]);
        prop_assert!(signed.len() <= 1232);
        let (signatures, message) = split(&signed).unwrap();
        prop_assert_eq!(signatures, &[[0; 64], [7; 64]]);
        prop_assert_eq!(message, transfer.message());
    }

    #[test]
    fn any_bytes_are_split_or_not(bytes: Vec<u8>) {
        if let Some((signatures, message)) = split(&bytes) {
            prop_assert_eq!(1 + signatures.len() * 64 + message.len(), bytes.len());
        }
    }

    #[test]
    fn an_address_is_read_as_it_is_written(bytes: [u8; 32]) {
        prop_assert_eq!(Pubkey(bytes).to_string().parse(), Ok(Pubkey(bytes)));
    }
}
