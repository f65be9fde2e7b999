//! Every format: sums to the billionth, and text that cannot act.

use super::*;
use crate::clock::Timestamp;
use crate::event::{Flag, State};
use crate::money::Amount;
use crate::payment::{PaymentId, SessionId};

const MADE: u64 = 1_769_903_999_999; // 2026-01-31T23:59:59.999Z

fn row(state: State, usd: Option<u64>, path: &str) -> Recorded {
    Recorded {
        event: SpendEvent {
            id: PaymentId::new(Timestamp(MADE), [7; 10]),
            time: Timestamp(MADE + 5_000),
            state,
            session: SessionId("ses_1".into()),
            agent: "=cmd|' /C calc'!A0".into(),
            method: "GET".into(),
            host: "api.example.com".into(),
            path: path.into(),
            network: "eip155:84532".into(),
            asset: "USDC".into(),
            amount: Some(Amount(10_000)),
            price: Some(Usd(10_000_001)),
            charged: usd.map(Usd),
            wallet: "main".into(),
            flags: vec![Flag::PaidNotDelivered, Flag::ReceiptMismatch],
            ..SpendEvent::default()
        },
        record_seq: 9,
        record_hash: "ab".repeat(32),
    }
}

/// Fields of one line as a reader of RFC 4180 sees them.
fn fields(line: &str) -> Vec<String> {
    let (mut all, mut field, mut quoted) = (vec![], String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    all.push(field);
    all
}

fn field(format: Format, row: &Recorded, name: &str) -> String {
    let head = fields(&format.head().unwrap());
    let at = head.iter().position(|n| n == name).expect(name);
    let line = fields(&format.line(row));
    assert_eq!(line.len(), head.len());
    line[at].clone()
}

#[test]
fn money_is_written_to_the_billionth() {
    let settled = row(State::Settled, Some(10_000_001), "/a");
    for name in ["BilledCost", "EffectiveCost", "ListCost", "ContractedCost"] {
        assert_eq!(field(Format::Focus, &settled, name), "0.010000001");
    }
    assert_eq!(field(Format::Csv, &settled, "charged"), "0.010000001");
    let released = row(State::Released, None, "/a");
    assert_eq!(field(Format::Focus, &released, "BilledCost"), "0.00");
    assert_eq!(field(Format::Focus, &released, "ConsumedQuantity"), "0");
    assert_eq!(field(Format::Csv, &released, "charged"), "");
}

#[test]
fn every_format_says_when_it_was_made() {
    let late = row(State::Settled, Some(1), "/a");
    let made = "2026-01-31T23:59:59.999Z";
    assert_eq!(field(Format::Csv, &late, "made"), made);
    let line: serde_json::Value = serde_json::from_str(&Format::Jsonl.line(&late)).unwrap();
    assert_eq!(line["made"], made);
    assert_ne!(
        line["time"], made,
        "that is when its newest state was reached"
    );
}

#[test]
fn a_charge_belongs_to_the_month_it_was_made_in() {
    let late = row(State::Settled, Some(1), "/a");
    for (name, want) in [
        ("BillingPeriodStart", "2026-01-01T00:00:00Z"),
        ("BillingPeriodEnd", "2026-02-01T00:00:00Z"),
        ("ChargePeriodStart", "2026-01-31T23:59:59Z"),
        ("ChargePeriodEnd", "2026-02-01T00:00:00Z"),
    ] {
        assert_eq!(field(Format::Focus, &late, name), want, "{name}");
    }
}

#[test]
fn no_text_acts() {
    let evil = "/a\"b,\r\n\u{1b}[31m\u{202e}x\u{200b}";
    let row = row(State::Settled, Some(1), evil);
    for format in [Format::Csv, Format::Focus, Format::Jsonl] {
        let line = format.line(&row);
        let bad = |c: char| c.is_control() || "\u{202e}\u{200b}".contains(c);
        assert!(!line.contains(bad), "{line:?}");
    }
    assert_eq!(
        field(Format::Csv, &row, "path"),
        "/a\"b,\\u{d}\\u{a}\\u{1b}[31m\\u{202e}x\\u{200b}"
    );
    let read: serde_json::Value = serde_json::from_str(&Format::Jsonl.line(&row)).unwrap();
    assert_eq!(read["path"], evil, "JSON brings it back whole");
    for (name, format) in [("agent", Format::Csv), ("SubAccountName", Format::Focus)] {
        assert_eq!(field(format, &row, name), "'=cmd|' /C calc'!A0");
    }
    for start in ["=1", "+1", "-1", "@x", "\t=1", " =1", "＝1"] {
        let row = Recorded {
            event: SpendEvent {
                agent: start.into(),
                ..SpendEvent::default()
            },
            ..row.clone()
        };
        let cell = field(Format::Csv, &row, "agent");
        assert!(cell.starts_with('\''), "{start:?}: {cell}");
    }
}

#[test]
fn csv_has_every_field_of_an_event() {
    let row = row(State::Settled, Some(1), "/a");
    let json = serde_json::to_value(&row).unwrap();
    let head = fields(&Format::Csv.head().unwrap());
    for name in json.as_object().unwrap().keys() {
        let there = head
            .iter()
            .any(|h| h == name || h.starts_with(&format!("{name}_")));
        assert!(there, "{name} is in no column");
    }
    assert_eq!(
        field(Format::Csv, &row, "flags"),
        "paid_not_delivered receipt_mismatch"
    );
}

#[test]
fn focus_has_its_columns_in_order_and_ours_marked() {
    let head = fields(&Format::Focus.head().unwrap());
    let (ours, theirs): (Vec<_>, Vec<_>) = head.iter().partition(|n| n.starts_with("x_"));
    assert!(theirs.is_sorted() && theirs.iter().all(|n| n.starts_with(char::is_uppercase)));
    assert!(ours.contains(&&"x_PaymentId".to_owned()));
    let tags: serde_json::Value = serde_json::from_str(&field(
        Format::Focus,
        &row(State::Settled, Some(1), "/"),
        "Tags",
    ))
    .unwrap();
    assert_eq!(tags["session"], "ses_1");
}
