//! Connections that the network redirected here: the client knows of no proxy. The kernel says where
//! it wanted to go, the client's first bytes say to whom.
//!
//! Both are the agent's choice, so neither is believed against the other. The name wins: it is what
//! the policy judges, what our certificate says, and what is resolved and dialled here, exactly as if
//! it had come with CONNECT. Of the first destination only the port is left. A pair of a trusted name
//! and a chosen address therefore leads to the name's own machine, and no payment for the one reaches
//! the other. Whoever names nobody is known by the address alone, on all these counts.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Version, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::io::Rewound;
use super::refuse::ClientError;
use super::relay::{Place, relay};
use super::serve::{self, Service, Way};
use super::target::Target;
use super::trail::Trail;
use super::tunnel::Passage;
use super::{Proxy, first, tunnel};
use crate::settings::normalise_host;
use crate::tls::{HELLO_MAX, Hello, Peek, peek};

/// Finds out what one redirected client wants; `None` when it left or cannot be served. Its session is that of clients without credentials:
/// nothing that it could send selects another.
pub(super) async fn client(
    proxy: Arc<Proxy>,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> io::Result<Option<Service>> {
    let meant = destination(&stream)?;
    // Not redirected at all: a probe, or an agent that dials us. Going on would be a loop.
    if proxy.upstream.dialer.own.listens(meant) {
        tracing::debug!(%peer, "closed a connection that nobody redirected");
        return Ok(None);
    }
    let admitted = proxy.doorkeeper.admit(&HeaderMap::new()).await;
    let session = admitted.map_err(io::Error::other)?;
    let address = Target {
        host: meant.ip().to_string().into(),
        port: meant.port(),
    };
    // Before the first byte: in some protocols the server speaks first.
    if proxy.passes(&address) {
        let ends = (peer, meant);
        return blind(proxy, stream, Bytes::new(), (&session.id.0, &address), ends).await;
    }
    let Some((first, said)) = listen(&proxy, &mut stream).await? else {
        return Ok(None);
    };
    match said {
        Peek::Hello(hello) => {
            let Some(target) = target(&hello, &address) else {
                tracing::info!(%peer, %address, "closed a connection whose ClientHello names no host");
                return Ok(None);
            };
            // A hidden name may be another than the one that is seen, so it passes no list of names.
            // Opened, the visible name is the one that is served, and the hidden one is never read.
            if !hello.encrypted && proxy.blind(&target) {
                let ends = (peer, meant);
                return blind(proxy, stream, first, (&session.id.0, &target), ends).await;
            }
            let passage = Passage {
                target,
                session,
                trail: Trail::default(),
            };
            let io = Rewound::new(first, Client::Tcp(stream));
            tunnel::intercept(proxy, io, passage).await.map(Some)
        }
        Peek::Other if first::is_request(&first) => {
            let way = Way::Redirected {
                session,
                // Looked for only now: what it says was written when it was known as ours.
                back: came_back(&proxy, &address, (peer, meant)),
                address,
            };
            let io = Rewound::new(first, Client::Tcp(stream));
            Ok(Some(serve::plain(proxy, io, way)))
        }
        Peek::Other | Peek::Partial => {
            tracing::info!(%peer, %address, "closed a connection that carries neither TLS nor HTTP");
            Ok(None)
        }
    }
}

/// Where the client wanted to go. REDIRECT changed the destination, and connection tracking remembers
/// the first one; TPROXY changed nothing, so our end of the connection is it.
fn destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let here = stream.local_addr()?;
    let first = match here.ip().to_canonical().is_ipv4() {
        true => rustix::net::sockopt::ip_original_dst(stream).map(SocketAddr::from),
        false => rustix::net::sockopt::ipv6_original_dst(stream).map(SocketAddr::from),
    };
    let first = first.unwrap_or(here);
    Ok(SocketAddr::new(first.ip().to_canonical(), first.port()))
}

/// Whom this ClientHello asks for: the name in it, else the address. An address in place of the name
/// (RFC 6066 section 3 forbids it, some send it) says nothing that the connection does not.
fn target(hello: &Hello, address: &Target) -> Option<Target> {
    let Some(name) = &hello.name else {
        return Some(address.clone());
    };
    let target = Target {
        host: normalise_host(name).ok()?.into(),
        port: address.port,
    };
    (target.address().is_none() || target == *address).then_some(target)
}

/// Whom this request in the clear asks for: the name in its `Host`, else the address. Only HTTP/1.0 may leave it out
/// (RFC 9112 section 3.2).
pub(super) fn named(address: &Target, parts: &Parts) -> Result<Target, ClientError> {
    // Of two, the first: both are refused when the request is pinned.
    let Some(host) = parts.headers.get(header::HOST) else {
        return match parts.version {
            Version::HTTP_10 => Ok(address.clone()),
            _ => Err(ClientError::Host),
        };
    };
    let host = host.to_str().map_err(|_| ClientError::Host)?;
    let target = Target::parse(host, Some(80))?;
    match target.port == address.port {
        true => Ok(target),
        false => Err(ClientError::Misdirected),
    }
}

/// Reads until it is clear what the client speaks; `None` when it left, or only waits.
async fn listen(proxy: &Proxy, stream: &mut TcpStream) -> io::Result<Option<(Bytes, Peek)>> {
    let mut buffer = BytesMut::with_capacity(2048);
    let mut until = Instant::now() + proxy.limits.first_byte_timeout;
    loop {
        let silent = buffer.is_empty();
        match timeout_at(until, stream.read_buf(&mut buffer)).await {
            Ok(Ok(0)) | Err(_) => return Ok(None),
            Ok(Ok(_)) => {}
            Ok(Err(e)) => return Err(e),
        }
        match peek(&buffer) {
            Peek::Partial if buffer.len() <= 2 * HELLO_MAX => {}
            Peek::Other if first::says_nothing(&buffer) => {}
            said => return Ok(Some((buffer.freeze(), said))),
        }
        if silent {
            until = Instant::now() + proxy.limits.handshake_timeout;
        }
    }
}

/// Is it a connection of ours, by its ends as its client sees them? Then our own traffic is redirected
/// back to us, for ever.
fn came_back(proxy: &Proxy, target: &Target, (peer, meant): (SocketAddr, SocketAddr)) -> bool {
    let back = proxy.upstream.dialer.circle.has(peer, meant);
    if back {
        tracing::error!(
            %target,
            "the proxy's own connections are redirected to it: exempt its user from the redirect"
        );
    }
    back
}

/// Unread bytes to where the target really is. `came` are the ends of the client's connection.
async fn blind(
    proxy: Arc<Proxy>,
    stream: TcpStream,
    first: Bytes,
    (session, target): (&Arc<str>, &Target),
    came: (SocketAddr, SocketAddr),
) -> io::Result<Option<Service>> {
    if came_back(&proxy, target, came) {
        return Ok(None);
    }
    let Some(place) = Place::take(&proxy, session) else {
        tracing::info!(%target, "closed a redirected connection: too many tunnels are open");
        return Ok(None);
    };
    let mut upstream = match proxy
        .upstream
        .dialer
        .connect(session, target, &Trail::default())
        .await
    {
        Ok(upstream) => upstream,
        // Nothing was promised to the client, and no document fits into its protocol.
        Err(error) => {
            tracing::info!(%target, %error, "closed a redirected connection");
            return Ok(None);
        }
    };
    let known = proxy.upstream.dialer.circle.know(&upstream)?;
    Ok(Some(Box::pin(async move {
        let _known = known;
        upstream.write_all(&first).await?;
        relay(&proxy, place, stream, upstream).await
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_wins_and_the_address_stands_in() {
        let address = Target::parse("198.51.100.20:8443", None).unwrap();
        let named = |name: &str| {
            let hello = Hello {
                name: Some(name.into()),
                encrypted: false,
            };
            target(&hello, &address).map(|t| t.to_string())
        };
        assert_eq!(
            named("API.Example.com.").as_deref(),
            Some("api.example.com:8443")
        );
        assert_eq!(
            named("198.51.100.20").as_deref(),
            Some("198.51.100.20:8443")
        );
        for wrong in [
            "198.51.100.21",
            "127.1",
            "2130706433",
            "::1",
            "a b",
            "a..b",
            "-",
        ] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
        assert_eq!(target(&Hello::default(), &address), Some(address));
    }

    #[test]
    fn in_the_clear_the_address_stands_in_for_http_1_0_alone() {
        let address = Target::parse("198.51.100.20:8080", None).unwrap();
        let asked = |version, hosts: &[&str]| {
            let mut request = http::Request::get("/x").version(version);
            for host in hosts {
                request = request.header("host", *host);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            named(&address, &parts).map(|t| t.to_string())
        };
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        let stands_in = Ok("198.51.100.20:8080".to_owned());
        assert_eq!(asked(old, &[]), stands_in);
        assert_eq!(asked(new, &[]), Err(ClientError::Host));
        for version in [old, new] {
            let named = Ok("api.test:8080".to_owned());
            assert_eq!(asked(version, &["API.test:8080"]), named);
            let other = Err(ClientError::Misdirected);
            assert_eq!(asked(version, &["api.test"]), other, "of port 80");
            for wrong in ["", "a b", "198.51.100.020:8080"] {
                assert!(asked(version, &[wrong]).is_err(), "{wrong}");
            }
        }
    }
}
