//! The merchant as a guest without a proxy sees it.

use super::*;
use crate::demo::agent::Agent;
use crate::demo::facilitator::tests::{header, payment, sign, transfer};

const HOST: &str = "weather.example";

/// Open for business, and its folder.
async fn open() -> (Merchant, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let merchant = Merchant::start(dir.path(), &[HOST]).await;
    (merchant.unwrap(), dir)
}

/// Straight to the merchant, with payment headers if there are any.
async fn visit(
    merchant: &Merchant,
    method: &str,
    path: &str,
    paid: Option<(&str, &[u8])>,
) -> Response<Bytes> {
    let agent = Agent::new(merchant.address(), merchant.ca_pem()).unwrap();
    let socket = TcpStream::connect(merchant.address()).await.unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if let Some((name, value)) = paid {
        request = request.header(name, value);
    }
    let request = request.body(Full::from("some words")).unwrap();
    agent.exchange(socket, HOST, request).await.unwrap()
}

fn decoded(response: &Response<Bytes>, name: &str) -> Value {
    let bytes = STANDARD.decode(&response.headers()[name]).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn offered(terms: &Value, version: Version, amount: u128, pay_to: Address) -> Offer {
    Offer {
        version,
        amount,
        pay_to,
        entry: terms["accepts"][0].clone(),
    }
}

#[tokio::test]
async fn free_pages_are_free_and_strange_ones_missing() {
    let (merchant, _dir) = open().await;
    let status = |path| visit(&merchant, "GET", path, None);
    assert_eq!(status("/").await.status(), StatusCode::OK);
    assert_eq!(status("/no").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(merchant.takings(), (0, 0));
    merchant.close().await;
}

#[tokio::test]
async fn version_2_asks_in_a_header_and_takes_a_payment_once() {
    let (merchant, _dir) = open().await;
    let asked = visit(&merchant, "GET", "/forecast", None).await;
    assert_eq!(asked.status(), StatusCode::PAYMENT_REQUIRED);
    let terms = decoded(&asked, "payment-required");
    assert_eq!(terms["resource"]["url"], "https://weather.example/forecast");

    let offer = offered(&terms, Version::V2, 10_000, merchant.pay_to());
    let t = transfer(merchant.pay_to(), clock::wall());
    let header = header(&payment(&offer, &t, sign(&t)));
    let paid = Some(("payment-signature", &header[..]));
    let bought = visit(&merchant, "GET", "/forecast", paid).await;
    assert_eq!(bought.status(), StatusCode::OK);
    let receipt = decoded(&bought, "payment-response");
    assert_eq!(receipt["success"], true);
    assert_eq!(receipt["payer"], t.from.to_string());

    let again = visit(&merchant, "GET", "/forecast", paid).await;
    assert_eq!(again.status(), StatusCode::PAYMENT_REQUIRED);
    let error = &decoded(&again, "payment-required")["error"];
    assert_eq!(error, "invalid_exact_evm_nonce_already_used");
    assert_eq!(merchant.takings(), (1, 10_000));

    let dearer = visit(&merchant, "GET", "/luxury", paid).await;
    assert_eq!(dearer.status(), StatusCode::PAYMENT_REQUIRED);
    assert_eq!(merchant.takings(), (1, 10_000));
}

#[tokio::test]
async fn version_1_asks_in_the_body() {
    let (merchant, _dir) = open().await;
    let asked = visit(&merchant, "POST", "/report", None).await;
    assert_eq!(asked.status(), StatusCode::PAYMENT_REQUIRED);
    assert!(asked.headers().get("payment-required").is_none());
    let terms: Value = serde_json::from_slice(asked.body()).unwrap();
    assert_eq!(terms["x402Version"], 1);

    let offer = offered(&terms, Version::V1, 20_000, merchant.pay_to());
    let mut t = transfer(merchant.pay_to(), clock::wall());
    t.value = 20_000;
    let header = header(&payment(&offer, &t, sign(&t)));
    let bought = visit(&merchant, "POST", "/report", Some(("x-payment", &header))).await;
    assert_eq!(bought.status(), StatusCode::OK);
    assert_eq!(bought.body(), "{\"read\":2,\"verdict\":\"plausible\"}\n");
    assert_eq!(
        decoded(&bought, "x-payment-response")["network"],
        "base-sepolia"
    );
    assert_eq!(merchant.takings(), (1, 20_000));
}
