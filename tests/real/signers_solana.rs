//! Wallets on Solana whose key is elsewhere: what comes back is checked against our own message.

use aws_lc_rs::signature::Ed25519KeyPair;
use farepass::payment::{Instruction, Signature};
use farepass::solana::{Blockhash, Pubkey, TokenProgram, TokenTransfer, Transfer};
use farepass::wallet::{Probe, Wallet};
use serde_json::json;

use super::signers::{
    KEY, Scene, cdp_solana, folder, kms_solana, open, privy_solana, runtime, solana_address,
    transfer,
};
use crate::support::signer::Fault;

/// Every kind that has keys for Solana.
pub(crate) const KINDS: &[Scene] = &[cdp_solana, privy_solana, kms_solana];

pub(crate) const DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";

fn key(text: &str) -> Pubkey {
    text.parse().unwrap()
}

fn tokens(owner: Pubkey) -> TokenTransfer {
    TokenTransfer::new(Transfer {
        fee_payer: key("7v54NWdBtkjuAFJrLGsS2SXnuk8nKam81mZJeeYxVFi9"),
        owner,
        payee: key("oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass9"),
        mint: key("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),
        program: TokenProgram::Token,
        amount: 10_000,
        decimals: 6,
        memo: "01".repeat(16),
        blockhash: Blockhash([9; 32]),
    })
    .unwrap()
}

fn ask(owner: Pubkey) -> Instruction {
    Instruction::Tokens {
        network: DEVNET.parse().unwrap(),
        transfer: Box::new(tokens(owner)),
    }
}

fn error(wallet: &dyn Wallet, ask: &Instruction) -> (bool, String) {
    let error = runtime().block_on(wallet.sign(ask)).err().unwrap();
    (error.is_final(), error.to_string())
}

#[test]
fn messages_are_signed_as_the_key_itself_would_and_nothing_else_is_believed() {
    let owner = key(&solana_address(KEY));
    let pair = Ed25519KeyPair::from_seed_unchecked(&KEY).unwrap();
    for scene in KINDS {
        let folder = folder();
        let (signer, mut keys) = scene(KEY, &folder);
        keys["networks"] = json!([DEVNET]);
        let wallet = open(&keys, &folder);
        let probe = runtime().block_on(wallet.probe());
        assert!(matches!(probe, Probe::Right | Probe::Untold), "{probe:?}");
        match runtime().block_on(wallet.sign(&ask(owner))) {
            Ok(Signature::Solana(signature)) => {
                assert_eq!(signature, pair.sign(&tokens(owner).message()).as_ref());
            }
            Ok(_) => panic!("no signature of Solana"),
            Err(error) => panic!("{error}"),
        }
        for fault in [Fault::OtherKey, Fault::OtherDigest] {
            signer.fail(fault);
            let (is_final, said) = error(&*wallet, &ask(owner));
            assert!(!is_final && said.contains("not that of"), "{said}");
        }
        assert!(wallet.signs(&ask(owner)) && !wallet.signs(&Instruction::Transfer(transfer(1))));
        let asked = signer.seen().len();
        assert_eq!(asked, 3, "each is asked once");
        let stranger = ask(key("mBKqcnGotbsSb5vNrdyhzZ5EhqZdids9QYiTRckvi7v"));
        assert!(error(&*wallet, &stranger).0);
        assert!(error(&*wallet, &Instruction::Transfer(transfer(1))).0);
        assert_eq!(signer.seen().len(), asked, "others are not asked for");
    }
}
