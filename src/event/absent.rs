//! A text that a refusal may not have, as it came to no offer or no wallet: `null`, like every other field that
//! is absent. Ledgers of old have it empty, and it reads back as that.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    Some(text)
        .filter(|text| !text.is_empty())
        .serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use crate::event::SpendEvent;

    #[test]
    fn what_a_refusal_does_not_have_is_null_and_reads_back_empty() {
        let event = SpendEvent {
            network: "eip155:84532".into(),
            ..SpendEvent::default()
        };
        let shown = serde_json::to_value(&event).unwrap();
        assert_eq!(shown["network"], "eip155:84532");
        for name in ["protocol", "scheme", "asset", "pay_to", "wallet"] {
            assert!(shown[name].is_null(), "{name}");
        }
        assert_eq!(serde_json::from_value::<SpendEvent>(shown).unwrap(), event);
        let old = r#"{ "wallet": "", "network": "eip155:84532" }"#;
        assert_eq!(serde_json::from_str::<SpendEvent>(old).unwrap(), event);
    }
}
