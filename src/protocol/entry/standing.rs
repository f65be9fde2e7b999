//! Terms that are good for more than the request that they were made for.

use std::collections::HashMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{Entry, object};

/// Members of `extra` that say the same of every request.
const STANDING: [&str; 10] = [
    "assetTransferMethod",
    "facilitatorAddress",
    "paymentFlow",
    "name",
    "version",
    "feePayer",
    "decimals",
    "symbol",
    "tokenName",
    "tokenSymbol",
];

/// May this entry be accepted for the next request too? A member that nobody knows may be the number of an order, and
/// a memo often is.
pub(in crate::protocol) fn stands(raw: &str) -> bool {
    let known = |extra: &RawValue| {
        let members: Result<HashMap<String, IgnoredAny>, _> = object(extra.get());
        members.is_ok_and(|m| m.keys().all(|name| STANDING.contains(&name.as_str())))
    };
    let entry: Result<Entry<'_>, _> = object(raw);
    entry.is_ok_and(|entry| entry.extra.is_none_or(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_for_one_request() {
        for (extra, good) in [
            ("", true),
            (r#","extra":null"#, true),
            (r#","extra":{}"#, true),
            (r#","extra":{"name":"USDC","version":"2"}"#, true),
            (r#","extra":{"name":"USDC","memo":"order 7"}"#, false),
            (r#","extra":{"order\u0049d":"7"}"#, false),
            (r#","extra":[]"#, false),
        ] {
            let entry = format!(r#"{{"scheme":"exact"{extra}}}"#);
            assert_eq!(stands(&entry), good, "{entry}");
        }
        assert!(!stands(""));
    }
}
