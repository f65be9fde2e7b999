//! Towards the agent: one connection, each of its streams an exchange of its own.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use super::out::{Outs, Told};
use super::pipe::Cut;
use super::received::Received;
use super::{Turn, measure, pipe, strip};
use crate::proxy::body::{Body, Source};
use crate::proxy::exchange::{Question, exchange};
use crate::proxy::expect;
use crate::proxy::headers;
use crate::proxy::interim::Sink;
use crate::proxy::patience::Patience;
use crate::proxy::serve::{Conn, Serve};

/// What one stream may have on its way to us.
const STREAM_WINDOW: u32 = 256 << 10;
/// What all of a connection may: uploads that merchants do not read must not stop the others.
const WINDOW: u32 = 4 << 20;
/// Between an answer and the reset of an upload that goes on: some agents lose what they read together with the reset.
const APART: Duration = Duration::from_millis(10);
/// Bytes that wait for the agent on one stream.
const SEND_BUFFER: usize = 400 << 10;

/// One connection, from its preface on.
pub(in crate::proxy) struct Connection<S> {
    state: State<S>,
    conn: Arc<Conn>,
    /// It takes no more streams.
    finishing: bool,
    turn: Turn,
    outs: Arc<Outs>,
    told: Told,
}

enum State<S> {
    Begins(server::Handshake<S, Bytes>),
    Serves(server::Connection<S, Bytes>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(in crate::proxy) fn new(conn: Arc<Conn>, io: S) -> Self {
        let limits = &conn.proxy.limits;
        let handshake = server::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_streams(limits.h2_streams)
            .max_header_list_size(limits.header_bytes_u32())
            .max_pending_accept_reset_streams(limits.h2_resets)
            .max_local_error_reset_streams(Some(limits.h2_errors))
            .handshake(io);
        Self {
            state: State::Begins(handshake),
            conn,
            finishing: false,
            turn: Turn::default(),
            outs: Arc::default(),
            told: Told::default(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Serve for Box<Connection<S>> {
    fn finish(&mut self) {
        if self.finishing {
            return;
        }
        if let State::Serves(connection) = &mut self.state {
            connection.graceful_shutdown();
        }
        self.finishing = true;
    }

    /// Its streams come and go by themselves.
    fn rest(&mut self) {}

    fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Connection {
            state,
            conn,
            finishing,
            turn,
            outs,
            told,
        } = &mut **self;
        ready!(turn.comes(cx));
        loop {
            match state {
                State::Begins(handshake) => {
                    let connection = ready!(Pin::new(handshake).poll(cx));
                    let mut connection = connection.map_err(io::Error::other)?;
                    if *finishing {
                        connection.graceful_shutdown();
                    }
                    *state = State::Serves(connection);
                }
                State::Serves(connection) => {
                    outs.look(told, cx);
                    match connection.poll_accept(cx) {
                        Poll::Pending => {
                            if conn.pulse.is_flushed() {
                                told.out();
                            }
                            return Poll::Pending;
                        }
                        Poll::Ready(Some(Ok((request, respond)))) => {
                            let (conn, outs) = (Arc::clone(conn), Arc::clone(outs));
                            drop(tokio::spawn(stream(conn, outs, request, respond)));
                        }
                        Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(io::Error::other(e))),
                        Poll::Ready(None) => return Poll::Ready(Ok(())),
                    }
                }
            }
        }
    }
}

/// One request and its answer. Ends early when the agent takes the request back.
async fn stream(
    conn: Arc<Conn>,
    outs: Arc<Outs>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    if headers::exceed(request.headers(), conn.proxy.limits.header_count) {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        drop(respond.send_response(head, true));
        return parted(!request.body().is_end_stream(), &outs).await;
    }
    let (mut parts, body) = request.into_parts();
    let sink = Sink::new(conn.proxy.via.as_ref());
    let mut body = Received::new(body, &parts.headers);
    if expect::expects(&parts.headers) {
        body.is_waited_for(sink.clone());
    }
    let open = !body.is_end();
    let (body, only_head) = (Source::Http2(body), parts.method == Method::HEAD);
    parts.extensions.insert(sink.clone());
    let answer = {
        let mut question = Question::new(&conn, Request::from_parts(parts, body));
        let mut exchanged = pin!(exchange(&conn, &mut question));
        poll_fn(|cx| {
            let answer = exchanged.as_mut().poll(cx);
            // What came before the answer goes out before it.
            for head in sink.said(cx) {
                let _ = respond.send_informational(head);
            }
            match answer {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => respond.poll_reset(cx).map(|_| None),
            }
        })
        .await
    };
    let Some(answer) = answer else { return };
    match reply(&conn, &outs, &mut respond, (answer, only_head)).await {
        Err(error) => tracing::debug!(%error, "a stream of an agent ended early"),
        Ok(()) => parted(open, &outs).await,
    }
}

/// After an answer. `open`: its stream will be reset, let go of before the upload is over, and agents lose an answer
/// that this comes with.
async fn parted(open: bool, outs: &Outs) {
    if open {
        outs.all_out().await;
        sleep(APART).await;
    }
}

async fn reply(
    conn: &Conn,
    outs: &Outs,
    respond: &mut SendResponse<Bytes>,
    (answer, only_head): (Response<Body>, bool),
) -> Result<(), h2::Error> {
    let (parts, body) = answer.into_parts();
    let mut head = Response::from_parts(parts, ());
    strip(head.headers_mut());
    if head.status() == StatusCode::NO_CONTENT {
        // Merchants say it against RFC 9110 section 8.6, and agents take it for a length of what does not come.
        head.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let over = body.is_end_stream();
    if !over {
        measure(head.headers_mut(), &body);
    }
    // What we say ourselves is said without a look at the method.
    let over = over || only_head && matches!(body, Body::Full(_));
    match respond.send_response(head, over) {
        Ok(_) if over => Ok(()),
        Ok(out) => {
            let patience = Patience::new(conn.proxy.limits.idle_timeout, &conn.lane.silence);
            let sent = pipe::send(body, out, patience).await;
            if let Err(Cut::Body(_)) = &sent {
                // What there was of it is the agent's.
                outs.all_out().await;
            }
            let sent = sent.map_err(Cut::told);
            if sent.is_err() {
                // Says something only where the agent took nothing for too long.
                respond.send_reset(Reason::CANCEL);
            }
            sent
        }
        Err(e) => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            Err(e)
        }
    }
}
