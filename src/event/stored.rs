//! An event as a ledger keeps it: what it does not say takes no room. A field that is missing reads back as
//! the empty value that it had.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::SpendEvent;

/// See the module.
pub(crate) struct Stored<'a>(pub(crate) &'a SpendEvent);

/// Each field of the event, and whether it says something. One that is forgotten here does not compile.
macro_rules! write {
    ($event:expr, $map:ident; $($field:ident: $says:expr,)*) => {
        let SpendEvent { $($field),* } = $event;
        $(if $says($field) {
            $map.serialize_entry(stringify!($field), $field)?;
        })*
    };
}

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |text: &String| !text.is_empty();
        let mut map = serializer.serialize_map(None)?;
        write! { self.0, map;
            id: |_: &_| true,
            time: |_: &_| true,
            state: |_: &_| true,
            session: |session: &crate::payment::SessionId| !session.0.is_empty(),
            agent: text,
            method: text,
            host: text,
            path: text,
            protocol: text,
            scheme: text,
            network: text,
            asset: text,
            pay_to: text,
            amount: Option::is_some,
            amount_settled: Option::is_some,
            price: Option::is_some,
            charged: Option::is_some,
            nonce: Option::is_some,
            valid_before: Option::is_some,
            wallet: text,
            rule: Option::is_some,
            policy: text,
            reason: Option::is_some,
            receipt: Option::is_some,
            transaction: Option::is_some,
            delivery: Option::is_some,
            request: Option::is_some,
            owed: bool::clone,
            flags: |flags: &Vec<_>| !flags.is_empty(),
            confirmed: bool::clone,
            block: Option::is_some,
            agreed: Option::is_some,
            latency_ms: Option::is_some,
            trace_id: Option::is_some,
            span_id: Option::is_some,
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::clock::Timestamp;
    use crate::event::{Agreed, Delivery, Flag, Permitted, State, TempoSigned, Transacted};
    use crate::money::{Amount, Usd};
    use crate::payment::PaymentId;

    fn back(event: &SpendEvent) -> SpendEvent {
        let text = serde_json::to_string(&Stored(event)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn agreed() -> Agreed {
        let word = || Some(String::new());
        Agreed {
            resource: word(),
            expires: Some(Timestamp(9)),
            solana: Some(Transacted::default()),
            permit: Some(Permitted {
                facilitator: word(),
                ..Permitted::default()
            }),
            transaction: Some(TempoSigned {
                fee_token: word(),
                ..TempoSigned::default()
            }),
            ..Agreed::default()
        }
    }

    /// The document of the API forbids what it does not name.
    #[test]
    fn the_api_names_every_field() {
        use serde_json::{Value, to_value};
        let text = include_str!("../admin/openapi/payments.json");
        let document: Value = serde_json::from_str(text).unwrap();
        let named = |schema: &str| {
            let named = document[schema]["properties"].as_object().unwrap();
            named.keys().cloned().collect::<BTreeSet<_>>()
        };
        let keys = |value: Value| {
            let keys = value.as_object().unwrap();
            keys.keys().cloned().collect::<BTreeSet<_>>()
        };
        let event = keys(to_value(full()).unwrap());
        assert_eq!(named("SpendEvent"), event);
        let place = ["record_seq", "record_hash"].map(str::to_owned);
        assert_eq!(named("Record"), event.into_iter().chain(place).collect());
        let agreed = to_value(agreed()).unwrap();
        for (schema, value) in [
            ("Transacted", &agreed["solana"]),
            ("TempoSigned", &agreed["transaction"]),
            ("Agreed", &agreed),
            ("Delivery", &to_value(full().delivery).unwrap()),
        ] {
            let unnamed: Vec<_> = keys(value.clone())
                .difference(&named(schema))
                .cloned()
                .collect();
            assert!(unnamed.is_empty(), "{schema}: {unnamed:?}");
        }
    }

    /// Every field says something.
    fn full() -> SpendEvent {
        let word = || "word".to_owned();
        SpendEvent {
            id: PaymentId(7),
            time: Timestamp(8),
            state: State::Settled,
            session: crate::payment::SessionId("s".into()),
            agent: word(),
            method: word(),
            host: word(),
            path: word(),
            protocol: word(),
            scheme: word(),
            network: word(),
            asset: word(),
            pay_to: word(),
            amount: Some(Amount(1)),
            amount_settled: Some(Amount(0)),
            price: Some(Usd(2)),
            charged: Some(Usd(0)),
            nonce: Some(word()),
            valid_before: Some(0),
            wallet: word(),
            rule: Some(String::new()),
            policy: word(),
            reason: Some(word()),
            receipt: Some(word()),
            transaction: Some(word()),
            delivery: Some(Delivery::default()),
            request: Some(word()),
            owed: true,
            flags: vec![Flag::PriceChanged],
            confirmed: true,
            block: Some(0),
            agreed: Some(Box::new(agreed())),
            latency_ms: Some(0),
            trace_id: Some(word()),
            span_id: Some(word()),
        }
    }

    #[test]
    fn what_is_kept_reads_back_whole() {
        for event in [full(), SpendEvent::default()] {
            assert_eq!(back(&event), event);
        }
        let all = serde_json::to_value(full()).unwrap();
        let kept = serde_json::to_value(Stored(&full())).unwrap();
        assert_eq!(kept, all, "a full event is kept as it is shown");
        let nothing = serde_json::to_string(&Stored(&SpendEvent::default())).unwrap();
        assert!(nothing.len() < 120, "{nothing}");
    }
}
