//! The certificates that agents see: strict enough for the strictest client.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use farepass::tls::{Authority, Interceptor, Refused, TlsError};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::Acceptor;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::*;

fn client(authority: &Authority, protocols: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate_der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

struct Shaken {
    leaf: CertificateDer<'static>,
    alpn: Option<Vec<u8>>,
}

/// One handshake of a client that wants `name` in the tunnel to `host`.
async fn handshake(
    authority: &Authority,
    interceptor: &Interceptor,
    host: &str,
    name: &str,
    protocols: &[&str],
) -> Result<Shaken, String> {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let server = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), far)
            .await
            .unwrap();
        let config = interceptor
            .answer(&host.into(), &start.client_hello())
            .map_err(|e| match e {
                Refused::OtherName => "other name".to_owned(),
                Refused::Leaf(e) => e.to_string(),
            })?;
        start.into_stream(config).await.map_err(|e| e.to_string())
    };
    let connector = client(authority, protocols);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let (client, server) = tokio::join!(connector.connect(name, near), server);
    let _server = server?;
    let client = client.map_err(|e| e.to_string())?;
    let (_, session) = client.get_ref();
    Ok(Shaken {
        leaf: session.peer_certificates().unwrap()[0].clone().into_owned(),
        alpn: session.alpn_protocol().map(<[u8]>::to_vec),
    })
}

fn make() -> (tempfile::TempDir, Arc<Authority>, Interceptor) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::open_or_create(&dir.path().join("certs")).unwrap());
    let interceptor = Interceptor::new(Arc::clone(&authority), 64).unwrap();
    (dir, authority, interceptor)
}

fn key_ids(parsed: &X509Certificate<'_>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let (mut own, mut issuer) = (None, None);
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                issuer = id.key_identifier.as_ref().map(|k| k.0.to_vec());
            }
            _ => {}
        }
    }
    (own, issuer)
}

#[tokio::test]
async fn leaves_are_exact_short_lived_and_not_the_authoritys_key() {
    let (_dir, authority, interceptor) = make();
    let ca_der = authority.certificate_der().clone();
    let (_, ca) = X509Certificate::from_der(&ca_der).unwrap();
    assert!(ca.is_ca());
    let usage = ca.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    assert_eq!(
        ca.basic_constraints()
            .unwrap()
            .unwrap()
            .value
            .path_len_constraint,
        Some(0)
    );
    assert!(ca.validity().time_to_expiration().unwrap().whole_days() <= 365);
    let (ca_id, _) = key_ids(&ca);
    assert!(ca_id.is_some());
    let purpose = ca.extended_key_usage().unwrap().unwrap().value;
    assert!(
        purpose.server_auth && !purpose.client_auth && !purpose.any && purpose.other.is_empty()
    );
    assert!(
        ca.subject()
            .to_string()
            .contains("trust on this machine only")
    );

    let mut serials = vec![];
    for host in [
        "api.example.com",
        "127.0.0.1",
        "2001:db8::1",
        "other.example.com",
    ] {
        let shaken = handshake(&authority, &interceptor, host, host, &["h2"])
            .await
            .unwrap();
        let (_, leaf) = X509Certificate::from_der(&shaken.leaf).unwrap();
        let names = &leaf
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names;
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) => assert_eq!(names, &[GeneralName::IPAddress(&v4.octets())]),
            Ok(IpAddr::V6(v6)) => assert_eq!(names, &[GeneralName::IPAddress(&v6.octets())]),
            Err(_) => assert_eq!(names, &[GeneralName::DNSName(host)]),
        }
        assert!(!leaf.is_ca());
        let purpose = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(purpose.server_auth && !purpose.client_auth && !purpose.any);
        assert!(leaf.validity().time_to_expiration().unwrap().whole_days() <= 7);
        let now = ::time::OffsetDateTime::now_utc();
        let backdated = now - leaf.validity().not_before.to_datetime();
        assert!(backdated <= ::time::Duration::hours(1), "{backdated}");
        assert!(leaf.validity().not_after.to_datetime() <= authority.not_after());
        let (own, issuer) = key_ids(&leaf);
        assert!(own.is_some());
        assert_eq!(issuer, ca_id);
        assert_ne!(leaf.public_key().raw, ca.public_key().raw);
        assert!(leaf.serial.bits() > 64);
        serials.push(leaf.raw_serial().to_vec());
    }
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 4, "serial numbers are unique");
}

#[tokio::test]
async fn openssl_in_its_strict_mode_accepts_what_we_sign() {
    let (dir, authority, interceptor) = make();
    for host in ["api.example.com", "127.0.0.1", "2001:db8::1"] {
        let shaken = handshake(&authority, &interceptor, host, host, &[])
            .await
            .unwrap();
        let file = dir.path().join("leaf.der");
        std::fs::write(&file, &shaken.leaf).unwrap();
        let Ok(verified) = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
            .arg(authority.certificate_path())
            .arg(&file)
            .output()
        else {
            eprintln!("SKIPPED: no openssl on this machine");
            return;
        };
        assert!(
            verified.status.success(),
            "{}",
            String::from_utf8_lossy(&verified.stderr)
        );
    }
}

#[tokio::test]
async fn the_client_hello_must_name_the_tunnel() {
    let (_dir, authority, interceptor) = make();
    let refused = handshake(&authority, &interceptor, "a.test", "b.test", &["h2"]).await;
    assert_eq!(refused.err().as_deref(), Some("other name"));
}

#[tokio::test]
async fn protocols_are_chosen_per_client() {
    let (_dir, authority, interceptor) = make();
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.0"], Some("http/1.0")),
        (&[], None),
    ] {
        let shaken = handshake(&authority, &interceptor, "a.test", "a.test", offered).await;
        let alpn = shaken.unwrap().alpn;
        assert_eq!(alpn.as_deref(), chosen.map(str::as_bytes), "{offered:?}");
    }
    let stranger = handshake(&authority, &interceptor, "a.test", "a.test", &["smtp"]).await;
    assert!(stranger.is_err(), "nothing in common: no connection");
}

#[test]
fn the_authority_is_made_once_and_kept_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let first = Authority::open_or_create(&certs).unwrap().fingerprint();
    let again = Authority::open_or_create(&certs).unwrap();
    assert_eq!(again.fingerprint(), first);
    assert!(!again.certificate_pem().contains("PRIVATE"));

    let key = certs.join("ca-key.pem");
    let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&certs), mode(&key)), (0o700, 0o600));

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = Authority::open_or_create(&certs).err().unwrap();
    assert!(
        matches!(exposed, TlsError::Exposed { mode: 0o640, .. }),
        "{exposed}"
    );
    assert!(exposed.to_string().contains("chmod 600"));
}

#[test]
fn half_an_authority_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    Authority::open_or_create(dir.path()).unwrap();
    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    let half = Authority::open_or_create(dir.path()).err().unwrap();
    assert!(matches!(half, TlsError::Half { .. }), "{half}");
    assert!(dir.path().join("ca-key.pem").exists());

    let other = tempfile::tempdir().unwrap();
    Authority::open_or_create(other.path()).unwrap();
    std::fs::copy(other.path().join("ca.pem"), dir.path().join("ca.pem")).unwrap();
    let strangers = Authority::open_or_create(dir.path()).err().unwrap();
    assert!(
        strangers.to_string().contains("does not belong"),
        "{strangers}"
    );
}

/// An authority whose own end is near: no leaf may outlive it.
#[tokio::test]
async fn no_leaf_outlives_its_authority() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let end = ::time::OffsetDateTime::now_utc() + ::time::Duration::hours(2);
    params.not_after = end;
    let (certificate, file) = (dir.path().join("ca.pem"), dir.path().join("ca-key.pem"));
    std::fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let authority = Arc::new(Authority::open(&certificate, &file).unwrap());
    let interceptor = Interceptor::new(Arc::clone(&authority), 64).unwrap();
    let shaken = handshake(&authority, &interceptor, "a.test", "a.test", &[])
        .await
        .unwrap();
    let (_, leaf) = X509Certificate::from_der(&shaken.leaf).unwrap();
    assert!(leaf.validity().not_after.to_datetime() <= end);
}
