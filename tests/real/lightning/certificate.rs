//! A node behind the certificate that it made for itself, as LND does.

use std::io::{self, Read as _, Write};
use std::net::TcpStream;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::*;
use crate::support::merchant::{After, Merchant, Seen, provider, shop};
use crate::support::proxy::Setup;

/// A server's certificate and key, marked as an authority's, for these names. And the certificate as PEM.
fn own(names: &[&str]) -> (rustls::ServerConfig, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        );
    (config.unwrap(), certificate.pem())
}

/// Passes one request on to this port, and its answer back.
fn pass_on(port: u16, seen: &Seen, out: &mut dyn Write) -> io::Result<After> {
    let mut node = TcpStream::connect(("127.0.0.1", port))?;
    write!(node, "{} {} HTTP/1.1\r\n", seen.method, seen.target)?;
    for (name, value) in &seen.head.fields {
        write!(node, "{name}: {value}\r\n")?;
    }
    node.write_all(b"\r\n")?;
    node.write_all(&seen.body.start)?;
    let mut answer = vec![];
    node.read_to_end(&mut answer)?;
    out.write_all(&answer)?;
    Ok(After::Close)
}

#[test]
fn a_node_is_paid_through_behind_its_own_certificate() {
    let node = Arc::new(Node::start(Face::Lnd));
    let (config, pem) = own(&["localhost", "127.0.0.1"]);
    let port = node.port;
    let front = Merchant::serving(config, &pem, move |seen, out| pass_on(port, seen, out));
    let toll = Toll::open(&node, Ways::of(PRICE));
    for host in ["localhost", "127.0.0.1"] {
        let mut setup = toll.setup(&node);
        setup.root(&front.root);
        setup.config["wallets"][0]["url"] = json!(format!("https://{host}:{}", front.tls.port()));
        let proxy = setup.start();
        let answer = proxy.get(&format!("https://{HOST}/{host}"));
        assert_eq!((answer.status, answer.text()), (200, "goods".into()));
        assert_eq!(proxy.ledger().rows[0]["state"], "settled");
    }
    assert_eq!(node.paid().0, 2);
}

/// What is believed of a node is not believed of a merchant.
#[test]
fn a_merchant_is_not_believed_by_a_certificate_of_its_own_authority() {
    let (config, pem) = own(&[HOST]);
    let merchant = Merchant::serving(config, &pem, shop);
    let mut setup = Setup::new();
    setup
        .root(&merchant.root)
        .resolve(&format!("{HOST}:443"), merchant.tls.port().into());
    let answer = setup.start().get(&format!("https://{HOST}/"));
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("certificate_"), "{}", answer.text());
    assert_eq!(merchant.seen().len(), 0);
}
