//! Pages of catalogues as they are written, and as they should not be.

use super::*;

const PAGE_JSON: &str = r#"{"x402Version": 2, "items": [
  {"resource": "https://api.example.com/v1/x", "type": "http", "x402Version": 2, "lastUpdated": "2026-11-01T00:00:00Z",
   "description": "Weather", "serviceName": "Skies", "tags": ["rain"],
   "accepts": [{"scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
     "payTo": "0x90F79bf6EB2c4f870365E785982E1f101E93b906", "maxTimeoutSeconds": 60}],
   "extensions": {"bazaar": {"info": {"input": {"type": "http", "method": "POST"}}}}},
  {"resource": "https://old.example/", "type": "http", "x402Version": 1,
   "accepts": [{"scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "20000", "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
     "payTo": "0x90F79bf6EB2c4f870365E785982E1f101E93b906", "maxTimeoutSeconds": 60, "resource": "https://old.example/"}]},
  {"type": "http"}, 7, null, {"resource": 7},
  {"resource": "https://broken.example/", "accepts": "none"}],
  "pagination": {"limit": 100, "offset": 0, "total": 3}}"#;

#[test]
fn entries_are_read_as_402s_are() {
    let all = read(PAGE_JSON.as_bytes()).unwrap();
    let told = |l: &Listing| {
        let amounts: Vec<_> = l.offers.requirements.iter().map(|r| r.amount.0).collect();
        (
            l.resource.clone(),
            l.method.clone(),
            amounts,
            l.offers.problems.len(),
        )
    };
    let all: Vec<_> = all.iter().map(told).collect();
    assert_eq!(
        all,
        [
            (
                "https://api.example.com/v1/x".into(),
                Some("POST".into()),
                vec![10_000],
                0
            ),
            ("https://old.example/".into(), None, vec![20_000], 0),
            ("https://broken.example/".into(), None, vec![], 1),
        ]
    );
    let host = br#"{"version": 1, "resources": ["https://a.example/x", "https://a.example/y"], "ownershipProofs": []}"#;
    let all = read(host).unwrap();
    assert_eq!(
        all.iter().map(|l| &*l.resource).collect::<Vec<_>>(),
        ["https://a.example/x", "https://a.example/y"]
    );
    for wrong in ["", "[]", "{}", "{\"items\": 7}", "\u{0}"] {
        assert!(read(wrong.as_bytes()).is_none(), "{wrong}");
    }
}

#[test]
fn words_are_looked_for_in_what_is_said() {
    let all = read(PAGE_JSON.as_bytes()).unwrap();
    let has =
        |words: &[&str]| all[0].has(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    assert!(has(&["weather"]) && has(&["rain", "skies"]) && has(&["api.example"]));
    assert!(!has(&["weather", "snow"]));
    assert_eq!(escaped("a b&c=ü"), "a%20b%26c%3D%C3%BC");
    let long = format!(
        "{{\"items\": [{{\"resource\": \"{}\"}}]}}",
        "x".repeat(1000)
    );
    assert_eq!(read(long.as_bytes()).unwrap()[0].resource.len(), TEXT_MAX);
}
