//! Requests that go with a token from before: no money moves, and what a merchant says to a token of ours
//! never reaches the agent as if it were said to the agent.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::OwnedMutexGuard;

use super::body::{Body, Source};
use super::exchange::{Route, delivered};
use super::failure::UpstreamError;
use super::pool::Key;
use super::purchase::carry;
use super::refuse;
use super::replay::{Replay, UPLOAD, twin};
use super::serve::Conn;
use super::upgrade::Upgrade;
use crate::payer::{Credential, refuses};
use crate::payment::{Asked, PaymentId, Reason, Refusal};

const PAYMENT: HeaderName = HeaderName::from_static("farepass-payment");

/// The token that opens what is asked for, unless the agent brings credentials of its own.
pub(super) fn held(
    conn: &Conn,
    route: &Route,
    headers: &HeaderMap,
    asked: impl FnOnce() -> Asked,
) -> Option<Box<Credential>> {
    if !conn.proxy.payer.holds_tokens()
        || headers.contains_key(AUTHORIZATION)
        || !route.trust(&conn.proxy).verified()
    {
        return None;
    }
    conn.proxy.payer.credential(&asked()).map(Box::new)
}

/// What came of the first sending of a request.
pub(super) struct Came {
    /// To the request with a token that was taken, or to the one without.
    pub(super) answer: Response<Source>,
    /// The token that was taken.
    pub(super) token: Option<Box<Credential>>,
    /// The one that was not.
    pub(super) refused: Option<PaymentId>,
}

/// Sends the request, with a token if there is one. The error is an answer too.
pub(super) async fn ask(
    conn: &Arc<Conn>,
    route: &Route,
    token: Option<Box<Credential>>,
    first: &mut Request<Body>,
    replay: &mut Replay,
) -> Result<Came, Response<Body>> {
    if let Some(token) = token {
        return Box::pin(with_token(conn, route, token, first, replay)).await;
    }
    let (upstream, key) = (&conn.proxy.upstream, route.key(&conn.proxy));
    let bodyless = first.body().is_end_stream();
    let sent = upstream.send(&conn.lane, &key, first, Some(&replay.head));
    let sent = sent.await;
    // One without a body went twice.
    if !bodyless && matches!(sent, Err(UpstreamError::Refused | UpstreamError::NotH2)) {
        drop(sent);
        return Box::pin(unseen(conn, &key, replay)).await;
    }
    match sent {
        Ok(answer) => Ok(Came {
            answer,
            token: None,
            refused: None,
        }),
        Err(e) => Err(refuse::gateway(&e)),
    }
}

/// Once more a request that the merchant did not look at (RFC 9113 section 8.7), where its body was kept.
async fn unseen(conn: &Conn, key: &Key, replay: &mut Replay) -> Result<Came, Response<Body>> {
    let gone = || refuse::gateway(&UpstreamError::Refused);
    let mut again = replay.fork(Some(UPLOAD)).await.map_err(|_| gone())?;
    let upstream = &conn.proxy.upstream;
    let sent = upstream.send(&conn.lane, key, &mut again, None).await;
    Ok(Came {
        answer: sent.map_err(|e| refuse::gateway(&e))?,
        token: None,
        refused: None,
    })
}

/// A 402 asks for another payment, as it would have without the token; a 401 says nothing about the agent,
/// so the request goes once more without it.
async fn with_token(
    conn: &Arc<Conn>,
    route: &Route,
    token: Box<Credential>,
    first: &mut Request<Body>,
    replay: &mut Replay,
) -> Result<Came, Response<Body>> {
    let (upstream, key) = (&conn.proxy.upstream, route.key(&conn.proxy));
    if !conn.proxy.payer.is_open(&replay.asked(route)).await {
        let sent = upstream.send(&conn.lane, &key, first, Some(&replay.head));
        return Ok(Came {
            answer: sent.await.map_err(|e| refuse::gateway(&e))?,
            token: None,
            refused: None,
        });
    }
    carry(first, token.name.clone(), token.value.clone());
    let head = replay.head.with(&token.name, &token.value);
    let sent = upstream.send(&conn.lane, &key, first, Some(&head)).await;
    let answer = sent.map_err(|e| refuse::gateway(&e))?;
    let asked = replay.asked(route);
    let payer = &conn.proxy.payer;
    payer.used(&asked, token.id, answer.status()).await;
    if !refuses(answer.status()) {
        return Ok(Came {
            answer,
            token: Some(token),
            refused: None,
        });
    }
    tracing::debug!(payment = %token.id, host = %asked.host, "a paid token is no longer taken");
    let answer = match answer.status() {
        StatusCode::PAYMENT_REQUIRED => answer,
        _ => match replay.fork(Some(UPLOAD)).await {
            Ok(request) => send(conn, route, request).await?,
            Err(_) => return Err(bound(conn, &asked).await),
        },
    };
    Ok(Came {
        answer,
        token: None,
        refused: Some(token.id),
    })
}

/// The agent's next try goes without the token.
async fn bound(conn: &Conn, asked: &Asked) -> Response<Body> {
    let detail = "a paid token is no longer taken, and the body cannot be sent without it again";
    let refusal = Refusal {
        retryable: true,
        ..Refusal::new(Reason::BodyNotReplayable, detail)
    };
    let refusal = conn.proxy.payer.refuse(asked, refusal).await;
    refuse::refused(&refusal, conn.proxy.refusals.status)
}

/// Before a token is bought: tries those that there are, waits for those who buy one here already, and tries what
/// they bought. `refused` was tried just now.
pub(super) async fn before_buying(
    conn: &Arc<Conn>,
    route: &Route,
    asked: &Asked,
    request: &Request<Body>,
    refused: Option<PaymentId>,
) -> Result<OwnedMutexGuard<()>, Response<Body>> {
    let payer = &conn.proxy.payer;
    let before = payer.tokens(asked);
    // What a token opens may take long, so nobody has to wait for that.
    let tried = match payer.candidate(asked, refused.as_slice()).await {
        Some(token) => Some(instead(conn, route, asked, request, token).await?),
        None => None,
    };
    let mut old: Vec<_> = before.into_iter().chain(refused).chain(tried).collect();
    let sale = payer.alone(asked).await;
    let Some(token) = payer.candidate(asked, &old).await else {
        return Ok(sale);
    };
    // Bought meanwhile, and good here too as a rule.
    drop(sale);
    old.push(instead(conn, route, asked, request, token).await?);
    let sale = payer.alone(asked).await;
    if let Some(token) = payer.candidate(asked, &old).await {
        instead(conn, route, asked, request, token).await?;
    }
    Ok(sale)
}

/// Tries a token that may be good here too: the answer that it brings is the error, and the token that brings none
/// the result.
async fn instead(
    conn: &Arc<Conn>,
    route: &Route,
    asked: &Asked,
    request: &Request<Body>,
    token: Credential,
) -> Result<PaymentId, Response<Body>> {
    let twin = twin(request).filter(|_| request.extensions().get::<Upgrade>().is_none());
    let Some(mut request) = twin else {
        return Ok(token.id);
    };
    carry(&mut request, token.name.clone(), token.value.clone());
    let answer = send(conn, route, request).await?;
    let payer = &conn.proxy.payer;
    payer.used(asked, token.id, answer.status()).await;
    if refuses(answer.status()) {
        return Ok(token.id);
    }
    Err(told(conn, conn.stream(answer).map(Body::Stream), &token))
}

async fn send(
    conn: &Arc<Conn>,
    route: &Route,
    mut request: Request<Body>,
) -> Result<Response<Source>, Response<Body>> {
    let (upstream, key) = (&conn.proxy.upstream, route.key(&conn.proxy));
    let sent = upstream.send(&conn.lane, &key, &mut request, None);
    sent.await.map_err(|e| refuse::gateway(&e))
}

/// The merchant's answer, and which payment it was bought with: nothing was paid for this one.
pub(super) fn told(conn: &Conn, answer: Response<Body>, token: &Credential) -> Response<Body> {
    let mut answer = delivered(conn, answer);
    let text = format!("{}; amount=\"0\"; charged=\"0.00 USD\"; reused", token.id);
    if let Ok(value) = HeaderValue::try_from(text) {
        answer.headers_mut().insert(PAYMENT, value);
    }
    answer
}
