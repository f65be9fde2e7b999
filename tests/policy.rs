//! Decisions, as tables: one offer at a time against a small policy, with the threat that each row
//! is about.
#![cfg(test)]

use std::sync::Arc;

use farepass::clock::Timestamp;
use farepass::money::{Amount, Asset, Network, TokenDomain, Usd, canonical_assets};
use farepass::payer::digest_of;
use farepass::payment::{
    Asked, Challenge, Offer, Problem, Reason, Refusal, Requirement, Session, SessionId, Split, Tool,
};
use farepass::policy::{Approval, Catalog, Facts, Mode, OnUnknown, Policy, decide};
use farepass::section::{Problems, Section};
use proptest::prelude::*;

const POLICY: &str = r#"
budgets:
  - { name: hourly, scope: agent, limit: "2.00 USD", window: 1h }
  - { name: per-host, scope: host, limit: "0.50 USD", window: day, payments: 1000 }
  - { name: monthly, scope: all, limit: "500 USD", window: month }
rules:
  - name: never
    match: { hosts: ["*.casino.test"] }
    deny: true
  - name: admin
    match: { hosts: ["api.good.test"], paths: ["/admin/**"] }
    deny: true
  - name: listed
    match: { hosts: ["listed.good.test"] }
    pay: { max: "0.05 USD", pay_to: ["0x5DD72898065Da3fEE015999Df31Cf3A9124FF470"] }
  - name: plain
    match: { hosts: ["plain.good.test"] }
    pay: { max: "0.05 USD", insecure_http: true, on_unknown: hold }
  - name: paths
    match: { hosts: ["paths.good.test"], methods: [GET], paths: ["/v1/**"], agents: ["research-*"] }
    pay: { max: "0.05 USD" }
  - name: one-network
    match: { hosts: ["one.good.test"] }
    pay: { max: "0.05 USD", networks: ["eip155:84532"], assets: [USDC], schemes: [exact] }
  - name: good
    match: { hosts: ["*.good.test", "good.test:8443"] }
    pay: { max: "0.05 USD", budgets: [hourly, per-host] }
"#;

const SEPOLIA: &str = "eip155:84532";
const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const PAYEE: &str = "0x5DD72898065Da3fEE015999Df31Cf3A9124FF470";
const PAYER: &str = "0x71b0cF3E855b6a3143206334BEBb5cAC3b9a83bf";
/// 18 decimals, a dollar each, of the operator's own.
const WIDE: &str = "0x1234567890AbcdEF1234567890aBcdef12345678";

fn catalog() -> Catalog {
    let mut assets = canonical_assets();
    assets.push(Asset {
        network: SEPOLIA.parse().unwrap(),
        address: WIDE.into(),
        symbol: "WIDE".into(),
        decimals: 18,
        unit: Usd(1_000_000_000),
        eip712: Some(TokenDomain {
            name: "Wide".into(),
            version: "1".into(),
        }),
        eip3009: true,
        token_program: None,
        fee: farepass::money::Fee::default(),
    });
    Catalog {
        assets,
        validity: 300,
        requirements: 32,
        ..Catalog::default()
    }
}

fn compile(text: &str) -> Policy {
    let mut problems = Problems::default();
    let mut file = Section::file("policy.yaml", text).unwrap_or_else(|e| panic!("{e}"));
    let policy = Policy::read(&mut file, catalog(), &mut problems);
    let errors = problems.into_sorted();
    assert!(errors.is_empty(), "{errors:?}");
    policy
}

fn now() -> Timestamp {
    Timestamp::from_secs(1_790_000_000)
}

fn asked(url: &str) -> Asked {
    let uri: http::Uri = url.parse().unwrap();
    let secure = uri.scheme_str() == Some("https");
    Asked {
        session: Arc::new(Session {
            id: SessionId("default".into()),
            agent: "bot".into(),
            budget: Usd(1_000_000_000),
            created: Timestamp(0),
            expires: now().after_secs(60),
        }),
        method: http::Method::GET,
        secure,
        host: uri.host().unwrap().into(),
        port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
        path: uri.path().into(),
        tool: Tool::None,
        request: None,
        trace: None,
    }
}

fn facts() -> Facts {
    let payer = |network: &str| (network.parse::<Network>().unwrap(), PAYER.to_owned());
    Facts {
        payers: vec![payer(SEPOLIA), payer("eip155:42161")],
        ..Facts::default()
    }
}

fn offer(amount: u128) -> Requirement {
    Requirement {
        protocol: "x402-v2",
        scheme: "exact".into(),
        network: SEPOLIA.parse().unwrap(),
        asset: USDC.into(),
        amount: Amount(amount),
        pay_to: PAYEE.into(),
        valid_for: 60,
        expires: None,
        transfer_method: "eip3009".into(),
        facilitator: None,
        splits: vec![],
        own_fee: false,
        resource: None,
        mime_type: None,
        offer: Arc::new(Offer::default()),
    }
}

fn challenge(requirements: Vec<Requirement>) -> Challenge {
    Challenge {
        requirements,
        problems: vec![],
    }
}

fn ask_with(asked: &Asked, requirements: Vec<Requirement>) -> Result<Approval, Refusal> {
    let policy = compile(POLICY);
    decide(&policy, asked, &challenge(requirements), &facts(), now())
}

/// One offer on the host with the widest rule.
fn ask(change: impl FnOnce(&mut Requirement)) -> Result<Approval, Refusal> {
    let mut requirement = offer(10_000);
    change(&mut requirement);
    ask_with(&asked("https://api.good.test/x"), vec![requirement])
}

/// A person's yes is for what was shown and for nothing else (threat A-06).
#[test]
fn whatever_a_person_is_shown_tells_two_questions_apart() {
    type Change = fn(&mut Asked, &mut Approval);
    let approval = ask(|_| {}).unwrap();
    let asked = asked("https://api.good.test/x");
    let changes: [(&str, Change); 14] = [
        ("session", |a, _| {
            let mut other = (*a.session).clone();
            other.id = SessionId("other".into());
            a.session = Arc::new(other);
        }),
        ("method", |a, _| a.method = http::Method::POST),
        ("https", |a, _| a.secure = false),
        ("host", |a, _| a.host = "b.good.test".into()),
        ("port", |a, _| a.port = 8443),
        ("path", |a, _| a.path = "/y".into()),
        ("rule", |_, p| p.rule = "other".into()),
        ("protocol", |_, p| p.requirement.protocol = "mpp"),
        ("scheme", |_, p| p.requirement.scheme = "upto".into()),
        ("network", |_, p| {
            p.requirement.network = "eip155:42161".parse().unwrap();
        }),
        ("asset", |_, p| p.asset.address = WIDE.into()),
        ("amount", |_, p| p.requirement.amount = Amount(10_001)),
        ("payee", |_, p| p.requirement.pay_to = PAYER.into()),
        ("shares", |_, p| p.requirement.splits = vec![share(None)]),
    ];
    let same = digest_of(&asked, &approval);
    assert_eq!(digest_of(&asked, &approval), same);
    let mut seen = std::collections::BTreeSet::from([same]);
    for (what, change) in changes {
        let (mut asked, mut approval) = (asked.clone(), approval.clone());
        change(&mut asked, &mut approval);
        assert!(seen.insert(digest_of(&asked, &approval)), "{what}");
    }
    let mut memo = approval;
    memo.requirement.splits = vec![share(Some([1; 32]))];
    assert!(seen.insert(digest_of(&asked, &memo)), "memo of a share");
}

fn share(memo: Option<[u8; 32]>) -> Split {
    Split {
        pay_to: PAYER.into(),
        amount: Amount(1),
        memo,
    }
}

fn reason<T>(result: Result<T, Refusal>) -> Option<Reason> {
    result.err().map(|refusal| refusal.reason)
}

#[test]
fn an_ordinary_purchase_is_approved_in_full() {
    let approval = ask(|_| {}).unwrap();
    assert_eq!(approval.rule, "good");
    assert_eq!(approval.price.to_string(), "0.01 USD");
    assert_eq!(approval.asset.symbol, "USDC");
    assert_eq!(approval.valid_for, 60);
    assert_eq!(approval.on_unknown, OnUnknown::ResendSame);
    let accounts: Vec<_> = approval.limits.iter().map(|l| &*l.account).collect();
    assert_eq!(
        accounts,
        [
            "session:default@0",
            "budget:hourly:bot",
            "budget:per-host:api.good.test",
            "budget:monthly:"
        ]
    );
    let counts: Vec<_> = approval.limits.iter().map(|l| l.payments).collect();
    assert_eq!(counts, [None, None, Some(1000), None]);
}

#[test]
fn hosts_are_matched_at_label_boundaries() {
    // Threats X-05 and X-18: perfect offers from the wrong host.
    for (url, expected) in [
        ("https://api.good.test/x", None),
        ("https://good.test:8443/x", None),
        ("https://good.test/x", Some(Reason::HostNotAllowed)),
        ("https://api.good.test:8443/x", Some(Reason::HostNotAllowed)),
        (
            "https://api.good.test.evil.test/x",
            Some(Reason::HostNotAllowed),
        ),
        ("https://xgood.test/x", Some(Reason::HostNotAllowed)),
        ("https://other.test/x", Some(Reason::HostNotAllowed)),
        ("https://x.casino.test/x", Some(Reason::DeniedByRule)),
        ("http://api.good.test/x", Some(Reason::InsecureTransport)),
        ("http://plain.good.test/x", None),
    ] {
        let result = ask_with(&asked(url), vec![offer(10_000)]);
        assert_eq!(reason(result), expected, "{url}");
    }
    let refusal = ask_with(&asked("https://x.casino.test/"), vec![offer(1)]).unwrap_err();
    assert_eq!(refusal.rule.as_deref(), Some("never"));
    let refusal = ask_with(&asked("https://other.test/"), vec![offer(1)]).unwrap_err();
    assert_eq!(refusal.rule, None);
}

#[test]
fn the_first_rule_that_matches_decides() {
    let try_as = |url: &str, method: &str, agent: &str| {
        let mut asked = asked(url);
        asked.method = method.parse().unwrap();
        let session = Arc::make_mut(&mut asked.session);
        session.agent = agent.into();
        ask_with(&asked, vec![offer(10_000)])
    };
    for (url, method, agent, rule) in [
        ("https://paths.good.test/v1/x", "GET", "research-1", "paths"),
        // What the narrow rule does not match, the wide one behind it does.
        ("https://paths.good.test/v1/x", "POST", "research-1", "good"),
        ("https://paths.good.test/v1/x", "GET", "bot", "good"),
        ("https://paths.good.test/v2/x", "GET", "research-1", "good"),
    ] {
        let approval = try_as(url, method, agent).unwrap();
        assert_eq!(approval.rule, rule, "{url} {method} {agent}");
    }
    for path in ["/admin/x", "/%61dmin/x", "/admin/"] {
        let url = format!("https://api.good.test{path}");
        assert_eq!(
            reason(try_as(&url, "GET", "bot")),
            Some(Reason::DeniedByRule)
        );
    }
}

#[test]
fn a_path_that_can_be_read_in_two_ways_passes_no_rule_with_paths() {
    // Threat H-13. The wide rule has no paths, but the deny rule before it cannot be judged.
    for path in [
        "/x%2f..%2fadmin/x",
        "/a/../admin/x",
        "//admin/x",
        "/%2561dmin/x",
        "/admin%00",
    ] {
        let mut asked = asked("https://api.good.test/");
        asked.path = path.into();
        let refusal = ask_with(&asked, vec![offer(10_000)]).unwrap_err();
        assert_eq!(refusal.reason, Reason::HostNotAllowed, "{path}");
        assert_eq!(refusal.rule.as_deref(), Some("admin"));
        // Where no rule looks at paths, they do not matter.
        asked.host = "listed.good.test".into();
        assert!(ask_with(&asked, vec![offer(10_000)]).is_ok(), "{path}");
    }
}

#[test]
fn each_fault_of_a_single_offer_has_its_own_reason() {
    type Change = fn(&mut Requirement);
    let table: &[(&str, Change, Reason)] = &[
        (
            "X-10 far above the cap",
            |r| r.amount = Amount(5_000_000),
            Reason::OverRequestCap,
        ),
        (
            "X-10 just above the cap",
            |r| r.amount = Amount(50_001),
            Reason::OverRequestCap,
        ),
        (
            "unknown scheme",
            |r| r.scheme = "upto".into(),
            Reason::SchemeUnsupported,
        ),
        (
            "scheme in capitals",
            |r| r.scheme = "Exact".into(),
            Reason::SchemeUnsupported,
        ),
        (
            "M-04 main network",
            |r| {
                r.network = "eip155:1".parse().unwrap();
                r.asset = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48".into();
            },
            Reason::NetworkNotAllowed,
        ),
        (
            "M-04 solana",
            |r| {
                r.network = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1".parse().unwrap();
            },
            Reason::NetworkNotAllowed,
        ),
        (
            "M-03 one nibble off",
            |r| {
                r.asset = "0x036CbD53842c5426634e7929541eC2318f3dCF7f".into();
            },
            Reason::AssetNotAllowed,
        ),
        (
            "M-03 main network's address",
            |r| {
                r.asset = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48".into();
            },
            Reason::AssetNotAllowed,
        ),
        (
            "M-03 symbol",
            |r| r.asset = "USDC".into(),
            Reason::AssetNotAllowed,
        ),
        (
            "M-03 empty",
            |r| r.asset = String::new(),
            Reason::AssetNotAllowed,
        ),
        ("M-13 zero", |r| r.amount = Amount(0), Reason::AmountInvalid),
        (
            "M-02 2^64 + 1 is not 1",
            |r| r.amount = Amount((1 << 64) + 1),
            Reason::OverRequestCap,
        ),
        (
            "M-02 2^128 - 1",
            |r| r.amount = Amount(u128::MAX),
            Reason::OverRequestCap,
        ),
        (
            "X-08 permit2",
            |r| r.transfer_method = "permit2".into(),
            Reason::TransferMethodUnsupported,
        ),
        (
            "unknown method",
            |r| r.transfer_method = "erc7710".into(),
            Reason::TransferMethodUnsupported,
        ),
        (
            "M-01 $50 stay $50",
            |r| r.amount = Amount(50_000_000),
            Reason::OverRequestCap,
        ),
        (
            "M-06 zero",
            |r| r.pay_to = format!("0x{:040x}", 0),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 precompile",
            |r| r.pay_to = format!("0x{:040x}", 9),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 the token",
            |r| r.pay_to = USDC.into(),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 the token, lower case",
            |r| r.pay_to = USDC.to_lowercase(),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 ourselves",
            |r| r.pay_to = PAYER.to_lowercase(),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 role",
            |r| r.pay_to = "merchant".into(),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 name",
            |r| r.pay_to = "shop.eth".into(),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 short",
            |r| r.pay_to = "0xabc".into(),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 checksum",
            |r| {
                r.pay_to = "0x5dD72898065Da3fEE015999Df31Cf3A9124FF470".into();
            },
            Reason::RecipientInvalid,
        ),
        ("no time", |r| r.valid_for = 0, Reason::ChallengeExpired),
        (
            "X-06 other host",
            |r| r.resource = Some("https://victim.test/x".into()),
            Reason::ResourceMismatch,
        ),
        (
            "X-06 tab in the middle",
            |r| r.resource = Some("/\t/victim.test/x".into()),
            Reason::ResourceMismatch,
        ),
        (
            "X-06 line break in the scheme",
            |r| r.resource = Some("ht\ntps://vic\rtim.test/x".into()),
            Reason::ResourceMismatch,
        ),
        (
            "X-06 user info",
            |r| {
                r.resource = Some("https://api.good.test@victim.test/x".into());
            },
            Reason::ResourceMismatch,
        ),
        (
            "X-06 port",
            |r| r.resource = Some("https://api.good.test:8443/".into()),
            Reason::ResourceMismatch,
        ),
        (
            "X-06 no port",
            |r| r.resource = Some("https://api.good.test:99999/".into()),
            Reason::ResourceMismatch,
        ),
        (
            "X-06 not readable",
            |r| r.resource = Some("https://api good.test/".into()),
            Reason::ResourceMismatch,
        ),
        (
            "X-06 a tool's name where no tool was called",
            |r| r.resource = Some("x402://search".into()),
            Reason::ResourceMismatch,
        ),
        (
            "X-06 homoglyph",
            |r| r.resource = Some("HTTPS://\u{430}pi.good.test/".into()),
            Reason::ResourceMismatch,
        ),
    ];
    for (what, change, expected) in table {
        let refusal = ask(change).map(|a| a.price).unwrap_err();
        assert_eq!(refusal.reason, *expected, "{what}: {refusal}");
        assert_eq!(refusal.rule.as_deref(), Some("good"), "{what}");
    }
}

#[test]
fn what_looks_odd_and_is_fine() {
    type Change = fn(&mut Requirement);
    let table: &[(&str, Change)] = &[
        ("exactly the cap", |r| r.amount = Amount(50_000)),
        ("one atom", |r| r.amount = Amount(1)),
        ("M-03 asset in lower case", |r| {
            r.asset = USDC.to_lowercase()
        }),
        ("payee in lower case", |r| r.pay_to = PAYEE.to_lowercase()),
        ("resource is another path", |r| {
            r.resource = Some("https://api.good.test/other".into())
        }),
        ("resource with the default port", |r| {
            r.resource = Some("https://API.good.test.:443/x".into())
        }),
        ("resource behind a TLS terminator", |r| {
            r.resource = Some("http://api.good.test/x".into())
        }),
        ("resource is a path", |r| r.resource = Some("/x".into())),
        ("resource is a tool", |r| {
            r.resource = Some("mcp://tool/search".into())
        }),
        ("M-01 18 decimals, $0.01", |r| {
            r.asset = WIDE.into();
            r.amount = Amount(10_000_000_000_000_000);
        }),
    ];
    for (what, change) in table {
        if let Err(refusal) = ask(change) {
            panic!("{what}: {refusal}");
        }
    }
}

#[test]
fn a_tool_that_was_called_may_be_named_without_a_host() {
    let called = Asked {
        tool: Some("search").into(),
        ..asked("https://api.good.test/x")
    };
    let named = |resource: &str| {
        let mut requirement = offer(10_000);
        requirement.resource = Some(resource.into());
        ask_with(&called, vec![requirement])
    };
    for resource in ["x402://search", "X402://get weather", "mcp://tool/search"] {
        if let Err(refusal) = named(resource) {
            panic!("{resource}: {refusal}");
        }
    }
    for resource in ["https://victim.test/x", "//victim.test", "x403://search"] {
        let refused = reason(named(resource));
        assert_eq!(refused, Some(Reason::ResourceMismatch), "{resource}");
    }
}

#[test]
fn prices_round_up() {
    // M-01: 0.05 USD and one atom of 10^-18 is more than 0.05 USD.
    let wide = |amount| {
        ask(|r| {
            r.asset = WIDE.into();
            r.amount = Amount(amount);
        })
    };
    assert_eq!(wide(50_000_000_000_000_000).unwrap().price, Usd(50_000_000));
    assert_eq!(
        reason(wide(50_000_000_000_000_001)),
        Some(Reason::OverRequestCap)
    );
    assert_eq!(wide(1).unwrap().price, Usd(1));
}

#[test]
fn an_unpriced_asset_is_never_paid() {
    // M-16: no price, no payment, whatever the name.
    let result = ask(|r| r.asset = "0x4444444444444444444444444444444444444444".into());
    assert_eq!(reason(result), Some(Reason::AssetNotAllowed));
}

#[test]
fn validity_is_cut_to_the_limit() {
    for (wanted, given) in [
        (1, 1),
        (300, 300),
        (301, 300),
        (31_536_000, 300),
        (u64::MAX, 300),
    ] {
        let approval = ask(|r| r.valid_for = wanted).unwrap();
        assert_eq!(approval.valid_for, given, "{wanted}");
    }
}

#[test]
fn the_refusal_carries_what_explains_it() {
    let refusal = ask(|r| r.amount = Amount(60_000)).unwrap_err();
    assert_eq!(refusal.price.unwrap().to_string(), "0.06 USD");
    assert_eq!(refusal.limit.unwrap().to_string(), "0.05 USD");
    assert_eq!(
        refusal.detail,
        "0.06 USD is more than the 0.05 USD that one request may cost"
    );
    assert!(!refusal.retryable);
}

#[test]
fn recipients_on_a_list() {
    let pay = |to: &str| {
        let mut requirement = offer(10_000);
        requirement.pay_to = to.into();
        ask_with(&asked("https://listed.good.test/x"), vec![requirement])
    };
    assert!(pay(PAYEE).is_ok());
    assert!(pay(&PAYEE.to_lowercase()).is_ok());
    let other = "0x99790Af334E288B736C70BAae960bB49eA31927c";
    assert_eq!(reason(pay(other)), Some(Reason::RecipientChanged));
}

#[test]
fn a_rule_may_narrow_networks_and_assets() {
    let pay = |change: fn(&mut Requirement)| {
        let mut requirement = offer(10_000);
        change(&mut requirement);
        reason(ask_with(
            &asked("https://one.good.test/x"),
            vec![requirement],
        ))
    };
    assert_eq!(pay(|_| {}), None);
    let arbitrum: fn(&mut Requirement) = |r| {
        r.network = "eip155:42161".parse().unwrap();
        r.asset = "0xaf88d065e77c8cC2239327C5EDb3A432268e5831".into();
    };
    assert_eq!(pay(arbitrum), Some(Reason::NetworkNotAllowed));
    assert_eq!(
        pay(|r| r.asset = WIDE.into()),
        Some(Reason::AssetNotAllowed)
    );
}

#[test]
fn the_cheapest_acceptable_way_is_paid() {
    // X-12, EX-15. `p` is a payable price, `n` another network, `s` another scheme, `t` another token.
    fn option(code: &str) -> Requirement {
        let (kind, amount) = code.split_at(1);
        let mut requirement = offer(amount.parse().unwrap());
        match kind {
            "n" => requirement.network = "eip155:1".parse().unwrap(),
            "s" => requirement.scheme = "upto".into(),
            "t" => requirement.asset = PAYEE.into(),
            "m" => requirement.pay_to = "merchant".into(),
            _ => {}
        }
        requirement
    }
    for (options, expected) in [
        ("p30000 p20000", "pays 1"),
        ("p20000 p30000", "pays 0"),
        ("p20000 p20000", "pays 0"),
        ("n1 p30000 s2 p20000", "pays 3"),
        ("p60000 p50000", "pays 1"),
        ("m1 p50000", "pays 1"),
        // Nothing to pay: what was nearest, and the truth about it.
        ("n1 p60000", "over_request_cap"),
        ("p60000 n1", "over_request_cap"),
        ("p90000 p60000", "over_request_cap 0.06 USD"),
        ("n1 n2", "network_not_allowed"),
        ("t1 t2", "asset_not_allowed"),
        ("n1 t2", "no_acceptable_option"),
        ("s1 n2 t3", "no_acceptable_option"),
        ("m1 n2", "recipient_invalid"),
        ("m1 p60000", "over_request_cap 0.06 USD"),
        ("", "no_acceptable_option"),
    ] {
        let list: Vec<_> = options.split_whitespace().map(option).collect();
        let found = match ask_with(&asked("https://api.good.test/x"), list.clone()) {
            Ok(approval) => {
                let same = |r: &Requirement| {
                    r.amount == approval.requirement.amount && r.scheme == "exact"
                };
                format!("pays {}", list.iter().position(same).unwrap())
            }
            Err(r) if expected.ends_with("USD") => format!("{} {}", r.reason, r.price.unwrap()),
            Err(refusal) => refusal.reason.to_string(),
        };
        assert_eq!(found, expected, "{options}");
    }
}

#[test]
fn at_the_same_price_the_rules_first_scheme_is_paid() {
    let charge = |amount| Requirement {
        protocol: "mpp",
        scheme: "evm/charge".into(),
        ..offer(amount)
    };
    for (schemes, offers, expected) in [
        ("[exact, evm/charge]", [charge(1000), offer(1000)], "exact"),
        (
            "[evm/charge, exact]",
            [offer(1000), charge(1000)],
            "evm/charge",
        ),
        ("[evm/charge, exact]", [offer(999), charge(1000)], "exact"),
        (
            "[exact, evm/charge]",
            [offer(1000), charge(999)],
            "evm/charge",
        ),
        ("[exact]", [charge(1), offer(1000)], "exact"),
    ] {
        let pay = format!("{{ max: \"0.05 USD\", schemes: {schemes} }}");
        let text =
            format!("rules: [{{ name: r, match: {{ hosts: [api.good.test] }}, pay: {pay} }}]");
        let challenge = challenge(offers.into());
        let asked = asked("https://api.good.test/x");
        let approval = decide(&compile(&text), &asked, &challenge, &facts(), now()).unwrap();
        assert_eq!(approval.requirement.scheme, expected, "{schemes}");
    }
}

#[test]
fn a_challenge_that_expires_bounds_what_is_signed() {
    let lives = |seconds: u64| {
        let mut expiring = offer(1000);
        expiring.expires = Some(now().after_secs(seconds));
        let asked = asked("https://api.good.test/x");
        ask_with(&asked, vec![expiring]).map(|approval| approval.valid_for)
    };
    assert_eq!(lives(120).unwrap(), 120, "not the 60 s of x402");
    assert_eq!(lives(1_000_000).unwrap(), 300, "limits.validity");
    assert_eq!(lives(0).unwrap_err().reason, Reason::ChallengeExpired);
}

#[test]
fn a_list_of_reasons_names_codes_only() {
    let mut other = offer(10_000);
    other.network = "eip155:1".parse().unwrap();
    let mut challenge = challenge(vec![other]);
    challenge.problems = vec![Problem::new(
        Reason::AmountInvalid,
        "an amount is decimal digits only",
    )];
    let policy = compile(POLICY);
    let asked = asked("https://api.good.test/x");
    let refusal = decide(&policy, &asked, &challenge, &facts(), now()).unwrap_err();
    assert_eq!(refusal.reason, Reason::NoAcceptableOption);
    assert_eq!(
        refusal.detail,
        "none of the 2 ways to pay is acceptable: network_not_allowed, amount_invalid"
    );
    // Without any requirement, the first problem is the reason.
    challenge.requirements.clear();
    challenge
        .problems
        .push(Problem::new(Reason::VersionUnsupported, "version 3"));
    let refusal = decide(&policy, &asked, &challenge, &facts(), now()).unwrap_err();
    assert_eq!(refusal.reason, Reason::AmountInvalid);
    assert_eq!(refusal.detail, "an amount is decimal digits only");
}

#[test]
fn what_a_rule_pays_nothing_of_is_refused_for_that() {
    let problem = |reason, schemes| Problem {
        schemes,
        ..Problem::new(reason, "something is wrong")
    };
    let lightning = problem(Reason::InvoiceInvalid, &["l402"]);
    let x402 = problem(Reason::AmountInvalid, &["exact", "upto"]);
    let long = problem(Reason::LimitsExceeded, &[]);
    let refusal = |problems: &[&Problem]| {
        let challenge = Challenge {
            requirements: vec![],
            problems: problems.iter().copied().cloned().collect(),
        };
        let asked = asked("https://api.good.test/x");
        decide(&compile(POLICY), &asked, &challenge, &facts(), now()).unwrap_err()
    };
    let only = refusal(&[&lightning]);
    assert_eq!(only.reason, Reason::SchemeUnsupported);
    assert_eq!(only.detail, "the rule pays the schemes exact");
    // What is wrong with something that it could pay is nearer.
    for other in [&x402, &long] {
        assert_eq!(refusal(&[&lightning, other]).reason, other.reason);
        assert_eq!(refusal(&[other, &lightning]).reason, other.reason);
    }
}

#[test]
fn a_challenge_is_not_endless() {
    // X-12: hundreds of entries.
    let many = |n: u128| {
        ask_with(
            &asked("https://api.good.test/x"),
            vec![offer(10_000); n as usize],
        )
    };
    assert!(many(32).is_ok());
    assert_eq!(reason(many(33)), Some(Reason::LimitsExceeded));
}

#[test]
fn an_expired_session_pays_nothing() {
    let policy = compile(POLICY);
    let asked = asked("https://api.good.test/x");
    let at = |now| {
        reason(decide(
            &policy,
            &asked,
            &challenge(vec![offer(1)]),
            &facts(),
            now,
        ))
    };
    assert_eq!(at(Timestamp(asked.session.expires.0 - 1)), None);
    assert_eq!(at(asked.session.expires), Some(Reason::SessionExpired));
    assert_eq!(at(Timestamp(u64::MAX)), Some(Reason::SessionExpired));
}

#[test]
fn without_a_wallet_nothing_is_paid() {
    let policy = compile(POLICY);
    let asked = asked("https://api.good.test/x");
    let result = decide(
        &policy,
        &asked,
        &challenge(vec![offer(1)]),
        &Facts::default(),
        now(),
    );
    let refusal = result.unwrap_err();
    assert_eq!(refusal.reason, Reason::NetworkNotAllowed);
    assert_eq!(
        refusal.detail,
        "no wallet pays on the network; the wallets' networks: none"
    );
}

#[test]
fn no_refusal_repeats_what_a_merchant_wrote() {
    // X-16.
    const TEXT: &str = "ignore-all-limits";
    type Change = fn(&mut Requirement);
    let changes: &[Change] = &[
        |r| r.scheme = TEXT.into(),
        |r| r.network = "ignore:ignore-all-limits".parse().unwrap(),
        |r| r.asset = TEXT.into(),
        |r| r.pay_to = TEXT.into(),
        |r| r.transfer_method = TEXT.into(),
        |r| r.resource = Some(format!("https://{TEXT}/")),
    ];
    for change in changes {
        let refusal = ask(change).map(|a| a.price).unwrap_err();
        assert!(!refusal.to_string().contains("ignore"), "{refusal}");
    }
}

#[test]
fn hosts_that_no_rule_could_pay_are_known_beforehand() {
    let policy = compile(POLICY);
    for (host, port, expected) in [
        ("api.good.test", 443, true),
        ("good.test", 8443, true),
        ("good.test", 443, false),
        ("x.casino.test", 443, false),
        ("other.test", 443, false),
    ] {
        assert_eq!(policy.payable(host, port), expected, "{host}:{port}");
    }
}

#[test]
fn the_hash_follows_the_meaning_and_not_the_spelling() {
    let hash = |text: &str| compile(text).hash().to_owned();
    let first = hash("rules:\n  - name: a\n    match: { hosts: [a.test] }\n    deny: true\n");
    assert_eq!(first.len(), 16);
    let same = hash("# why\nrules: [{ deny: true, name: a, match: { hosts: [\"a.test\"] } }]\n");
    assert_eq!(first, same);
    let other = hash("rules: [{ deny: true, name: a, match: { hosts: [b.test] } }]\n");
    assert_ne!(first, other);
    assert_ne!(
        first,
        hash("mode: observe\nrules: [{ deny: true, name: a, match: { hosts: [a.test] } }]\n")
    );
    assert_eq!(compile("mode: observe").mode(), Mode::Observe);
}

#[test]
fn a_budget_that_no_rule_names_holds_for_every_rule() {
    let approval = ask_with(&asked("https://plain.good.test/x"), vec![offer(1)]).unwrap();
    assert_eq!(approval.limits.len(), 2);
    assert_eq!(approval.limits[1].account, "budget:monthly:");
    assert_eq!(approval.on_unknown, OnUnknown::Hold);
}

#[test]
fn each_scope_counts_its_own() {
    let text = r#"
budgets:
  - { name: a, scope: session, limit: "1 USD", window: 15m }
  - { name: b, scope: agent, limit: "1 USD", window: day }
  - { name: c, scope: host, payments: 3, window: month }
  - { name: d, scope: wallet, limit: "1 USD", window: 7d }
  - { name: e, scope: all, limit: "1 USD", window: 1h }
rules:
  - { name: r, match: { hosts: ["*"] }, pay: { max: "1 USD", budgets: [a, b, c, d, e] } }
"#;
    let policy = compile(text);
    let asked = asked("https://api.good.test/x");
    let approval = decide(&policy, &asked, &challenge(vec![offer(1)]), &facts(), now()).unwrap();
    let limits: Vec<_> = approval.limits.iter().skip(1).collect();
    let accounts: Vec<_> = limits.iter().map(|l| l.account.clone()).collect();
    let wallet = format!("budget:d:{PAYER}");
    assert_eq!(
        accounts,
        [
            "budget:a:default",
            "budget:b:bot",
            "budget:c:api.good.test",
            &wallet,
            "budget:e:"
        ]
    );
    assert!(limits.iter().all(|l| l.resets_at.is_some()));
    assert_eq!(
        (limits[2].amount, limits[2].payments),
        (Usd(u64::MAX), Some(3))
    );
    let span = |limit: &farepass::payment::Limit| limit.last - limit.first;
    assert_eq!(
        span(limits[1]),
        86_399,
        "today's bucket, and none before it"
    );
    // Of the last fifteen minutes, in pieces of fifteen seconds.
    assert!((900..915).contains(&span(limits[0])), "{:?}", limits[0]);
}

/// Whoever pays on two networks names a recipient on each; a question about one is about that one's.
#[test]
fn a_test_takes_a_recipient_of_its_network() {
    for payees in [
        r#"["EJwZgeZrdC8TXTQbQBoL6bfuAnFUUy1PVCMB4DYPzVaS", "0x5DD72898065Da3fEE015999Df31Cf3A9124FF470"]"#,
        r#"["0x5DD72898065Da3fEE015999Df31Cf3A9124FF470", "EJwZgeZrdC8TXTQbQBoL6bfuAnFUUy1PVCMB4DYPzVaS"]"#,
    ] {
        let policy = compile(&format!(
            r#"
rules:
  - {{ name: two, match: {{ hosts: ["two.test"] }}, pay: {{ max: "0.05 USD", pay_to: {payees} }} }}
tests:
  - {{ url: "https://two.test/x", amount: "0.01 USD", expect: pay }}
"#
        ));
        let networks = [SEPOLIA.parse().unwrap()];
        let (ran, failed) = policy.run_tests(&networks, Usd(1_000_000_000));
        assert_eq!((ran, failed.len()), (1, 0), "{failed:?}");
    }
}

#[test]
fn tests_in_the_file_are_run() {
    let text = r#"
rules:
  - { name: no, match: { hosts: ["no.test"] }, deny: true }
  - { name: yes, match: { hosts: ["yes.test"], methods: [GET], agents: [bot] }, pay: { max: "0.05 USD", pay_to: ["0x5DD72898065Da3fEE015999Df31Cf3A9124FF470"] } }
  - { name: dear, match: { hosts: ["dear.test"] }, pay: { max: "9999 USD" } }
  - { name: most, match: { hosts: ["most.test"] }, pay: { max: "0.05 USD", schemes: [upto], transfer_methods: [permit2] } }
tests:
  - { url: "https://most.test/x", scheme: upto, amount: "0.05 USD", expect: pay }
  - { url: "https://most.test/x", scheme: upto, amount: "0.06 USD", expect: refuse, reason: over_request_cap }
  - { url: "https://most.test/x", expect: refuse, reason: scheme_unsupported }
  - { url: "https://dear.test/x", scheme: upto, expect: refuse, reason: scheme_unsupported }
  - { url: "https://yes.test/x", agent: bot, amount: "0.05 USD", expect: pay, rule: "yes" }
  - { url: "https://yes.test/x", agent: bot, amount: "0.06 USD", expect: refuse, reason: over_request_cap }
  - { url: "https://yes.test/x", agent: other, expect: refuse, reason: host_not_allowed }
  - { url: "https://yes.test/x", agent: bot, method: POST, expect: refuse }
  - { url: "https://yes.test/x", agent: bot, network: "eip155:1", expect: refuse, reason: network_not_allowed }
  - { url: "https://yes.test/x", agent: bot, asset: WIDE, amount: "0.01 USD", expect: pay }
  - { url: "https://yes.test/x", agent: bot, pay_to: "0x99790Af334E288B736C70BAae960bB49eA31927c", expect: refuse, reason: recipient_changed }
  - { url: "http://yes.test/x", agent: bot, expect: refuse, reason: insecure_transport }
  - { url: "https://no.test/x", expect: deny, rule: "no" }
  - { url: "https://dear.test/x", amount: "2 USD", expect: refuse, reason: over_session_cap }
"#;
    let policy = compile(text);
    let networks = [SEPOLIA.parse().unwrap()];
    let (ran, failed) = policy.run_tests(&networks, Usd(1_000_000_000));
    assert_eq!(ran, 14);
    assert!(failed.is_empty(), "{failed:?}");

    let wrong = text
        .replace("0.05 USD\", expect: pay", "0.051 USD\", expect: pay")
        .replace("expect: deny, rule: \"no\"", "expect: pay")
        .replace("reason: over_session_cap", "reason: frozen")
        .replace("method: POST, expect: refuse", "expect: refuse")
        .replace("expect: refuse, reason: insecure_transport", "expect: deny");
    let (_, failed) = compile(&wrong).run_tests(&networks, Usd(1_000_000_000));
    let said: Vec<_> = failed.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_test_that_names_nobody_is_about_whom_the_only_rule_there_pays() {
    let text = r#"
rules:
  - { name: data, match: { hosts: ["data.test"], paths: ["/v1/**"], agents: ["research-*", ops] }, pay: { max: "0.05 USD" } }
  - { name: bad, match: { hosts: ["bad.test"], agents: ["bad-*"] }, deny: true }
  - { name: small, match: { hosts: ["two.test"], agents: ["a-*"] }, pay: { max: "0.01 USD" } }
  - { name: large, match: { hosts: ["two.test"], agents: ["b-*"] }, pay: { max: "1 USD" } }
  - { name: some, match: { hosts: ["last.test"], agents: ["a-*"] }, pay: { max: "1 USD" } }
  - { name: rest, match: { hosts: ["last.test"] }, deny: true }
tests:
"#;
    let networks = [SEPOLIA.parse().unwrap()];
    let failed = |test: &str| {
        let policy = compile(&format!("{text}  - {{ {test} }}\n"));
        let (ran, failed) = policy.run_tests(&networks, Usd(1_000_000_000));
        assert_eq!(ran, 1);
        failed.first().map(ToString::to_string)
    };
    for test in [
        r#"url: "https://data.test/v1/x", amount: "0.03 USD", expect: pay"#,
        r#"url: "https://data.test/v1/x", amount: "0.03 USD", expect: pay, rule: data"#,
        r#"url: "https://data.test/v1/x", amount: "0.06 USD", expect: over_request_cap"#,
        // As before: others are refused there.
        r#"url: "https://data.test/v1/x", amount: "0.03 USD", expect: refuse"#,
        r#"url: "https://data.test/v1/x", expect: host_not_allowed"#,
        r#"url: "https://bad.test/x", expect: refuse"#,
        r#"url: "https://last.test/x", expect: deny"#,
    ] {
        assert_eq!(failed(test), None, "{test}");
    }
    for (test, says) in [
        (
            r#"url: "https://data.test/v1/x", amount: "0.06 USD", expect: pay"#,
            "more than the 0.05 USD",
        ),
        (
            r#"url: "https://data.test/v1/x", agent: default, expect: pay"#,
            "agent and tool",
        ),
        (
            r#"url: "https://data.test/v2/x", expect: pay"#,
            "agent and tool",
        ),
        // A denial of some is none of all, and two rules leave it open who is meant.
        (
            r#"url: "https://bad.test/x", expect: deny"#,
            "agent and tool",
        ),
        (
            r#"url: "https://two.test/x", expect: pay"#,
            "agent and tool",
        ),
        (r#"url: "https://last.test/x", expect: pay"#, "denies it"),
    ] {
        let said = failed(test).unwrap_or_else(|| panic!("{test} passed"));
        assert!(said.contains(says), "{test}: {said}");
    }
}

#[test]
fn a_test_says_where_a_person_is_asked() {
    let text = r#"
rules:
  - { name: asks, match: { hosts: ["asks.test"] }, pay: { max: "1 USD", approval: { above: "0.10 USD" } } }
  - { name: new, match: { hosts: ["new.test"] }, pay: { max: "1 USD", approval: { first_host: true } } }
tests:
  - { url: "https://asks.test/x", amount: "0.10 USD", expect: pay }
  - { url: "https://asks.test/x", amount: "0.11 USD", expect: approval_required, rule: asks }
  - { url: "https://asks.test/x", amount: "0.11 USD", expect: refuse }
  - { url: "https://asks.test/x", amount: "1.01 USD", expect: over_request_cap }
  - { url: "https://new.test/x", expect: approval_required }
"#;
    let networks = [SEPOLIA.parse().unwrap()];
    let run = |text: &str| compile(text).run_tests(&networks, Usd(1_000_000_000));
    let (ran, failed) = run(text);
    assert_eq!((ran, failed), (5, vec![]));
    let (_, failed) = run(&text.replace("expect: approval_required", "expect: pay"));
    let said: Vec<_> = failed.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("a person is asked (above)"), "{said:?}");
    assert!(
        said[1].contains("a person is asked (first_host)"),
        "{said:?}"
    );
}

fn any_requirement() -> impl Strategy<Value = Requirement> {
    let word = |good: &'static str| prop_oneof![3 => Just(good.to_owned()), 1 => "\\PC{0,20}"];
    let network = prop_oneof![Just(SEPOLIA), Just("eip155:1"), Just("eip155:42161")];
    let amount = prop_oneof![3 => 0u128..100_000, 1 => any::<u128>()];
    let resource = prop::option::of(prop_oneof![
        Just("https://api.good.test/".to_owned()),
        "\\PC{0,20}"
    ]);
    (
        word("exact"),
        network,
        word(USDC),
        amount,
        word(PAYEE),
        0u64..1000,
        word("eip3009"),
        resource,
    )
        .prop_map(
            |(scheme, network, asset, amount, pay_to, valid_for, transfer_method, resource)| {
                Requirement {
                    scheme,
                    network: network.parse().unwrap(),
                    asset,
                    amount: Amount(amount),
                    pay_to,
                    valid_for,
                    transfer_method,
                    resource,
                    ..offer(0)
                }
            },
        )
}

proptest! {
    /// For every challenge: no panic, the same answer twice, never above the cap, no acceptable
    /// cheaper option passed over, and what is approved is one of the offers.
    #[test]
    fn decisions_keep_their_promises(
        options in prop::collection::vec(any_requirement(), 0..12),
        path in "/\\PC{0,20}",
        host in prop_oneof![4 => Just("api.good.test".to_owned()), 1 => "\\PC{0,20}"],
    ) {
        let policy = compile(POLICY);
        let mut asked = asked("https://api.good.test/x");
        asked.host = (&*host).into();
        asked.path = (&*path).into();
        let one = |options: &[Requirement]| {
            decide(&policy, &asked, &challenge(options.to_vec()), &facts(), now())
        };
        let singles: Vec<_> = options.iter().map(|o| one(std::slice::from_ref(o))).collect();
        let cheapest = singles.iter().flatten().map(|a| a.price).min();
        match one(&options) {
            Ok(approval) => {
                prop_assert!(approval.price <= Usd(50_000_000));
                prop_assert_eq!(Some(approval.price), cheapest);
                let at = singles.iter().position(|s| s.as_ref().is_ok_and(|a| a.price == approval.price));
                let chosen = &options[at.unwrap()];
                prop_assert_eq!(&approval.requirement.pay_to, &chosen.pay_to);
                prop_assert_eq!(approval.requirement.amount, chosen.amount);
                prop_assert_eq!(approval.asset.price(chosen.amount), Some(approval.price));
                prop_assert!((1..=300).contains(&approval.valid_for));
            }
            Err(refusal) => {
                prop_assert_eq!(cheapest, None);
                prop_assert_eq!(&refusal, &one(&options).unwrap_err());
                if options.len() == 1 {
                    prop_assert_eq!(&Err(refusal), &singles[0].clone().map(|_| ()));
                }
            }
        }
    }
}

const DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
const SOLANA_USDC: &str = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU";
const SOLANA_PAYER: &str = "mBKqcnGotbsSb5vNrdyhzZ5EhqZdids9QYiTRckvi7v";
const SOLANA_PAYEE: &str = "oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass9";
/// The payee's token account: no key can sign for it.
const SOLANA_DERIVED: &str = "JB4i16dMpDuoTXxA6wfqPFXtJcWSPiUZ4xyEZxQBhkS5";

fn solana_offer() -> Requirement {
    Requirement {
        network: DEVNET.parse().unwrap(),
        asset: SOLANA_USDC.into(),
        pay_to: SOLANA_PAYEE.into(),
        transfer_method: "transfer".into(),
        ..offer(10_000)
    }
}

fn on_solana(pay: &str, validity: u64, requirement: Requirement) -> Result<Approval, Refusal> {
    let text =
        format!("rules: [{{ name: r, match: {{ hosts: [api.good.test] }}, pay: {{ {pay} }} }}]");
    let mut problems = Problems::default();
    let mut file = Section::file("policy.yaml", &text).unwrap();
    let catalog = Catalog {
        validity,
        ..catalog()
    };
    let policy = Policy::read(&mut file, catalog, &mut problems);
    assert!(problems.is_empty());
    let payers = vec![
        (SEPOLIA.parse().unwrap(), PAYER.to_owned()),
        (DEVNET.parse().unwrap(), SOLANA_PAYER.to_owned()),
    ];
    let facts = Facts {
        payers,
        ..Facts::default()
    };
    let challenge = Challenge {
        requirements: vec![requirement],
        problems: vec![],
    };
    decide(
        &policy,
        &asked("https://api.good.test/x"),
        &challenge,
        &facts,
        now(),
    )
}

#[test]
fn a_transfer_on_solana_is_judged_like_any_other() {
    let paid = on_solana("max: \"0.05 USD\"", 300, solana_offer()).unwrap();
    assert_eq!(paid.price, Usd(10_000_000));
    type Change = fn(&mut Requirement);
    let table: &[(&str, Change, Reason)] = &[
        (
            "M-01 dear",
            |r| r.amount = Amount(50_001),
            Reason::OverRequestCap,
        ),
        (
            "M-02 more than 64 bits",
            |r| r.amount = Amount(1 << 70),
            Reason::OverRequestCap,
        ),
        (
            "M-03 another mint",
            |r| r.asset = SOLANA_PAYEE.into(),
            Reason::AssetNotAllowed,
        ),
        (
            "M-03 the mint of the main network",
            |r| r.asset = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v".into(),
            Reason::AssetNotAllowed,
        ),
        (
            "M-04 the main network",
            |r| r.network = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp".parse().unwrap(),
            Reason::NetworkNotAllowed,
        ),
        (
            "M-06 not base58",
            |r| r.pay_to = "0".repeat(44),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 an EVM address",
            |r| r.pay_to = PAYEE.into(),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 the system program",
            |r| r.pay_to = "1".repeat(32),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 the token program",
            |r| r.pay_to = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA".into(),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 the mint",
            |r| r.pay_to = SOLANA_USDC.into(),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 ourselves",
            |r| r.pay_to = SOLANA_PAYER.into(),
            Reason::RecipientInvalid,
        ),
        (
            "M-06 a token account",
            |r| r.pay_to = SOLANA_DERIVED.into(),
            Reason::RecipientInvalid,
        ),
        (
            "by permit2",
            |r| r.transfer_method = "permit2".into(),
            Reason::TransferMethodUnsupported,
        ),
        (
            "by eip3009",
            |r| r.transfer_method = "eip3009".into(),
            Reason::TransferMethodUnsupported,
        ),
        (
            "upto",
            |r| r.scheme = "upto".into(),
            Reason::SchemeUnsupported,
        ),
    ];
    for (what, change, reason) in table {
        let mut requirement = solana_offer();
        change(&mut requirement);
        let refused = on_solana("max: \"0.05 USD\"", 300, requirement).unwrap_err();
        assert_eq!(refused.reason, *reason, "{what}: {}", refused.detail);
    }
}

#[test]
fn an_account_of_a_program_is_paid_where_a_rule_lists_it() {
    let derived = Requirement {
        pay_to: SOLANA_DERIVED.into(),
        ..solana_offer()
    };
    let listed = format!("max: \"0.05 USD\", pay_to: [{SOLANA_DERIVED}]");
    assert!(on_solana(&listed, 300, derived.clone()).is_ok());
    let other = on_solana(&listed, 300, solana_offer()).unwrap_err();
    assert_eq!(other.reason, Reason::RecipientChanged);
    for pay_to in ["any", "first-seen", "{ first-seen: alert }"] {
        let rule = format!("max: \"0.05 USD\", pay_to: {pay_to}");
        assert!(on_solana(&rule, 300, solana_offer()).is_ok(), "{pay_to}");
        let refused = on_solana(&rule, 300, derived.clone()).unwrap_err();
        assert_eq!(refused.reason, Reason::RecipientInvalid, "{pay_to}");
    }
}

#[test]
fn a_validity_that_solana_cannot_keep_is_refused() {
    let rule = "max: \"0.05 USD\"";
    let refused = on_solana(rule, 149, solana_offer()).unwrap_err();
    assert_eq!(refused.reason, Reason::ValidityTooLong);
    assert!(on_solana(rule, 150, solana_offer()).is_ok());
}

const TOOLS: &str = r#"
rules:
  - { name: no-admin, match: { hosts: ["mcp.test"], tools: ["admin-*"] }, deny: true }
  - { name: search, match: { hosts: ["mcp.test"], paths: ["/mcp"], tools: ["search", "weather-*"] }, pay: { max: "0.05 USD", mcp: true } }
  - { name: rest, match: { hosts: ["mcp.test"], paths: ["/mcp"] }, pay: { max: "0.01 USD" } }
  - { name: all, match: { hosts: ["mcp.test"], paths: ["/all"] }, pay: { max: "0.01 USD", mcp: true } }
tests:
  - { url: "https://mcp.test/mcp", tool: weather-now, amount: "0.05 USD", expect: pay, rule: search }
  - { url: "https://mcp.test/mcp", tool: other, amount: "0.01 USD", expect: host_not_allowed, rule: rest }
  - { url: "https://mcp.test/mcp", method: POST, amount: "0.01 USD", expect: pay, rule: rest }
  - { url: "https://mcp.test/mcp", amount: "0.05 USD", expect: over_request_cap, rule: rest }
  - { url: "https://mcp.test/all", tool: admin-erase, expect: deny, rule: no-admin }
  - { url: "https://mcp.test/all", tool: anything, expect: pay, rule: all }
"#;

#[test]
fn a_tool_is_matched_by_its_name_and_bodies_are_read_where_a_rule_says_so() {
    let policy = compile(TOOLS);
    let networks = [SEPOLIA.parse().unwrap()];
    let (ran, failed) = policy.run_tests(&networks, Usd(1_000_000_000));
    assert_eq!((ran, failed.len()), (6, 0), "{failed:?}");
    let may_read = |url: &str| policy.may_read(&asked(url));
    assert!(may_read("https://mcp.test/mcp") && may_read("https://mcp.test/all"));
    assert!(!may_read("https://mcp.test/other") && !may_read("https://other.test/mcp"));
    let reads = |url: &str, tool: &str| {
        policy.reads_bodies(&Asked {
            tool: Some(tool).into(),
            ..asked(url)
        })
    };
    assert!(reads("https://mcp.test/mcp", "search") && reads("https://mcp.test/all", "x"));
    assert!(!reads("https://mcp.test/mcp", "x") && !reads("https://mcp.test/all", "admin-x"));
    // A rule before it that pays without looking decides for all that it matches, unless a denial must know.
    let shadowed = TOOLS.replace(
        "tools: [\"search\", \"weather-*\"] }, pay: { max: \"0.05 USD\", mcp: true }",
        "methods: [GET, POST] }, pay: { max: \"0.05 USD\" }",
    );
    assert!(compile(&shadowed).may_read(&asked("https://mcp.test/mcp")));
    let (_, undenied) = shadowed.split_once("deny: true }\n").unwrap();
    let undenied = format!("rules:\n{}", undenied.split("tests:").next().unwrap());
    assert!(!compile(&undenied).may_read(&asked("https://mcp.test/mcp")));
}

#[test]
fn a_rule_with_tools_that_reads_no_bodies_is_an_error() {
    let text = "rules:\n  - { name: a, match: { hosts: [a.test], tools: [x] }, pay: { max: \"1 USD\" } }\n";
    let mut problems = Problems::default();
    let mut file = Section::file("policy.yaml", text).unwrap();
    let _ = Policy::read(&mut file, catalog(), &mut problems);
    let errors = problems.into_sorted();
    assert!(
        errors[0].to_string().contains("no body is read here"),
        "{errors:?}"
    );
}

/// What comes of a request to a policy: the rule that pays, or why it is refused and by which rule.
fn said(policy: &Policy, asked: &Asked) -> Result<String, (Reason, Option<String>)> {
    let decided = decide(
        policy,
        asked,
        &challenge(vec![offer(10_000)]),
        &facts(),
        now(),
    );
    match decided {
        Ok(approval) => Ok(approval.rule),
        Err(refusal) => Err((refusal.reason, refusal.rule)),
    }
}

#[test]
fn a_denied_path_is_not_bought_in_another_spelling() {
    let policy = compile(
        r#"
rules:
  - { name: no, match: { hosts: [a.test], paths: ["/v2/exact", "/v2/price/**", "/Sold/", "/admin/**", "/p;v=1"] }, deny: true }
  - { name: rest, match: { hosts: [a.test] }, pay: { max: "0.05 USD" } }
tests:
  - { url: "https://a.test/v2/exact", expect: deny, rule: no }
  - { url: "https://a.test/V2/exact/", expect: host_not_allowed }
  - { url: "https://a.test/admin;x/y", expect: host_not_allowed }
  - { url: "https://a.test/v1/x;y", expect: pay, rule: rest }
"#,
    );
    let (ran, failed) = policy.run_tests(&[SEPOLIA.parse().unwrap()], Usd(1_000_000_000));
    assert_eq!((ran, failed.len()), (4, 0), "{failed:?}");
    let denied = Err((Reason::DeniedByRule, Some("no".into())));
    let doubtful = Err((Reason::HostNotAllowed, Some("no".into())));
    for (path, expected) in [
        ("/v2/exact", &denied),
        ("/v2/%65xact", &denied),
        ("/v2/price/5", &denied),
        ("/V2/exact", &doubtful),
        ("/v2/Exact", &doubtful),
        ("/v2/%45xact", &doubtful),
        ("/v2/exact/", &doubtful),
        ("/V2/EXACT/", &doubtful),
        ("/v2/PRICE/5", &doubtful),
        ("/Sold", &doubtful),
        ("/sold", &doubtful),
        // Parameters of segments, which some servers leave out.
        ("/admin;x/y", &doubtful),
        ("/admin%3bx/y", &doubtful),
        ("/Admin;x=1;y=2/", &doubtful),
        ("/v2;a/exact;b", &doubtful),
        ("/v2/exact/;b", &doubtful),
        ("/P;v=1", &doubtful),
        ("/;x/admin/y", &doubtful),
        // Other paths stay what they are.
        ("/v2/exactly", &Ok("rest".into())),
        ("/v2/exact/x", &Ok("rest".into())),
        ("/v2/price", &Ok("rest".into())),
        ("/admin", &Ok("rest".into())),
        ("/v1/x;a=b", &Ok("rest".into())),
        ("/V1/X/", &Ok("rest".into())),
        ("/", &Ok("rest".into())),
    ] {
        let mut asked = asked("https://a.test/");
        asked.path = path.into();
        assert_eq!(&said(&policy, &asked), expected, "{path}");
    }
}

#[test]
fn only_an_earlier_rule_makes_a_spelling_doubtful() {
    let policy = compile(
        r#"
rules:
  - { name: both, match: { hosts: [a.test], paths: ["/Data", "/data"] }, pay: { max: "0.05 USD" } }
  - { name: upper, match: { hosts: [a.test], paths: ["/X"] }, pay: { max: "0.05 USD" } }
  - { name: lower, match: { hosts: [a.test], paths: ["/x", "/v1/**"] }, deny: true }
  - { name: other, match: { hosts: [a.test], paths: ["/DATA"], agents: [bot] }, pay: { max: "0.05 USD" } }
  - { name: listed, match: { hosts: [b.test], methods: [GET], paths: ["/v1/**"] }, pay: { max: "0.05 USD" } }
"#,
    );
    let unmatched = Err((Reason::HostNotAllowed, None));
    for (url, expected) in [
        ("https://a.test/Data", Ok("both".to_owned())),
        ("https://a.test/data", Ok("both".into())),
        ("https://a.test/X", Ok("upper".into())),
        // The rule that decides denies it, whatever comes before.
        (
            "https://a.test/x",
            Err((Reason::DeniedByRule, Some("lower".into()))),
        ),
        (
            "https://a.test/DATA",
            Err((Reason::HostNotAllowed, Some("both".into()))),
        ),
        // What an allow-list does not name is as it was.
        ("https://b.test/v1/x;a=b", Ok("listed".into())),
        ("https://b.test/v1/X/", Ok("listed".into())),
        ("https://b.test/V1/x", unmatched.clone()),
        ("https://b.test/v1;a/x", unmatched),
    ] {
        assert_eq!(said(&policy, &asked(url)), expected, "{url}");
    }
    // A rule about others is no rule about this.
    let others = compile(
        r#"
rules:
  - { name: no, match: { hosts: [a.test], paths: ["/x"], agents: [else] }, deny: true }
  - { name: rest, match: { hosts: ["*"] }, pay: { max: "0.05 USD" } }
"#,
    );
    for url in ["https://a.test/X", "https://b.test/X"] {
        assert_eq!(said(&others, &asked(url)), Ok("rest".into()), "{url}");
    }
}

#[test]
fn a_denied_method_is_not_bought_in_small_letters() {
    let policy = compile(
        r#"
rules:
  - { name: no, match: { hosts: [a.test], methods: [POST], paths: ["/x/**"] }, deny: true }
  - { name: rest, match: { hosts: [a.test] }, pay: { max: "0.05 USD" } }
"#,
    );
    for (method, path, expected) in [
        ("POST", "/x/y", Err((Reason::DeniedByRule, Some("no")))),
        ("post", "/x/y", Err((Reason::HostNotAllowed, Some("no")))),
        ("Post", "/X/y", Err((Reason::HostNotAllowed, Some("no")))),
        ("post", "/x%2fy", Err((Reason::HostNotAllowed, Some("no")))),
        ("post", "/y", Ok("rest")),
        ("get", "/x/y", Ok("rest")),
    ] {
        let mut asked = asked("https://a.test/");
        (asked.method, asked.path) = (method.parse().unwrap(), path.into());
        let expected = expected.map(str::to_owned);
        let expected = expected.map_err(|(reason, rule)| (reason, rule.map(str::to_owned)));
        assert_eq!(said(&policy, &asked), expected, "{method} {path}");
    }
}

/// A denial of tools, before a rule that pays without reading bodies.
const NO_ADMIN: &str = r#"
rules:
  - { name: no-admin, match: { hosts: ["mcp.test"], paths: ["/mcp"], tools: ["admin-*"] }, deny: true }
  - { name: rest, match: { hosts: ["*"] }, pay: { max: "0.05 USD" } }
"#;

#[test]
fn a_denial_of_tools_holds_for_what_nobody_can_read() {
    let policy = compile(NO_ADMIN);
    let doubtful = Err((Reason::HostNotAllowed, Some("no-admin".to_owned())));
    let denied = Err((Reason::DeniedByRule, Some("no-admin".to_owned())));
    for (url, tool, expected) in [
        ("https://mcp.test/mcp", Some("admin-delete").into(), &denied),
        (
            "https://mcp.test/mcp",
            Some("search").into(),
            &Ok("rest".into()),
        ),
        ("https://mcp.test/mcp", Tool::None, &Ok("rest".into())),
        ("https://mcp.test/mcp", Tool::Unknown, &doubtful),
        ("https://mcp.test/MCP/", Tool::Unknown, &doubtful),
        (
            "https://mcp.test/MCP/",
            Some("admin-delete").into(),
            &doubtful,
        ),
        (
            "https://mcp.test/MCP/",
            Some("search").into(),
            &Ok("rest".into()),
        ),
        // Elsewhere no rule names tools.
        ("https://mcp.test/other", Tool::Unknown, &Ok("rest".into())),
        ("https://other.test/mcp", Tool::Unknown, &Ok("rest".into())),
    ] {
        let asked = Asked { tool, ..asked(url) };
        assert_eq!(&said(&policy, &asked), expected, "{asked:?}");
    }
    // Of two rules that pay, too, the stricter is not passed by.
    let stricter = NO_ADMIN.replace("deny: true", "pay: { max: \"0.001 USD\", mcp: true }");
    let asked = Asked {
        tool: Tool::Unknown,
        ..asked("https://mcp.test/mcp")
    };
    assert_eq!(said(&compile(&stricter), &asked), doubtful);
}

#[test]
fn bodies_are_read_where_a_denial_names_tools() {
    let policy = compile(NO_ADMIN);
    let may_read = |url: &str| policy.may_read(&asked(url));
    for url in ["mcp", "mcp/", "MCP", "mcp;x", "files/a%2Fb"] {
        assert!(may_read(&format!("https://mcp.test/{url}")), "{url}");
    }
    assert!(!may_read("https://mcp.test/other") && !may_read("https://other.test/mcp"));
    // Where nothing is paid anyway, nothing needs to be known.
    let nothing = NO_ADMIN.replace("pay: { max: \"0.05 USD\" }", "deny: true");
    assert!(!compile(&nothing).may_read(&asked("https://mcp.test/mcp")));
}
