//! What the agent gets of a demand: the answer that was paid for, or why there is none.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::payer::{Paid, Recorded, Settled};
use crate::payment::{Asked, Reason, Refusal};
use crate::proxy::body::{Body, Pieces};
use crate::proxy::evidence::Watched;
use crate::proxy::exchange::delivered;
use crate::proxy::failure::UpstreamError;
use crate::proxy::refuse::{self, quoted};
use crate::proxy::serve::Conn;
use crate::settings::RefusalBody;

const PAYMENT: HeaderName = HeaderName::from_static("farepass-payment");

/// What the agent gets once the answer is on the books.
pub(in crate::proxy) fn conclude(
    conn: &Conn,
    answer: Result<Response<Pieces>, UpstreamError>,
    settled: Settled,
    payload: &HeaderValue,
) -> Response<Body> {
    let Settled {
        paid,
        refusal,
        record,
    } = settled;
    let handed_over = conn.proxy.refusals.body == RefusalBody::Original;
    match (answer, refusal) {
        (Ok(response), None) => told(conn, watched(conn, response, record, payload), &paid),
        // What reaches the agent is looked at, whatever stands around it.
        (Ok(response), Some(refusal)) if handed_over => {
            refused(conn, &refusal, watched(conn, response, record, payload))
        }
        (Ok(response), Some(refusal)) => {
            refused(conn, &refusal, response.map(Box::new).map(Body::Pieces))
        }
        (Err(e), refusal) => {
            let status = e.status();
            let refusal =
                refusal.unwrap_or_else(|| Refusal::new(Reason::OutcomeUnknown, e.to_string()));
            refuse::refused(&shown(conn, &refusal), status)
        }
    }
}

/// As much of a refusal as the agent is to know.
pub(in crate::proxy) fn shown<'a>(conn: &Conn, refusal: &'a Refusal) -> Cow<'a, Refusal> {
    match conn.proxy.refusals.numbers {
        true => Cow::Borrowed(refusal),
        false => Cow::Owned(refusal.without_numbers()),
    }
}

/// The answer to a paid request, its body looked at on the way.
pub(in crate::proxy) fn watched(
    conn: &Conn,
    response: Response<Pieces>,
    record: Recorded,
    payload: &HeaderValue,
) -> Response<Body> {
    let (head, pieces) = response.into_parts();
    let payer = Arc::clone(&conn.proxy.payer);
    let body = Watched::new(pieces, &head.headers, payer, record, payload);
    Response::from_parts(head, Body::Evidence(Box::new(body)))
}

pub(super) fn unpaid(
    conn: &Conn,
    refusal: Option<Refusal>,
    original: Response<Body>,
) -> Response<Body> {
    let refusal = refusal
        .unwrap_or_else(|| Refusal::new(Reason::BodyNotReplayable, "the request was not kept"));
    refused(conn, &refusal, original)
}

/// A refusal in our words, or the merchant's own answer with our reason beside it.
pub(in crate::proxy) fn refused(
    conn: &Conn,
    refusal: &Refusal,
    original: Response<Body>,
) -> Response<Body> {
    let settings = &conn.proxy.refusals;
    let refusal = &*shown(conn, refusal);
    let observing = refusal.reason == Reason::ObserveMode;
    if settings.body == RefusalBody::Original || observing {
        let mut response = delivered(conn, original);
        refuse::explain(response.headers_mut(), refusal);
        return response;
    }
    let status = match original.status() {
        // A merchant's 402 becomes ours; what it answered after the payment keeps its meaning.
        StatusCode::PAYMENT_REQUIRED => settings.status,
        // Said to our credential, not to the agent's.
        StatusCode::UNAUTHORIZED if refusal.reason == Reason::AlreadyPaid => settings.status,
        other => other,
    };
    refuse::refused(refusal, status)
}

/// An answer that nobody here can read: the agent may, so it is handed over with the reason why nothing was paid.
pub(in crate::proxy) async fn unread(
    conn: &Conn,
    asked: &Asked,
    original: Response<Body>,
    why: Refusal,
) -> Response<Body> {
    let payer = &conn.proxy.payer;
    let mut response = delivered(conn, original);
    if payer.policy().payable(&asked.host, asked.port) {
        let refusal = payer.refuse(asked, why).await;
        refuse::explain(response.headers_mut(), &shown(conn, &refusal));
    }
    response
}

/// The merchant's answer byte for byte, plus what was paid for it (RFC 9651 item with parameters).
fn told(conn: &Conn, response: Response<Body>, paid: &Paid) -> Response<Body> {
    let mut response = delivered(conn, response);
    let transaction = paid
        .transaction
        .as_deref()
        .map_or_else(String::new, |t| format!("; transaction={}", quoted(t)));
    let remaining = match conn.proxy.refusals.numbers {
        true => format!("; remaining=\"{}\"", paid.remaining),
        false => String::new(),
    };
    let settled = paid
        .settled
        .map_or_else(String::new, |part| format!("; settled=\"{part}\""));
    let text = format!(
        "{}; amount=\"{}\"; asset={}; network=\"{}\"; charged=\"{}\"{remaining}{settled}{transaction}",
        paid.id,
        paid.amount,
        quoted(&paid.asset),
        paid.network,
        paid.charged,
    );
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().insert(PAYMENT, value);
    }
    response
}
