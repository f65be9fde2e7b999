//! The built-in table of canonical dollar stablecoins, and the network names of x402 version 1.
//!
//! Facts from the official x402 packages (`@x402/evm`, `@x402/svm` 2.27 and `x402` 1.2). The signing
//! domain differs per chain; a wrong one gives a signature that no token accepts.

use super::{Asset, Fee, Network, TokenDomain, Usd};
use crate::evm::Address;
use crate::solana::TokenProgram::{self, Token, Token2022};

struct Row(
    &'static str,
    &'static str,
    &'static str,
    u8,
    &'static str,
    &'static str,
    bool,
);

/// Network, contract, symbol, decimals, domain name, domain version, has EIP-3009.
#[rustfmt::skip]
const EVM: &[Row] = &[
    Row("eip155:1", "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "USDC", 6, "USD Coin", "2", true),
    Row("eip155:14", "0xe7cd86e13AC4309349F30B3435a9d337750fC82D", "USDT0", 6, "USD₮0", "1", true),
    Row("eip155:50", "0xfA2958CB79b0491CC627c1557F441eF849Ca8eb1", "USDC", 6, "USDC", "2", true),
    Row("eip155:51", "0xb5AB69F7bBada22B28e79C8FFAECe55eF1c771D4", "USDC", 6, "USDC", "2", true),
    Row("eip155:137", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", "USDC", 6, "USD Coin", "2", true),
    Row("eip155:143", "0x754704Bc059F8C67012fEd69BC8A327a5aafb603", "USDC", 6, "USDC", "2", true),
    Row("eip155:988", "0x779Ded0c9e1022225f8E0630b35a9b54bE713736", "USDT0", 6, "USDT0", "1", true),
    Row("eip155:1328", "0x4fCF1784B31630811181f670Aea7A7bEF803eaED", "USDC", 6, "USDC", "2", true),
    Row("eip155:1329", "0xe15fC38F6D8c56aF07bbCBe3BAf5708A2Bf42392", "USDC", 6, "USDC", "2", true),
    Row("eip155:2201", "0x78Cf24370174180738C5B8E352B6D14c83a6c9A9", "USDT0", 6, "USDT0", "1", true),
    Row("eip155:4326", "0xFAfDdbb3FC7688494971a79cc65DCa3EF82079E7", "MegaUSD", 18, "MegaUSD", "1", false),
    Row("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USDC", 6, "USD Coin", "2", true),
    Row("eip155:31611", "0x118917a40FAF1CD7a13dB0Ef56C86De7973Ac503", "mUSD", 18, "Mezo USD", "1", false),
    Row("eip155:31612", "0xdD468A1DDc392dcdbEf6db6e34E89AA338F9F186", "mUSD", 18, "Mezo USD", "1", false),
    Row("eip155:36900", "0x9cb8142aEBBcdc60AF7c97Af897A67A8f3CA71C2", "USDC.e", 6, "USDC.e", "2", true),
    Row("eip155:38833", "0xA5b8BF902b2844dA17d4506cc827F7F1681735E7", "USDC", 6, "USDC", "1", false),
    Row("eip155:42161", "0xaf88d065e77c8cC2239327C5EDb3A432268e5831", "USDC", 6, "USD Coin", "2", true),
    Row("eip155:42220", "0xcebA9300f2b948710d2653dD7B07f33A8B32118C", "USDC", 6, "USDC", "2", true),
    Row("eip155:42220", "0x48065fbBE25f71C9282ddf5e1cD6D6A887483D5e", "USDT", 6, "Tether USD", "1", true),
    Row("eip155:42220", "0xD2ab3C9A02DBBAB236BfEC45D1d755DF4267F771", "USAT", 6, "Tether America USD", "1", true),
    Row("eip155:43113", "0x5425890298aed601595a70AB815c96711a31Bc65", "USDC", 6, "USD Coin", "2", true),
    Row("eip155:43114", "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E", "USDC", 6, "USD Coin", "2", true),
    Row("eip155:72344", "0x33ad9e4BD16B69B5BFdED37D8B5D9fF9aba014Fb", "SBC", 6, "Stable Coin", "1", false),
    Row("eip155:80002", "0x41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582", "USDC", 6, "USDC", "2", true),
    Row("eip155:84532", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC", 6, "USDC", "2", true),
    Row("eip155:181228", "0x401eCb1D350407f13ba348573E5630B83638E30D", "USDC.e", 6, "Bridged USDC", "2", true),
    Row("eip155:190415", "0x401eCb1D350407f13ba348573E5630B83638E30D", "USDC.e", 6, "Bridged USDC", "2", true),
    Row("eip155:421614", "0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d", "USDC", 6, "USD Coin", "2", true),
    Row("eip155:723487", "0x33ad9e4BD16B69B5BFdED37D8B5D9fF9aba014Fb", "SBC", 6, "Stable Coin", "1", false),
    Row("eip155:11142220", "0x01C5C0122039549AD1493B8220cABEdD739BC44E", "USDC", 6, "USDC", "2", true),
];

/// Network, mint, symbol, decimals, and the program that owns the mint.
#[rustfmt::skip]
const SOLANA: &[(&str, &str, &str, u8, TokenProgram)] = &[
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "USDC", 6, Token),
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB", "USDT", 6, Token),
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "2u1tszSeqZ3qBWF3uNGPFc8TzMk2tdiwknnRMWGWjGWH", "USDG", 6, Token2022),
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "2b1kV6DkPAnxd5ixfnxCpjxmKwqjjaYmCZfHsFu24GXo", "PYUSD", 6, Token2022),
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "CASHx9KJUStyftLFWGvEVf59SGeG9sh5FfcnZMVPCASH", "CASH", 6, Token2022),
    ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU", "USDC", 6, Token),
    ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "4F6PM96JJxngmHnZLBh9n58RH4aTVNWvDs2nuwrT5BP7", "USDG", 6, Token2022),
    ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "CXk2AMBfi3TwaEL2468s6zP8xq9NxTXjp9gjMgzeUynM", "PYUSD", 6, Token2022),
    ("solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z", "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU", "USDC", 6, Token),
    ("solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z", "4F6PM96JJxngmHnZLBh9n58RH4aTVNWvDs2nuwrT5BP7", "USDG", 6, Token2022),
    ("solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z", "CXk2AMBfi3TwaEL2468s6zP8xq9NxTXjp9gjMgzeUynM", "PYUSD", 6, Token2022),
];

/// Network, TIP-20 contract, symbol: what merchants on Tempo take (mppx 0.11). All have six decimals.
const TEMPO: &[(&str, &str, &str)] = &[
    (
        "eip155:4217",
        "0x20c0000000000000000000000000000000000000",
        "pathUSD",
    ),
    (
        "eip155:4217",
        "0x20C000000000000000000000b9537d11c60E8b50",
        "USDC.e",
    ),
    (
        "eip155:42431",
        "0x20c0000000000000000000000000000000000000",
        "pathUSD",
    ),
];

/// Network names of x402 version 1 and the networks they mean.
#[rustfmt::skip]
const V1_NETWORKS: &[(&str, &str)] = &[
    ("abstract", "eip155:2741"),
    ("abstract-testnet", "eip155:11124"),
    ("avalanche", "eip155:43114"),
    ("avalanche-fuji", "eip155:43113"),
    ("base", "eip155:8453"),
    ("base-sepolia", "eip155:84532"),
    ("celo", "eip155:42220"),
    ("educhain", "eip155:41923"),
    ("ethereum", "eip155:1"),
    ("flare", "eip155:14"),
    ("iotex", "eip155:4689"),
    ("megaeth", "eip155:4326"),
    ("monad", "eip155:143"),
    ("peaq", "eip155:3338"),
    ("polygon", "eip155:137"),
    ("polygon-amoy", "eip155:80002"),
    ("sei", "eip155:1329"),
    ("sei-testnet", "eip155:1328"),
    ("sepolia", "eip155:11155111"),
    ("skale-base-sepolia", "eip155:324705682"),
    ("stable", "eip155:988"),
    ("stable-testnet", "eip155:2201"),
    ("story", "eip155:1514"),
    ("solana", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"),
    ("solana-devnet", "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"),
    ("solana-testnet", "solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z"),
];

/// Networks whose money is play money. Everything else is a main network, also what nobody knows.
#[rustfmt::skip]
const TEST_NETWORKS: &[&str] = &[
    "eip155:51", "eip155:97", "eip155:1328", "eip155:1337", "eip155:2201", "eip155:4801",
    "eip155:6342", "eip155:10143", "eip155:11124", "eip155:17000", "eip155:31337",
    "eip155:31611", "eip155:42431", "eip155:43113", "eip155:44787", "eip155:72344", "eip155:80002",
    "eip155:84532", "eip155:181228", "eip155:421614", "eip155:560048", "eip155:11142220",
    "eip155:11155111", "eip155:11155420", "eip155:324705682",
    "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z",
    "lightning:testnet", "lightning:signet", "lightning:regtest",
];

/// Is this a test network?
pub(super) fn is_test(network: &str) -> bool {
    TEST_NETWORKS.contains(&network)
}

/// One whole dollar. Every asset of the table is pegged to it.
const DOLLAR: Usd = Usd(1_000_000_000);

/// Every asset of the built-in table.
#[must_use]
pub fn canonical_assets() -> Vec<Asset> {
    let evm = EVM.iter().filter_map(
        |Row(network, address, symbol, decimals, name, version, eip3009)| {
            let domain = TokenDomain {
                name: (*name).into(),
                version: (*version).into(),
            };
            Some(Asset {
                network: network.parse().ok()?,
                address: (*address).into(),
                symbol: (*symbol).into(),
                decimals: *decimals,
                unit: DOLLAR,
                eip712: Some(domain),
                eip3009: *eip3009,
                token_program: None,
                fee: Fee::default(),
            })
        },
    );
    let solana = SOLANA
        .iter()
        .filter_map(|(network, mint, symbol, decimals, program)| {
            Some(Asset {
                network: network.parse().ok()?,
                address: (*mint).into(),
                symbol: (*symbol).into(),
                decimals: *decimals,
                unit: DOLLAR,
                eip712: None,
                eip3009: false,
                token_program: Some(*program),
                fee: Fee::default(),
            })
        });
    let tempo = TEMPO.iter().filter_map(|(network, address, symbol)| {
        Some(Asset {
            network: network.parse().ok()?,
            address: Address::from_hex(address).ok()?.to_string(),
            symbol: (*symbol).into(),
            decimals: 6,
            unit: DOLLAR,
            eip712: None,
            eip3009: false,
            token_program: None,
            fee: Fee::default(),
        })
    });
    evm.chain(tempo).chain(solana).collect()
}

/// The network that a version 1 name means (x402 v1 section 5). Version 2 never uses these names.
#[must_use]
pub fn v1_network(name: &str) -> Option<Network> {
    let (_, network) = V1_NETWORKS.iter().find(|(n, _)| *n == name)?;
    network.parse().ok()
}

/// The version 1 name of a network, if it has one.
#[must_use]
pub fn v1_name(network: &Network) -> Option<&'static str> {
    let row = V1_NETWORKS.iter().find(|(_, n)| *n == network.as_str());
    row.map(|(name, _)| *name)
}
