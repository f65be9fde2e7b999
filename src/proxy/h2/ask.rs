//! Towards the merchant: one connection, which carries the requests of one session.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, Connection, SendRequest};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::received::Received;
use super::unasked::Unasked;
use super::{Turn, measure, pipe, strip};
use crate::proxy::body::{Body, Source};
use crate::proxy::failure::UpstreamError;
use crate::proxy::form::means_a_body;
use crate::proxy::interim::{Listener, Read};
use crate::proxy::lane::Lane;
use crate::proxy::patience::Patience;
use crate::settings::Limits;

/// What one stream may have on its way to us: answers are larger than requests.
const STREAM_WINDOW: u32 = 1 << 20;
/// What all of a connection may: a few agents that do not read must not stop the others of their session.
pub(super) const WINDOW: u32 = 16 << 20;
/// Bytes that wait for the merchant on one stream.
const SEND_BUFFER: usize = 1 << 20;

/// Sends requests on one connection.
#[derive(Clone)]
pub(in crate::proxy) struct Sender {
    requests: SendRequest<Bytes>,
    open: Arc<AtomicBool>,
    /// How long the merchant may take nothing of a body.
    idle: Duration,
    /// When the last is gone the connection ends with its last stream.
    _alive: mpsc::Sender<Infallible>,
}

/// Begins a connection. `asked`: the requests on it.
///
/// # Errors
/// When it ends before it began.
pub(in crate::proxy) async fn connect<S>(
    io: S,
    asked: Arc<AtomicUsize>,
    limits: &Limits,
) -> Result<Sender, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, connection) = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(limits.header_bytes_u32())
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_local_error_reset_streams(Some(limits.h2_errors))
        .enable_push(false)
        // Until its settings say how many it takes: what goes beyond that is refused.
        .initial_max_send_streams(1)
        .handshake(Unasked::new(io, asked))
        .await?;
    let (alive, all_gone) = mpsc::channel(1);
    let open = Arc::new(AtomicBool::new(true));
    drop(tokio::spawn(drive(connection, all_gone, Arc::clone(&open))));
    Ok(Sender {
        requests,
        open,
        idle: limits.idle_timeout,
        _alive: alive,
    })
}

/// Moves its frames until it ends.
async fn drive<S>(
    mut connection: Connection<S, Bytes>,
    mut all_gone: mpsc::Receiver<Infallible>,
    open: Arc<AtomicBool>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut used, mut turn) = (true, Turn::default());
    let ended = poll_fn(|cx| {
        ready!(turn.comes(cx));
        // A connection that sleeps does not notice that nobody can ask anything any more.
        if used && all_gone.poll_recv(cx).is_ready() {
            used = false;
        }
        Pin::new(&mut connection).poll(cx)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "upstream connection ended");
    }
    open.store(false, Ordering::Relaxed);
}

/// An upload that ends with whoever waits for its answer, until there is one.
struct Upload(Option<JoinHandle<()>>);

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

impl Sender {
    /// Does it take no more requests?
    pub(in crate::proxy) fn is_closed(&self) -> bool {
        !self.open.load(Ordering::Relaxed)
    }

    /// Waits until it takes another request.
    ///
    /// # Errors
    /// When it takes no more.
    pub(in crate::proxy) async fn ready(&mut self) -> Result<(), h2::Error> {
        let ready = poll_fn(|cx| self.requests.poll_ready(cx)).await;
        if ready.is_err() {
            self.open.store(false, Ordering::Relaxed);
        }
        ready
    }

    /// Sends a request and waits for the head of its answer. What comes before that `listener` hears.
    ///
    /// # Errors
    /// When there is none. Whether the request arrived nobody knows.
    pub(in crate::proxy) async fn send(
        &mut self,
        request: Request<Body>,
        lane: &Lane,
        listener: Option<&Listener>,
    ) -> Result<Response<Source>, UpstreamError> {
        let broke = Arc::new(AtomicBool::new(false));
        let answer = self.answer(request, lane, listener, &broke).await;
        if answer.is_err() {
            // It may have said that it goes away.
            let mut cx = Context::from_waker(Waker::noop());
            if let Poll::Ready(Err(_)) = self.requests.poll_ready(&mut cx) {
                self.open.store(false, Ordering::Relaxed);
            }
        }
        let answer = answer.map_err(|error| match broke.load(Ordering::Acquire) {
            true => UpstreamError::RequestBody,
            false => error,
        });
        let (head, body) = answer?.into_parts();
        let body = Source::Http2(Received::new(body, &head.headers));
        Ok(Response::from_parts(head, body))
    }

    async fn answer(
        &mut self,
        request: Request<Body>,
        lane: &Lane,
        listener: Option<&Listener>,
        broke: &Arc<AtomicBool>,
    ) -> Result<Response<h2::RecvStream>, UpstreamError> {
        let (parts, body) = request.into_parts();
        let mut head = Request::from_parts(parts, ());
        strip(head.headers_mut());
        let over = body.is_end_stream();
        if !over || means_a_body(head.method()) {
            measure(head.headers_mut(), &body);
        }
        let (answer, out) = self.requests.send_request(head, over)?;
        let (mut upload, kept) = (Upload(None), body.is_kept());
        if !over {
            // Given up, it ends with the answer, which has bounds of its own.
            let patience = Patience::new(self.idle, &lane.silence);
            let mut sending = Box::pin(upload_of(body, out, patience, Arc::clone(broke)));
            // What is at hand needs no task.
            let waits = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_pending())).await;
            upload.0 = waits.then(|| tokio::spawn(sending));
        }
        let mut answer = pin!(answer);
        let read = Read::default();
        let answer = poll_fn(|cx| {
            // Also where nobody hears it: what is not taken is kept.
            while let Poll::Ready(Some(Ok(head))) = answer.poll_informational(cx) {
                if read.is_beyond(head.headers()) {
                    return Poll::Ready(Err(UpstreamError::Interim));
                }
                if let Some(listener) = listener {
                    listener.hear(head.status(), head.version(), head.headers());
                }
            }
            answer.as_mut().poll(cx).map_err(UpstreamError::from)
        });
        let answer = answer.await?;
        // It has all that it wants: it waited for no body, or the whole of it goes with the payment.
        let unwanted = listener.is_some_and(Listener::answered);
        let asks = kept && answer.status() == StatusCode::PAYMENT_REQUIRED;
        if !(unwanted || asks) {
            // The merchant may answer while it is asked.
            upload.0 = None;
        }
        Ok(answer)
    }
}

/// Sends a body. `broke`: it broke off where it came from.
async fn upload_of(body: Body, out: SendStream<Bytes>, patience: Patience, broke: Arc<AtomicBool>) {
    if let Err(cut) = pipe::send(body, out, patience).await {
        // Before the reset, which is the end of the wait for an answer.
        broke.store(matches!(cut, pipe::Cut::Body(_)), Ordering::Release);
        cut.told();
    }
}
