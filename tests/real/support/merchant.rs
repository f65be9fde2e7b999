//! A scripted merchant: answers for every host name, over TLS and plain, byte by byte as told.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::http::{self, Body, Head};

/// One request as the merchant saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) unix: u64,
    /// From `Host`, without the port.
    pub(crate) host: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) head: Head,
    pub(crate) body: Body,
    pub(crate) shaken: Shaken,
}

/// What a TLS handshake said about the client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shaken {
    /// The common name in its certificate, when it showed one.
    pub(crate) client: Option<String>,
    /// It came back with a ticket.
    pub(crate) resumed: bool,
}

impl Shaken {
    fn of(tls: &rustls::ServerConnection) -> Self {
        use x509_parser::prelude::FromDer as _;
        let shown = tls.peer_certificates().and_then(<[_]>::first);
        let client = shown.map(|der| {
            let (_, parsed) = x509_parser::prelude::X509Certificate::from_der(der).unwrap();
            let name = parsed.subject().iter_common_name().next().unwrap();
            name.as_str().unwrap().to_owned()
        });
        Self {
            client,
            resumed: tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }
}

impl Seen {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of the header that pays, when there is one.
    pub(crate) fn payment(&self) -> Option<&str> {
        let scheme = |value: &str| {
            value
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
        };
        self.head.fields.iter().find_map(|(name, value)| {
            let pays = match name.to_ascii_lowercase().as_str() {
                "payment-signature" | "x-payment" | "payment-authorization" => true,
                "authorization" => matches!(scheme(value).as_str(), "payment" | "l402" | "lsat"),
                _ => false,
            };
            pays.then_some(value.as_str())
        })
    }
}

/// What happens to the connection after an answer.
pub(crate) enum After {
    Keep,
    Close,
    Reset,
}

/// Writes the answer.
pub(crate) type Script = dyn Fn(&Seen, &mut dyn Write) -> io::Result<After> + Send + Sync;

pub(crate) struct Merchant {
    pub(crate) tls: SocketAddr,
    pub(crate) plain: SocketAddr,
    /// The CA to trust.
    pub(crate) root: PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
    _dir: tempfile::TempDir,
}

impl Merchant {
    /// Starts on two ports from the system. Its threads end with the test process.
    pub(crate) fn start(
        script: impl Fn(&Seen, &mut dyn Write) -> io::Result<After> + Send + Sync + 'static,
    ) -> Self {
        let authority = Arc::new(Authority::new());
        let pem = authority.pem.clone();
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(authority);
        Self::serving(config, &pem, script)
    }

    /// The same with TLS of one's own; `roots` are those to trust, PEM.
    pub(crate) fn serving(
        config: rustls::ServerConfig,
        roots: &str,
        script: impl Fn(&Seen, &mut dyn Write) -> io::Result<After> + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("merchant-ca.pem");
        std::fs::write(&root, roots).unwrap();
        let seen = Arc::new(Mutex::new(vec![]));
        let stage = Stage {
            script: Arc::new(script),
            seen: Arc::clone(&seen),
        };
        let tls = stage.clone().listen(Some(Arc::new(config)));
        let plain = stage.listen(None);
        Self {
            tls,
            plain,
            root,
            seen,
            _dir: dir,
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// A script that asks 0.01 USD for everything, and sells to whoever pays.
pub(crate) fn shop(seen: &Seen, out: &mut dyn Write) -> io::Result<After> {
    if seen.payment().is_some() {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsold")?;
        return Ok(After::Keep);
    }
    let terms = serde_json::json!({
        "x402Version": 2,
        "error": "Payment required",
        "resource": { "url": format!("https://{}{}", seen.host, seen.target), "mimeType": "text/plain" },
        "accepts": [{
            "scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": super::USDC,
            "payTo": "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC", "maxTimeoutSeconds": 60,
            "extra": { "name": "USDC", "version": "2" },
        }],
    });
    use base64::Engine as _;
    let terms = base64::engine::general_purpose::STANDARD.encode(terms.to_string());
    write!(
        out,
        "HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: {terms}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    )?;
    Ok(After::Keep)
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[derive(Clone)]
struct Stage {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Stage {
    fn listen(self, config: Option<Arc<rustls::ServerConfig>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (stage, config) = (self.clone(), config.clone());
                std::thread::spawn(move || {
                    let _ = stage.connection(socket, config);
                });
            }
        });
        address
    }

    fn connection(
        &self,
        socket: TcpStream,
        config: Option<Arc<rustls::ServerConfig>>,
    ) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let handle = socket.try_clone()?;
        // Where TLS is spoken, plain HTTP is understood too.
        let mut first = [0];
        let config = config.filter(|_| socket.peek(&mut first).is_ok() && first == [0x16]);
        let after = match config {
            Some(config) => {
                let tls = rustls::ServerConnection::new(config).map_err(io::Error::other)?;
                let stream = rustls::StreamOwned::new(tls, socket);
                let mut stream = BufReader::with_capacity(1 << 16, stream);
                self.requests(&mut stream, |stream| Shaken::of(&stream.conn))
            }
            None => {
                let mut stream = BufReader::with_capacity(1 << 16, socket);
                self.requests(&mut stream, |_| Shaken::default())
            }
        };
        if let Ok(After::Reset) = after {
            // Linger zero makes the close a reset.
            socket2::SockRef::from(&handle).set_linger(Some(std::time::Duration::ZERO))?;
            return Ok(());
        }
        let _ = handle.shutdown(std::net::Shutdown::Both);
        after.map(|_| ())
    }

    fn requests<S: Read + Write>(
        &self,
        stream: &mut BufReader<S>,
        shaken: impl Fn(&S) -> Shaken,
    ) -> io::Result<After> {
        loop {
            let Some(head) = http::read_head(stream)? else {
                return Ok(After::Close);
            };
            if head
                .one("expect")
                .is_some_and(|v| v.eq_ignore_ascii_case("100-continue"))
            {
                stream
                    .get_mut()
                    .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                stream.get_mut().flush()?;
            }
            let body = http::read_body(&head, stream, false)?;
            let mut words = head.first.split(' ').map(str::to_owned);
            let host = head.one("host").unwrap_or_default();
            let host = host
                .rsplit_once(':')
                .map_or(host, |(host, _)| host)
                .to_owned();
            let seen = Seen {
                unix: super::unix_now(),
                host,
                method: words.next().unwrap_or_default(),
                target: words.next().unwrap_or_default(),
                head,
                body,
                shaken: shaken(stream.get_ref()),
            };
            self.seen.lock().unwrap().push(seen.clone());
            let after = (self.script)(&seen, stream.get_mut())?;
            stream.get_mut().flush()?;
            if !matches!(after, After::Keep) {
                return Ok(after);
            }
        }
    }
}

/// Makes a certificate for whatever name is asked. Some names get a bad one: `expired.*`,
/// `wrong-name.*`, `unknown-root.*`.
#[derive(Debug)]
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    stranger: Issuer<'static, KeyPair>,
    pem: String,
    made: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Authority {
    fn new() -> Self {
        let (issuer, pem) = Self::root();
        let (stranger, _) = Self::root();
        Self {
            issuer,
            stranger,
            pem,
            made: Mutex::default(),
        }
    }

    fn root() -> (Issuer<'static, KeyPair>, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let name = format!(
            "test merchant CA {}",
            hex::encode(&key.public_key_raw()[1..5])
        );
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        (Issuer::new(params, key), pem)
    }

    fn issue(&self, name: &str) -> CertifiedKey {
        let key = KeyPair::generate().unwrap();
        let kind = name.split('.').next().unwrap_or_default();
        let subject = if kind == "wrong-name" {
            "someone-else.test"
        } else {
            name
        };
        let mut params = CertificateParams::new(vec![subject.to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        if kind == "expired" {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let issuer = if kind == "unknown-root" {
            &self.stranger
        } else {
            &self.issuer
        };
        let leaf = params.signed_by(&key, issuer).unwrap();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap();
        CertifiedKey::new(vec![leaf.der().clone()], signing)
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or("127.0.0.1").to_owned();
        let mut made = self.made.lock().unwrap();
        Some(Arc::clone(
            made.entry(name.clone())
                .or_insert_with(|| Arc::new(self.issue(&name))),
        ))
    }
}

/// Reads the certificates of a PEM file into a root store.
pub(crate) fn roots(file: &Path) -> rustls::RootCertStore {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::CertificateDer::pem_file_iter(file).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}

#[test]
fn certificates_are_as_good_or_bad_as_their_names_say() {
    let merchant = Merchant::start(|seen, out| {
        let text = format!("{} {}", seen.host, seen.body.length);
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )?;
        Ok(After::Keep)
    });
    for (host, code) in [
        ("good.test", 0),
        ("expired.test", 60),
        ("wrong-name.test", 60),
        ("unknown-root.test", 60),
    ] {
        let out = std::process::Command::new("curl")
            .args([
                "--silent",
                "--data",
                "1234567",
                "--noproxy",
                "*",
                "--cacert",
            ])
            .arg(&merchant.root)
            .arg("--resolve")
            .arg(format!("{host}:{}:127.0.0.1", merchant.tls.port()))
            .arg(format!("https://{host}:{}/x", merchant.tls.port()))
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(code), "{host}");
        assert_eq!(out.stdout.is_empty(), code != 0);
    }
    let seen = merchant.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].host.as_str(), seen[0].body.length),
        ("good.test", 7)
    );
}
