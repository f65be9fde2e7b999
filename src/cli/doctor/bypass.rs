//! Can programs go around the proxy? Only the network can forbid it, and only a try can tell.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::finding::Finding;
use crate::config::Config;

const CHECK: &str = "bypass";

const PATIENCE: Duration = Duration::from_secs(3);

/// A host and a port to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    host: String,
    port: u16,
}

/// Reads `HOST:PORT`; an address of IPv6 stands in brackets.
///
/// # Errors
/// What is expected instead.
pub(super) fn target(text: &str) -> Result<Target, String> {
    let wrong = || "expected HOST:PORT, as 192.0.2.7:443 or [2001:db8::7]:443".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port > 0);
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let whole = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '[', ']', '/', '@', ' ']),
    };
    match port {
        Some(port) if whole => Ok(Target {
            host: inner.unwrap_or(host).to_owned(),
            port,
        }),
        Some(_) | None => Err(wrong()),
    }
}

pub(super) async fn look(config: &Config, targets: &[Target]) -> Vec<Finding> {
    if targets.is_empty() {
        let said =
            "not tried: name an address that only the proxy may reach, with --direct HOST:PORT";
        return vec![Finding::unknown(CHECK, said)];
    }
    let redirected = !config.listen.transparent.is_empty();
    let mut all = vec![];
    for target in targets {
        all.push(attempt(target, redirected).await);
    }
    all
}

async fn attempt(target: &Target, redirected: bool) -> Finding {
    let shown = crate::cli::table::plain(&match target.host.contains(':') {
        true => format!("[{}]:{}", target.host, target.port),
        false => format!("{}:{}", target.host, target.port),
    });
    let untold = |why: &str| Finding::unknown(CHECK, format!("{shown} was not tried: {why}"));
    let found = timeout(PATIENCE, lookup_host((&*target.host, target.port))).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(_)) => return untold("its name does not resolve"),
        Err(_) => return untold("no answer about its name"),
    };
    match timeout(PATIENCE, TcpStream::connect(&*addresses)).await {
        // Who answers may be the proxy itself.
        Ok(Ok(_)) if redirected => Finding::unknown(
            CHECK,
            format!(
                "{shown} answers, but listen.transparent is set, so maybe it is the proxy that does; try it where nothing is redirected"
            ),
        ),
        Ok(Ok(_)) => Finding::wrong(
            CHECK,
            format!("{shown} is reached without the proxy"),
            "forbid it in the network: a firewall rule, or a NetworkPolicy that lets out the proxy alone",
        ),
        // Silence and a refusal look the same from outside: maybe nobody listens there.
        Ok(Err(e)) => Finding::ok(CHECK, format!("{shown} is not reached directly: {e}")),
        Err(_) => Finding::ok(CHECK, format!("{shown} is not reached directly: no answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_port() {
        for (text, host) in [
            ("192.0.2.7:443", "192.0.2.7"),
            ("api.example.com:443", "api.example.com"),
            ("[2001:db8::7]:443", "2001:db8::7"),
        ] {
            let read = target(text).unwrap();
            assert_eq!((&*read.host, read.port), (host, 443), "{text}");
        }
        for bad in [
            "192.0.2.7",
            "192.0.2.7:",
            "192.0.2.7:0",
            "192.0.2.7:65536",
            ":443",
            "2001:db8::7:443",
            "[api.example.com]:443",
            "https://api.example.com:443",
        ] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
