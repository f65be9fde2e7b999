//! A TLS merchant on a loopback port that asks for 402 payments, verifies them, and delivers.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::server::Acceptor;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::facilitator::{Facilitator, NETWORK, Objection, Offer, Sale, TOKEN, Version};
use crate::clock;
use crate::evm::{self, Address};
use crate::tls::{Authority, Interceptor, TlsError};

/// The longest request body that is read, in bytes.
const BODY_MAX: usize = 64 * 1024;

/// Seconds that an offer lets a payload live.
const VALID_FOR: u64 = 60;

/// Why no merchant could be started.
#[derive(Debug, thiserror::Error)]
pub enum MerchantError {
    /// No loopback port.
    #[error("the merchant has no port: {0}")]
    Port(#[from] io::Error),
    /// No certificate.
    #[error("the merchant has no certificate: {0}")]
    Certificate(#[from] TlsError),
}

/// A running merchant. It stops when it is closed or dropped.
pub struct Merchant {
    address: SocketAddr,
    ca_pem: String,
    shop: Arc<Shop>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Merchant {
    /// Opens on a free loopback port, for these host names. The first name is the one in its offers.
    /// Its authority is made in `dir`, if it is not there.
    ///
    /// # Errors
    /// When there is no port or no certificate.
    pub async fn start(dir: &Path, hosts: &[&str]) -> Result<Self, MerchantError> {
        let authority = Arc::new(Authority::open_or_create(dir)?);
        let ca_pem = authority.certificate_pem().to_owned();
        let certificates = Interceptor::new(authority, 8)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let hosts = hosts.iter().map(|h| Arc::from(*h)).collect();
        let shop = Arc::new(Shop::new(hosts, certificates));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(accept(listener, Arc::clone(&shop), stopped));
        Ok(Self {
            address,
            ca_pem,
            shop,
            stop,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of its authority, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Whom it wants paid.
    #[must_use]
    pub fn pay_to(&self) -> Address {
        self.shop.pay_to
    }

    /// How many payments it took, and how many atomic units they brought.
    #[must_use]
    pub fn takings(&self) -> (usize, u128) {
        let till = self
            .shop
            .till
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (till.payments(), till.earned())
    }

    /// Closes the door and waits until it is closed.
    pub async fn close(self) {
        drop(self.stop);
        // The task ends on its own; all it could report is its own abort.
        let _ = self.task.await;
    }
}

/// One connection, one task; all of them end with the merchant.
async fn accept(listener: TcpListener, shop: Arc<Shop>, mut stopped: oneshot::Receiver<()>) {
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            Some(_) = guests.join_next() => {}
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    guests.spawn(serve(socket, Arc::clone(&shop)));
                }
            }
        }
    }
}

/// A guest that speaks no TLS, asks for another name or breaks off is its own loss.
async fn serve(socket: TcpStream, shop: Arc<Shop>) {
    let Some(stream) = shop.greet(socket).await else {
        return;
    };
    let answer = service_fn(move |request| {
        let shop = Arc::clone(&shop);
        async move { Ok::<_, Infallible>(shop.answer(request).await) }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

/// What is for sale, and the till.
struct Shop {
    hosts: Vec<Arc<str>>,
    certificates: Interceptor,
    pay_to: Address,
    till: Mutex<Facilitator>,
}

impl Shop {
    fn new(hosts: Vec<Arc<str>>, certificates: Interceptor) -> Self {
        let hash = evm::keccak(hosts.concat().as_bytes());
        let mut pay_to = [0; 20];
        pay_to.copy_from_slice(hash.split_at(12).1);
        Self {
            hosts,
            certificates,
            pay_to: Address(pay_to),
            till: Mutex::new(Facilitator::default()),
        }
    }

    async fn greet(&self, socket: TcpStream) -> Option<TlsStream<TcpStream>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket);
        let started = hello.await.ok()?;
        let hello = started.client_hello();
        let host = self.hosts.iter().find(|h| hello.server_name() == Some(h))?;
        let config = self.certificates.answer(host, &hello).ok()?;
        started.into_stream(config).await.ok()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (asked, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "that is too long to read\n");
        };
        let Some(item) = item(&asked.method, asked.uri.path(), &body.to_bytes()) else {
            return plain(StatusCode::NOT_FOUND, "no such page\n");
        };
        let Some((version, amount)) = item.price else {
            return delivered(&item.page);
        };
        let offer = self.offer(asked.uri.path(), version, amount);
        let name = match version {
            Version::V1 => "x-payment",
            Version::V2 => "payment-signature",
        };
        let Some(payment) = asked.headers.get(name) else {
            return self.ask(asked.uri.path(), &offer, "Payment required");
        };
        match self.take(&offer, payment.as_bytes()) {
            Ok(sale) => with_receipt(delivered(&item.page), version, &sale),
            Err(objection) => self.ask(asked.uri.path(), &offer, &objection.to_string()),
        }
    }

    fn url(&self, path: &str) -> String {
        let host = self.hosts.first().map_or("localhost", |h| h);
        format!("https://{host}{path}")
    }

    fn take(&self, offer: &Offer, payment: &[u8]) -> Result<Sale, Objection> {
        let mut till = self.till.lock().unwrap_or_else(PoisonError::into_inner);
        till.settle(offer, payment, clock::wall())
    }

    fn offer(&self, path: &str, version: Version, amount: u128) -> Offer {
        let extra = json!({"name": "USDC", "version": "2"});
        let entry = match version {
            Version::V1 => json!({
                "scheme": "exact", "network": "base-sepolia", "maxAmountRequired": amount.to_string(),
                "resource": self.url(path), "description": "",
                "mimeType": "application/json", "payTo": self.pay_to.to_string(),
                "maxTimeoutSeconds": VALID_FOR, "asset": TOKEN, "extra": extra}),
            Version::V2 => json!({
                "scheme": "exact", "network": NETWORK, "amount": amount.to_string(), "asset": TOKEN,
                "payTo": self.pay_to.to_string(), "maxTimeoutSeconds": VALID_FOR, "extra": extra}),
        };
        Offer {
            version,
            amount,
            pay_to: self.pay_to,
            entry,
        }
    }

    /// 402: version 1 puts its terms into the body, version 2 into a header (x402 section 5.1).
    fn ask(&self, path: &str, offer: &Offer, error: &str) -> Response<Full<Bytes>> {
        let mut terms = json!({"error": error, "accepts": [offer.entry]});
        match offer.version {
            Version::V1 => {
                terms["x402Version"] = json!(1);
                page(StatusCode::PAYMENT_REQUIRED, &terms)
            }
            Version::V2 => {
                terms["x402Version"] = json!(2);
                terms["resource"] = json!({"url": self.url(path)});
                let answer = page(StatusCode::PAYMENT_REQUIRED, &json!({"error": error}));
                with_header(answer, "payment-required", &terms)
            }
        }
    }
}

/// A page and its price, if it has one: the version it is offered in, and atomic units.
struct Item {
    page: Value,
    price: Option<(Version, u128)>,
}

fn item(method: &Method, path: &str, body: &[u8]) -> Option<Item> {
    let (page, price) = match (method.as_str(), path) {
        ("GET", "/") => (
            json!({"city": "Utrecht", "now": "12 °C, light rain", "more": "/forecast"}),
            None,
        ),
        ("GET", "/forecast") => (
            json!({"city": "Utrecht", "tomorrow": "14 °C, dry", "confidence": "high"}),
            Some((Version::V2, 10_000)),
        ),
        ("POST", "/report") => {
            let words = String::from_utf8_lossy(body).split_whitespace().count();
            (
                json!({"read": words, "verdict": "plausible"}),
                Some((Version::V1, 20_000)),
            )
        }
        ("GET", "/luxury") => (
            json!({"tomorrow": "whatever you like"}),
            Some((Version::V2, 5_000_000)),
        ),
        _ => return None,
    };
    Some(Item { page, price })
}

fn delivered(content: &Value) -> Response<Full<Bytes>> {
    page(StatusCode::OK, content)
}

fn page(status: StatusCode, content: &Value) -> Response<Full<Bytes>> {
    let mut response = plain(status, &format!("{content}\n"));
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let text = header::HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    let fresh = header::HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, fresh);
    response
}

/// The receipt (x402 section 5.3). The transaction is a stand-in: no chain is involved.
fn with_receipt(
    answer: Response<Full<Bytes>>,
    version: Version,
    sale: &Sale,
) -> Response<Full<Bytes>> {
    let (name, network) = match version {
        Version::V1 => ("x-payment-response", "base-sepolia"),
        Version::V2 => ("payment-response", NETWORK),
    };
    let receipt = json!({
        "success": true, "transaction": format!("0x{}", hex::encode(sale.transaction)),
        "network": network, "payer": sale.from.to_string()});
    with_header(answer, name, &receipt)
}

fn with_header(
    mut answer: Response<Full<Bytes>>,
    name: &'static str,
    value: &Value,
) -> Response<Full<Bytes>> {
    // Base64 is always a legal header value.
    if let Ok(value) = header::HeaderValue::from_str(&STANDARD.encode(value.to_string())) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

#[cfg(test)]
mod tests;
