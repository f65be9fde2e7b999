//! The first bytes of a client: CONNECT, or a request in absolute form.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::body::Body;
use super::client::Client;
use super::first;
use super::io::Rewound;
use super::refuse::ClientError;
use super::serve::Service;
use super::target::Target;
use super::trail::Trail;
use super::tunnel::Passage;
use super::{Proxy, serve, tunnel};

/// Bytes of a CONNECT head; real ones stay under 1 KiB.
const HEAD_MAX: usize = 16 * 1024;

/// Header fields of a CONNECT head.
const FIELDS_MAX: usize = 64;

const METHOD: &[u8] = b"CONNECT ";

/// Finds out what one client wants; `None` when it left or was refused.
pub(super) async fn client(proxy: Arc<Proxy>, mut stream: Client) -> io::Result<Option<Service>> {
    let mut buffer = BytesMut::new();
    loop {
        let read = timeout(proxy.limits.header_timeout, head(&mut stream, &mut buffer)).await;
        let head = match read.map_err(|_| io::ErrorKind::TimedOut)?? {
            First::Gone => return Ok(None),
            First::Plain => {
                let private = stream.is_private();
                let io = Rewound::new(buffer.freeze(), stream);
                return Ok(Some(serve::plain(proxy, io, serve::Way::Open { private })));
            }
            First::Broken => {
                return told(bad_request(), &mut stream, &proxy)
                    .await
                    .map(|()| None);
            }
            First::Connect(head) => head,
        };
        match admit(&proxy, &head).await {
            Ok(passage) => return tunnel::open(proxy, stream, buffer.freeze(), passage).await,
            // The client may ask again, now with credentials, on the same connection.
            Err(ClientError::Credentials) => {
                told(ClientError::Credentials.response(), &mut stream, &proxy).await?;
            }
            Err(e) => return told(e.response(), &mut stream, &proxy).await.map(|()| None),
        }
    }
}

/// `answer`, to a client that may never read it.
pub(super) async fn told(
    what: Response<Body>,
    stream: &mut Client,
    proxy: &Proxy,
) -> io::Result<()> {
    let told = timeout(proxy.limits.header_timeout, answer(stream, what)).await;
    told.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn admit(proxy: &Proxy, head: &Head) -> Result<Passage, ClientError> {
    // Who before where: a stranger learns nothing about destinations.
    let session = proxy.doorkeeper.admit(&head.headers).await?;
    let target = Target::parse(&head.authority, None)?;
    let trail = Trail::of(&head.headers, &proxy.mark);
    Ok(Passage {
        trail: trail
            .inspect_err(|_| tracing::warn!(%target, "a tunnel came through this proxy before"))?,
        target,
        session,
    })
}

enum First {
    Gone,
    Plain,
    Broken,
    Connect(Head),
}

/// What a CONNECT request says (RFC 9110 section 9.3.6). Of its fields only the credentials and the way
/// that it came count.
struct Head {
    authority: String,
    headers: HeaderMap,
}

/// Reads until a CONNECT head is whole; leaves what follows it in the buffer.
async fn head(stream: &mut Client, buffer: &mut BytesMut) -> io::Result<First> {
    loop {
        let said = first::behind_empty(buffer);
        let seen = said.len().min(METHOD.len());
        let begins = seen > 0 && said.get(..seen) == METHOD.get(..seen);
        if !begins && !first::says_nothing(buffer) {
            return Ok(First::Plain);
        }
        if said.len() >= METHOD.len() {
            match parse(buffer) {
                Ok(Some((head, length))) => {
                    let _ = buffer.split_to(length);
                    return Ok(First::Connect(head));
                }
                Ok(None) if buffer.len() < HEAD_MAX => {}
                Ok(None) | Err(()) => return Ok(First::Broken),
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(First::Gone);
        }
    }
}

fn parse(buffer: &[u8]) -> Result<Option<(Head, usize)>, ()> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(()),
    };
    let mut headers = HeaderMap::new();
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| ())?;
        // A body has no place before a tunnel, and what looks like one may be the next request.
        let empty = name == header::CONTENT_LENGTH && field.value == b"0";
        if matches!(name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING) && !empty {
            return Err(());
        }
        if name == header::PROXY_AUTHORIZATION || name == header::VIA {
            let value = HeaderValue::from_bytes(field.value).map_err(|_| ())?;
            headers.append(name, value);
        }
    }
    let authority = request.path.ok_or(())?.to_owned();
    Ok(Some((Head { authority, headers }, length)))
}

fn bad_request() -> Response<Body> {
    ClientError::NotProxyForm.response()
}

/// Writes a whole answer to CONNECT by hand: there is no tunnel, so no HTTP connection to carry it.
async fn answer(stream: &mut Client, response: Response<Body>) -> io::Result<()> {
    let (head, body) = response.into_parts();
    let body = match body {
        Body::Full(Some(bytes)) => bytes,
        _ => Bytes::new(),
    };
    let mut text = status_line(head.status);
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    text.extend_from_slice(&body);
    stream.write_all(&text).await
}

fn status_line(status: StatusCode) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or("Error");
    format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_heads_of_real_clients() {
        for (bytes, authority) in [
            (&b"CONNECT a.test:443 HTTP/1.0\r\n\r\n"[..], "a.test:443"),
            (b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Connection: Keep-Alive\r\n\r\n", "a.test:443"),
            (b"CONNECT 2001:db8::1:443 HTTP/1.1\r\n\r\n", "2001:db8::1:443"),
        ] {
            let (head, length) = parse(bytes).unwrap().unwrap();
            assert_eq!((head.authority.as_str(), length), (authority, bytes.len()));
        }
        assert!(
            parse(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a")
                .unwrap()
                .is_none()
        );
        assert!(parse(b"CONNECT a.test:443 HTTP/2.0\r\n\r\n").is_err());
        assert!(parse(b"CONNECT a b c HTTP/1.1\r\n\r\n").is_err());
        for (fields, fine) in [
            ("Content-Length: 0", true),
            ("Content-Length: 5", false),
            ("Transfer-Encoding: chunked", false),
            ("content-length: 0\r\ntransfer-encoding: chunked", false),
        ] {
            let head = format!("CONNECT a.test:443 HTTP/1.1\r\n{fields}\r\n\r\n");
            assert_eq!(parse(head.as_bytes()).is_ok(), fine, "{fields}");
        }
    }
}
