//! Requests that bring their payment along, where a rule says `prepay: true` and the terms are known from
//! a payment before: one round trip and one upload less. Whatever speaks against it, the request goes
//! without.

use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{Request, Response, header};

use super::body::{Body, Pieces, Source, Stream};
use super::challenge::{self, Demand};
use super::exchange::Route;
use super::purchase::{Agent, not_replayable, refused, send, watched};
use super::refuse;
use super::replay::{self, Replay};
use super::reuse;
use super::serve::Conn;
use crate::payer::{Advance, Credential, Quote, Settled};
use crate::payment::{Challenge, Refusal};
use crate::protocol;
use crate::settings::RefusalBody;

/// A token from before that opens it, or terms, where it could be paid in advance.
type Before = (Option<Box<Credential>>, Option<Quote>);

/// The request, and what a second sending of it needs where some rule could pay; and what goes with the first.
/// `crowded`: there is no room for what would be bought.
pub(super) fn split(
    conn: &Conn,
    route: &Route,
    (parts, body): (Parts, Option<Stream>),
    crowded: bool,
) -> (Before, (Request<Body>, Replay)) {
    let (proxy, target) = (&conn.proxy, &route.target);
    let asked = || route.asked(&parts.method, &parts.uri, replay::unread(body.as_ref()));
    let held = reuse::held(conn, route, &parts.headers, asked);
    let payable = proxy.payer.policy().payable(&target.host, target.port);
    let share = || proxy.copies.share(&route.session.id.0);
    let limit = payable.then(|| (proxy.limits.replay_body, share()));
    let quote = match payable && held.is_none() && !crowded {
        true => quoted(conn, route, &parts, body.as_ref()),
        false => None,
    };
    ((held, quote), Replay::split(parts, body, limit))
}

/// The terms that are known of what is asked for. A body must be short enough to be kept, and its length
/// known: it is read before anything is signed, since an agent's own retry is recognised by it.
fn quoted(conn: &Conn, route: &Route, parts: &Parts, body: Option<&Stream>) -> Option<Quote> {
    if !conn.proxy.payer.holds_quotes() {
        return None;
    }
    let odd = [header::UPGRADE, header::EXPECT];
    if odd.iter().any(|name| parts.headers.contains_key(name)) {
        return None;
    }
    let most = u64::try_from(conn.proxy.limits.replay_body).unwrap_or(u64::MAX);
    let fits = |body: &Stream| body.is_end() || body.size().exact().is_some_and(|n| n <= most);
    let short = body.is_none_or(fits);
    if !short || !route.trust(&conn.proxy).verified() {
        return None;
    }
    let asked = route.asked(&parts.method, &parts.uri, replay::unread(body));
    conn.proxy.payer.quote(&asked, replay::target(&parts.uri))
}

/// Sends the request with its payment. `Ok`: nothing was paid, and the request is to be sent without.
///
/// # Errors
/// The answer for the agent.
pub(super) async fn first(
    conn: &Arc<Conn>,
    route: &Route,
    quote: Quote,
    (first, replay): &mut (Request<Body>, Replay),
) -> Result<(), Response<Body>> {
    let mut asked = replay.asked(route);
    asked.session = conn.proxy.doorkeeper.renewed(&asked.session).await;
    // Gives what is left of the body to the copy, which reads it to its end.
    *first = Request::new(Body::Empty);
    // No 402 has come, so the agent may take its time.
    let request = match replay.fork(None).await {
        Ok(request) => request,
        Err(why) => {
            let refusal = conn.proxy.payer.refuse(&asked, not_replayable(why)).await;
            return Err(refuse::refused(&refusal, conn.proxy.refusals.status));
        }
    };
    asked.request = Some(replay.key_of(&asked.session.id.0, &route.place(), &request));
    let Some(turn) = conn.proxy.turn(&asked.session).await else {
        return Err(refuse::stopped());
    };
    let agent = Agent::new(&conn.proxy.payer);
    let waiting = Arc::clone(&agent.waiting);
    let route = route.clone();
    let task = tokio::spawn({
        let conn = Arc::clone(conn);
        async move {
            let _turn = turn;
            let (payer, began) = (&conn.proxy.payer, Instant::now());
            let signed = match payer.prepay(&asked, &quote, &waiting).await {
                Ok(Some(signed)) => signed,
                Ok(None) => return Ok(request),
                Err(refusal) => {
                    return Err(refuse::refused(&refusal, conn.proxy.refusals.status));
                }
            };
            let signed = signed.awaited(waiting).at(replay::target(request.uri()));
            Err(send(&conn, &route, signed, request, None, began).await)
        }
    });
    let came = task.await;
    agent.answered();
    *first = came.unwrap_or_else(|_| Err(refuse::stopped()))?;
    Ok(())
}

/// The merchant was paid and asks again. Nothing more is signed for this request; the agent is told what
/// changed.
pub(super) async fn asked_again(
    (conn, route): (&Conn, &Route),
    (response, payload): (Response<Source>, &http::HeaderValue),
    settled: Settled,
    (advance, told): (Advance, Refusal),
) -> Response<Body> {
    let (payer, mut record) = (&conn.proxy.payer, settled.record);
    let (told, event) = ((&advance, told), &mut record.event);
    if conn.proxy.refusals.body == RefusalBody::Original {
        // The agent reads the merchant's own words, so they are looked at on the way, and by their head
        // only.
        let (head, body) = conn.stream(response).map(Pieces::from).into_parts();
        let challenge = protocol::read(&protocol::recognise(&head), &head, None);
        let refusal = payer.asked_again(told, &challenge, event).await;
        let response = Response::from_parts(head, body);
        return refused(conn, &refusal, watched(conn, response, record, payload));
    }
    let session = &route.session.id.0;
    match challenge::read(&conn.proxy, session, conn.stream(response)).await {
        Demand::Nothing(original) | Demand::Unread(original, _) => {
            let nothing = Challenge::default();
            let refusal = payer.asked_again(told, &nothing, event).await;
            refused(conn, &refusal, original)
        }
        Demand::Payment(asks) => {
            let refusal = payer.asked_again(told, &asks.challenge, event).await;
            refused(conn, &refusal, asks.original)
        }
    }
}
