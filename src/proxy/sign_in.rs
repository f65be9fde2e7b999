//! Requests that go with a login instead of a payment.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};

use super::body::Body;
use super::challenge::Asks;
use super::exchange::{Route, delivered};
use super::purchase::carry;
use super::refuse;
use super::replay::twin;
use super::serve::Conn;
use super::upgrade::Upgrade;
use crate::payment::Asked;

const PAYMENT: HeaderName = HeaderName::from_static("farepass-payment");

/// The answer to a login, if this wallet has paid here before and the merchant takes one. `None`: pay.
pub(super) async fn instead(
    conn: &Arc<Conn>,
    route: &Route,
    asked: &Asked,
    asks: &Asks,
    request: &Request<Body>,
) -> Option<Response<Body>> {
    if request.extensions().get::<Upgrade>().is_some() {
        return None;
    }
    let login = conn.proxy.payer.sign_in(asked, &asks.challenge).await?;
    // One of the agent's own is the agent's affair.
    if request.headers().contains_key(&login.header.name) {
        return None;
    }
    let mut request = twin(request)?;
    carry(
        &mut request,
        login.header.name.clone(),
        login.header.value.clone(),
    );
    let (upstream, key) = (&conn.proxy.upstream, route.key(&conn.proxy));
    let sent = upstream.send(&conn.lane, &key, &mut request, None);
    let answer = match sent.await {
        Ok(answer) => answer,
        // It may have been taken: the request is not sent a third time.
        Err(e) => return Some(refuse::gateway(&e)),
    };
    let status = answer.status();
    conn.proxy.payer.signed_in(asked, &login, status);
    if matches!(
        status,
        StatusCode::PAYMENT_REQUIRED | StatusCode::UNAUTHORIZED | StatusCode::SWITCHING_PROTOCOLS
    ) {
        return None;
    }
    let mut answer = delivered(conn, conn.stream(answer).map(Body::Stream));
    let text = format!(
        "{}; amount=\"0\"; charged=\"0.00 USD\"; signed_in",
        login.id
    );
    if let Ok(value) = HeaderValue::try_from(text) {
        answer.headers_mut().insert(PAYMENT, value);
    }
    Some(answer)
}
