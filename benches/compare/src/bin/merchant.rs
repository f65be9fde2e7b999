//! `merchant CERTS`: the upstream of every proxy, on 127.0.0.1: 8443 with TLS, 8080 without, and a name
//! server on 53 that knows one address.
//!
//! `/bytes/N` answers with N bytes, `/events/N` with N events 10 ms apart that carry the time, `/paid`
//! with 402 until a payment comes along.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use farepass_compare::{Failure, certificates, nanos};
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, pem::PemObject};

type Body = BoxBody<Bytes, Infallible>;

static PAGE: [u8; 64 * 1024] = [b'.'; 64 * 1024];

/// The two header values of a sale.
struct Till {
    challenge: String,
    receipt: String,
}

impl Till {
    fn new() -> Self {
        let offer = json!({
            "scheme": "exact", "network": "eip155:84532", "amount": "1000", "maxTimeoutSeconds": 60,
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
            "extra": { "name": "USDC", "version": "2" },
        });
        let resource = json!({
            "url": "https://api.bench.test:8443/paid", "description": "", "mimeType": "text/plain",
        });
        let challenge = json!({ "x402Version": 2, "resource": resource, "accepts": [offer] });
        let transaction = format!("0x{:064x}", 402);
        let receipt =
            json!({ "success": true, "network": "eip155:84532", "transaction": transaction });
        Self {
            challenge: STANDARD.encode(challenge.to_string()),
            receipt: STANDARD.encode(receipt.to_string()),
        }
    }
}

fn whole(bytes: &'static [u8]) -> Body {
    Full::new(Bytes::from_static(bytes)).boxed()
}

fn long(length: usize) -> Body {
    let pieces = stream::unfold(length, |left| async move {
        let piece = PAGE.get(..left.min(PAGE.len()))?;
        let next = left - piece.len();
        (!piece.is_empty()).then(|| (Ok(Frame::data(Bytes::from_static(piece))), next))
    });
    StreamBody::new(pieces).boxed()
}

fn events(count: u64) -> Body {
    let events = stream::unfold(count, |left| async move {
        let rest = left.checked_sub(1)?;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let event = format!("data: {}\n\n", nanos());
        Some((Ok(Frame::data(Bytes::from(event))), rest))
    });
    StreamBody::new(events).boxed()
}

async fn answer(till: Arc<Till>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::builder();
    let path = request.uri().path();
    let number = |start: &str| path.strip_prefix(start)?.parse().ok();
    let body = if let Some(length) = number("/bytes/") {
        response = response.header(header::CONTENT_LENGTH, length);
        match PAGE.get(..length) {
            Some(bytes) => whole(bytes),
            None => long(length),
        }
    } else if let Some(count) = number("/events/") {
        response = response.header(header::CONTENT_TYPE, "text/event-stream");
        events(count as u64)
    } else if path != "/paid" {
        response = response.status(404);
        whole(b"")
    } else if request.headers().contains_key("payment-signature") {
        response = response.header("payment-response", &till.receipt);
        whole(&PAGE[..1024])
    } else {
        response = response
            .status(402)
            .header("payment-required", &till.challenge);
        whole(b"{}")
    };
    Ok(response.body(body).expect("fields of our own"))
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(till: Arc<Till>, io: S) {
    let service = service_fn(move |request| answer(Arc::clone(&till), request));
    let builder = auto::Builder::new(TokioExecutor::new());
    // Whoever left needs no answer.
    let _ = builder.serve_connection(TokioIo::new(io), service).await;
}

async fn listen(port: u16, till: Arc<Till>, tls: Option<TlsAcceptor>) -> Result<(), Failure> {
    let listener = TcpListener::bind(here(port)).await?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let (till, tls) = (till.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(till, tcp).await,
                Some(tls) => {
                    if let Ok(io) = tls.accept(tcp).await {
                        serve(till, io).await;
                    }
                }
            }
        });
    }
}

/// Every name has one address of version 4 and none of version 6.
async fn names() -> Result<(), Failure> {
    let socket = UdpSocket::bind(here(53)).await?;
    let mut question = [0; 512];
    loop {
        let (length, asker) = socket.recv_from(&mut question).await?;
        let asked = question.get(12..length).unwrap_or_default();
        let end = asked.iter().position(|b| *b == 0).map(|at| at + 5);
        let Some(asked) = end.and_then(|end| asked.get(..end)) else {
            continue;
        };
        let v4 = asked.ends_with(&[0, 1, 0, 1]);
        let mut reply = [
            &question[..2],
            &[0x81, 0x80, 0, 1, 0, u8::from(v4), 0, 0, 0, 0],
            asked,
        ]
        .concat();
        if v4 {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        socket.send_to(&reply, asker).await?;
    }
}

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let certs = PathBuf::from(std::env::args().nth(1).ok_or("CERTS")?);
    let mut tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            certificates(&certs.join("upstream.pem"))?,
            PrivateKeyDer::from_pem_file(certs.join("upstream-key.pem"))?,
        )?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tls.ticketer = aws_lc_rs::Ticketer::new()?;
    let till = Arc::new(Till::new());
    let secure = listen(8443, till.clone(), Some(TlsAcceptor::from(Arc::new(tls))));
    tokio::try_join!(names(), secure, listen(8080, till, None))?;
    Ok(())
}
