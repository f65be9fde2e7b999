//! Amounts, sums, networks and the asset table.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn an_amount_has_one_spelling() {
    let legal = [
        ("0", Ok(0)),
        ("1", Ok(1)),
        ("18446744073709551617", Ok((1 << 64) + 1)),
        ("340282366920938463463374607431768211455", Ok(u128::MAX)),
        (
            "340282366920938463463374607431768211456",
            Err(NotAmount::BeyondBudgets),
        ),
        (U256_MAX, Err(NotAmount::BeyondBudgets)),
    ];
    for (text, expected) in legal {
        assert_eq!(text.parse(), expected.map(Amount), "{text}");
    }
    let next = U256_MAX.replace("935", "936");
    assert_eq!(next.parse::<Amount>(), Err(NotAmount::TooLarge));
    assert_eq!("9".repeat(78).parse::<Amount>(), Err(NotAmount::TooLarge));
    for text in [
        "",
        "00",
        "01",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1_0",
        "1e4",
        "1.0",
        "0x1",
        "１",
        "١",
        "1\0",
        &"1".repeat(79),
    ] {
        assert_eq!(text.parse::<Amount>(), Err(NotAmount::Grammar), "{text:?}");
    }
}

#[test]
fn amounts_and_sums_travel_as_strings() {
    let json = |text: &str| serde_json::from_str::<Amount>(text).ok();
    assert_eq!(json("\"10000\""), Some(Amount(10_000)));
    assert_eq!(json("10000"), None);
    assert_eq!(serde_json::to_string(&Amount(7)).unwrap(), "\"7\"");
    assert_eq!(
        serde_json::to_string(&Usd(50_000_000)).unwrap(),
        "\"0.05 USD\""
    );
    assert_eq!(serde_json::from_str::<Usd>("0.05").ok(), None);
}

#[test]
fn sums_are_written_with_their_currency() {
    for (text, nanos, again) in [
        ("0.05 USD", 50_000_000, "0.05 USD"),
        ("1 USD", 1_000_000_000, "1.00 USD"),
        ("0.000000001 USD", 1, "0.000000001 USD"),
        ("0.10 USD", 100_000_000, "0.10 USD"),
        (
            "18446744073.709551615 USD",
            u64::MAX,
            "18446744073.709551615 USD",
        ),
    ] {
        assert_eq!(text.parse(), Ok(Usd(nanos)));
        assert_eq!(Usd(nanos).to_string(), again);
    }
    for text in [
        "",
        "USD",
        " USD",
        "1",
        "1USD",
        "1 EUR",
        "1 usd",
        "-1 USD",
        ".5 USD",
        "1. USD",
        "1,5 USD",
        "1e3 USD",
        "0.0000000001 USD",
        "18446744073.709551616 USD",
        "1.2.3 USD",
        "1  USD",
    ] {
        assert_eq!(text.parse::<Usd>(), Err(NotMoney), "{text:?}");
    }
}

#[test]
fn a_network_has_one_spelling() {
    for text in [
        "eip155:1",
        "eip155:84532",
        "lightning",
        "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
    ] {
        assert_eq!(text.parse::<Network>().unwrap().as_str(), text);
    }
    for text in [
        "",
        "base",
        "eip155",
        "eip155:",
        "eip155:084532",
        " eip155:84532",
        "eip155:84532 ",
        "EIP155:84532",
        "eip155:0",
        "eip155:-1",
        "eip155:+1",
        "eip155:*",
        "eip155:18446744073709551616",
        "eip155:1:2",
        "Lightning",
        "ab:1",
        "toolongname:1",
        &format!("solana:{}", "x".repeat(33)),
    ] {
        assert_eq!(text.parse::<Network>(), Err(NotNetwork), "{text:?}");
    }
    let network = |text: &str| text.parse::<Network>().unwrap();
    assert!(network("eip155:84532").is_test() && network("eip155:31337").is_test());
    assert!(!network("eip155:8453").is_test() && !network("eip155:7777777").is_test());
    assert_eq!(network("eip155:8453").chain_id(), Some(8453));
    assert_eq!(network("lightning").chain_id(), None);
}

/// The first asset of the table with this many decimals.
fn asset(decimals: u8) -> Asset {
    let found = canonical_assets()
        .into_iter()
        .find(|a| a.decimals == decimals);
    found.unwrap()
}

#[test]
fn prices_come_from_our_own_decimals_and_round_up() {
    assert_eq!(asset(6).price(Amount(10_000)), Some(Usd(10_000_000)));
    assert_eq!(asset(6).price(Amount(50_000_000)), "50 USD".parse().ok());
    assert_eq!(
        asset(18).price(Amount(10_u128.pow(16))),
        "0.01 USD".parse().ok()
    );
    assert_eq!(asset(18).price(Amount(1)), Some(Usd(1)));
    assert_eq!(asset(18).price(Amount(10_u128.pow(9) + 1)), Some(Usd(2)));
    assert_eq!(asset(6).price(Amount(u128::MAX)), None);
}

#[test]
fn an_asset_is_its_network_and_its_20_bytes() {
    let usdc = asset(6);
    assert!(usdc.is(&usdc.address) && usdc.is(&usdc.address.to_lowercase()));
    let mut other = usdc.address.clone();
    other.replace_range(41..42, if other.ends_with('8') { "9" } else { "8" });
    for text in [
        &other,
        "USDC",
        "",
        &usdc.address[2..],
        &format!("{}00", usdc.address),
    ] {
        assert!(!usdc.is(text), "{text}");
    }
}

#[test]
fn the_table_is_that_of_the_official_packages() {
    let text = include_str!("../../tests/vectors/x402/assets.json");
    let official: Value = serde_json::from_str(text).unwrap();
    let table = canonical_assets();
    let find = |network: &str, address: &str| {
        let found = table
            .iter()
            .find(|a| a.network.as_str() == network && a.is(address));
        found.unwrap_or_else(|| panic!("{network} {address} is missing"))
    };
    let maps = ["evm", "svm"].map(|key| official[key].as_object().unwrap());
    for (network, assets) in maps.into_iter().flatten() {
        for row in assets.as_array().unwrap() {
            let asset = find(network, row["asset"].as_str().unwrap());
            assert_eq!(asset.address, row["asset"], "{network}");
            let program = asset.token_program.map(|p| p.id().to_string());
            assert_eq!(
                program.as_deref(),
                row["tokenProgram"].as_str(),
                "{network}"
            );
            assert_eq!(
                u64::from(asset.decimals),
                row["decimals"].as_u64().unwrap(),
                "{network}"
            );
            if let Some(domain) = &asset.eip712 {
                assert_eq!(
                    (&*domain.name, &*domain.version),
                    (
                        row["name"].as_str().unwrap(),
                        row["version"].as_str().unwrap()
                    )
                );
                assert_eq!(
                    asset.eip3009,
                    row["assetTransferMethod"] != "permit2",
                    "{network}"
                );
            }
        }
    }
    for (name, chain) in official["v1Networks"].as_object().unwrap() {
        let network = v1_network(name).unwrap();
        assert_eq!(network.chain_id(), chain.as_u64(), "{name}");
        assert_eq!(v1_name(&network), Some(name.as_str()));
    }
    for (chain, row) in official["legacyV1"]["usdcByChainId"].as_object().unwrap() {
        let network = format!("eip155:{chain}");
        let listed = table.iter().filter(|a| a.network.as_str() == network);
        for asset in listed.filter(|a| a.is(row["usdcAddress"].as_str().unwrap())) {
            let domain = asset.eip712.as_ref().unwrap();
            assert_eq!(domain.name, row["usdcName"].as_str().unwrap(), "{network}");
        }
    }
}

#[test]
fn every_asset_of_the_table_is_listed_once_and_spelt_right() {
    let table = canonical_assets();
    for (i, asset) in table.iter().enumerate() {
        assert!(
            table
                .iter()
                .skip(i + 1)
                .all(|b| b.network != asset.network || !b.is(&asset.address))
        );
        if asset.network.namespace() == "eip155" {
            assert_eq!(
                asset.address.parse::<Address>().unwrap().to_string(),
                asset.address
            );
        }
    }
}

proptest! {
    #[test]
    fn what_parses_is_written_the_same(text in "[0-9+\\-. ex_]{1,45}") {
        if let Ok(amount) = text.parse::<Amount>() {
            prop_assert_eq!(amount.to_string(), &*text);
        }
    }

    #[test]
    fn sums_are_written_and_read_again(nanos in any::<u64>()) {
        prop_assert_eq!(Usd(nanos).to_string().parse(), Ok(Usd(nanos)));
    }

    #[test]
    fn a_price_is_never_rounded_down(amount in any::<u64>(), decimals in prop::sample::select(vec![6u8, 18])) {
        let amount = Amount(u128::from(amount));
        if let Some(Usd(nanos)) = asset(decimals).price(amount) {
            let exact = amount.0 * 1_000_000_000;
            let scale = 10_u128.pow(decimals.into());
            prop_assert!(u128::from(nanos) * scale >= exact);
            prop_assert!(u128::from(nanos) * scale < exact + scale);
        }
    }
}

#[test]
fn a_share_is_rounded_up_and_never_more_than_all() {
    let share = |price, part, whole| Usd(price).share(Amount(part), Amount(whole)).0;
    assert_eq!(share(20_000_000, 7, 20_000), 7_000);
    assert_eq!(share(10, 1, 3), 4, "3.33, against the spender");
    assert_eq!(share(10, 0, 3), 0);
    assert_eq!(share(10, 3, 3), 10);
    assert_eq!(share(10, 4, 3), 10);
    assert_eq!(share(10, 0, 0), 10, "nothing of nothing is no share");
    assert_eq!(share(u64::MAX, u128::MAX - 1, u128::MAX), u64::MAX);
}

proptest! {
    /// Against the exact fraction: at most one billionth above, never below.
    #[test]
    fn shares_are_exact_to_the_billionth(price in any::<u64>(), part in any::<u64>(), whole in 1..u64::MAX) {
        let share = Usd(price).share(Amount(part.into()), Amount(whole.into()));
        prop_assert!(share <= Usd(price));
        let (share, price) = (u128::from(share.0), u128::from(price));
        let (part, whole) = (u128::from(part.min(whole)), u128::from(whole));
        prop_assert!(share * whole >= price * part);
        prop_assert!(share == 0 || (share - 1) * whole < price * part);
    }

    /// More taken never costs less, whatever the decimals.
    #[test]
    fn shares_grow_with_what_is_taken(price in any::<u64>(), a in any::<u128>(), b in any::<u128>(), whole in any::<u128>()) {
        let (less, more) = (a.min(b), a.max(b));
        let share = |part| Usd(price).share(Amount(part), Amount(whole));
        prop_assert!(share(less) <= share(more));
        prop_assert!(share(more) <= Usd(price));
    }
}

#[test]
fn amounts_in_whole_units() {
    for (atoms, decimals, text) in [
        (0, 6, "0"),
        (1, 6, "0.000001"),
        (10_000, 6, "0.01"),
        (1_230_000, 6, "1.23"),
        (5_000_000, 6, "5"),
        (7, 0, "7"),
        (u128::MAX, 38, "3.40282366920938463463374607431768211455"),
    ] {
        assert_eq!(Amount(atoms).whole(decimals), text);
        assert_eq!(Amount::of_whole(text, decimals), Some(Amount(atoms)));
    }
    assert_eq!(Amount::of_whole("5.00", 0), Some(Amount(5)));
    for text in ["", ".5", "5.", "-1", "1e3", "0.0000001", "1 USD", "1.2.3"] {
        assert_eq!(Amount::of_whole(text, 6), None, "{text}");
    }
    assert_eq!(Amount::of_whole(&"9".repeat(40), 0), None);
}
