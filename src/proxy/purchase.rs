//! The paid half of an exchange. It runs in a task of its own: an agent that hangs up cannot stop a
//! payment half-way.

use std::sync::Arc;
use std::time::Instant;

use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use tokio::sync::OwnedMutexGuard;

use super::body::{Body, Pieces, Source};
use super::challenge::Asks;
use super::exchange::Route;
use super::failure::UpstreamError;
use super::prepay;
use super::refuse::{self, ClientError};
use super::replay::{self, Replay};
use super::reuse;
use super::rpc;
use super::serve::Conn;
use super::sign_in;
use super::tee::NotReplayable;
use super::upgrade::{self, Upgrade};
use crate::event::metrics::Step;
use crate::failpoint;
use crate::payer::{Pending, Signed, Unpaid, Waiting};
use crate::payment::{Asked, PaymentId};
use crate::protocol::jsonrpc::Call;
use crate::protocol::mcp;

mod agent;
mod outcome;
mod reasons;

pub(super) use agent::Agent;
use outcome::unpaid;
pub(super) use outcome::{conclude, refused, shown, unread, watched};
pub(super) use reasons::not_replayable;
use reasons::{conflict, unverified};

/// Answers a demand: with the paid answer, or with a refusal. A token that the merchant refused just now
/// is not tried again.
pub(super) async fn purchase(
    conn: &Arc<Conn>,
    route: Route,
    (replay, refused_token): (Replay, Option<PaymentId>),
    asks: Asks,
) -> Response<Body> {
    let mut asked = replay.asked(&route);
    asked.session = conn.proxy.doorkeeper.renewed(&asked.session).await;
    if !route.trust(&conn.proxy).verified() {
        let refusal = Box::pin(conn.proxy.payer.refuse(&asked, unverified())).await;
        return refused(conn, &refusal, asks.original);
    }
    let agent = Agent::new(&conn.proxy.payer);
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
        let Some(turn) = conn.proxy.turn(&purchase.asked.session).await else {
            return refuse::stopped();
        };
        let task = tokio::spawn({
            let conn = Arc::clone(conn);
            async move {
                let _turn = turn;
                pay(&conn, purchase).await
            }
        });
        // A panic in the task is a bug of ours; the ledger already counts what it signed.
        match task.await {
            Ok(Outcome::Answer(answer)) => {
                agent.answered();
                return *answer;
            }
            // Nothing is reserved or signed, so whoever waits here holds nobody up and may hang up.
            Ok(Outcome::Pending(mut pending, back)) => {
                let (asked, trace) = (Instant::now(), back.asked.trace);
                pending.answered().await;
                conn.proxy.payer.took(Step::Approve, asked, trace.as_ref());
                if let Some(refusal) = Box::pin(conn.proxy.payer.turned_down(&pending)).await {
                    agent.answered();
                    return refused(conn, &refusal, back.asks.original);
                }
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
    let host = route.place();
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
    (agent, patient): (&Waiting, bool),
) -> Result<Signed, Unpaid> {
    let payer = &conn.proxy.payer;
    match payer.consider(asked, &asks.challenge, Some(agent)).await {
        Err(Unpaid::Pending(pending)) if !patient => {
            Err(Unpaid::Refused(payer.unanswered(*pending).await))
        }
        considered => considered,
    }
}

/// Leaves of the demand what fits the request. Where a token may be bought, waits for its turn, which may bring
/// an answer.
async fn fitted(
    conn: &Arc<Conn>,
    route: &Route,
    (asked, refused): (&Asked, Option<PaymentId>),
    again: Option<&Request<Body>>,
    asks: &mut Asks,
) -> Result<Option<OwnedMutexGuard<()>>, Response<Body>> {
    let Some(request) = again else {
        return Ok(None);
    };
    replay::fit(&mut asks.challenge, asked, request, asks.within.is_some());
    if asks.within.is_none()
        && let Some(answer) = sign_in::instead(conn, route, asked, asks, request).await
    {
        return Err(answer);
    }
    if !conn.proxy.payer.may_buy_token(asked, &asks.challenge) {
        return Ok(None);
    }
    let turn = reuse::before_buying(conn, route, asked, request, refused);
    turn.await.map(Some)
}

async fn pay(conn: &Arc<Conn>, purchase: Purchase) -> Outcome {
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
            let refusal = Box::pin(conn.proxy.payer.refuse(&asked, not_replayable(why))).await;
            return refused(conn, &refusal, asks.original).into();
        }
    };
    if again.as_ref().is_some_and(is_crowded) {
        return ClientError::Crowded.response().into();
    }
    let asking = (&asked, refused_token);
    let sale = fitted(conn, &route, asking, again.as_ref(), &mut asks);
    let sale = match sale.await {
        Ok(sale) => sale,
        Err(answer) => return answer.into(),
    };
    let considered = considered(conn, &asked, &asks, (&agent, patient)).await;
    match (considered, again) {
        // Of a payload from before: the agent did not bring credentials then, and does now.
        (Ok(signed), Some(request)) if is_in_the_way(&request, &signed, asks.within.as_deref()) => {
            refused(conn, &conflict(signed.id()), asks.original).into()
        }
        (Ok(signed), Some(request)) => {
            let (signed, within) = (signed.awaited(agent), asks.within.as_ref());
            let signed = placed(signed, &request, within.is_some());
            let sent = send(conn, &route, signed, request, within, began);
            sent.await.into()
        }
        (Ok(signed), None) => {
            // The policy changed in between: the payload is never sent, and counts until it dies.
            let settled = Box::pin(conn.proxy.payer.settle(signed, None)).await;
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

/// Is it an upgrade that would have no place after it was paid for?
fn is_crowded(request: &Request<Body>) -> bool {
    let upgrade = request.extensions().get::<Upgrade>();
    upgrade.is_some_and(Upgrade::is_crowded)
}

/// The payment with what its price is remembered for. `within`: of the tools behind one path each has its
/// own, so none is known in advance.
fn placed(signed: Signed, request: &Request<Body>, within: bool) -> Signed {
    match within {
        true => signed,
        false => signed.at(replay::target(request.uri())),
    }
}

/// Fields of a request that a 304 may answer.
const CONDITIONS: [HeaderName; 2] = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];

/// Has the payment no place in the request?
fn is_in_the_way(request: &Request<Body>, signed: &Signed, within: Option<&Call>) -> bool {
    match within {
        Some(call) => mcp::member(&signed.payload, call).is_none(),
        None => request.headers().contains_key(&signed.payload.name),
    }
}

/// Sends the request with its payment, and hands over what comes back. `within`: the payment goes into
/// the body, and so did the demand for it.
pub(super) async fn send(
    conn: &Arc<Conn>,
    route: &Route,
    mut signed: Signed,
    mut request: Request<Body>,
    within: Option<&Arc<Call>>,
    began: Instant,
) -> Response<Body> {
    let payer = &conn.proxy.payer;
    match within {
        Some(call) => rpc::put_in(&mut request, call, &signed.payload),
        None => carry(
            &mut request,
            signed.payload.name.clone(),
            signed.payload.value.clone(),
        ),
    }
    let upgrade = request.extensions_mut().remove::<Upgrade>();
    failpoint::reach("before-send");
    let (sent, trace) = (Instant::now(), signed.trace());
    let mut answer = answered(conn, route, &signed, &mut request).await;
    failpoint::reach("after-send");
    payer.took(Step::Pay, sent, trace.as_ref());
    if answer.is_ok() {
        payer.took(Step::Purchase, began, trace.as_ref());
    }
    if let (Some(call), Ok(_)) = (within, &answer) {
        return Box::pin(rpc::paid((conn, route), call, answer, signed)).await;
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
        let asked = prepay::asked_again(
            (conn, route),
            (response, &payload),
            settled,
            (advance, told),
        );
        return Box::pin(asked).await;
    }
    if let Ok(response) = &mut answer
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Err(refusal) = upgrade::join(conn, response, upgrade)
    {
        return refusal;
    }
    conclude(conn, whole(conn, answer), settled, &payload)
}

/// What the merchant says to a request with its payment. Where it says that it did not look at it (RFC 9113 section
/// 8.7), the very same goes once more, on another connection: a payload is charged once, whoever has it.
async fn answered(
    conn: &Conn,
    route: &Route,
    signed: &Signed,
    request: &mut Request<Body>,
) -> Result<Response<Source>, UpstreamError> {
    let (upstream, key) = (&conn.proxy.upstream, route.key(&conn.proxy));
    let has = |name| request.headers().contains_key(name);
    let has_condition = CONDITIONS.iter().any(has);
    let spare = signed.may_go_again().then(|| replay::twin(request));
    let mut answer = upstream.send(&conn.lane, &key, request, None).await;
    if let (Err(UpstreamError::Refused | UpstreamError::NotH2), Some(mut same)) =
        (&answer, spare.flatten())
    {
        answer = upstream.send(&conn.lane, &key, &mut same, None).await;
    }
    answer.and_then(|answer| match answer.status() {
        // "As you have it", to whom has nothing (RFC 9110 section 15.4.5): nothing was given for the money.
        StatusCode::NOT_MODIFIED if !has_condition => Err(UpstreamError::Protocol),
        _ => Ok(answer),
    })
}

/// An answer whose body is still to come.
pub(super) fn whole(
    conn: &Conn,
    answer: Result<Response<Source>, UpstreamError>,
) -> Result<Response<Pieces>, UpstreamError> {
    answer.map(|response| conn.stream(response).map(Pieces::from))
}

/// The payment header, once.
pub(super) fn carry(request: &mut Request<Body>, name: HeaderName, value: HeaderValue) {
    request.headers_mut().insert(name, value);
    uncached(request);
}

/// No cache may keep what is paid for (threat X-04).
pub(super) fn uncached(request: &mut Request<Body>) {
    if !request.headers().contains_key(header::CACHE_CONTROL) {
        let no_store = HeaderValue::from_static("no-store");
        request
            .headers_mut()
            .insert(header::CACHE_CONTROL, no_store);
    }
}
