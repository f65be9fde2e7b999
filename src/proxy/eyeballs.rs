//! Several addresses of one name: the families take turns, and none that is silent holds up the next
//! (RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::files;

/// How long one address may hang before the next is tried beside it (RFC 8305 section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried, of both families if it has both. More only delay the error.
const ADDRESSES: usize = 32;

/// What was sent and is not confirmed for so long went nowhere: the path is dead. Without a bound the system tries
/// for a quarter of an hour.
const UNCONFIRMED: Duration = Duration::from_secs(30);
/// A connection that is silent for so long is asked whether it is still there.
const SILENT: Duration = Duration::from_secs(60);

/// A path that died is noticed (tcp(7)). To the system a peer that lives and reads nothing is the same, and it may
/// pause for `pause`.
fn watched(stream: &TcpStream, pause: Duration) -> io::Result<()> {
    unconfirmed(stream, UNCONFIRMED.max(pause))?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENT)?;
    Ok(())
}

fn unconfirmed(stream: &TcpStream, bound: Duration) -> io::Result<()> {
    // The system reads it as a signed number.
    let bound = i32::try_from(bound.as_millis()).unwrap_or(i32::MAX);
    let bound = bound.unsigned_abs();
    Ok(sockopt::set_tcp_user_timeout(stream, bound)?)
}

/// Many wait on a connection of HTTP/2 when its path died. Its peer reads on: what it may be sent has bounds of its own.
pub(super) fn shared(stream: &TcpStream) -> io::Result<()> {
    unconfirmed(stream, UNCONFIRMED)
}

/// The first address that answers, without Nagle's delay. One that fails makes way at once, one that
/// is silent after a moment; the caller says how long all of them together may take. `pause`: how long
/// the peer may take nothing.
pub(super) async fn first_of(addresses: Vec<SocketAddr>, pause: Duration) -> io::Result<TcpStream> {
    let mut waiting = in_turns(addresses).into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        match waiting.next() {
            Some(address) => drop(attempts.spawn(dial(address))),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    watched(&stream, pause)?;
                    return Ok(stream);
                }
                Ok(Err(e)) => last = e,
                Err(e) => last = io::Error::other(e),
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if waiting.len() > 0 => {}
        }
    }
}

/// A connection to one address, unless that takes one of the last files.
async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    files::spare(&socket)?;
    socket.connect(address).await
}

/// The resolver's order, but IPv6 and IPv4 by turns: a family that leads nowhere costs one wait.
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else {
        return addresses;
    };
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all = vec![];
    loop {
        let pair = (one.next(), other.next());
        if pair == (None, None) || all.len() >= ADDRESSES {
            return all;
        }
        all.extend(pair.0);
        all.extend(pair.1);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns_in_the_resolvers_order() {
        let given = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].map(at);
        let turns = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(at);
        assert_eq!(in_turns(given.to_vec()), turns);
        let one = ["1.1.1.1:1", "2.2.2.2:1"].map(at);
        assert_eq!(in_turns(one.to_vec()), one);
        assert_eq!(in_turns(vec![]), []);
        let v6 = (1..=40).map(|n| at(&format!("[::{n}]:1")));
        let v4 = (1..=4).map(|n| at(&format!("1.1.1.{n}:1")));
        let turns = in_turns(v6.chain(v4).collect());
        assert_eq!(turns.len(), ADDRESSES);
        assert_eq!(
            turns.iter().filter(|a| a.is_ipv4()).count(),
            4,
            "none is cut off for the other family"
        );
    }

    /// An address that takes no more connections and does not say so: its queue is full.
    fn silent() -> (SocketAddr, Vec<Socket>) {
        let tcp = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = tcp();
        listener.bind(&at("127.0.0.1:0").into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = vec![listener];
        for _ in 0..4 {
            let client = tcp();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address);
            held.push(client);
        }
        (address.as_socket().unwrap(), held)
    }

    #[tokio::test]
    async fn a_silent_address_costs_a_moment_only() {
        let (silent, _held) = silent();
        let alone = tokio::time::timeout(NEXT_ADDRESS, TcpStream::connect(silent)).await;
        assert!(alone.is_err(), "it is silent");
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let begun = Instant::now();
        let both = first_of(vec![silent, good.local_addr().unwrap()], Duration::ZERO);
        let stream = tokio::time::timeout(Duration::from_secs(10), both).await;
        let stream = stream.unwrap();
        assert_eq!(
            stream.unwrap().peer_addr().unwrap(),
            good.local_addr().unwrap()
        );
        let took = begun.elapsed();
        assert!(took >= NEXT_ADDRESS, "it had its head start: {took:?}");
        // A lost SYN is sent again after a second: that would be the silent address's own time.
        assert!(took < Duration::from_millis(900), "{took:?}");
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_nothing() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        let refuses = gone.local_addr().unwrap();
        drop(gone);
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let begun = Instant::now();
        let many = vec![
            refuses,
            refuses,
            refuses,
            refuses,
            good.local_addr().unwrap(),
        ];
        let stream = first_of(many, Duration::ZERO).await.unwrap();
        assert!(stream.nodelay().unwrap(), "small writes do not wait");
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert!(begun.elapsed() < NEXT_ADDRESS, "{:?}", begun.elapsed());
        let error = first_of(vec![refuses], Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_peer_may_pause_for_as_long_as_a_body_unless_others_wait_with_it() {
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = |stream: &TcpStream| {
            let millis = sockopt::tcp_user_timeout(stream).unwrap();
            Duration::from_millis(millis.into())
        };
        let longest = Duration::from_millis(i32::MAX as u64);
        for (pause, most) in [
            (2, UNCONFIRMED),
            (300, Duration::from_secs(300)),
            (60 * 86_400, longest),
        ] {
            let to = vec![good.local_addr().unwrap()];
            let stream = first_of(to, Duration::from_secs(pause)).await.unwrap();
            assert_eq!(bound(&stream), most);
            shared(&stream).unwrap();
            assert_eq!(bound(&stream), UNCONFIRMED);
        }
    }
}
