//! HTTP/2 and HTTP/1.1 with every name chosen apart: an agent that lies about one, and a merchant that
//! says which of its connections a request came on.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// One request as the merchant saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    /// Counted from 0.
    pub(crate) connection: usize,
    pub(crate) authority: String,
    pub(crate) h2: bool,
}

/// A merchant that speaks both versions and says `ok`, with the fields it was given.
pub(crate) struct Merchant {
    pub(crate) at: SocketAddr,
    /// The CA to trust.
    pub(crate) root: PathBuf,
    got: Arc<Mutex<Vec<Got>>>,
    _dir: tempfile::TempDir,
}

impl Merchant {
    /// Starts on a port from the system. Its thread ends with the test process.
    pub(crate) fn start(
        mut config: rustls::ServerConfig,
        roots: &str,
        fields: &'static [(&'static str, &'static str)],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root.pem");
        std::fs::write(&root, roots).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(vec![]));
        let log = Arc::clone(&got);
        std::thread::spawn(move || {
            runtime().block_on(serve(listener, acceptor, log, fields));
        });
        Self {
            at,
            root,
            got,
            _dir: dir,
        }
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

async fn serve(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    log: Arc<Mutex<Vec<Got>>>,
    fields: &'static [(&'static str, &'static str)],
) {
    let listener = TcpListener::from_std(listener).unwrap();
    let count = AtomicUsize::new(0);
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let connection = count.fetch_add(1, Ordering::Relaxed);
        let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(socket).await else {
                return;
            };
            let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            let answer = move |request: Request<Incoming>| {
                let host = request.headers().get("host").map(|h| h.to_str().unwrap());
                let authority = request.uri().authority().map(|a| a.as_str()).or(host);
                log.lock().unwrap().push(Got {
                    connection,
                    authority: authority.unwrap_or_default().to_owned(),
                    h2,
                });
                let mut answer = Response::new(Full::new(Bytes::from_static(b"ok")));
                for (name, value) in fields {
                    answer.headers_mut().append(*name, value.parse().unwrap());
                }
                async move { Ok::<_, Infallible>(answer) }
            };
            let io = TokioIo::new(tls);
            let service = service_fn(answer);
            let _ = match h2 {
                true => {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    builder.serve_connection(io, service).await
                }
                false => {
                    let builder = hyper::server::conn::http1::Builder::new();
                    builder.serve_connection(io, service).await
                }
            };
        });
    }
}

/// The proxy as one agent reaches it.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) proxy: SocketAddr,
    pub(crate) ca: PathBuf,
    /// Ready for a `Proxy-Authorization` field.
    pub(crate) credentials: Option<String>,
}

/// Every name of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    pub(crate) connect: &'a str,
    pub(crate) sni: &'a str,
    /// `Host` or `:authority`.
    pub(crate) host: &'a str,
}

impl Way {
    /// Out of `http://user:secret@address`.
    pub(crate) fn of(url: &str, ca: &Path) -> Self {
        use base64::Engine as _;
        let rest = url.trim().strip_prefix("http://").unwrap();
        let (user, at) = rest.rsplit_once('@').unwrap();
        let basic = base64::engine::general_purpose::STANDARD.encode(user);
        Self {
            proxy: at.trim_end_matches('/').parse().unwrap(),
            ca: ca.into(),
            credentials: Some(format!("Basic {basic}")),
        }
    }

    /// The status and fields of the answer, or where it failed.
    pub(crate) fn get(&self, names: Names<'_>, h2: bool) -> Result<Response<Bytes>, String> {
        runtime().block_on(async {
            let asked = self.ask(names, h2);
            let most = Duration::from_secs(30);
            tokio::time::timeout(most, asked)
                .await
                .map_err(|_| "too late")?
        })
    }

    async fn ask(&self, names: Names<'_>, h2: bool) -> Result<Response<Bytes>, String> {
        let socket = self.tunnel(names.connect).await?;
        let protocol = if h2 { "h2" } else { "http/1.1" };
        let config = super::tls::trusting(&self.ca, &[protocol]);
        let name = ServerName::try_from(names.sni.to_owned()).unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, socket);
        let tls = tls.await.map_err(|e| format!("handshake: {e}"))?;
        let request = Request::builder();
        let request = match h2 {
            true => request.uri(format!("https://{}/", names.host)),
            false => request.uri("/").header("host", names.host),
        };
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let failed = |e: hyper::Error| format!("request: {e}");
        let io = TokioIo::new(tls);
        let answer = if h2 {
            let started = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
            let (mut sender, connection) = started.await.map_err(failed)?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(failed)?
        } else {
            let started = hyper::client::conn::http1::handshake(io);
            let (mut sender, connection) = started.await.map_err(failed)?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(failed)?
        };
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(failed)?.to_bytes();
        Ok(Response::from_parts(head, body))
    }

    async fn tunnel(&self, connect: &str) -> Result<TcpStream, String> {
        let mut socket = TcpStream::connect(self.proxy).await.unwrap();
        let mut head = format!("CONNECT {connect}:443 HTTP/1.1\r\nHost: {connect}:443\r\n");
        if let Some(credentials) = &self.credentials {
            head += &format!("Proxy-Authorization: {credentials}\r\n");
        }
        head += "\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut seen = vec![];
        while !seen.ends_with(b"\r\n\r\n") {
            let byte = socket
                .read_u8()
                .await
                .map_err(|e| format!("CONNECT: {e}"))?;
            seen.push(byte);
        }
        match seen.starts_with(b"HTTP/1.1 200") {
            true => Ok(socket),
            false => Err(String::from_utf8_lossy(&seen).into_owned()),
        }
    }
}
