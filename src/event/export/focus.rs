//! FOCUS 1.2 (FinOps Open Cost and Usage Specification): each payment is a charge of its own, billed
//! at once, for one request. What FOCUS has no column for begins with `x_`.

use super::csv::{Cell, flags, join};
use super::{Recorded, dollars};
use crate::clock::{Timestamp, Window};
use crate::event::{SpendEvent, State};
use crate::money::Usd;

/// A column: its name, and what it holds.
type Column = (&'static str, fn(&SpendEvent) -> Cell);

/// In the order of the specification's own list: by name.
const COLUMNS: &[Column] = &[
    ("BilledCost", cost),
    ("BillingAccountId", |e| Cell::text(&e.wallet)),
    ("BillingAccountName", |e| Cell::text(&e.wallet)),
    ("BillingAccountType", |_| Cell::text("Wallet")),
    ("BillingCurrency", |_| Cell::text("USD")),
    ("BillingPeriodEnd", |e| {
        date(Window::Month.resets_at(made(e)).unwrap_or(made(e)))
    }),
    ("BillingPeriodStart", |e| date(month(made(e)))),
    ("ChargeCategory", |_| Cell::text("Usage")),
    ("ChargeClass", |_| Cell::Empty),
    ("ChargeDescription", |e| Cell::text(description(e))),
    ("ChargeFrequency", |_| Cell::text("Usage-Based")),
    ("ChargePeriodEnd", |e| date(made(e).after_secs(1))),
    ("ChargePeriodStart", |e| date(made(e))),
    ("ConsumedQuantity", |e| Cell::number(quantity(e))),
    ("ConsumedUnit", |_| Cell::text("Requests")),
    ("ContractedCost", cost),
    ("ContractedUnitPrice", unit_price),
    ("EffectiveCost", cost),
    ("InvoiceIssuerName", |e| Cell::text(&e.host)),
    ("ListCost", cost),
    ("ListUnitPrice", unit_price),
    ("PricingCategory", |_| Cell::text("Standard")),
    ("PricingCurrency", |_| Cell::text("USD")),
    ("PricingQuantity", |e| Cell::number(quantity(e))),
    ("PricingUnit", |_| Cell::text("Requests")),
    ("ProviderName", |e| Cell::text(&e.host)),
    ("PublisherName", |e| Cell::text(&e.host)),
    ("RegionId", |_| Cell::Empty),
    ("RegionName", |_| Cell::Empty),
    ("ResourceId", |e| Cell::text(resource(e))),
    ("ResourceName", |e| Cell::text(resource(e))),
    ("ResourceType", |_| Cell::text("URL")),
    ("ServiceCategory", |_| Cell::text("Other")),
    ("ServiceName", |e| Cell::text(&e.host)),
    ("ServiceSubcategory", |_| Cell::text("Other (Other)")),
    ("SkuId", |e| Cell::text(sku(e))),
    ("SkuPriceId", |e| Cell::text(sku(e))),
    ("SubAccountId", |e| Cell::text(&e.session)),
    ("SubAccountName", |e| Cell::text(&e.agent)),
    ("SubAccountType", |_| Cell::text("Session")),
    ("Tags", |e| Cell::text(tags(e))),
    ("x_Amount", |e| Cell::maybe_number(e.amount)),
    ("x_Asset", |e| Cell::text(&e.asset)),
    ("x_Block", |e| Cell::maybe_number(e.block)),
    ("x_Confirmed", |e| Cell::number(e.confirmed)),
    ("x_Flags", |e| Cell::text(flags(e))),
    ("x_Network", |e| Cell::text(&e.network)),
    ("x_Nonce", |e| Cell::maybe(e.nonce.as_ref())),
    ("x_PayTo", |e| Cell::text(&e.pay_to)),
    ("x_PaymentId", |e| Cell::text(e.id)),
    ("x_Policy", |e| Cell::text(&e.policy)),
    ("x_Price", |e| Cell::maybe_number(e.price.map(dollars))),
    ("x_Protocol", |e| Cell::text(&e.protocol)),
    ("x_Reason", |e| Cell::maybe(e.reason.as_ref())),
    ("x_Scheme", |e| Cell::text(&e.scheme)),
    ("x_State", |e| Cell::text(e.state.name())),
    ("x_StateTime", |e| Cell::text(e.time)),
    ("x_Transaction", |e| Cell::maybe(e.transaction.as_ref())),
];

/// What counts is what it cost: nothing, for what was released or refused.
fn cost(event: &SpendEvent) -> Cell {
    Cell::number(dollars(counts(event)))
}

fn counts(event: &SpendEvent) -> Usd {
    event.charged.unwrap_or_default()
}

fn quantity(event: &SpendEvent) -> u8 {
    match event.state {
        State::Reserved | State::Unknown | State::Settled => 1,
        State::Released | State::Denied => 0,
    }
}

/// One request is one unit.
fn unit_price(event: &SpendEvent) -> Cell {
    Cell::number(dollars(event.price.unwrap_or_default()))
}

/// A payment belongs to the moment it was made at, whatever became of it when.
fn made(event: &SpendEvent) -> Timestamp {
    event.id.made()
}

fn month(at: Timestamp) -> Timestamp {
    Window::Month.starts_at(at)
}

/// Whole seconds, as the specification wants them.
fn date(at: Timestamp) -> Cell {
    let text = at.to_string();
    Cell::text(format!("{}Z", text.split('.').next().unwrap_or_default()))
}

fn resource(event: &SpendEvent) -> String {
    format!("{}{}", event.host, event.path)
}

fn sku(event: &SpendEvent) -> String {
    format!("{} {}{}", event.method, event.host, event.path)
}

fn description(event: &SpendEvent) -> String {
    format!("{} {}", event.state.name(), sku(event))
}

fn tags(event: &SpendEvent) -> String {
    let tags = serde_json::json!({
        "agent": event.agent, "session": event.session, "rule": event.rule, "state": event.state,
    });
    crate::event::log::ascii(tags.to_string())
}

pub(super) fn head() -> String {
    let names = COLUMNS.iter().map(|(name, _)| *name);
    let names: Vec<&str> = names.chain(["x_RecordSeq", "x_RecordHash"]).collect();
    names.join(",")
}

pub(super) fn line(row: &Recorded) -> String {
    let cells = COLUMNS.iter().map(|(_, cell)| cell(&row.event));
    join(cells.chain([Cell::number(row.record_seq), Cell::text(&row.record_hash)]))
}
