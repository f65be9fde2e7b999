//! Demands for money inside JSON-RPC answers (MCP over HTTP, A2A), where a rule says `mcp: true`. A request is
//! read before it goes out, an answer as far as the answer to that request; all other bytes pass.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, response};

use super::body::{Body, Pieces, Stream};
use super::challenge::{Asks, End, Part};
use super::copies::Share;
use super::exchange::{Route, delivered};
use super::failure::UpstreamError;
use super::framing;
use super::purchase::{purchase, shown, uncached};
use super::refuse;
use super::replay::Replay;
use super::serve::Conn;
use super::tee::NotReplayable;
use crate::payment::{Payload, Reason, Refusal, Tool};
use crate::protocol::jsonrpc::{self, Call};
use crate::protocol::mcp::{self, Answer};

mod events;
mod paid;
mod told;
mod woven;

use events::{Event, Events};
pub(super) use paid::paid;
pub(super) use woven::Woven;

/// For the upload of a request that is read before it goes out, and for an answer that says its length.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fields that speak of the bytes of a body: with them no body can be changed.
const BOUND: [&str; 5] = [
    "content-encoding",
    "content-digest",
    "repr-digest",
    "digest",
    "content-md5",
];

/// What kind of answer carries JSON-RPC.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    /// `text/event-stream`.
    Events,
}

/// May this request be read? Its body is JSON, and some rule pays what bodies ask for, or is about tools.
/// What is not read may name any tool.
pub(super) fn may_read(conn: &Conn, route: &Route, parts: &Parts) -> bool {
    readable(&parts.method, &parts.headers)
        && conn.proxy.payer.policy().may_read(&route.asked(
            &parts.method,
            &parts.uri,
            Tool::Unknown,
        ))
}

/// May such a request be a call, as it is written?
pub(super) fn readable(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::POST
        && Kind::of(headers) == Some(Kind::Json)
        && !BOUND.iter().any(|name| headers.contains_key(*name))
}

/// Reads the request up to `limits.replay_body`. What is longer goes on as it is, and nobody pays for it.
pub(super) async fn capture(
    conn: &Conn,
    route: &Route,
    (mut parts, body): (Parts, Option<Stream>),
) -> Result<(Request<Body>, Replay), Response<Body>> {
    // The body is at hand before the request goes out.
    parts.headers.remove(header::EXPECT);
    let most = conn.proxy.limits.replay_body;
    let part = match body {
        Some(body) => {
            let share = conn.proxy.copies.share(&route.session.id.0);
            Part::of(body, share).read(most, PATIENCE).await
        }
        None => Part::empty(),
    };
    let whole = match part.end {
        End::Broken => return Err(refuse::gateway(&UpstreamError::RequestBody)),
        End::Whole => part.bytes(),
        End::TooLong | End::Crowded | End::TooSlow | End::Foreign => vec![],
    };
    let call = Call::read(&whole).map(Arc::new);
    let tool = match (&call, part.end) {
        (Some(call), _) => call.tool(),
        (None, End::Whole) if !jsonrpc::may_call(&whole) => Tool::None,
        (None, _) => Tool::Unknown,
    };
    if jsonrpc::carries_payment(&whole) {
        let asked = route.asked(&parts.method, &parts.uri, tool);
        let detail = "the message carries a payment of its own; only the proxy pays";
        let refusal = Refusal::new(Reason::AgentPaymentHeader, detail);
        let refusal = conn.proxy.payer.refuse(&asked, refusal).await;
        let refused = refuse::refused(&shown(conn, &refusal), conn.proxy.refusals.status);
        return Err(match call {
            Some(call) => told::as_answer(refused, &call),
            None => refused,
        });
    }
    let otherwise = match part.end {
        End::Crowded => NotReplayable::Crowded,
        End::Whole | End::TooLong | End::TooSlow | End::Broken | End::Foreign => {
            NotReplayable::TooLong
        }
    };
    Ok(Replay::of_read(parts, part.into(), otherwise, (call, tool)))
}

/// May this answer ask for money within its body?
pub(super) fn may_ask(
    conn: &Conn,
    route: &Route,
    replay: &Replay,
    answer: &Response<Stream>,
) -> bool {
    replay.call.is_some()
        && answer.status() == StatusCode::OK
        && Kind::of(answer.headers()).is_some()
        && conn.proxy.payer.policy().reads_bodies(&replay.asked(route))
}

/// Hands the answer over, once what it asks for is paid.
pub(super) async fn answered(
    conn: &Arc<Conn>,
    route: Route,
    replay: Replay,
    answer: Response<Stream>,
) -> Response<Body> {
    let (head, stream) = answer.into_parts();
    let Some(call) = replay.call.clone() else {
        return delivered(conn, Response::from_parts(head, Body::Stream(stream)));
    };
    let buyer = Buyer {
        conn: Arc::clone(conn),
        route,
        replay,
        call,
    };
    match Kind::of(&head.headers) {
        Some(Kind::Events) if !head.headers.contains_key(header::CONTENT_ENCODING) => {
            buyer.of_events(head, stream).await
        }
        Some(Kind::Json) => buyer.of_json(head, stream).await,
        Some(Kind::Events) | None => {
            delivered(conn, Response::from_parts(head, Body::Stream(stream)))
        }
    }
}

/// Who may buy the answer to a call.
struct Buyer {
    conn: Arc<Conn>,
    route: Route,
    replay: Replay,
    call: Arc<Call>,
}

impl Buyer {
    /// Of what may be held of answers.
    fn share(&self) -> Share {
        let session = &self.route.session.id.0;
        self.conn.proxy.answers.share(session)
    }

    async fn of_json(self, head: response::Parts, stream: Stream) -> Response<Body> {
        let most = self.conn.proxy.limits.challenge_body;
        let part = Part::of(stream, self.share()).in_search(&head);
        let part = part.read(most, PATIENCE).await;
        if part.end == End::Broken {
            return refuse::gateway(&UpstreamError::Closed);
        }
        let answer = read(&self.call, &head, &part, most);
        let response = Response::from_parts(head, Pieces::from(part));
        self.answer(answer, response).await
    }

    async fn of_events(mut self, head: response::Parts, stream: Stream) -> Response<Body> {
        let most = self.conn.proxy.limits.challenge_body;
        let mut events = Events::new(stream, Arc::clone(&self.call), (most, self.share()));
        match events.next().await {
            Event::Answer(raw, answer) => {
                let response = Response::from_parts(head, events.rest(raw));
                self.answer(Some(answer), response).await
            }
            Event::End(trailers) => {
                let body = Pieces {
                    trailers,
                    ..Pieces::default()
                };
                let body = Body::Pieces(Box::new(body));
                delivered(&self.conn, Response::from_parts(head, body))
            }
            Event::Broken => refuse::gateway(&UpstreamError::Closed),
            // The stream has begun, and goes on in front of whatever is bought.
            Event::Other(raw) => {
                let conn = Arc::clone(&self.conn);
                let kept = again(&head);
                // What is bought goes on in the same stream, which has no coding.
                self.replay.head.uncoded();
                let woven = Woven::new(|out| woven::first(self, kept, events, raw, out));
                woven.answers(&conn, head)
            }
        }
    }

    /// What the agent gets instead of this answer, or the answer.
    async fn answer(self, answer: Option<Answer>, response: Response<Pieces>) -> Response<Body> {
        let original = response.map(Box::new).map(Body::Pieces);
        let answer = answer.unwrap_or_default();
        let Some(challenge) = answer.challenge else {
            return delivered(&self.conn, original);
        };
        let asks = Asks {
            challenge,
            original,
            within: Some(Arc::new(self.call.asked_for(answer.task, answer.form))),
        };
        let bought = purchase(&self.conn, self.route, (self.replay, None), asks).await;
        told::as_answer(bought, &self.call)
    }
}

/// A JSON body as the answer to the call. `None`: it is another, or nobody can tell.
fn read(call: &Call, head: &response::Parts, part: &Part, most: usize) -> Option<Answer> {
    if framing::ends_with_connection(head) {
        return None;
    }
    let text = part.text(head, true, most).ok()??;
    Answer::read(call, &text)
}

/// The head once more, for a second answer to the same request.
fn again(head: &response::Parts) -> response::Parts {
    let (mut copy, ()) = Response::new(()).into_parts();
    copy.status = head.status;
    copy.version = head.version;
    copy.headers.clone_from(&head.headers);
    copy
}

/// Puts the payment into the request's body.
pub(super) fn put_in(request: &mut Request<Body>, call: &Call, payload: &Payload) {
    uncached(request);
    let body: Vec<u8> = request.body().pieces().flatten().copied().collect();
    let member = mcp::member(payload, call);
    let with = member.and_then(|(keys, json)| call.with(&body, keys, &json));
    // Without a place in it the payload was refused before.
    let Some(with) = with else { return };
    if request.headers().contains_key(header::CONTENT_LENGTH) {
        let length = HeaderValue::from(with.len());
        request.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    *request.body_mut() = Body::full(with);
}

impl Kind {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            return None;
        };
        let kind = kind.as_bytes().split(|b| *b == b';').next()?;
        let kind = kind.trim_ascii().to_ascii_lowercase();
        match kind.as_slice() {
            b"application/json" => Some(Self::Json),
            b"text/event-stream" => Some(Self::Events),
            _ => None,
        }
    }
}
