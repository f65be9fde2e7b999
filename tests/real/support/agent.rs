//! An agent that sends exactly the bytes a case asks for: raw HTTP/1.1 through the proxy.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;

use super::http::{self, Answer};

/// `scheme://[user@]host[:port]/path`, cut but not mended.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) target: String,
    /// Host and port as written, the host in ASCII.
    pub(crate) authority: String,
}

impl Url {
    pub(crate) fn parse(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(cut);
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let bracket = authority.rfind(']').unwrap_or(0);
        let colon = authority.rfind(':').filter(|at| *at > bracket);
        let (host, port) = match colon {
            Some(at) => (&authority[..at], authority[at + 1..].parse().ok()),
            None => (authority, None),
        };
        let host = ascii(host);
        Self {
            scheme: scheme.to_ascii_lowercase(),
            authority: match port {
                Some(port) => format!("{host}:{port}"),
                None => host.clone(),
            },
            host,
            port: port.unwrap_or(if scheme.eq_ignore_ascii_case("http") {
                80
            } else {
                443
            }),
            target: match target.starts_with('/') {
                true => target.to_owned(),
                false => format!("/{target}"),
            },
        }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) url: Url,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    pub(crate) fn get(url: &str) -> Self {
        Self {
            method: "GET".into(),
            url: Url::parse(url),
            fields: vec![],
            body: vec![],
        }
    }

    fn write(&self, to: &mut dyn Write, target: &str) -> io::Result<()> {
        let has = |name: &str| {
            self.fields
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        let mut fields = vec![];
        if !has("host") {
            fields.push(("Host".to_owned(), self.url.authority.clone()));
        }
        fields.extend(self.fields.iter().cloned());
        let counted =
            !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH");
        if counted && !has("content-length") && !has("transfer-encoding") {
            fields.push(("Content-Length".to_owned(), self.body.len().to_string()));
        }
        http::write_head(to, &format!("{} {target} HTTP/1.1", self.method), &fields)?;
        to.write_all(&self.body)?;
        to.flush()
    }
}

pub(crate) struct Agent {
    proxy: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    deadline: Duration,
}

impl Agent {
    pub(crate) fn new(proxy: SocketAddr, ca: &std::path::Path, deadline: Duration) -> Self {
        let tls = super::tls::trusting(ca, &[]);
        Self {
            proxy,
            tls: Arc::new(tls),
            deadline,
        }
    }

    /// Sends one request on a connection of its own. An answer to `CONNECT` other than 200 is the answer.
    pub(crate) fn send(&self, ask: &Ask) -> io::Result<Answer> {
        let socket = TcpStream::connect_timeout(&self.proxy, self.deadline)?;
        socket.set_nodelay(true)?;
        let mut socket = Timed {
            socket,
            end: Instant::now() + self.deadline,
        };
        if ask.url.scheme == "http" {
            let target = format!("http://{}{}", ask.url.authority, ask.url.target);
            ask.write(&mut socket, &target)?;
            return http::read_answer(&mut BufReader::new(socket), &ask.method);
        }
        let tunnel = format!("{}:{}", ask.url.host, ask.url.port);
        let host = [("Host".to_owned(), tunnel.clone())];
        http::write_head(&mut socket, &format!("CONNECT {tunnel} HTTP/1.1"), &host)?;
        // Byte by byte: what follows the head belongs to TLS.
        let opened = http::read_answer(&mut BufReader::with_capacity(1, &mut socket), "CONNECT")?;
        if opened.status != 200 {
            return Ok(opened);
        }
        let name = ask
            .url
            .host
            .trim_end_matches('.')
            .trim_matches(['[', ']'])
            .to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let tls =
            rustls::ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        let mut stream = rustls::StreamOwned::new(tls, socket);
        // An answer may come before the request is through; then writing fails and reading does not.
        let written = ask.write(&mut stream, &ask.url.target);
        let answer = http::read_answer(&mut BufReader::new(stream), &ask.method);
        answer.map_err(|e| written.err().unwrap_or(e))
    }
}

/// A socket with one deadline for everything.
struct Timed {
    socket: TcpStream,
    end: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        (!left.is_zero())
            .then_some(left)
            .ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        match self.socket.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            other => other,
        }
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(buffer)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// A host as clients put it on the wire: labels outside ASCII become `xn--…` (RFC 3492).
fn ascii(host: &str) -> String {
    let label = |label: &str| match label.is_ascii() {
        true => label.to_owned(),
        false => format!("xn--{}", punycode(&label.to_lowercase())),
    };
    host.split(['.', '\u{3002}', '\u{ff0e}'])
        .map(label)
        .collect::<Vec<_>>()
        .join(".")
}

fn punycode(label: &str) -> String {
    let points: Vec<u32> = label.chars().map(u32::from).collect();
    let mut out: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(out.len()).unwrap();
    let (mut n, mut delta, mut bias, mut done) = (128, 0, 72, basic);
    if basic > 0 {
        out.push('-');
    }
    while (done as usize) < points.len() {
        let next = points.iter().copied().filter(|p| *p >= n).min().unwrap();
        delta += (next - n) * (done + 1);
        n = next;
        for point in &points {
            delta += u32::from(*point < n);
            if *point != n {
                continue;
            }
            let (mut q, mut k) = (delta, 36);
            loop {
                let t = u32::saturating_sub(k, bias).clamp(1, 26);
                if q < t {
                    break;
                }
                out.push(digit(t + (q - t) % (36 - t)));
                q = (q - t) / (36 - t);
                k += 36;
            }
            out.push(digit(q));
            delta = if done == basic {
                delta / 700
            } else {
                delta / 2
            };
            delta += delta / (done + 1);
            bias = 0;
            while delta > 455 {
                delta /= 35;
                bias += 36;
            }
            bias += 36 * delta / (delta + 38);
            (delta, done) = (0, done + 1);
        }
        (delta, n) = (delta + 1, n + 1);
    }
    out
}

fn digit(value: u32) -> char {
    char::from_digit(if value < 26 { value + 10 } else { value - 26 }, 36).unwrap()
}

#[test]
fn hosts_go_out_in_ascii() {
    assert_eq!(ascii("bücher.example"), "xn--bcher-kva.example");
    assert_eq!(ascii("аpi.weather.test"), "xn--pi-6kc.weather.test");
    assert_eq!(ascii("例え.test"), "xn--r8jz45g.test");
    let url = Url::parse("HTTPS://user@api.test:8443?x=1");
    assert_eq!(
        (url.scheme.as_str(), url.port, url.target.as_str()),
        ("https", 8443, "/?x=1")
    );
    assert_eq!(url.authority, "api.test:8443");
    assert_eq!(Url::parse("https://[::1]/x").host, "[::1]");
}
