//! What wallets are asked to do, and what they answer.

use super::Nonce;
use crate::evm;
use crate::lightning::Invoice;
use crate::money::Network;
use crate::solana::TokenTransfer;

/// What a wallet is asked to do. The only word protocol and wallet share; typed, so that a wallet
/// signs what was decided and nothing a challenge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Sign an EIP-3009 transfer (EIP-712 typed data).
    Transfer(evm::TransferWithAuthorization),
    /// Sign a Permit2 transfer through x402's proxy (EIP-712 typed data).
    Permit(evm::PermitTransfer),
    /// Sign a transfer of tokens on Solana, for somebody else to pay for and send.
    Tokens {
        /// The cluster.
        network: Network,
        /// The transaction.
        transfer: Box<TokenTransfer>,
    },
    /// Sign a Tempo transaction of TIP-20 transfers.
    Tempo(evm::TempoTransfer),
    /// Pay a Lightning invoice.
    Invoice {
        /// The invoice, checked.
        invoice: Invoice,
        /// Most that routing may cost besides, millisatoshi.
        fee_most: u64,
    },
}

impl Instruction {
    /// The account that pays, where that is an EVM account.
    #[must_use]
    pub fn from(&self) -> Option<evm::Address> {
        match self {
            Self::Transfer(transfer) => Some(transfer.from),
            Self::Permit(permit) => Some(permit.from),
            Self::Tempo(transfer) => Some(transfer.from),
            Self::Tokens { .. } | Self::Invoice { .. } => None,
        }
    }

    /// The EVM chain that it is for, if it is for one.
    #[must_use]
    pub fn chain_id(&self) -> Option<u64> {
        match self {
            Self::Transfer(transfer) => Some(transfer.domain.chain_id),
            Self::Permit(permit) => Some(permit.chain_id),
            Self::Tempo(transfer) => Some(transfer.chain_id),
            Self::Tokens { .. } | Self::Invoice { .. } => None,
        }
    }

    /// The number under which it can be found again: on its chain, or at the node that pays.
    #[must_use]
    pub fn nonce(&self) -> Nonce {
        match self {
            Self::Transfer(transfer) => Nonce(transfer.nonce),
            Self::Permit(permit) => Nonce(permit.nonce),
            Self::Tokens { transfer, .. } => Nonce(transfer.id()),
            Self::Tempo(transfer) => Nonce(transfer.memo()),
            Self::Invoice { invoice, .. } => Nonce(invoice.hash),
        }
    }

    /// The digest that is signed, where something is: that of EIP-712 typed data, or of a transaction.
    #[must_use]
    pub fn digest(&self) -> Option<[u8; 32]> {
        match self {
            Self::Transfer(transfer) => Some(transfer.digest()),
            Self::Permit(permit) => Some(permit.digest()),
            Self::Tempo(transfer) => Some(transfer.digest()),
            Self::Tokens { .. } | Self::Invoice { .. } => None,
        }
    }
}

/// What the wallet answered. Whoever holds it can take the money, so it has no `Debug`.
pub enum Signature {
    /// r ‖ s ‖ v with v 27 or 28 and low s.
    Evm([u8; 65]),
    /// Of an authorization that whoever signs made itself, on the terms that were agreed.
    Authorization {
        /// What it signed: its own nonce, and a validity within the one asked for.
        transfer: Box<evm::TransferWithAuthorization>,
        /// As in `Evm`.
        signature: [u8; 65],
    },
    /// Ed25519 over the message of a Solana transaction.
    Solana([u8; 64]),
    /// A Solana transaction that whoever signs made itself, on the terms that were agreed, with its signature.
    Transaction(Vec<u8>),
    /// The proof that a Lightning invoice was paid. The money has moved.
    Preimage {
        /// Its SHA-256 is the invoice's payment hash; whoever pays checks that.
        preimage: [u8; 32],
        /// Routing fee that was paid, millisatoshi; `None` when the wallet does not say.
        fee_msat: Option<u64>,
    },
}
