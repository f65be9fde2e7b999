//! `peer PORT CERTS`: the hudsucker crate, which passes everything through. `PEER_H2` offers HTTP/2 to the
//! upstream; `PEER_NAGLE` leaves its accepted sockets as it leaves them itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use farepass_compare::{Failure, roots};
use hudsucker::Proxy;
use hudsucker::certificate_authority::RcgenAuthority;
use hudsucker::hyper_util::client::legacy::connect::HttpConnector;
use hudsucker::rcgen::{Issuer, KeyPair};
use hudsucker::rustls::{ClientConfig, crypto::aws_lc_rs};
use hyper_rustls::HttpsConnectorBuilder;
use tokio::net::TcpListener;

fn set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().ok_or("PORT")?.parse()?;
    let certs = PathBuf::from(arguments.next().ok_or("CERTS")?);
    let text = |name: &str| std::fs::read_to_string(certs.join(name));

    let key = KeyPair::from_pem(&text("ca-key.pem")?)?;
    let issuer = Issuer::from_ca_cert_pem(&text("ca.pem")?, key)?;
    let provider = aws_lc_rs::default_provider();
    let tls = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots([&*certs.join("upstream-ca.pem")])?)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http();
    let connector = match set("PEER_H2") {
        true => https.enable_http1().enable_http2().wrap_connector(tcp),
        false => https.enable_http1().wrap_connector(tcp),
    };
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    if !set("PEER_NAGLE") {
        // Accepted sockets inherit it.
        socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
    }
    let proxy = Proxy::builder()
        .with_listener(listener)
        .with_ca(RcgenAuthority::new(issuer, 1_000, provider))
        .with_http_connector(connector)
        .build()?;
    Ok(proxy.start().await?)
}
