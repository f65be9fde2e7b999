//! The page after scripted events.

use crate::money::Usd;

use super::*;

fn event(state: State, charged: u64, reason: Option<&str>) -> SpendEvent {
    SpendEvent {
        state,
        charged: Some(Usd(charged)),
        reason: reason.map(Into::into),
        rule: reason.map(|_| "shop".into()),
        host: "a.example".into(),
        scheme: "exact".into(),
        network: "eip155:8453".into(),
        agent: "bot".into(),
        wallet: "main".into(),
        ..SpendEvent::default()
    }
}

fn page(metrics: &Metrics) -> String {
    let mut page = Page::default();
    metrics.render(&mut page);
    page.text()
}

#[test]
fn the_page_counts_what_happened() {
    let metrics = Metrics::default();
    let hosts = ["a.example", "*.b.example:8443"].map(|p| p.parse().unwrap());
    metrics.name_hosts(hosts.into_iter());
    for event in [
        event(State::Reserved, 50_000_000, None),
        event(State::Settled, 50_000_000, None),
        event(State::Reserved, 1, None),
        event(State::Unknown, 1, None),
        event(State::Settled, 1, None),
        event(State::Denied, 9, Some("over_request_cap")),
        event(State::Denied, 9, Some("\"}\nforged 1")),
        SpendEvent {
            host: "x.b.example:8443".into(),
            agent: "\"}\nforged".into(),
            ..event(State::Settled, 1, None)
        },
        SpendEvent {
            host: "forged.example".into(),
            ..event(State::Settled, 1, None)
        },
    ] {
        metrics.observe(&event);
    }
    let page = page(&metrics);
    let rest = "scheme=\"exact\",network=\"eip155:8453\",agent=\"bot\",wallet=\"main\"}";
    for line in [
        format!("farepass_payments_total{{outcome=\"reserved\",host=\"a.example\",{rest} 2"),
        format!("farepass_payments_total{{outcome=\"unknown\",host=\"a.example\",{rest} 1"),
        format!("farepass_payments_total{{outcome=\"settled\",host=\"a.example\",{rest} 2"),
        format!("farepass_payments_total{{outcome=\"settled\",host=\"other\",{rest} 1"),
        format!(
            "farepass_amount_usd_total{{outcome=\"settled\",host=\"a.example\",{rest} 0.050000001"
        ),
        "farepass_refusals_total{reason=\"over_request_cap\",rule=\"shop\"} 1".into(),
        "farepass_refusals_total{reason=\"other\",rule=\"shop\"} 1".into(),
        "farepass_spent_usd_total 0.050000003".into(),
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\n{page}");
    }
    assert!(page.contains("host=\"*.b.example:8443\",scheme"), "{page}");
    assert!(page.contains("agent=\"\\\"}\\nforged\""), "{page}");
    assert!(!page.contains("forged.example"), "{page}");
    assert!(
        !page.lines().any(|line| line.starts_with("forged")),
        "{page}"
    );
}

#[test]
fn no_agent_makes_the_page_grow() {
    let metrics = Metrics::default();
    for n in 0..3000 {
        metrics.observe(&SpendEvent {
            agent: format!("agent-{n}"),
            network: format!("net:{}", n / 7),
            scheme: format!("scheme-{n}"),
            rule: Some(format!("rule-{n}")),
            ..event(State::Settled, 1, None)
        });
        metrics.observe(&SpendEvent {
            rule: Some(format!("rule-{n}")),
            ..event(State::Denied, 1, Some("frozen"))
        });
    }
    let page = page(&metrics);
    assert!(
        page.lines().count() < 2 * SERIES,
        "{}",
        page.lines().count()
    );
    let sum: u64 = (page.lines())
        .filter(|l| l.starts_with("farepass_payments_total"))
        .filter_map(|l| l.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum();
    assert_eq!(sum, 3000, "each counts once");
}

#[test]
fn what_took_long_is_beyond_every_bound() {
    let metrics = Metrics::default();
    for micros in [250, 251, 9_999, 70_000_000] {
        metrics.took(Step::Sign, Duration::from_micros(micros), None);
    }
    metrics.took(Step::Purchase, Duration::from_millis(30), None);
    let page = page(&metrics);
    for line in [
        "farepass_step_seconds_bucket{step=\"sign\",le=\"0.00025\"} 1",
        "farepass_step_seconds_bucket{step=\"sign\",le=\"0.0005\"} 2",
        "farepass_step_seconds_bucket{step=\"sign\",le=\"0.01\"} 3",
        "farepass_step_seconds_bucket{step=\"sign\",le=\"60\"} 3",
        "farepass_step_seconds_bucket{step=\"sign\",le=\"+Inf\"} 4",
        "farepass_step_seconds_sum{step=\"sign\"} 70.010500",
        "farepass_step_seconds_count{step=\"sign\"} 4",
        "farepass_purchase_seconds_bucket{le=\"0.05\"} 1",
        "farepass_purchase_seconds_sum 0.030000",
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\n{page}");
    }
}

#[test]
fn an_ipv6_host_has_its_label_with_a_port_too() {
    let metrics = Metrics::default();
    let hosts = ["[2001:db8::1]", "[2001:db8::1]:8443"].map(|p| p.parse().unwrap());
    metrics.name_hosts(hosts.into_iter());
    for host in ["2001:db8::1", "[2001:db8::1]:8443"] {
        metrics.observe(&SpendEvent {
            host: host.into(),
            ..event(State::Settled, 1, None)
        });
    }
    let page = page(&metrics);
    for host in ["[2001:db8::1]", "[2001:db8::1]:8443"] {
        let label = format!("outcome=\"settled\",host=\"{host}\"");
        assert!(page.contains(&label), "{host}: {page}");
    }
}
