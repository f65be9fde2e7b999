//! A stream of events that goes on while something is bought: what came before, and then the answer that
//! was paid for.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, header, response};
use http_body::{Body as _, Frame};
use tokio::sync::mpsc;

use super::events::{Event, Events};
use super::{BOUND, Buyer, Kind, told};
use crate::protocol::jsonrpc::Call;
use crate::proxy::body::{Body, BodyError, Polled};
use crate::proxy::exchange::delivered;
use crate::proxy::serve::Conn;

/// Where the parts of the stream go. Its other end is gone when the agent is.
pub(super) struct Out(mpsc::Sender<Result<Frame<Bytes>, BodyError>>);

/// The agent does not want any more.
pub(super) struct Gone;

impl Out {
    pub(super) async fn data(&self, data: impl Into<Bytes>) -> Result<(), Gone> {
        self.frame(Ok(Frame::data(data.into()))).await
    }

    pub(super) async fn frame(&self, frame: Result<Frame<Bytes>, BodyError>) -> Result<(), Gone> {
        self.0.send(frame).await.map_err(|_| Gone)
    }

    /// The stream breaks off, and the agent sees that it does.
    pub(super) async fn broken(&self) {
        let _ = self.frame(Err(BodyError::Unwanted)).await;
    }
}

type Weaver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A body that somebody makes while it is read: nothing goes on unless it is, and dropping it ends that.
pub(in crate::proxy) struct Woven {
    /// Bodies are lent across threads, so it is locked; only its owner ever looks.
    weaver: Option<Mutex<Weaver>>,
    frames: mpsc::Receiver<Result<Frame<Bytes>, BodyError>>,
}

impl Woven {
    pub(super) fn new<F>(weave: impl FnOnce(Out) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (out, frames) = mpsc::channel(1);
        Self {
            weaver: Some(Mutex::new(Box::pin(weave(Out(out))))),
            frames,
        }
    }

    /// The answer with this head. Whatever the merchant said of the bytes and their number is of another body.
    pub(super) fn answers(self, conn: &Conn, mut head: response::Parts) -> Response<Body> {
        for name in [header::CONTENT_LENGTH, header::ETAG, header::ACCEPT_RANGES] {
            head.headers.remove(name);
        }
        // It is in no coding, or it would not have been read.
        for name in BOUND {
            head.headers.remove(name);
        }
        let body = Body::Woven(Box::new(self));
        delivered(conn, Response::from_parts(head, body))
    }

    pub(in crate::proxy) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        loop {
            if let Poll::Ready(frame) = self.frames.poll_recv(cx) {
                return Poll::Ready(frame);
            }
            let Some(weaver) = &mut self.weaver else {
                return Poll::Pending;
            };
            let weaver = weaver.get_mut().unwrap_or_else(PoisonError::into_inner);
            match weaver.as_mut().poll(cx) {
                Poll::Ready(()) => self.weaver = None,
                Poll::Pending => return self.frames.poll_recv(cx),
            }
        }
    }
}

/// Goes on with a stream whose first event was another than the answer.
pub(super) async fn first(
    buyer: Buyer,
    head: response::Parts,
    mut events: Events,
    mut raw: Bytes,
    out: Out,
) {
    loop {
        if out.data(raw).await.is_err() {
            return;
        }
        match events.next().await {
            Event::Other(next) => raw = next,
            Event::Answer(raw, answer) => {
                let call = Arc::clone(&buyer.call);
                let response = Response::from_parts(head, events.rest(raw));
                let bought = buyer.answer(Some(answer), response).await;
                let _ = pour(bought, &call, &out).await;
                return;
            }
            Event::End(trailers) => {
                if let Some(trailers) = trailers {
                    let _ = out.frame(Ok(Frame::trailers(trailers))).await;
                }
                return;
            }
            Event::Broken => return out.broken().await,
        }
    }
}

/// An answer of its own as the rest of a stream that has begun.
pub(super) async fn pour(response: Response<Body>, call: &Call, out: &Out) -> Result<(), Gone> {
    let (head, mut body) = response.into_parts();
    // The stream that it goes on in has no coding.
    let coded = head.headers.contains_key(header::CONTENT_ENCODING);
    let kind = Kind::of(&head.headers).filter(|_| head.status.is_success() && !coded);
    let note = told::note(&head.headers);
    out.data(note).await?;
    match kind {
        Some(Kind::Events) => {
            while let Some(frame) = next(&mut body).await {
                out.frame(frame).await?;
            }
            Ok(())
        }
        Some(Kind::Json) => {
            out.data("event: message\ndata: ").await?;
            while let Some(frame) = next(&mut body).await {
                match frame.map(Frame::into_data) {
                    Ok(Ok(data)) => out.data(one_field(&data)).await?,
                    // Trailers of another message.
                    Ok(Err(_)) => {}
                    Err(broken) => return out.frame(Err(broken)).await,
                }
            }
            out.data("\n\n").await
        }
        None => {
            let error = told::no_answer(call, head.status);
            out.data(format!("event: message\ndata: {error}\n\n")).await
        }
    }
}

async fn next(body: &mut Body) -> Polled {
    std::future::poll_fn(|cx| {
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        Poll::Ready(frame)
    })
    .await
}

/// JSON text over as many `data` lines as it has lines: between its parts a line end is as good as a space.
fn one_field(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    for byte in data {
        match byte {
            b'\n' => out.extend_from_slice(b"\ndata: "),
            b'\r' => out.push(b' '),
            other => out.push(*other),
        }
    }
    out
}
