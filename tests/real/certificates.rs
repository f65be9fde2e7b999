//! Whom the proxy believes: bad certificates, hosts that are not verified, certificates of ours.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use crate::support::agent::Ask;
use crate::support::certs::{self, ByName, Signer, authority};
use crate::support::curl::fetch;
use crate::support::merchant::{self, After, Merchant, shop};
use crate::support::proxy::{Proxy, Setup};

const PATIENCE: Duration = Duration::from_secs(30);

/// The proxy's own authority, made before it starts, with its key.
fn own(setup: &Setup) -> Signer {
    let dir = setup.dir.path().join("certs");
    farepass::tls::Authority::open_or_create(&dir).unwrap();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    Signer::of(&read("ca.pem"), &read("ca-key.pem"))
}

fn get(proxy: &Proxy, host: &str) -> (u16, Option<String>) {
    let ask = Ask::get(&format!("https://{host}/x"));
    let answer = proxy.agent(PATIENCE).send(&ask).unwrap();
    (answer.status, answer.reason())
}

#[test]
fn no_bad_certificate_gets_a_request() {
    let mut setup = Setup::new();
    let own = own(&setup);
    let matrix = certs::matrix(&own, setup.dir.path());
    let mut certificates = ByName::default();
    certificates.add_all(&matrix.bad);
    let good = authority("another root", None, |_| {});
    certificates.add("good.stand.test", good.leaf("good.stand.test", |_| {}));
    let roots = matrix.roots + &good.pem;
    let merchant = Merchant::serving(certs::server(certificates), &roots, shop);

    let crl = setup.dir.path().join("revoked.pem");
    fs::write(&crl, &matrix.crls).unwrap();
    setup.config["tls"]["crls"] = json!([crl]);
    setup.config["rules"][0]["match"]["hosts"] = json!(["*.stand.test", "127.0.0.1"]);
    // The machine trusts our authority, as it should for agents; we do not (threat T-07).
    let system = setup.dir.path().join("system.pem");
    fs::write(&system, &own.pem).unwrap();
    setup.env.push(("SSL_CERT_FILE", system));
    setup.root(&merchant.root);
    let port = merchant.tls.port().into();
    for host in matrix.bad.iter().map(|b| b.host.as_str()) {
        setup.resolve(&format!("{host}:443"), port);
    }
    setup.resolve("good.stand.test:443", port);
    let proxy = setup.start();

    let mut wrong = vec![];
    for bad in &matrix.bad {
        let seen = get(&proxy, &bad.host);
        if seen != (502, Some(bad.reason.to_owned())) {
            wrong.push(format!("{}: {seen:?}, not {}", bad.host, bad.reason));
        }
        // Over HTTP/2 as well.
        let answer = fetch(proxy.curl(&format!("https://{}/x", bad.host)));
        let seen = answer.map(|a| (a.status, a.reason()));
        if seen != Ok((502, Some(bad.reason.to_owned()))) {
            wrong.push(format!("{} with curl: {seen:?}", bad.host));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let forwarded = merchant.seen();
    assert!(forwarded.is_empty(), "{forwarded:?}");
    assert!(proxy.ledger().rows.is_empty(), "nothing was paid");
    // The same proxy, a good certificate: it is asked, and paid.
    assert_eq!(get(&proxy, "good.stand.test"), (200, None));
    assert_eq!(merchant.seen().len(), 2);
}

#[test]
fn a_host_without_verification_is_never_paid() {
    let merchant = Merchant::start(shop);
    let mut setup = Setup::new();
    let port = merchant.tls.port().into();
    // Not one of them is verifiable: their root is not listed.
    for host in ["dev.stand.test", "prod.stand.test"] {
        setup.resolve(&format!("{host}:443"), port);
    }
    setup.resolve("dev.stand.test:80", merchant.plain.port().into());
    setup.config["tls"]["insecure_hosts"] = json!(["dev.stand.test"]);
    // Not even where plain http would be paid.
    setup.config["rules"][0]["pay"]["insecure_http"] = json!(true);
    let proxy = setup.start();
    let refused = (402, Some("insecure_transport".to_owned()));
    assert_eq!(get(&proxy, "dev.stand.test"), refused);
    let curl = fetch(proxy.curl("https://dev.stand.test/x")).unwrap();
    assert_eq!((curl.status, curl.reason()), refused);
    let plain = fetch(proxy.curl("http://dev.stand.test/x")).unwrap();
    assert_eq!((plain.status, plain.reason()), refused);
    assert_eq!(merchant.seen().len(), 3);
    assert!(merchant.seen().iter().all(|s| s.payment().is_none()));
    // Named exactly: its neighbour is verified.
    let unknown = (502, Some("certificate_unknown_root".to_owned()));
    assert_eq!(get(&proxy, "prod.stand.test"), unknown);
    assert!(proxy.ledger().rows.is_empty());
    let said = proxy.stderr();
    let loud = said.matches("is not verified (tls.insecure_hosts)").count();
    assert!(loud >= 3, "at the start and at every use:\n{said}");
}

#[test]
fn no_pattern_switches_verification_off() {
    for (host, word) in [("*", "in full"), ("*.stand.test", "in full")] {
        let mut setup = Setup::new();
        setup.config["tls"]["insecure_hosts"] = json!([host]);
        setup.write();
        let out = setup.run(&["check"]);
        assert_eq!(out.status.code(), Some(2));
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            said.contains("tls.insecure_hosts[0]") && said.contains(word),
            "{said}"
        );
    }
}

/// A server that asks everybody for a certificate, and answers with the name in it, or `nobody`.
fn doorman(root: &Signer, clients: &Signer) -> Merchant {
    let mut certificates = ByName::default();
    for host in ["mtls.stand.test", "other.stand.test"] {
        certificates.add(host, root.leaf(host, |_| {}));
    }
    let mut trusted = rustls::RootCertStore::empty();
    trusted
        .add(CertificateDer::from_pem_slice(clients.pem.as_bytes()).unwrap())
        .unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(trusted),
        merchant::provider(),
    );
    let verifier = verifier.allow_unauthenticated().build().unwrap();
    let config = rustls::ServerConfig::builder_with_provider(merchant::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(certificates));
    Merchant::serving(config, &root.pem, |_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(After::Keep)
    })
}

/// A client certificate in two files, the key for its owner only.
fn credential(dir: &Path, clients: &Signer) -> serde_json::Value {
    let (chain, key) = clients.client("the operator");
    let (cert_file, key_file) = (dir.join("client.pem"), dir.join("client-key.pem"));
    fs::write(&cert_file, chain).unwrap();
    fs::write(&key_file, key).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    json!([{ "hosts": ["mtls.stand.test"], "cert_file": cert_file, "key_file": key_file }])
}

#[test]
fn a_client_certificate_is_shown_to_its_hosts_only() {
    let root = authority("root", None, |_| {});
    let clients = authority("clients", None, |_| {});
    let merchant = doorman(&root, &clients);
    let mut setup = Setup::new();
    setup.config["tls"]["client_certificates"] = credential(setup.dir.path(), &clients);
    setup.root(&merchant.root);
    for host in ["mtls.stand.test", "other.stand.test"] {
        setup.resolve(&format!("{host}:443"), merchant.tls.port().into());
    }
    let proxy = setup.start();
    for host in ["other.stand.test", "mtls.stand.test", "other.stand.test"] {
        assert_eq!(get(&proxy, host), (200, None));
        let curl = fetch(proxy.curl(&format!("https://{host}/x"))).unwrap();
        assert_eq!(curl.status, 200);
    }
    for seen in merchant.seen() {
        let shown = seen.shaken.client.as_deref();
        let expected = (seen.host == "mtls.stand.test").then_some("the operator");
        assert_eq!(shown, expected, "{}", seen.host);
    }
}

#[test]
fn a_client_key_that_others_can_read_is_not_used() {
    let clients = authority("clients", None, |_| {});
    let mut setup = Setup::new();
    setup.config["tls"]["client_certificates"] = credential(setup.dir.path(), &clients);
    setup.write();
    let key = setup.dir.path().join("client-key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let out = setup.run(&["serve"]);
    assert_eq!(out.status.code(), Some(2));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        said.contains("client-key.pem") && said.contains("chmod 600"),
        "{said}"
    );
}
