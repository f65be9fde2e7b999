//! The answer to a request that carries its payment in its body: its receipt is in the body as well, so
//! what it means is known when that has come.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header, response};

use super::events::{Event, Events};
use super::woven::{Out, Woven, pour};
use super::{Kind, again, told};
use crate::payer::{Payer, Settled, Signed};
use crate::payment::Reason;
use crate::protocol::jsonrpc::Call;
use crate::protocol::mcp::Answer;
use crate::proxy::body::{Body, Pieces, Source, Stream};
use crate::proxy::challenge::{End, Part};
use crate::proxy::copies::Share;
use crate::proxy::exchange::{Route, delivered};
use crate::proxy::failure::UpstreamError;
use crate::proxy::purchase::conclude;
use crate::proxy::serve::Conn;

/// A payment whose answer is still to come. Dropped without one, it is recorded as unanswered: from then on
/// the payload is sent again and no other is signed.
struct Due {
    payer: Arc<Payer>,
    signed: Option<Signed>,
}

/// A payment with the head of the answer to it.
struct Paid {
    conn: Arc<Conn>,
    session: Arc<str>,
    call: Arc<Call>,
    head: response::Parts,
    due: Due,
    payload: http::HeaderValue,
}

/// What the agent gets for its money.
pub(in crate::proxy) async fn paid(
    (conn, route): (&Arc<Conn>, &Route),
    call: &Arc<Call>,
    answer: Result<Response<Source>, UpstreamError>,
    signed: Signed,
) -> Response<Body> {
    let payer = Arc::clone(&conn.proxy.payer);
    let payload = signed.payload.value.clone();
    let answer = match answer {
        Ok(answer) => conn.stream(answer),
        Err(e) => {
            let settled = payer.settle(signed, None).await;
            return conclude(conn, Err(e), settled, &payload);
        }
    };
    let (head, stream) = answer.into_parts();
    let kind = Kind::of(&head.headers).filter(|_| head.status == StatusCode::OK);
    let coded = head.headers.contains_key(header::CONTENT_ENCODING);
    let paid = Paid {
        conn: Arc::clone(conn),
        session: Arc::clone(&route.session.id.0),
        call: Arc::clone(call),
        head,
        due: Due {
            payer,
            signed: Some(signed),
        },
        payload,
    };
    match kind {
        Some(Kind::Json) => paid.by_json(stream).await,
        Some(Kind::Events) if !coded => paid.by_events(stream).await,
        Some(Kind::Events) | None => {
            let status = paid.head.status;
            paid.settle(status, HeaderMap::new(), stream.into()).await
        }
    }
}

impl Paid {
    /// Of what may be held of answers.
    fn share(&self) -> Share {
        self.conn.proxy.answers.share(&self.session)
    }

    async fn by_json(self, stream: Stream) -> Response<Body> {
        let limits = &self.conn.proxy.limits;
        let most = limits.challenge_body;
        let part = Part::of(stream, self.share());
        let part = part.read(most, limits.upstream_total).await;
        match part.end {
            End::Broken => return self.unanswered().await,
            // Too long to be looked into, or too many are by now: delivered, and its receipt not seen.
            End::TooLong | End::Crowded | End::TooSlow => {
                return self
                    .settle(StatusCode::OK, HeaderMap::new(), part.into())
                    .await;
            }
            End::Whole | End::Foreign => {}
        }
        match bought(&self.call, &self.head, &part, most) {
            Some(answer) => self.answered(answer, part.into()).await,
            // Read, and no answer to this call.
            None => {
                let status = StatusCode::BAD_GATEWAY;
                self.settle(status, HeaderMap::new(), part.into()).await
            }
        }
    }

    async fn by_events(self, stream: Stream) -> Response<Body> {
        let most = self.conn.proxy.limits.challenge_body;
        let mut events = Events::bought(stream, Arc::clone(&self.call), (most, self.share()));
        match events.next().await {
            Event::Answer(raw, answer) => self.answered(answer, events.rest(raw)).await,
            Event::End(_) | Event::Broken => self.unanswered().await,
            Event::Other(raw) => {
                let (conn, head) = (Arc::clone(&self.conn), again(&self.head));
                let woven = Woven::new(|out| self.weave(events, raw, out));
                woven.answers(&conn, head)
            }
        }
    }

    /// Hands on what comes before the answer, and then the answer.
    async fn weave(self, mut events: Events, mut raw: Bytes, out: Out) {
        loop {
            if out.data(raw).await.is_err() {
                return;
            }
            let call = Arc::clone(&self.call);
            let response = match events.next().await {
                Event::Other(next) => {
                    raw = next;
                    continue;
                }
                Event::Answer(raw, answer) => self.answered(answer, events.rest(raw)).await,
                Event::End(_) | Event::Broken => self.unanswered().await,
            };
            let response = told::as_answer(response, &call);
            let _ = pour(response, &call, &out).await;
            return;
        }
    }

    async fn answered(self, answer: Answer, body: Pieces) -> Response<Body> {
        self.settle(answer.status, answer.receipts, body).await
    }

    /// Records what the answer means, as HTTP would have said it.
    async fn settle(
        mut self,
        status: StatusCode,
        receipts: HeaderMap,
        body: Pieces,
    ) -> Response<Body> {
        let mut headers = self.head.headers.clone();
        for (name, value) in &receipts {
            headers.insert(name.clone(), value.clone());
        }
        let settled = self.due.settle(Some((status, &headers))).await;
        let response = Response::from_parts(self.head, body);
        match settled {
            Some(settled) => conclude(&self.conn, Ok(response), settled, &self.payload),
            None => delivered(&self.conn, response.map(Box::new).map(Body::Pieces)),
        }
    }

    async fn unanswered(mut self) -> Response<Body> {
        match self.due.settle(None).await {
            Some(settled) => conclude(
                &self.conn,
                Err(UpstreamError::Closed),
                settled,
                &self.payload,
            ),
            None => crate::proxy::refuse::stopped(),
        }
    }
}

/// A JSON body as the answer to a call that was paid for. Only the end of the connection may end it: the text that
/// is cut is no JSON. `None`: it is another, or none for any reader.
fn bought(call: &Call, head: &response::Parts, part: &Part, most: usize) -> Option<Answer> {
    match part.text(head, true, most) {
        Ok(Some(text)) => Answer::bought(call, &text),
        // In a coding that is not read here, or too long once it is unpacked.
        Ok(None) => Some(Answer::unread()),
        Err(problem) if problem.reason == Reason::LimitsExceeded => Some(Answer::unread()),
        Err(_) => None,
    }
}

impl Due {
    async fn settle(&mut self, answer: Option<(StatusCode, &HeaderMap)>) -> Option<Settled> {
        let signed = self.signed.take()?;
        let (payer, agent) = (Arc::clone(&self.payer), signed.presence());
        let answer = answer.map(|(status, headers)| (status, headers.clone()));
        // In a task of its own: an agent that leaves meanwhile, and this with it, stops no record.
        let settled = tokio::spawn(async move {
            let answer = answer.as_ref().map(|(status, headers)| (*status, headers));
            payer.settle(signed, answer).await
        });
        let settled = settled.await.ok();
        agent.stays();
        settled
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        if let Some(signed) = self.signed.take() {
            // Before it is recorded, as the agent's retry may come sooner.
            drop(signed.presence());
            let payer = Arc::clone(&self.payer);
            tokio::spawn(async move { payer.settle(signed, None).await });
        }
    }
}
