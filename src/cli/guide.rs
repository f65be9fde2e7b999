//! What each kind of wallet needs: for `init`, which writes it down, and `doctor`, which looks for it.

use std::path::PathBuf;

use crate::config::WalletEntry;

/// Where it is written that an address is still to be put in: it belongs to nobody.
pub(super) const NOBODY: &str = "0x0000000000000000000000000000000000000000";

/// One kind.
#[derive(Debug)]
pub(super) struct Guide {
    pub(super) kind: &'static str,
    /// The wallet in a first configuration.
    pub(super) wallet: &'static str,
    /// Keys that name files of mode 0600, what is in each, and where it comes from.
    files: &'static [(&'static str, &'static str)],
    /// What is to be made at the provider, and where its address is shown.
    pub(super) account: &'static str,
    /// Who may do what.
    pub(super) permissions: &'static str,
}

/// The guide of a kind, when it needs one.
pub(super) fn of(kind: &str) -> Option<&'static Guide> {
    GUIDES.iter().find(|guide| guide.kind == kind)
}

impl Guide {
    /// Its files as the configuration names them, and what belongs into each.
    pub(super) fn files_of(&self, entry: &WalletEntry) -> Vec<(PathBuf, &'static str)> {
        let file = |(key, what): &(&str, &'static str)| {
            let text = entry.section.peek(key)?.text().ok()?;
            Some((entry.base.join(text), *what))
        };
        self.files.iter().filter_map(file).collect()
    }
}

/// Every kind, the one that needs nothing first.
pub(super) const GUIDES: &[Guide] = &[
    Guide {
        kind: "local",
        wallet: include_str!("init/wallets/local.yaml"),
        files: &[],
        account: "",
        permissions: "",
    },
    Guide {
        kind: "web3signer",
        wallet: include_str!("init/wallets/web3signer.yaml"),
        files: &[],
        account: "load a secp256k1 key into Web3signer (mode eth1); its address is that of the key",
        permissions: "none: whoever reaches its port may sign, so let nothing but this proxy reach it",
    },
    Guide {
        kind: "cdp",
        wallet: include_str!("init/wallets/cdp.yaml"),
        files: &[
            (
                "api_key_id_file",
                "the id of an API key, as the portal of Coinbase's Developer Platform shows it",
            ),
            (
                "api_key_secret_file",
                "the API key's secret: shown once, when the key is made",
            ),
            (
                "wallet_secret_file",
                "the wallet secret: made in the portal, below server wallets",
            ),
        ],
        account: "make an account of the server wallet (POST /v2/evm/accounts); the answer has its address",
        permissions: "the API key has to view and sign for accounts of its project; no export, no transfers",
    },
    Guide {
        kind: "privy",
        wallet: include_str!("init/wallets/privy.yaml"),
        files: &[
            ("app_id_file", "the app's id, as Privy's dashboard shows it"),
            (
                "app_secret_file",
                "the app's secret: shown once, when it is made",
            ),
            (
                "authorization_key_file",
                "the authorization key that owns the wallet (wallet-auth:…): shown once, when it is made",
            ),
        ],
        account: "make a server wallet whose owner is the authorization key; its page has id and address",
        permissions: "the authorization key has to own the wallet, and its policy to allow eth_signTypedData_v4",
    },
    Guide {
        kind: "kms",
        wallet: include_str!("init/wallets/kms.yaml"),
        files: &[(
            "credentials_file",
            "an access key in the form of Amazon's tools: [default], aws_access_key_id, aws_secret_access_key",
        )],
        account: "make an asymmetric key to sign and verify: ECC_SECG_P256K1, or ECC_NIST_EDWARDS25519 for Solana; `farepass doctor` says its address",
        permissions: "kms:Sign and kms:GetPublicKey on that key, and nothing else",
    },
    Guide {
        kind: "agentcore",
        wallet: include_str!("init/wallets/agentcore.yaml"),
        files: &[
            (
                "session_id_file",
                "the id of a payment session (payment-session-…), as CreatePaymentSession answers it",
            ),
            (
                "credentials_file",
                "an access key in the form of Amazon's tools: [default], aws_access_key_id, aws_secret_access_key",
            ),
        ],
        account: "make a payment manager, a connector, an instrument and a session; `farepass doctor` says the instrument's address",
        permissions: "bedrock-agentcore:ProcessPayment and bedrock-agentcore:GetPaymentInstrument on that payment manager, and nothing else",
    },
    Guide {
        kind: "lightning",
        wallet: include_str!("init/wallets/lightning.yaml"),
        files: &[(
            "secret_file",
            "LND's macaroon in hexadecimal, a rune of CLN, phoenixd's password, or LNbits' admin key",
        )],
        account: "a node, or a wallet of it, that cannot lose more than its budget",
        permissions: "to pay invoices and to look payments up; LND: uri:/routerrpc.Router/SendPaymentV2 and TrackPaymentV2",
    },
];
