//! What a CONNECT tunnel carries: TLS that is opened here, plain HTTP, or bytes that are none of our
//! business. Anything else is closed: a blind tunnel would be a way around the policy.

use std::future::pending;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use super::client::Client;
use super::io::Rewound;
use super::refuse::{self, ClientError};
use super::relay::{Place, relay};
use super::serve::Service;
use super::slices::Sliced;
use super::target::Target;
use super::trail::Trail;
use super::{Proxy, connect, first, serve};
use crate::payment::Session;

/// A tunnel: where it leads, on whose budget, and what it came through.
pub(super) struct Passage {
    pub(super) target: Target,
    pub(super) session: Arc<Session>,
    pub(super) trail: Trail,
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// First byte of a TLS record that carries a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;

/// Answers CONNECT and serves what comes through the tunnel. `first` came with the CONNECT head.
pub(super) async fn open(
    proxy: Arc<Proxy>,
    mut stream: Client,
    first: Bytes,
    passage: Passage,
) -> io::Result<Option<Service>> {
    if proxy.blind(&passage.target) {
        return blind(proxy, stream, first, passage).await;
    }
    stream.write_all(ESTABLISHED).await?;
    let Some(first) = something(&proxy, &mut stream, first).await? else {
        return Ok(None);
    };
    let (byte, request) = (first.first().copied(), first::is_request(&first));
    let io = Rewound::new(first, stream);
    match byte {
        Some(HANDSHAKE) => intercept(proxy, io, passage).await.map(Some),
        // Node's fetch tunnels plain http:// too. It is governed like the rest.
        Some(_) if request => {
            let over = serve::Over::Plain;
            Ok(Some(serve::tunnelled(proxy, io, passage, over)))
        }
        _ => {
            let target = &passage.target;
            tracing::info!(%target, "closed a tunnel that carries neither TLS nor HTTP");
            Ok(None)
        }
    }
}

/// Bytes from the client that say something, or `None` when it left or only waits (a protocol in which the
/// server speaks first cannot be governed).
async fn something(proxy: &Proxy, stream: &mut Client, first: Bytes) -> io::Result<Option<Bytes>> {
    if !first::says_nothing(&first) {
        return Ok(Some(first));
    }
    let mut buffer = BytesMut::with_capacity(2048);
    buffer.extend_from_slice(&first);
    let read = async {
        while first::says_nothing(&buffer) {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    };
    match timeout(proxy.limits.first_byte_timeout, read).await {
        Ok(Ok(true)) => Ok(Some(buffer.freeze())),
        Ok(Ok(false)) | Err(_) => Ok(None),
        Ok(Err(e)) => Err(e),
    }
}

/// Ends the client's TLS here, with a certificate for the target, and serves what is inside.
pub(super) async fn intercept(
    proxy: Arc<Proxy>,
    mut io: Rewound<Client>,
    passage: Passage,
) -> io::Result<Service> {
    let mut said = BytesMut::new();
    tokio::select! {
        biased;
        () = proxy.flood.leaf(&passage.session.id.0) => {}
        gone = gone(&mut io, &mut said) => return Err(gone),
    }
    io.unread(said.freeze());
    let target = &passage.target;
    let handshake = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        let config = proxy
            .interceptor
            .answer(&target.host, &start.client_hello());
        match config {
            Ok(config) => start.into_stream(config).await,
            Err(e) => Err(refuse_hello(start.io, target, e).await),
        }
    };
    let shaken = timeout(proxy.limits.handshake_timeout, handshake).await;
    proxy.pool.tally.agents.shaken(&shaken);
    let tls = shaken.map_err(|_| io::ErrorKind::TimedOut)??;
    let over = match tls.get_ref().1.alpn_protocol() {
        Some(b"h2") => serve::Over::TlsH2,
        _ => serve::Over::TlsH1,
    };
    Ok(serve::tunnelled(proxy, Sliced::new(tls), passage, over))
}

/// Bytes of a greeting that are read before its turn.
const GREETING: usize = 16 * 1024;

/// Ends when the client does. Whoever waits for its turn and leaves must not stand in others' way (threats D-01, T-16).
/// What it says until then is in `said`.
async fn gone(io: &mut Rewound<Client>, said: &mut BytesMut) -> io::Error {
    while said.len() < GREETING {
        match io.read_buf(said).await {
            Ok(1..) => {}
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Err(e) => return e,
        }
    }
    pending().await
}

/// `unrecognized_name`, fatal (RFC 6066 section 3), in the clear as nothing is agreed yet: a client
/// that hides its name (ECH) or means another one learns why it is not served.
const UNRECOGNISED: &[u8] = &[0x15, 3, 3, 0, 2, 2, 112];

async fn refuse_hello(
    mut io: Rewound<Client>,
    target: &Target,
    why: crate::tls::Refused,
) -> io::Error {
    tracing::info!(%target, error = %why, "closed a tunnel whose TLS is for somebody else");
    // The client may be gone already.
    let _ = io.write_all(UNRECOGNISED).await;
    let _ = io.shutdown().await;
    io::Error::other(why)
}

/// Pinned clients and hosts that no rule could pay: the upstream's own certificate, unread bytes.
async fn blind(
    proxy: Arc<Proxy>,
    mut stream: Client,
    first: Bytes,
    Passage {
        target,
        trail,
        session,
    }: Passage,
) -> io::Result<Option<Service>> {
    let Some(place) = Place::take(&proxy, &session.id.0) else {
        let answer = ClientError::Crowded.response();
        return connect::told(answer, &mut stream, &proxy)
            .await
            .map(|()| None);
    };
    let mut upstream = match proxy
        .upstream
        .dialer
        .connect(&session.id.0, &target, &trail)
        .await
    {
        Ok(upstream) => upstream,
        Err(e) => {
            let answer = refuse::gateway(&e);
            return connect::told(answer, &mut stream, &proxy)
                .await
                .map(|()| None);
        }
    };
    stream.write_all(ESTABLISHED).await?;
    upstream.write_all(&first).await?;
    Ok(Some(Box::pin(async move {
        relay(&proxy, place, stream, upstream).await
    })))
}
