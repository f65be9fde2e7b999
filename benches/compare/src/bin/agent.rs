//! `agent KEY=VALUE…`: drives one workload through a proxy and prints one line of JSON.
//!
//! `kind` is `steady` (connections are kept), `fresh` (each request has its own), `bulk` (one long
//! body), `events` (the delay of each), or `hold` (connections stay open until stdin ends). With
//! `requests` a run ends after so many, otherwise after `secs`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use farepass_compare::{Failure, nanos, roots};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, Uri, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs;

/// What the command line says.
struct Arguments(HashMap<String, String>);

impl Arguments {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn number(&self, key: &str, default: u64) -> Result<u64, Failure> {
        Ok(self.text(key).map_or(Ok(default), str::parse)?)
    }
}

struct Agent {
    proxy: String,
    url: Uri,
    h2: bool,
    /// A name never used before for each connection.
    strangers: bool,
    tls: TlsConnector,
    /// The proxy's cgroup counter.
    cpu: String,
    serial: AtomicU64,
    seed: u64,
}

enum Sender {
    H1(http1::SendRequest<Empty<Bytes>>),
    H2(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        let response = match self {
            Self::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::H2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        match response.status().as_u16() {
            200 => Ok(response),
            other => Err(format!("status {other}").into()),
        }
    }
}

impl Agent {
    fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let certs = Path::new(arguments.text("certs").ok_or("certs")?);
        let trusted = [certs.join("ca.pem"), certs.join("upstream-ca.pem")];
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(trusted.iter().map(|p| &**p))?)
            .with_no_client_auth();
        let h2 = arguments.text("http") == Some("2");
        tls.alpn_protocols = vec![if h2 {
            b"h2".to_vec()
        } else {
            b"http/1.1".to_vec()
        }];
        if arguments.text("resume").is_none() {
            tls.resumption = Resumption::disabled();
        }
        Ok(Self {
            proxy: arguments.text("proxy").ok_or("proxy")?.into(),
            url: arguments.text("url").ok_or("url")?.parse()?,
            h2,
            strangers: arguments.text("strangers").is_some(),
            tls: TlsConnector::from(Arc::new(tls)),
            cpu: arguments.text("cpu").ok_or("cpu")?.into(),
            serial: AtomicU64::new(0),
            seed: nanos() & 0xff_ffff_ffff,
        })
    }

    /// The host of the next connection.
    fn host(&self) -> String {
        match self.strangers {
            true => format!(
                "s{:x}-{}.bench.test",
                self.seed,
                self.serial.fetch_add(1, Relaxed)
            ),
            false => self.url.host().unwrap_or_default().into(),
        }
    }

    fn plain(&self) -> bool {
        self.url.scheme_str() == Some("http")
    }

    async fn connect(&self, host: &str) -> Result<Sender, Failure> {
        let mut tcp = TcpStream::connect(&self.proxy).await?;
        tcp.set_nodelay(true)?;
        if self.plain() {
            return self.speak(tcp).await;
        }
        let port = self.url.port_u16().unwrap_or(443);
        let head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        tcp.write_all(head.as_bytes()).await?;
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\n") {
            reply.push(tcp.read_u8().await?);
        }
        if !reply.starts_with(b"HTTP/1.1 200") && !reply.starts_with(b"HTTP/1.0 200") {
            return Err(String::from_utf8_lossy(&reply).into());
        }
        self.speak(self.tls.connect(host.to_owned().try_into()?, tcp).await?)
            .await
    }

    async fn speak<S>(&self, io: S) -> Result<Sender, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(io);
        if self.h2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            return Ok(Sender::H2(sender));
        }
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(Sender::H1(sender))
    }

    async fn ask(&self, sender: &mut Sender, host: &str) -> Result<Response<Incoming>, Failure> {
        let path = self.url.path_and_query().map_or("/", |p| p.as_str());
        let authority = match self.url.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let request = Request::builder()
            .header(header::USER_AGENT, "agent")
            .header(header::ACCEPT, "*/*");
        let request = match self.h2 || self.plain() {
            true => request.uri(format!(
                "{}://{authority}{path}",
                self.url.scheme_str().unwrap_or_default()
            )),
            false => request.uri(path),
        };
        let request = match self.h2 {
            true => request,
            false => request.header(header::HOST, authority),
        };
        sender.send(request.body(Empty::new())?).await
    }

    /// One request with its whole answer; returns the answer's length.
    async fn exchange(&self, sender: &mut Sender, host: &str) -> Result<u64, Failure> {
        let mut body = self.ask(sender, host).await?.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(length)
    }

    /// Nanoseconds that the proxy has worked.
    fn worked(&self) -> Result<u64, Failure> {
        let text = std::fs::read_to_string(&self.cpu)?;
        Ok(
            match text
                .strip_prefix("usage_usec ")
                .and_then(|rest| rest.lines().next())
            {
                Some(micros) => micros.parse::<u64>()? * 1000,
                None => text.trim().parse()?,
            },
        )
    }
}

/// When a loop begins to count, and when it ends.
struct Clock {
    begin: Instant,
    end: Option<Instant>,
    left: AtomicU64,
}

impl Clock {
    fn more(&self) -> bool {
        match self.end {
            Some(end) => Instant::now() < end,
            None => self
                .left
                .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1))
                .is_ok(),
        }
    }
}

#[derive(Default)]
struct Tally {
    micros: Vec<u64>,
    error: Option<String>,
    errors: u64,
}

async fn work(agent: Arc<Agent>, clock: Arc<Clock>, keep: bool, mut kept: Option<Sender>) -> Tally {
    let mut tally = Tally::default();
    while tally.errors < 20 && clock.more() {
        let start = Instant::now();
        let host = agent.host();
        let done = async {
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => agent.connect(&host).await?,
            };
            agent.exchange(&mut sender, &host).await?;
            Ok::<_, Failure>(sender)
        };
        match done.await {
            Ok(sender) => {
                kept = keep.then_some(sender);
                if start >= clock.begin {
                    tally
                        .micros
                        .push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
            }
            Err(e) => {
                tally.errors += 1;
                tally.error = Some(e.to_string());
            }
        }
    }
    tally
}

async fn repeat(agent: Arc<Agent>, arguments: &Arguments, keep: bool) -> Result<Value, Failure> {
    let warm = Duration::from_millis(arguments.number("warm_ms", 500)?);
    let secs = Duration::from_secs(arguments.number("secs", 2)?);
    let requests = arguments.number("requests", 0)?;
    let begin = Instant::now() + if requests > 0 { Duration::ZERO } else { warm };
    let clock = Arc::new(Clock {
        begin,
        end: (requests == 0).then(|| begin + secs),
        left: AtomicU64::new(requests),
    });
    let mut workers = JoinSet::new();
    for _ in 0..arguments.number("connections", 16)? {
        let first = match agent.h2 {
            true => Some(agent.connect(&agent.host()).await?),
            false => None,
        };
        for _ in 0..arguments.number("streams", 1)? {
            let kept = match &first {
                Some(Sender::H2(sender)) => Some(Sender::H2(sender.clone())),
                Some(Sender::H1(_)) | None => None,
            };
            workers.spawn(work(agent.clone(), clock.clone(), keep, kept));
        }
    }
    tokio::time::sleep_until(begin.into()).await;
    let (start, before) = (Instant::now(), agent.worked()?);
    let mut all = Tally::default();
    while let Some(tally) = workers.join_next().await {
        let tally = tally?;
        all.micros.extend(tally.micros);
        all.errors += tally.errors;
        all.error = tally.error.or(all.error);
    }
    let (secs, worked) = (start.elapsed().as_secs_f64(), agent.worked()? - before);
    all.micros.sort_unstable();
    let count = all.micros.len();
    Ok(json!({
        "cpu_us": (count > 0).then(|| worked as f64 / 1e3 / count as f64),
        "per_second": count as f64 / secs,
        "p50_us": quantile(&all.micros, 50), "p99_us": quantile(&all.micros, 99),
        "errors": all.errors, "error": all.error,
    }))
}

fn quantile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    sorted
        .get(sorted.len().saturating_sub(1) * percent / 100)
        .copied()
}

async fn bulk(agent: &Agent) -> Result<Value, Failure> {
    let host = agent.host();
    let mut sender = agent.connect(&host).await?;
    let (start, before) = (Instant::now(), agent.worked()?);
    let gigabytes = agent.exchange(&mut sender, &host).await? as f64 / 1e9;
    let worked = (agent.worked()? - before) as f64 / 1e6;
    Ok(json!({
        "cpu_ms_per_gb": worked / gigabytes,
        "mb_per_second": gigabytes * 1e3 / start.elapsed().as_secs_f64(),
    }))
}

async fn events(agent: &Agent) -> Result<Value, Failure> {
    let host = agent.host();
    let mut sender = agent.connect(&host).await?;
    let mut body = agent.ask(&mut sender, &host).await?.into_body();
    let mut delays = vec![];
    while let Some(frame) = body.frame().await {
        let (now, frame) = (nanos(), frame?);
        let text = String::from_utf8_lossy(frame.data_ref().map_or(&[], |data| data));
        let sent = text
            .split("data: ")
            .filter_map(|event| event.trim().parse::<u64>().ok());
        delays.extend(sent.map(|sent| now.saturating_sub(sent) / 1000));
    }
    delays.sort_unstable();
    Ok(json!({
        "p50_us": quantile(&delays, 50), "p99_us": quantile(&delays, 99), "events": delays.len(),
    }))
}

async fn hold(agent: Arc<Agent>, connections: u64) -> Result<Value, Failure> {
    let mut held = vec![];
    for _ in 0..connections {
        let host = agent.host();
        let mut sender = agent.connect(&host).await?;
        agent.exchange(&mut sender, &host).await?;
        held.push(sender);
    }
    println!("{}", json!({ "open": held.len() }));
    // Ends with the one who started us.
    let _ = tokio::io::stdin().read(&mut [0]).await;
    Ok(Value::Null)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let pairs = std::env::args().skip(1).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
        (key.to_owned(), value.to_owned())
    });
    let arguments = Arguments(pairs.collect());
    let agent = Arc::new(Agent::new(&arguments)?);
    let told = match arguments.text("kind").unwrap_or_default() {
        "steady" => repeat(agent, &arguments, true).await,
        "fresh" => repeat(agent, &arguments, false).await,
        "bulk" => bulk(&agent).await,
        "events" => events(&agent).await,
        "hold" => hold(agent, arguments.number("connections", 2000)?).await,
        other => Err(format!("kind={other} is none of steady, fresh, bulk, events, hold").into()),
    };
    println!(
        "{}",
        told.unwrap_or_else(|e| json!({ "error": e.to_string() }))
    );
    Ok(())
}
