//! A port of our own in front of a proxy that somebody else runs. Clients that send no credentials (Java's,
//! browsers) would be in that proxy's session `default`: here they are in the program's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use zeroize::Zeroizing;

use crate::fetch::user_and_password;

/// Most bytes of a first head: more than any proxy takes.
const HEAD_MAX: usize = 512 * 1024;
/// Most fields of it.
const FIELDS_MAX: usize = 1024;
/// How long a client may take to ask: browsers connect ahead.
const HEAD_TIME: Duration = Duration::from_secs(300);
/// Between two tries to reach it, and after the system had no room for a client.
const PAUSE: Duration = Duration::from_millis(50);

/// What is told when a head cannot be read.
const NOT_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// What is told when the proxy is gone.
const GONE: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The port. Closed with this value, and every connection through it.
pub(super) struct Door {
    /// Where it is.
    pub(super) at: SocketAddr,
    /// The proxy URL with it: as it was given, with this address.
    pub(super) url: Zeroizing<String>,
    serving: JoinHandle<()>,
}

impl Door {
    /// Opens it in front of `proxy`, for the session that `url` names. A proxy that is gone is waited for so long.
    ///
    /// # Errors
    /// When no port is free, or the URL names no session.
    pub(super) async fn open(proxy: SocketAddr, url: &str, away: Duration) -> io::Result<Self> {
        let nameless = || io::Error::other("the proxy's URL has no credentials; this is a bug");
        let bare = url.strip_prefix("http://").ok_or_else(nameless)?;
        let (user, _) = bare.rsplit_once('@').ok_or_else(nameless)?;
        let plain = user_and_password(user).ok_or_else(nameless)?;
        let field = Zeroizing::new(format!(
            "Proxy-Authorization: Basic {}\r\n",
            STANDARD.encode(&*plain)
        ));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let at = listener.local_addr()?;
        Ok(Self {
            at,
            url: Zeroizing::new(format!("http://{user}@{at}")),
            serving: tokio::spawn(serve(listener, (proxy, away), Arc::new(field))),
        })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    listener: TcpListener,
    proxy: (SocketAddr, Duration),
    field: Arc<Zeroizing<String>>,
) {
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            came = listener.accept() => match came {
                Ok((client, _)) => drop(guests.spawn(guest(client, proxy, Arc::clone(&field)))),
                Err(error) => {
                    tracing::warn!(%error, "a connection of the program could not be taken");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = guests.join_next() => {}
        }
    }
}

/// One connection: its first head, with the credentials where there are none, and then whatever comes.
async fn guest(
    mut client: TcpStream,
    proxy: (SocketAddr, Duration),
    field: Arc<Zeroizing<String>>,
) {
    let introduced = match timeout(HEAD_TIME, head(&mut client, &field)).await {
        Ok(Ok(Some(introduced))) => introduced,
        Ok(Ok(None)) => return tell(client, NOT_HTTP).await,
        Ok(Err(_)) | Err(_) => return,
    };
    let Ok((mut server, answer)) = reach(proxy, &introduced).await else {
        return tell(client, GONE).await;
    };
    // What is small should not wait for more; without it everything still arrives.
    let _ = client
        .set_nodelay(true)
        .and_then(|()| server.set_nodelay(true));
    let passed = async {
        client.write_all(&answer).await?;
        copy_bidirectional(&mut client, &mut server).await
    };
    if passed.await.is_err() {
        // What was cut must not look whole to the other side.
        for stream in [&client, &server] {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

async fn tell(mut client: TcpStream, answer: &[u8]) {
    // A client that left has no use for it.
    let _ = client.write_all(answer).await;
    let _ = client.shutdown().await;
}

/// A proxy that has been told this, and what it has answered so far. One that is gone before it says anything is
/// asked for a tunnel again, and for nothing else: what it was asked for may be done.
async fn reach(
    (proxy, away): (SocketAddr, Duration),
    introduced: &[u8],
) -> io::Result<(TcpStream, Vec<u8>)> {
    let tunnel = introduced.trim_ascii_start().starts_with(b"CONNECT ");
    let until = Instant::now() + away;
    loop {
        let mut server = timeout_at(until, connect(proxy)).await??;
        if !tunnel {
            server.write_all(introduced).await?;
            return Ok((server, vec![]));
        }
        let mut answer = Vec::with_capacity(1024);
        let told = async {
            server.write_all(introduced).await?;
            server.read_buf(&mut answer).await
        };
        match told.await {
            Ok(0) | Err(_) if Instant::now() < until => sleep(PAUSE).await,
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            told => return told.map(|_| (server, answer)),
        }
    }
}

async fn connect(proxy: SocketAddr) -> io::Result<TcpStream> {
    loop {
        match TcpStream::connect(proxy).await {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => sleep(PAUSE).await,
            done => return done,
        }
    }
}

/// Everything that came up to the end of the first head, and what came behind it. `None`: it is not
/// HTTP/1, and nothing that names no session may get through.
async fn head(client: &mut TcpStream, field: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut read = Zeroizing::new(Vec::with_capacity(4096));
    loop {
        if client.read_buf(&mut *read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match introduced(&read, field) {
            Introduced::Not if read.len() < HEAD_MAX => {}
            Introduced::Not | Introduced::Never => return Ok(None),
            Introduced::Is(bytes) => return Ok(Some(bytes)),
        }
    }
}

enum Introduced {
    /// There is more to come.
    Not,
    /// It is not HTTP/1.
    Never,
    Is(Zeroizing<Vec<u8>>),
}

/// The same bytes, whose head names the session. A client that names one itself is left alone. What
/// asks for no tunnel is the only request on its connection: the next one would name nobody.
fn introduced(read: &[u8], field: &str) -> Introduced {
    let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let end = match request.parse(read) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Introduced::Not,
        Err(_) => return Introduced::Never,
    };
    let has = |name: &str| {
        let mut fields = request.headers.iter();
        fields.any(|field| field.name.eq_ignore_ascii_case(name))
    };
    if has("proxy-authorization") {
        return Introduced::Is(Zeroizing::new(read.to_vec()));
    }
    let (head, rest) = read.split_at(end);
    // The empty line, in whichever of its two spellings.
    let bare = head.strip_suffix(b"\n").unwrap_or(head);
    let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
    let mut all = Zeroizing::new(Vec::with_capacity(read.len() + field.len() + 32));
    all.extend_from_slice(bare);
    all.extend_from_slice(field.as_bytes());
    if request.method != Some("CONNECT") {
        all.extend_from_slice(b"Connection: close\r\n");
    }
    all.extend_from_slice(b"\r\n");
    all.extend_from_slice(rest);
    Introduced::Is(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: &str = "Proxy-Authorization: Basic eA==\r\n";

    fn made(read: &str) -> Option<String> {
        match introduced(read.as_bytes(), FIELD) {
            Introduced::Is(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
            Introduced::Not | Introduced::Never => None,
        }
    }

    #[test]
    fn a_head_that_names_no_session_gets_one() {
        for (read, expected) in [
            (
                "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\nhello",
                "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Authorization: Basic eA==\r\n\r\nhello",
            ),
            (
                "\r\nCONNECT a.test:443 HTTP/1.0\n\nx",
                "\r\nCONNECT a.test:443 HTTP/1.0\nProxy-Authorization: Basic eA==\r\n\r\nx",
            ),
            (
                "POST http://a.test/ HTTP/1.1\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nb",
                "POST http://a.test/ HTTP/1.1\r\nConnection: keep-alive\r\nContent-Length: 1\r\nProxy-Authorization: Basic eA==\r\nConnection: close\r\n\r\nb",
            ),
        ] {
            assert_eq!(made(read).as_deref(), Some(expected));
        }
        let own =
            "GET http://a.test/ HTTP/1.1\r\nproxy-authorization: Basic eTp6\r\n\r\nGET second";
        assert_eq!(made(own).as_deref(), Some(own));
    }

    #[test]
    fn what_is_no_request_never_gets_through() {
        let whole = "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n";
        for cut in 0..whole.len() {
            assert!(made(&whole[..cut]).is_none(), "{cut}");
        }
        for other in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{16}\u{3}\u{1}"] {
            let found = introduced(other.as_bytes(), FIELD);
            assert!(matches!(found, Introduced::Never), "{other:?}");
        }
    }

    #[tokio::test]
    async fn the_second_plain_request_needs_a_connection_of_its_own() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = proxy.local_addr().unwrap();
        let url = "http://run:s%3Aecret@127.0.0.1:9";
        let door = Door::open(at, url, PAUSE).await.unwrap();
        assert_eq!(*door.url, format!("http://run:s%3Aecret@{}", door.at));
        let mut client = TcpStream::connect(door.at).await.unwrap();
        client
            .write_all(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .unwrap();
        let (mut server, _) = proxy.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let length = server.read(&mut asked).await.unwrap();
        let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
        let basic = STANDARD.encode("run:s:ecret");
        let expected = format!("Proxy-Authorization: Basic {basic}\r\nConnection: close\r\n\r\n");
        assert!(asked.ends_with(&expected), "{asked}");
        server
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HTTP/1.1 204 No Content\r\n\r\n");
    }
    /// One that ends resets what it has not taken yet, and another one takes its place.
    #[tokio::test]
    async fn a_tunnel_is_asked_for_again_where_nothing_was_said() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = proxy.local_addr().unwrap();
        let minute = Duration::from_secs(60);
        let door = Door::open(at, "http://run:x@127.0.0.1:9", minute).await;
        let door = door.unwrap();
        let mut client = TcpStream::connect(door.at).await.unwrap();
        let asked = b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n";
        client.write_all(asked).await.unwrap();
        drop(proxy.accept().await.unwrap());
        drop(proxy);
        let proxy = loop {
            match TcpListener::bind(at).await {
                Ok(proxy) => break proxy,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let (mut server, _) = proxy.accept().await.unwrap();
        let mut heard = vec![0; asked.len()];
        server.read_exact(&mut heard).await.unwrap();
        assert!(heard.starts_with(b"CONNECT a.test:443 "));
        server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        client.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    }
}
