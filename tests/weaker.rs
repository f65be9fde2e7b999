//! A policy that is said to be no weaker than another pays nothing that the other would refuse, whatever is asked.
#![cfg(test)]

use std::sync::Arc;

use farepass::clock::Timestamp;
use farepass::money::{Amount, Network, Usd, canonical_assets};
use farepass::payment::{Asked, Challenge, Offer, Requirement, Session, SessionId, Tool};
use farepass::policy::{Approval, Catalog, Facts, Policy, decide, difference, weaker};
use farepass::section::{Problems, Section};
use proptest::prelude::*;

const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const FIRST: &str = "0x5DD72898065Da3fEE015999Df31Cf3A9124FF470";
const OTHER: &str = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";

fn compile(text: &str) -> Policy {
    let catalog = Catalog {
        assets: canonical_assets(),
        validity: 300,
        requirements: 32,
        ..Catalog::default()
    };
    let mut problems = Problems::default();
    let mut file = Section::file("policy.yaml", text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let policy = Policy::read(&mut file, catalog, &mut problems);
    let errors = problems.into_sorted();
    assert!(errors.is_empty(), "{errors:?}\n{text}");
    policy
}

/// What one request is, and what the merchant wants for it.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u128,
    &'static str,
    bool,
);

fn asked(policy: &Policy, case: &Case) -> Option<Approval> {
    let (host, method, path, agent, amount, pay_to, secure) = *case;
    let network: Network = "eip155:84532".parse().unwrap();
    let now = Timestamp::from_secs(1_800_000_000);
    let session = Session {
        id: SessionId("s".into()),
        agent: agent.into(),
        budget: Usd(1_000_000_000),
        created: now,
        expires: now.after_secs(60),
    };
    let asked = Asked {
        session: Arc::new(session),
        method: method.parse().unwrap(),
        secure,
        host: host.into(),
        port: 443,
        path: path.into(),
        tool: Tool::None,
        request: None,
        trace: None,
    };
    let facts = Facts {
        payers: vec![(
            network.clone(),
            "0x71b0cF3E855b6a3143206334BEBb5cAC3b9a83bf".into(),
        )],
        ..Facts::default()
    };
    let requirement = Requirement {
        protocol: "x402-v2",
        scheme: "exact".into(),
        network,
        asset: USDC.into(),
        amount: Amount(amount),
        pay_to: pay_to.into(),
        valid_for: 60,
        expires: None,
        transfer_method: "eip3009".into(),
        facilitator: None,
        splits: vec![],
        own_fee: false,
        resource: None,
        mime_type: None,
        offer: Arc::new(Offer::default()),
    };
    let challenge = Challenge {
        requirements: vec![requirement],
        ..Challenge::default()
    };
    decide(policy, &asked, &challenge, &facts, now).ok()
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(words)
}

fn case() -> impl Strategy<Value = Case> {
    (
        one_of(&["a.test", "b.test", "x.a.test", "c.example"]),
        one_of(&["GET", "POST"]),
        one_of(&["/", "/v1/x", "/v1//x", "/admin/y"]),
        one_of(&["bot", "research-1"]),
        prop::sample::select(&[1u128, 10_000, 50_000, 60_000, 900_000][..]),
        one_of(&[FIRST, OTHER]),
        any::<bool>(),
    )
}

const NAMES: [&str; 4] = ["r0", "r1", "r2", "r3"];

fn rule() -> impl Strategy<Value = String> {
    let hosts = one_of(&[
        "[a.test]",
        "['*.test']",
        "['*']",
        "[b.test, c.example]",
        "['*.a.test', a.test]",
    ]);
    let rest = one_of(&[
        "",
        ", methods: [GET]",
        ", paths: ['/v1/**']",
        ", agents: ['research-*']",
        ", methods: [GET, POST], paths: ['/v1/**', '/admin/**']",
    ]);
    let says = prop_oneof![
        2 => Just("deny: true".to_owned()),
        5 => (
            one_of(&["", "max: 0.05 USD,", "max: 0.01 USD,", "max: 2 USD,"]),
            one_of(&["", "budgets: [hourly],", "budgets: [hourly, daily],"]),
            one_of(&["", "rate: 30/m,", "rate: 60/m,", "rate: { host: 30/m },"]),
            one_of(&["", "approval: { above: 0.02 USD },", "approval: { above: 0.5 USD, first_host: true },"]),
            one_of(&["", "insecure_http: true,", "prepay: true,", "on_unknown: hold,", "pay_to: first-seen,"]),
            one_of(&["", "networks: ['eip155:84532']", "networks: ['eip155:8453']", "assets: [USDC]", "max_price_increase: 20%"]),
        ).prop_map(|(a, b, c, d, e, f)| format!("pay: {{ {a} {b} {c} {d} {e} {f} }}")),
    ];
    (hosts, rest, says)
        .prop_map(|(hosts, rest, says)| format!("match: {{ hosts: {hosts}{rest} }}, {says}"))
}

fn text(rules: &[(usize, String)], hourly: &str) -> String {
    let mut text = format!(
        "budgets:\n  - {{ name: hourly, scope: agent, limit: {hourly} USD, window: 1h }}\n  - {{ name: daily, scope: all, limit: 5 USD, window: day }}\nrules:\n"
    );
    let mut seen = vec![];
    for (name, rule) in rules {
        if !seen.contains(name) {
            seen.push(*name);
            text += &format!("  - {{ name: {}, {rule} }}\n", NAMES[*name]);
        }
    }
    text
}

fn rules() -> impl Strategy<Value = Vec<(usize, String)>> {
    prop::collection::vec((0..NAMES.len(), rule()), 1..5)
}

/// A policy, and one that came of it by a few strokes of the pen: most are near each other.
fn pair() -> impl Strategy<Value = (String, String)> {
    let strokes = prop::collection::vec((0..5usize, 0..5usize, rule()), 0..3);
    let limits = (one_of(&["2", "3"]), one_of(&["2", "2", "1", "3"]));
    (rules(), strokes, limits).prop_map(|(old, strokes, (was, is))| {
        let mut new = old.clone();
        for (kind, at, rule) in strokes {
            let at = at % (new.len() + 1);
            match (kind, at < new.len()) {
                (0, true) => drop(new.remove(at)),
                (1, true) => new[at].1 = rule,
                (2, true) => new.swap(at, 0),
                (3, _) => new.insert(
                    at,
                    (
                        3,
                        format!(
                            "{}, deny: true",
                            rule.split(" }, ").next().unwrap().to_owned() + " }"
                        ),
                    ),
                ),
                _ => new.push((at % NAMES.len(), rule)),
            }
        }
        (text(&old, was), text(&new, is))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_not_weaker_pays_nothing_that_was_refused(
        (old, new) in pair(),
        cases in prop::collection::vec(case(), 12),
    ) {
        let (was, is) = (compile(&old), compile(&new));
        let found = weaker(&was, &is);
        for case in &cases {
            let Some(pays) = asked(&is, case) else { continue };
            let paid = asked(&was, case);
            if !found.is_empty() {
                continue;
            }
            let Some(paid) = paid else {
                panic!("{case:?} is paid now\n{old}\n{new}");
            };
            // Every limit and every question of before holds still.
            for limit in &paid.limits {
                let same = pays.limits.iter().find(|l| l.account == limit.account);
                let same = same.unwrap_or_else(|| panic!("{limit:?}\n{old}\n{new}"));
                prop_assert!(same.amount <= limit.amount && same.first == limit.first, "{old}\n{new}");
                let most = |n: Option<u32>| n.unwrap_or(u32::MAX);
                prop_assert!(most(same.payments) <= most(limit.payments), "{old}\n{new}");
            }
            prop_assert!(paid.duties.consent.is_none() || pays.duties.consent.is_some(), "{old}\n{new}");
            prop_assert!(paid.duties.payee.is_none() || pays.duties.payee.is_some(), "{old}\n{new}");
        }
    }

    #[test]
    fn a_policy_is_no_weaker_than_itself_nor_with_a_denial_in_front(list in rules(), denied in rule()) {
        let same = text(&list, "2");
        let policy = compile(&same);
        let again = compile(&same);
        prop_assert_eq!(weaker(&policy, &again), Vec::<String>::new());
        prop_assert_eq!(difference(&policy, &again), Vec::<String>::new());
        let matches = denied.split(" }, ").next().unwrap();
        let front = same.replace("rules:\n", &format!("rules:\n  - {{ name: stop, {matches} }}, deny: true }}\n"));
        prop_assert_eq!(weaker(&policy, &compile(&front)), Vec::<String>::new());
        let paying = same + "  - { name: more, match: { hosts: [a.test] }, pay: { max: 0.001 USD } }\n";
        prop_assert_eq!(weaker(&policy, &compile(&paying)), vec!["rule `more`: it is new, and pays"]);
    }
}

const BEFORE: &str = "
budgets:
  - { name: hourly, scope: agent, limit: 2 USD, payments: 9, window: 1h }
rules:
  - { name: never, match: { hosts: ['*.casino.test'] }, deny: true }
  - name: shop
    match: { hosts: ['*.test'], methods: [GET], paths: ['/v1/**'], agents: ['research-*'] }
    pay: { max: 0.05 USD, schemes: [exact, l402], networks: ['eip155:84532'], assets: [USDC], pay_to: first-seen, max_price_increase: 20%, rate: 30/m, budgets: [hourly], approval: { above: 1 USD, first_host: true }, on_unknown: hold }
";

#[test]
fn each_way_to_weaken_is_found_and_named() {
    let before = compile(BEFORE);
    for (from, to, says) in [
        ("max: 0.05 USD", "max: 0.06 USD", "rule `shop`: pay.max"),
        ("max: 0.05 USD, ", "", "rule `shop`: pay.max"),
        ("limit: 2 USD", "limit: 2.01 USD", "budget `hourly`: limit"),
        ("payments: 9", "payments: 10", "budget `hourly`: payments"),
        ("window: 1h", "window: 2h", "budget `hourly`: window"),
        ("scope: agent", "scope: session", "budget `hourly`: scope"),
        (
            "['*.test']",
            "['*.test', other.example]",
            "rule `shop`: match",
        ),
        (
            "methods: [GET]",
            "methods: [GET, POST]",
            "rule `shop`: match",
        ),
        ("paths: ['/v1/**']", "paths: ['/**']", "rule `shop`: match"),
        (", agents: ['research-*']", "", "rule `shop`: match"),
        (
            "[exact, l402]",
            "[exact, l402, evm/charge]",
            "rule `shop`: pay.schemes",
        ),
        (
            "networks: ['eip155:84532'], ",
            "",
            "rule `shop`: pay.networks",
        ),
        ("assets: [USDC], ", "", "rule `shop`: pay.assets"),
        (
            "pay_to: first-seen",
            "pay_to: any",
            "rule `shop`: pay.pay_to",
        ),
        (
            "increase: 20%",
            "increase: 30%",
            "rule `shop`: pay.max_price_increase",
        ),
        ("rate: 30/m", "rate: 31/m", "rule `shop`: pay.rate"),
        ("rate: 30/m", "rate: 30/s", "rule `shop`: pay.rate"),
        (
            "above: 1 USD",
            "above: 2 USD",
            "rule `shop`: pay.approval.above",
        ),
        (", first_host: true", "", "rule `shop`: pay.approval"),
        (", on_unknown: hold", "", "rule `shop`: pay.on_unknown"),
        (
            "on_unknown: hold",
            "on_unknown: hold, mcp: true",
            "rule `shop`: pay.mcp",
        ),
        (
            "on_unknown: hold",
            "on_unknown: hold, prepay: true",
            "rule `shop`: pay.prepay",
        ),
        (
            "on_unknown: hold",
            "on_unknown: hold, insecure_http: true",
            "rule `shop`: pay.insecure_http",
        ),
        (
            "['*.casino.test']",
            "['poker.casino.test']",
            "`never` no longer decides",
        ),
        (
            "name: shop",
            "name: store",
            "rule `store`: it is new, and pays",
        ),
        (
            "deny: true",
            "pay: { max: 0.001 USD }",
            "rule `never`: it pays",
        ),
    ] {
        assert!(BEFORE.contains(from), "{from}");
        let after = compile(&BEFORE.replace(from, to));
        let found = weaker(&before, &after);
        assert!(
            found.iter().any(|line| line.contains(says)),
            "{to}: {found:?}"
        );
        assert!(!difference(&before, &after).is_empty(), "{to}");
    }
    let denial = "  - { name: never, match: { hosts: ['*.casino.test'] }, deny: true }\n";
    let gone = compile(&BEFORE.replace(denial, ""));
    assert!(weaker(&before, &gone)[0].contains("`never`"));
    let later = compile(&(BEFORE.replace(denial, "") + denial));
    assert!(weaker(&before, &later)[0].contains("`never`"));
    let observing = compile(&format!("mode: observe\n{BEFORE}"));
    assert_eq!(weaker(&observing, &before), ["mode: it would pay"]);
    assert!(weaker(&before, &observing).is_empty());
}

#[test]
fn what_is_stricter_is_taken_and_told_by_name_and_key() {
    let before = compile(BEFORE);
    for (from, to, says) in [
        (
            "max: 0.05 USD",
            "max: 0.04 USD",
            "rule `shop` changed: pay.max",
        ),
        (
            "limit: 2 USD",
            "limit: 1 USD",
            "budget `hourly` changed: limit",
        ),
        (
            "['*.test']",
            "[api.test]",
            "rule `shop` changed: match.hosts",
        ),
        (
            "above: 1 USD",
            "above: 0.5 USD",
            "rule `shop` changed: pay.approval.above",
        ),
        (
            "['*.casino.test']",
            "['*.test']",
            "rule `never` changed: match.hosts",
        ),
    ] {
        let after = compile(&BEFORE.replace(from, to));
        assert_eq!(weaker(&before, &after), Vec::<String>::new(), "{to}");
        assert_eq!(difference(&before, &after), [says], "{to}");
    }
}
