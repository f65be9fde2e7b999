//! Listening sockets, also where the kernel knows one family of addresses only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted; the system's own bound is usually lower.
pub(super) const BACKLOG: i32 = 4096;

/// Listens on an address. `[::]` stands for all addresses of both families, and for `0.0.0.0` where the
/// kernel knows no IPv6.
///
/// # Errors
/// When the address is taken or no address of this machine.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    everywhere(address, |address| {
        let socket = socket(address)?;
        if is_everywhere(address) {
            // The system's default may be otherwise (`net.ipv6.bindv6only`), and probes come by IPv4.
            socket.set_only_v6(false)?;
        }
        opened(socket, address)
    })
}

/// The same for connections that were meant for others: each family has a listener of its own, since how
/// to ask for the first destination depends on it. None for an address of IPv6 that stands for this
/// machine where there is no IPv6: nothing can arrive there.
///
/// # Errors
/// As [`listen`].
pub(super) fn redirected(address: SocketAddr) -> io::Result<Option<TcpListener>> {
    let listener = socket(address).and_then(|socket| {
        receive_foreign(&socket, address)?;
        opened(socket, address)
    });
    match listener {
        Err(error) if is_needless(address, &error) => Ok(None),
        listener => listener.map(Some),
    }
}

fn is_everywhere(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

fn everywhere<T>(address: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match open(address) {
        Err(error) if is_everywhere(address) && knows_no(&error) => {
            let all = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            open(SocketAddr::new(all, address.port()))
        }
        opened => opened,
    }
}

/// Does the kernel know no such family?
fn knows_no(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
}

fn is_needless(address: SocketAddr, error: &io::Error) -> bool {
    let own = address.ip().is_loopback() || address.ip().is_unspecified();
    // The family may be there and switched off (`net.ipv6.conf.all.disable_ipv6`).
    let lacks = Errno::from_io_error(error) == Some(Errno::ADDRNOTAVAIL);
    address.is_ipv6() && own && (lacks || knows_no(error))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let family = Domain::for_address(address);
    let socket = Socket::new(family, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn opened(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// For TPROXY: connections whose destination is no address of this machine. It takes a capability
/// (`CAP_NET_ADMIN` or `CAP_NET_RAW`) that REDIRECT does without, so a refusal is no error.
fn receive_foreign(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let permitted = match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)
        }
    };
    if let Err(error) = permitted {
        tracing::debug!(%address, %error, "TPROXY is not possible here; REDIRECT is");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        let listener = listen(at("[::]:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let by_four = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        let (_, from) = listener.accept().await.unwrap();
        assert!(by_four.is_ok() && from.ip().to_canonical().is_ipv4());
    }

    #[test]
    fn without_one_family_the_other_is_all() {
        let without = |error: Errno| {
            move |address: SocketAddr| match address {
                SocketAddr::V6(_) => Err(io::Error::from(error)),
                SocketAddr::V4(_) => Ok(address),
            }
        };
        let none = without(Errno::AFNOSUPPORT);
        assert_eq!(
            everywhere(at("[::]:4022"), none).unwrap(),
            at("0.0.0.0:4022")
        );
        // An address that somebody chose is not another's, and other faults are none of this.
        assert!(everywhere(at("[::1]:4022"), none).is_err());
        assert!(everywhere(at("[::]:4022"), without(Errno::ADDRINUSE)).is_err());
    }

    #[tokio::test]
    async fn only_an_own_address_of_a_missing_family_is_needless() {
        let needless = |address: &str, errno: Errno| is_needless(at(address), &errno.into());
        for errno in [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT] {
            assert!(needless("[::1]:4021", errno) && needless("[::]:4021", errno));
            assert!(!needless("127.0.0.1:4021", errno));
            assert!(!needless("[2001:db8::1]:4021", errno));
        }
        assert!(!needless("[::1]:4021", Errno::ADDRINUSE));
        assert!(redirected(at("127.0.0.1:0")).unwrap().is_some());
    }
}
