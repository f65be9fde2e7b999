//! What everybody may have without the token: the authority's certificate, and the file that tells
//! browsers of the proxy. Here and never on the data plane, where every path belongs to a merchant.

use std::net::SocketAddr;

use http::StatusCode;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

use super::problem::{Answer, Problem, typed};
use crate::settings::Entrance;

/// The certificate that agents trust; its key never leaves its file.
pub(super) fn certificate(pem: &str) -> Answer {
    let kind = "application/x-pem-file";
    typed(StatusCode::OK, kind, pem.to_owned())
}

/// Proxy auto-configuration. There is no `DIRECT` in it: it would lead around the policy whenever the
/// proxy is away.
pub(super) fn auto_configuration(head: &Parts, proxy: &Entrance) -> Result<Answer, Problem> {
    let (kind, at) = match proxy {
        Entrance::Plain(at) => ("PROXY", *at),
        Entrance::Tls(at) => ("HTTPS", *at),
        // No browser comes in through a socket in a folder.
        Entrance::Unix(_) => return Err(Problem::NotFound),
    };
    let at = reachable(head, at);
    Ok(typed(
        StatusCode::OK,
        "application/x-ns-proxy-autoconfig",
        format!("function FindProxyForURL(url, host) {{ return \"{kind} {at}\"; }}\n"),
    ))
}

/// A proxy on all addresses is reached by the one that the asker has used.
fn reachable(head: &Parts, proxy: SocketAddr) -> String {
    let asked = head.headers.get(HOST).and_then(|h| h.to_str().ok());
    let asked = asked.and_then(|h| h.parse::<Authority>().ok());
    match asked {
        Some(asked) if proxy.ip().is_unspecified() => {
            format!("{}:{}", asked.host(), proxy.port())
        }
        Some(_) | None => proxy.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_where_the_asker_can_reach_it() {
        let at = |host: &str, proxy: &str| {
            let request = http::Request::builder().header(HOST, host).body(());
            let (head, ()) = request.unwrap().into_parts();
            reachable(&head, proxy.parse().unwrap())
        };
        assert_eq!(at("localhost:4022", "127.0.0.1:4020"), "127.0.0.1:4020");
        assert_eq!(at("192.0.2.1:4022", "0.0.0.0:4020"), "192.0.2.1:4020");
        assert_eq!(at("[2001:db8::1]:4022", "[::]:4020"), "[2001:db8::1]:4020");
    }
}
