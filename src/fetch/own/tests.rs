//! A node that shows a certificate which it made for itself.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::Fetch;
use super::*;

type Certificate = CertificateDer<'static>;
type Change = Box<dyn FnOnce(&mut CertificateParams)>;

/// As LND makes one for itself: an authority's, for its own names.
fn made(change: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), key)
}

/// A server that shows this certificate, and answers everything alike.
async fn node(certificate: &Certificate, key: &KeyPair) -> u16 {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate.clone()], key));
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Whoever does not believe it hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut seen = vec![];
            while !seen.ends_with(b"{}") {
                stream.read_buf(&mut seen).await.unwrap();
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            stream.flush().await.unwrap();
        }
    });
    port
}

/// A client that was given these certificates, as roots or as the operator's own too.
fn given(certificates: &[Certificate], own: bool) -> Fetch {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).unwrap();
    }
    let named = if own { certificates } else { &[] };
    Fetch::of_own(Arc::new(roots), named.into()).unwrap()
}

async fn believes(fetch: &Fetch, host: &str, port: u16) -> Result<(), String> {
    let url = format!("https://{host}:{port}/");
    let request = Request::post(url).body(Bytes::from_static(b"{}")).unwrap();
    match fetch.send(request, Duration::from_secs(20), 100).await {
        Ok(answer) => {
            assert_eq!(&answer.body()[..], b"ok");
            Ok(())
        }
        Err(FetchError::Connection { problem, .. }) => Err(problem),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_node_is_believed_by_its_own_certificate_and_by_no_other() {
    let (certificate, key) = made(|_| {});
    let port = node(&certificate, &key).await;
    let one = std::slice::from_ref(&certificate);
    assert_eq!(believes(&given(one, true), "localhost", port).await, Ok(()));
    let as_a_root = believes(&given(one, false), "localhost", port).await;
    assert!(as_a_root.unwrap_err().contains("CaUsedAsEndEntity"));
    // Another name of the same server.
    let other = believes(&given(one, true), "127.0.0.1", port).await;
    assert!(other.unwrap_err().contains("not valid for name"));
    // The same name and key, and not the certificate that was named.
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let twin = params.self_signed(&key).unwrap().der().clone();
    let other = believes(&given(&[twin], true), "localhost", port).await;
    assert!(other.unwrap_err().contains("CaUsedAsEndEntity"));
}

#[tokio::test]
async fn a_nodes_own_certificate_has_its_time_and_its_purpose() {
    let (at, purpose) = (date_time_ymd, ExtendedKeyUsagePurpose::ClientAuth);
    let wrong: [(&str, Change); 3] = [
        ("expired", Box::new(move |p| p.not_after = at(2020, 1, 1))),
        (
            "not valid yet",
            Box::new(move |p| p.not_before = at(2090, 1, 1)),
        ),
        (
            "InvalidPurpose",
            Box::new(move |p| p.extended_key_usages = vec![purpose]),
        ),
    ];
    for (want, change) in wrong {
        let (certificate, key) = made(change);
        let port = node(&certificate, &key).await;
        let said = believes(&given(&[certificate], true), "localhost", port).await;
        let said = said.unwrap_err();
        assert!(said.contains(want), "{want}: {said}");
    }
}

/// The certificate is no secret: whoever shows it must have its key.
#[tokio::test]
async fn a_nodes_own_certificate_without_its_key_is_nobodys() {
    let (certificate, _) = made(|_| {});
    let (_, key) = made(|_| {});
    let port = node(&certificate, &key).await;
    let said = believes(&given(&[certificate], true), "localhost", port).await;
    assert!(said.unwrap_err().contains("BadSignature"));
}
