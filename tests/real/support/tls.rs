//! TLS as an agent begins it.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::http::{self, Answer};
use super::merchant::{provider, roots};

/// Trusts this authority alone, and offers these protocols.
pub(crate) fn trusting(ca: &Path, protocols: &[&str]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(ca))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

/// A tunnel to port 443 of a host with TLS in it, or the answer that was no 200.
pub(crate) fn tunnel<S: Read + Write>(
    mut stream: S,
    (host, fields): (&'static str, &[(String, String)]),
    config: ClientConfig,
) -> io::Result<Result<StreamOwned<ClientConnection, S>, Answer>> {
    http::write_head(&mut stream, &format!("CONNECT {host}:443 HTTP/1.1"), fields)?;
    let opened = http::read_answer(&mut BufReader::with_capacity(1, &mut stream), "CONNECT")?;
    if opened.status != 200 {
        return Ok(Err(opened));
    }
    let host = ServerName::try_from(host).unwrap();
    let tls = ClientConnection::new(Arc::new(config), host).unwrap();
    Ok(Ok(StreamOwned::new(tls, stream)))
}
