//! What a program spent, per host, for its person.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::event::{SpendEvent, State};
use crate::money::Usd;

/// What happened at one host.
#[derive(Debug, Default)]
struct Host {
    paid: u32,
    amount: Usd,
    unknown: u32,
    held: u32,
    refused: BTreeMap<String, u32>,
}

/// The summary. `budget` is what could have been spent; `events` the newest of each payment and
/// refusal.
pub(super) fn summary(events: &[SpendEvent], budget: Usd) -> String {
    let mut hosts: BTreeMap<&str, Host> = BTreeMap::new();
    let (mut total, mut unknown) = (Usd::default(), 0);
    for event in events {
        let host = hosts.entry(&event.host).or_default();
        match event.state {
            State::Denied => {
                let reason = event.reason.clone().unwrap_or_default();
                *host.refused.entry(reason).or_default() += 1;
            }
            State::Released => {}
            State::Reserved | State::Unknown | State::Settled => {
                let charged = event.charged.or(event.price).unwrap_or_default();
                host.paid += 1;
                host.amount = host.amount.plus(charged).unwrap_or(Usd(u64::MAX));
                total = total.plus(charged).unwrap_or(Usd(u64::MAX));
                if event.held_above().is_some() {
                    host.held += 1;
                } else if event.state != State::Settled {
                    host.unknown += 1;
                    unknown += 1;
                }
            }
        }
    }
    text(&hosts, total, unknown, budget)
}

fn text(hosts: &BTreeMap<&str, Host>, total: Usd, unknown: u32, budget: Usd) -> String {
    let mut text = format!("farepass: spent {total} of {budget}\n");
    let width = hosts.keys().map(|h| h.len()).max().unwrap_or(0);
    for (name, host) in hosts {
        let mut facts = vec![];
        if host.paid > 0 {
            facts.push(format!("{}, {}", payments(host.paid), host.amount));
        }
        if host.unknown > 0 {
            facts.push(format!("{} of them with UNKNOWN outcome", host.unknown));
        }
        if host.held > 0 {
            let held = host.held;
            facts.push(format!(
                "{held} of them held at the maximum until it cannot be taken"
            ));
        }
        for (reason, times) in &host.refused {
            facts.push(format!("refused {times}× {reason}"));
        }
        if !facts.is_empty() {
            let _ = writeln!(text, "  {name:width$}  {}", facts.join("; "));
        }
    }
    if unknown > 0 {
        let _ = writeln!(
            text,
            "  UNKNOWN: no receipt came, but the money may have moved, so it counts (farepass ledger list --state unknown)"
        );
    }
    text
}

fn payments(number: u32) -> String {
    match number {
        1 => "1 payment".into(),
        n => format!("{n} payments"),
    }
}

#[cfg(test)]
mod tests {
    use crate::event::HELD_ABOVE_CLAIM;
    use crate::money::Amount;

    use super::*;

    #[test]
    fn what_is_held_above_a_claim_is_told_from_what_nobody_knows() {
        let held = SpendEvent {
            state: State::Unknown,
            host: "api.example.com".into(),
            charged: Some(Usd(20_000_000)),
            amount_settled: Some(Amount(7)),
            reason: Some(HELD_ABOVE_CLAIM.into()),
            ..SpendEvent::default()
        };
        let text = summary(std::slice::from_ref(&held), Usd(1_000_000_000));
        assert!(
            text.contains("1 payment, 0.02 USD; 1 of them held"),
            "{text}"
        );
        assert!(!text.contains("UNKNOWN"), "{text}");
        let silent = SpendEvent {
            amount_settled: None,
            ..held
        };
        let text = summary(&[silent], Usd(1_000_000_000));
        assert!(text.contains("UNKNOWN") && !text.contains("held"), "{text}");
    }
}
