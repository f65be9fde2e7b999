//! The paid half of an exchange. It runs in a task of its own: an agent that hangs up cannot stop a
//! payment half-way.

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::body::Body;
use super::challenge::Asks;
use super::evidence::Watched;
use super::exchange::{Route, delivered};
use super::failure::UpstreamError;
use super::refuse::{self, quoted};
use super::replay::Replay;
use super::serve::Conn;
use super::tee::NotReplayable;
use crate::failpoint;
use crate::payer::{Paid, Recorded, Settled, Waiting};
use crate::payment::{Asked, Reason, Refusal};
use crate::settings::RefusalBody;

const PAYMENT: HeaderName = HeaderName::from_static("farepass-payment");

/// Answers a demand: with the paid answer, or with a refusal.
pub(super) async fn purchase(
    conn: &Arc<Conn>,
    route: Route,
    replay: Replay,
    asks: Asks,
) -> Response<Body> {
    let mut asked = route.asked(&replay.method, &replay.uri);
    if !route.trust(&conn.proxy).verified() {
        let refusal = conn.proxy.payer.refuse(&asked, unverified()).await;
        return refused(conn, &refusal, asks.original);
    }
    let Ok(permit) = Arc::clone(&conn.proxy.purchases).acquire_owned().await else {
        return refuse::stopped();
    };
    let turns = conn.proxy.turns(&asked.session.id.0);
    let conn = Arc::clone(conn);
    let agent = Agent::default();
    let waiting = Arc::clone(&agent.waiting);
    let task = tokio::spawn(async move {
        let _in_flight = permit;
        let _turn = turns.acquire().await;
        pay(&conn, &route, &mut asked, replay, asks, waiting).await
    });
    // A panic in the task is a bug of ours; the ledger already counts what it signed.
    let answer = task.await.unwrap_or_else(|_| refuse::stopped());
    agent.answered();
    answer
}

/// The agent, as long as it waits. Dropping it means that it hung up.
#[derive(Default)]
struct Agent {
    waiting: Arc<Waiting>,
    answered: bool,
}

impl Agent {
    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.answered {
            self.waiting.leave();
        }
    }
}

async fn pay(
    conn: &Conn,
    route: &Route,
    asked: &mut Asked,
    replay: Replay,
    asks: Asks,
    waiting: Arc<Waiting>,
) -> Response<Body> {
    let payer = &conn.proxy.payer;
    let payable = payer.policy().payable(&asked.host, asked.port);
    let host = route.target.to_string();
    let again = match replay.again(&asked.session.id.0, &host).await {
        Ok((request, key)) => {
            asked.request = Some(key);
            payer.begin(key, &waiting);
            Some(request)
        }
        // The policy's own refusal comes first where no rule could pay.
        Err(NotReplayable::NotKept) if !payable => None,
        Err(why) => {
            let refusal = payer.refuse(asked, not_replayable(why)).await;
            return refused(conn, &refusal, asks.original);
        }
    };
    let signed = match (payer.authorize(asked, &asks.challenge).await, again) {
        (Ok(signed), Some(request)) => (signed.awaited(waiting), request),
        (Ok(signed), None) => {
            // The policy changed in between: the payload is never sent, and counts until it dies.
            let settled = payer.settle(signed, None).await;
            return unpaid(conn, settled.refusal, asks.original);
        }
        (Err(refusal), _) => return refused(conn, &refusal, asks.original),
    };
    let (signed, mut request) = signed;
    carry(
        &mut request,
        signed.payload.name.clone(),
        signed.payload.value.clone(),
    );
    failpoint::reach("before-send");
    let answer = conn
        .proxy
        .upstream
        .send(&conn.lane, route.key(&conn.proxy), request)
        .await;
    failpoint::reach("after-send");
    let payload = signed.payload.value.clone();
    // Every path past `authorize` comes through here: the payload may be charged whatever came back.
    let head = answer.as_ref().ok().map(|r| (r.status(), r.headers()));
    let settled = payer.settle(signed, head).await;
    conclude(conn, answer, settled, &payload)
}

/// What the agent gets once the answer is on the books.
fn conclude(
    conn: &Conn,
    answer: Result<Response<Incoming>, UpstreamError>,
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
            refused(conn, &refusal, conn.stream(response).map(Body::Stream))
        }
        (Err(e), refusal) => {
            let status = e.status();
            let refusal =
                refusal.unwrap_or_else(|| Refusal::new(Reason::OutcomeUnknown, e.to_string()));
            refuse::refused(&refusal, status)
        }
    }
}

/// The answer to a paid request, its body looked at on the way.
fn watched(
    conn: &Conn,
    response: Response<Incoming>,
    record: Recorded,
    payload: &HeaderValue,
) -> Response<Body> {
    let (head, stream) = conn.stream(response).into_parts();
    let payer = Arc::clone(&conn.proxy.payer);
    let body = Watched::new(stream, &head.headers, payer, record, payload);
    Response::from_parts(head, Body::Evidence(Box::new(body)))
}

/// The payment header, once; and no cache may keep what was paid for (threat X-04).
fn carry(request: &mut Request<Body>, name: HeaderName, value: HeaderValue) {
    request.headers_mut().insert(name, value);
    if !request.headers().contains_key(header::CACHE_CONTROL) {
        let no_store = HeaderValue::from_static("no-store");
        request
            .headers_mut()
            .insert(header::CACHE_CONTROL, no_store);
    }
}

/// No rule can allow it: whoever answers there may be anybody (threat T-02).
fn unverified() -> Refusal {
    Refusal::new(
        Reason::InsecureTransport,
        "the certificate of this host is not verified (tls.insecure_hosts), so nothing is paid there",
    )
}

fn not_replayable(why: NotReplayable) -> Refusal {
    let detail = match why {
        NotReplayable::TooLong => "the request body is longer than limits.replay_body",
        NotReplayable::Broken => "the request body did not arrive whole",
        NotReplayable::NotKept => "the request body was not kept",
    };
    Refusal::new(Reason::BodyNotReplayable, detail)
}

fn unpaid(conn: &Conn, refusal: Option<Refusal>, original: Response<Body>) -> Response<Body> {
    let refusal = refusal
        .unwrap_or_else(|| Refusal::new(Reason::BodyNotReplayable, "the request was not kept"));
    refused(conn, &refusal, original)
}

/// A refusal in our words, or the merchant's own answer with our reason beside it.
fn refused(conn: &Conn, refusal: &Refusal, original: Response<Body>) -> Response<Body> {
    let settings = &conn.proxy.refusals;
    let observing = refusal.reason == Reason::ObserveMode;
    if settings.body == RefusalBody::Original || observing {
        let mut response = delivered(conn, original);
        refuse::explain(response.headers_mut(), refusal);
        return response;
    }
    let status = match original.status() {
        // A merchant's 402 becomes ours; what it answered after the payment keeps its meaning.
        StatusCode::PAYMENT_REQUIRED => settings.status,
        other => other,
    };
    refuse::refused(refusal, status)
}

/// The merchant's answer byte for byte, plus what was paid for it (RFC 9651 item with parameters).
fn told(conn: &Conn, response: Response<Body>, paid: &Paid) -> Response<Body> {
    let mut response = delivered(conn, response);
    let transaction = paid
        .transaction
        .as_deref()
        .map_or_else(String::new, |t| format!("; transaction={}", quoted(t)));
    let text = format!(
        "{}; amount=\"{}\"; asset={}; network=\"{}\"; charged=\"{}\"; remaining=\"{}\"{transaction}",
        paid.id,
        paid.amount,
        quoted(&paid.asset),
        paid.network,
        paid.charged,
        paid.remaining,
    );
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().insert(PAYMENT, value);
    }
    response
}
