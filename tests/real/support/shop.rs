//! A shop in a few lines: what a scripted merchant says when it asks for money and when it got some.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::USDC;
use super::merchant::{After, Merchant, Seen};
use super::proxy::Setup;

/// The host of every shop.
pub(crate) const HOST: &str = "shop.stand.test";

/// Whom the shop asks to pay.
const PAYEE: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";

/// What a challenge of 10000 atomic units says.
pub(crate) fn challenge() -> Value {
    json!({
        "x402Version": 2, "error": "payment required",
        "resource": { "url": format!("https://{HOST}/"), "description": "", "mimeType": "text/plain" },
        "accepts": [{
            "scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": USDC, "payTo": PAYEE,
            "maxTimeoutSeconds": 60, "extra": { "name": "USDC", "version": "2" },
        }],
    })
}

/// `PAYMENT-REQUIRED` with this challenge, and no body.
pub(crate) fn ask(challenge: &Value, out: &mut dyn Write) -> io::Result<After> {
    let terms = STANDARD.encode(challenge.to_string());
    write!(
        out,
        "HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: {terms}\r\nContent-Length: 0\r\n\r\n"
    )?;
    Ok(After::Keep)
}

/// A receipt that claims everything.
pub(crate) fn receipt() -> String {
    let claims = json!({
        "success": true, "transaction": format!("0x{}", "5a".repeat(32)), "network": "eip155:84532",
    });
    STANDARD.encode(claims.to_string())
}

/// Goods with a receipt.
pub(crate) fn sell(goods: &str, out: &mut dyn Write) -> io::Result<After> {
    let (length, receipt) = (goods.len(), receipt());
    write!(
        out,
        "HTTP/1.1 200 OK\r\nPAYMENT-RESPONSE: {receipt}\r\nContent-Length: {length}\r\n\r\n{goods}"
    )?;
    Ok(After::Keep)
}

/// A shop that asks for money, and what it does with paid requests; and a policy that pays it.
pub(crate) fn open(
    paid: impl Fn(&Seen, &mut dyn Write) -> io::Result<After> + Send + Sync + 'static,
) -> (Merchant, Setup) {
    let merchant = Merchant::start(move |seen, out| match seen.payment() {
        None => ask(&challenge(), out),
        Some(_) => paid(seen, out),
    });
    let setup = setup(&merchant);
    (merchant, setup)
}

/// A policy that pays this merchant.
pub(crate) fn setup(merchant: &Merchant) -> Setup {
    let mut setup = Setup::new();
    setup
        .root(&merchant.root)
        .resolve(&format!("{HOST}:443"), merchant.tls.port().into())
        .resolve(&format!("{HOST}:80"), merchant.plain.port().into());
    setup
}

/// The payment headers that a merchant saw, in their order.
pub(crate) fn payments(merchant: &Merchant) -> Vec<String> {
    let seen = merchant.seen();
    let paid = seen.iter().filter_map(Seen::payment);
    paid.map(str::to_owned).collect()
}
