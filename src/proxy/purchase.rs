//! The paid half of an exchange. It runs in a task of its own: an agent that hangs up cannot stop a
//! payment half-way.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::body::Body;
use super::challenge::Asks;
use super::evidence::Watched;
use super::exchange::{Route, delivered};
use super::failure::UpstreamError;
use super::prepay;
use super::refuse::{self, quoted};
use super::replay::{self, Replay};
use super::reuse;
use super::serve::Conn;
use super::tee::NotReplayable;
use super::upgrade::{self, Upgrade};
use crate::event::metrics::Step;
use crate::failpoint;
use crate::payer::{Paid, Pending, Recorded, Settled, Signed, Unpaid, Waiting};
use crate::payment::{Asked, PaymentId, Reason, Refusal};
use crate::protocol;
use crate::settings::RefusalBody;

mod agent;
mod reasons;

pub(super) use agent::Agent;
pub(super) use reasons::not_replayable;
use reasons::{conflict, unverified};

const PAYMENT: HeaderName = HeaderName::from_static("farepass-payment");

/// Answers a demand: with the paid answer, or with a refusal. A token that the merchant refused just now
/// is not tried again.
pub(super) async fn purchase(
    conn: &Arc<Conn>,
    route: Route,
    (replay, refused_token): (Replay, Option<PaymentId>),
    asks: Asks,
) -> Response<Body> {
    let asked = route.asked(&replay.head.method, &replay.head.uri);
    if !route.trust(&conn.proxy).verified() {
        let refusal = conn.proxy.payer.refuse(&asked, unverified()).await;
        return refused(conn, &refusal, asks.original);
    }
    let agent = Agent::default();
    let mut purchase = Purchase {
        route,
        asked,
        again: Again::Of(replay),
        asks,
        refused_token,
        agent: Arc::clone(&agent.waiting),
        patient: true,
    };
    loop {
        let Ok(permit) = Arc::clone(&conn.proxy.purchases).acquire_owned().await else {
            return refuse::stopped();
        };
        let turns = conn.proxy.turns(&purchase.asked.session.id.0);
        let conn = Arc::clone(conn);
        let task = tokio::spawn(async move {
            let _in_flight = permit;
            let _turn = turns.acquire().await;
            pay(&conn, purchase).await
        });
        // A panic in the task is a bug of ours; the ledger already counts what it signed.
        match task.await {
            Ok(Outcome::Answer(answer)) => {
                agent.answered();
                return *answer;
            }
            // Nothing is reserved or signed, so whoever waits here holds nobody up and may hang up.
            Ok(Outcome::Pending(mut pending, back)) => {
                pending.answered().await;
                purchase = *back;
            }
            Err(_) => {
                agent.answered();
                return refuse::stopped();
            }
        }
    }
}

/// Everything that paying needs, also a second time after a person agreed.
struct Purchase {
    route: Route,
    asked: Asked,
    again: Again,
    asks: Asks,
    refused_token: Option<PaymentId>,
    agent: Arc<Waiting>,
    /// May it wait for a person?
    patient: bool,
}

/// The second sending of the request.
enum Again {
    /// Still to be made.
    Of(Replay),
    /// Made; absent where no rule could pay.
    Made(Option<Request<Body>>),
}

enum Outcome {
    Answer(Box<Response<Body>>),
    Pending(Box<Pending>, Box<Purchase>),
}

impl From<Response<Body>> for Outcome {
    fn from(answer: Response<Body>) -> Self {
        Self::Answer(Box::new(answer))
    }
}

/// Makes the second sending, or says why there can be none.
async fn made(
    conn: &Conn,
    route: &Route,
    asked: &mut Asked,
    again: Again,
    agent: &Arc<Waiting>,
) -> Result<Option<Request<Body>>, NotReplayable> {
    let replay = match again {
        Again::Of(replay) => replay,
        Again::Made(request) => return Ok(request),
    };
    let host = route.target.to_string();
    match replay.again(&asked.session.id.0, &host).await {
        Ok((request, key)) => {
            asked.request = Some(key);
            conn.proxy.payer.begin(key, agent);
            Ok(Some(request))
        }
        // The policy's own refusal comes first where no rule could pay.
        Err(NotReplayable::NotKept)
            if !conn.proxy.payer.policy().payable(&asked.host, asked.port) =>
        {
            Ok(None)
        }
        Err(why) => Err(why),
    }
}

async fn considered(
    conn: &Conn,
    asked: &Asked,
    asks: &Asks,
    patient: bool,
) -> Result<Signed, Unpaid> {
    let payer = &conn.proxy.payer;
    if patient {
        return payer.consider(asked, &asks.challenge).await;
    }
    let authorized = payer.authorize(asked, &asks.challenge).await;
    authorized.map_err(Unpaid::Refused)
}

async fn pay(conn: &Arc<Conn>, purchase: Purchase) -> Outcome {
    let payer = &conn.proxy.payer;
    let Purchase {
        route,
        mut asked,
        again,
        mut asks,
        refused_token,
        agent,
        patient,
    } = purchase;
    let began = Instant::now();
    let again = match made(conn, &route, &mut asked, again, &agent).await {
        Ok(again) => again,
        Err(why) => {
            let refusal = payer.refuse(&asked, not_replayable(why)).await;
            return refused(conn, &refusal, asks.original).into();
        }
    };
    let mut sale = None;
    if let Some(request) = &again {
        replay::fit(&mut asks.challenge, &asked, request);
        if protocol::sells_tokens(&asks.challenge) {
            match reuse::before_buying(conn, &route, &asked, request, refused_token).await {
                Ok(turn) => sale = Some(turn),
                Err(answer) => return answer.into(),
            }
        }
    }
    let considered = considered(conn, &asked, &asks, patient).await;
    match (considered, again) {
        // Of a payload from before: the agent did not bring credentials then, and does now.
        (Ok(signed), Some(request)) if request.headers().contains_key(&signed.payload.name) => {
            refused(conn, &conflict(signed.id()), asks.original).into()
        }
        (Ok(signed), Some(request)) => {
            let signed = signed.awaited(agent).at(replay::target(request.uri()));
            send(conn, &route, signed, request, began).await.into()
        }
        (Ok(signed), None) => {
            // The policy changed in between: the payload is never sent, and counts until it dies.
            let settled = payer.settle(signed, None).await;
            unpaid(conn, settled.refusal, asks.original).into()
        }
        (Err(Unpaid::Refused(refusal)), _) => refused(conn, &refusal, asks.original).into(),
        (Err(Unpaid::Pending(pending)), again) => {
            let back = Purchase {
                route,
                asked,
                again: Again::Made(again),
                asks,
                refused_token,
                agent,
                patient: false,
            };
            // A person may take long, and others need not wait for that.
            drop(sale);
            Outcome::Pending(pending, Box::new(back))
        }
    }
}

/// Sends the request with its payment, and hands over what comes back.
pub(super) async fn send(
    conn: &Conn,
    route: &Route,
    mut signed: Signed,
    mut request: Request<Body>,
    began: Instant,
) -> Response<Body> {
    let payer = &conn.proxy.payer;
    carry(
        &mut request,
        signed.payload.name.clone(),
        signed.payload.value.clone(),
    );
    let upgrade = request.extensions_mut().remove::<Upgrade>();
    failpoint::reach("before-send");
    let mut answer = conn
        .proxy
        .upstream
        .send(&conn.lane, route.key(&conn.proxy), request, None)
        .await;
    failpoint::reach("after-send");
    if answer.is_ok() {
        payer.took(Step::Purchase, began);
    }
    let payload = signed.payload.value.clone();
    let advance = signed.advance();
    // Every path past `authorize` comes through here: the payload may be charged whatever came back.
    let head = answer.as_ref().ok().map(|r| (r.status(), r.headers()));
    let mut settled = payer.settle(signed, head).await;
    if let Some(advance) = advance
        && let Some(told) = settled.refusal.take_if(|_| answer.is_ok())
        && let Ok(response) = answer
    {
        return prepay::asked_again(conn, (response, &payload), settled, (advance, told)).await;
    }
    if let Ok(response) = &mut answer
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Err(refusal) = upgrade::join(conn, response, upgrade)
    {
        return refusal;
    }
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
            refuse::refused(&shown(conn, &refusal), status)
        }
    }
}

/// As much of a refusal as the agent is to know.
fn shown<'a>(conn: &Conn, refusal: &'a Refusal) -> Cow<'a, Refusal> {
    match conn.proxy.refusals.numbers {
        true => Cow::Borrowed(refusal),
        false => Cow::Owned(refusal.without_numbers()),
    }
}

/// The answer to a paid request, its body looked at on the way.
pub(super) fn watched(
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
pub(super) fn carry(request: &mut Request<Body>, name: HeaderName, value: HeaderValue) {
    request.headers_mut().insert(name, value);
    if !request.headers().contains_key(header::CACHE_CONTROL) {
        let no_store = HeaderValue::from_static("no-store");
        request
            .headers_mut()
            .insert(header::CACHE_CONTROL, no_store);
    }
}

fn unpaid(conn: &Conn, refusal: Option<Refusal>, original: Response<Body>) -> Response<Body> {
    let refusal = refusal
        .unwrap_or_else(|| Refusal::new(Reason::BodyNotReplayable, "the request was not kept"));
    refused(conn, &refusal, original)
}

/// A refusal in our words, or the merchant's own answer with our reason beside it.
pub(super) fn refused(conn: &Conn, refusal: &Refusal, original: Response<Body>) -> Response<Body> {
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
