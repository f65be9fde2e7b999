//! Certificates that no client should believe, each wrong in one way.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, NameConstraints, RevocationReason, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Who signs: an authority, or somebody who poses as one.
pub(crate) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// From its own certificate up to, and without, the root.
    chain: Vec<CertificateDer<'static>>,
    pub(crate) pem: String,
}

/// An authority of this name, under another or a root of its own, changed as told.
pub(crate) fn authority(
    name: &str,
    over: Option<&Signer>,
    change: impl FnOnce(&mut CertificateParams),
) -> Signer {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = called(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    change(&mut params);
    let certificate = match over {
        Some(over) => params.signed_by(&key, &over.issuer),
        None => params.self_signed(&key),
    };
    let certificate = certificate.unwrap();
    let chain = over.map_or_else(Vec::new, |over| {
        [vec![certificate.der().clone()], over.chain.clone()].concat()
    });
    // What a signer may do is said by its certificate alone; its signature works either way.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![];
    Signer {
        issuer: Issuer::new(params, key),
        chain,
        pem: certificate.pem(),
    }
}

impl Signer {
    /// A signer out of its two PEM texts.
    pub(crate) fn of(certificate: &str, key: &str) -> Self {
        let key = KeyPair::from_pem(key).unwrap();
        Self {
            issuer: Issuer::from_ca_cert_pem(certificate, key).unwrap(),
            chain: vec![],
            pem: certificate.to_owned(),
        }
    }

    /// A certificate for this name, changed as told, with its chain and key.
    pub(crate) fn leaf(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertifiedKey {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = called(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let chain = [vec![leaf.der().clone()], self.chain.clone()].concat();
        CertifiedKey::new(chain, signing(&key))
    }

    /// A certificate to show to servers, and its key, PEM.
    pub(crate) fn client(&self, name: &str) -> (String, String) {
        self.pair(name, vec![], ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    /// The same, long past its time.
    pub(crate) fn expired_client(&self, name: &str) -> (String, String) {
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        self.pair(name, vec![], purpose, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// A certificate for this host, and its key, PEM.
    pub(crate) fn server(&self, host: &str) -> (String, String) {
        let names = vec![host.to_owned()];
        self.pair(host, names, ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }

    fn pair(
        &self,
        name: &str,
        hosts: Vec<String>,
        purpose: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = called(name);
        params.extended_key_usages = vec![purpose];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A revocation list with these serial numbers on it, PEM.
    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn signing(key: &KeyPair) -> Arc<dyn rustls::sign::SigningKey> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap()
}

/// One host with a certificate that must not be believed.
pub(crate) struct Bad {
    pub(crate) host: String,
    pub(crate) reason: &'static str,
    key: CertifiedKey,
}

/// The matrix of threat T-01, and what a proxy must be told to see it.
pub(crate) struct Matrix {
    pub(crate) bad: Vec<Bad>,
    /// To trust, PEM.
    pub(crate) roots: String,
    /// To know about, PEM.
    pub(crate) crls: String,
}

const NAME: &str = "certificate_name";
const EXPIRED: &str = "certificate_expired";
const UNKNOWN: &str = "certificate_unknown_root";
const CONSTRAINTS: &str = "certificate_constraints";
const PURPOSE: &str = "certificate_purpose";
const SIGNATURE: &str = "certificate_signature";

/// Cases as they are added: the label of the host, the reason, the certificate for the host.
struct Cases(Vec<Bad>);

impl Cases {
    fn add(&mut self, label: &str, reason: &'static str, make: impl FnOnce(&str) -> CertifiedKey) {
        let host = format!("{label}.stand.test");
        let key = make(&host);
        self.0.push(Bad { host, reason, key });
    }
}

/// `own`: the proxy's authority, which must not vouch for upstreams. `dir` is for openssl's files.
pub(crate) fn matrix(own: &Signer, dir: &Path) -> Matrix {
    let root = authority("good root", None, |_| {});
    let mut cases = Cases(vec![]);
    names(&mut cases, &root);
    times(&mut cases, &root);
    chains(&mut cases, &root, own);
    paths(&mut cases, &root);
    let crls = contents(&mut cases, &root);
    let weak = signatures(&mut cases, &root, dir);
    Matrix {
        bad: cases.0,
        roots: root.pem + &weak,
        crls,
    }
}

fn names(cases: &mut Cases, root: &Signer) {
    let named = |text: &str| root.leaf(text, |_| {});
    cases.add("wrong-host", NAME, |_| named("other.test"));
    cases.add("subdomain", NAME, |host| named(&format!("www.{host}")));
    cases.add("a.two-labels", NAME, |_| named("*.stand.test"));
    cases.add("wide-star", NAME, |_| named("*.test"));
    cases.add("part-star", NAME, |_| named("part*.stand.test"));
    cases.add("common-name-only", NAME, |host| {
        root.leaf(host, |p| p.subject_alt_names = vec![])
    });
    cases.add("address-only", NAME, |_| named("127.0.0.1"));
    cases.0.push(Bad {
        host: "127.0.0.1".into(),
        reason: NAME,
        key: named("stand.test"),
    });
}

fn times(cases: &mut Cases, root: &Signer) {
    cases.add("expired", EXPIRED, |host| {
        root.leaf(host, |p| p.not_after = date_time_ymd(2020, 1, 1))
    });
    let old = authority("expired intermediate", Some(root), |p| {
        p.not_after = date_time_ymd(2020, 1, 1);
    });
    cases.add("expired-issuer", EXPIRED, |host| old.leaf(host, |_| {}));
    cases.add("not-yet-valid", "certificate_not_yet_valid", |host| {
        root.leaf(host, |p| p.not_before = date_time_ymd(2090, 1, 1))
    });
}

fn chains(cases: &mut Cases, root: &Signer, own: &Signer) {
    cases.add("self-signed", UNKNOWN, |host| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let leaf = params.self_signed(&key).unwrap();
        CertifiedKey::new(vec![leaf.der().clone()], signing(&key))
    });
    // As `openssl req -x509` makes them.
    cases.add("self-signed-authority", PURPOSE, |host| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let leaf = params.self_signed(&key).unwrap();
        CertifiedKey::new(vec![leaf.der().clone()], signing(&key))
    });
    let stranger = authority("unknown root", None, |_| {});
    cases.add("unknown-root", UNKNOWN, |host| stranger.leaf(host, |_| {}));
    let namesake = authority("good root", None, |_| {});
    cases.add("same-name-root", SIGNATURE, |host| {
        namesake.leaf(host, |_| {})
    });
    let middle = authority("intermediate", Some(root), |_| {});
    cases.add("missing-intermediate", UNKNOWN, |host| {
        let whole = middle.leaf(host, |_| {});
        CertifiedKey::new(vec![whole.cert[0].clone()], whole.key)
    });
    cases.add("own-authority", UNKNOWN, |host| own.leaf(host, |_| {}));
}

fn paths(cases: &mut Cases, root: &Signer) {
    let leaf = authority("leaf as authority", Some(root), |p| {
        p.is_ca = IsCa::ExplicitNoCa;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    cases.add("leaf-as-authority", CONSTRAINTS, |host| {
        leaf.leaf(host, |_| {})
    });
    let no_bit = authority("no authority bit", Some(root), |p| p.is_ca = IsCa::NoCa);
    cases.add("no-authority-bit", CONSTRAINTS, |host| {
        no_bit.leaf(host, |_| {})
    });
    cases.add("authority-as-leaf", PURPOSE, |host| {
        root.leaf(host, |p| {
            p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        })
    });
    let last = authority("last authority", Some(root), |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let below = authority("one too many", Some(&last), |_| {});
    cases.add("path-too-long", CONSTRAINTS, |host| {
        below.leaf(host, |_| {})
    });
    let subtree = |name: &str| vec![GeneralSubtree::DnsName(name.to_owned())];
    let elsewhere = authority("elsewhere only", Some(root), |p| {
        p.name_constraints = Some(NameConstraints {
            permitted_subtrees: subtree("elsewhere.test"),
            excluded_subtrees: vec![],
        });
    });
    cases.add("not-permitted", CONSTRAINTS, |host| {
        elsewhere.leaf(host, |_| {})
    });
    let not_here = authority("not here", Some(root), |p| {
        p.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![],
            excluded_subtrees: subtree("stand.test"),
        });
    });
    cases.add("excluded", CONSTRAINTS, |host| not_here.leaf(host, |_| {}));
}

/// Purposes, extensions, revocation. Returns the revocation lists.
fn contents(cases: &mut Cases, root: &Signer) -> String {
    cases.add("client-only", PURPOSE, |host| {
        root.leaf(host, |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    });
    let mail = authority("mail only", Some(root), |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    });
    cases.add("issuer-for-mail", PURPOSE, |host| mail.leaf(host, |_| {}));
    let unknown = || {
        let mut extension =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![0x05, 0x00]);
        extension.set_criticality(true);
        vec![extension]
    };
    const EXTENSION: &str = "certificate_extension";
    cases.add("critical-extension", EXTENSION, |host| {
        root.leaf(host, |p| p.custom_extensions = unknown())
    });
    const REVOKED: &str = "certificate_revoked";
    let serial = |n: u64| Some(SerialNumber::from(n));
    cases.add("revoked", REVOKED, |host| {
        root.leaf(host, |p| p.serial_number = serial(4711))
    });
    let fallen = authority("revoked intermediate", Some(root), |p| {
        p.serial_number = serial(4712);
    });
    cases.add("revoked-issuer", REVOKED, |host| fallen.leaf(host, |_| {}));
    // Somebody else's list about a namesake says nothing.
    root.revoke(&[4711, 4712])
}

/// Signatures that are wrong or weak. Returns the roots of the weak ones.
fn signatures(cases: &mut Cases, root: &Signer, dir: &Path) -> String {
    cases.add("broken-signature", SIGNATURE, |host| {
        let mut whole = root.leaf(host, |_| {});
        let mut der = whole.cert[0].to_vec();
        // Within the subject's name, which nothing but the signature protects.
        let at = der.windows(6).position(|w| w == b"broken").unwrap();
        der[at] = b'B';
        whole.cert[0] = CertificateDer::from(der);
        whole
    });
    cases.add("other-key", SIGNATURE, |host| {
        let (one, other) = (root.leaf(host, |_| {}), root.leaf(host, |_| {}));
        CertifiedKey::new(one.cert, other.key)
    });
    let mut roots = String::new();
    for (label, digest, bits) in [
        ("sha1", "-sha1", "2048"),
        ("md5", "-md5", "2048"),
        ("rsa-1024", "-sha256", "1024"),
    ] {
        cases.add(label, SIGNATURE, |host| {
            let (pem, key) = openssl(dir, label, host, digest, bits);
            roots += &pem;
            key
        });
    }
    roots
}

/// A leaf of good make under an authority of RSA, signed with this digest. Returns the root and the leaf.
fn openssl(
    dir: &Path,
    label: &str,
    host: &str,
    digest: &str,
    bits: &str,
) -> (String, CertifiedKey) {
    let script = format!(
        "openssl req -x509 -newkey rsa:{bits} -nodes -keyout root.key -out root.pem -days 2 -subj '/CN={label} root'
         openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -out leaf.csr -subj '/CN={host}'
         printf 'subjectAltName=DNS:{host}\\nextendedKeyUsage=serverAuth\\n' > leaf.ext
         openssl x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial {digest} -days 2 -extfile leaf.ext -out leaf.pem"
    );
    let dir = dir.join(label);
    std::fs::create_dir_all(&dir).unwrap();
    let done = Command::new("sh")
        .args(["-euc", &script])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{label}: {said}");
    let leaf = CertificateDer::from_pem_file(dir.join("leaf.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("leaf.key")).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let root = std::fs::read_to_string(dir.join("root.pem")).unwrap();
    (root, CertifiedKey::new(vec![leaf], key))
}

/// Shows each host its certificate; without a name, that of the address.
#[derive(Debug, Default)]
pub(crate) struct ByName(HashMap<String, Arc<CertifiedKey>>);

impl ByName {
    pub(crate) fn add(&mut self, host: &str, key: CertifiedKey) {
        self.0.insert(host.to_owned(), Arc::new(key));
    }

    pub(crate) fn add_all(&mut self, bad: &[Bad]) {
        for case in bad {
            let key = CertifiedKey::new(case.key.cert.clone(), Arc::clone(&case.key.key));
            self.add(&case.host, key);
        }
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or("127.0.0.1");
        self.0.get(name).map(Arc::clone)
    }
}

/// Ready to serve with.
pub(crate) fn server(certificates: ByName) -> rustls::ServerConfig {
    rustls::ServerConfig::builder_with_provider(super::merchant::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates))
}

/// The promise of the matrix itself.
#[test]
fn the_matrix_is_wide_enough() {
    let dir = tempfile::tempdir().unwrap();
    let own = authority("own", None, |_| {});
    let matrix = matrix(&own, dir.path());
    assert!(matrix.bad.len() >= 20, "{}", matrix.bad.len());
    let mut hosts: Vec<_> = matrix.bad.iter().map(|b| &b.host).collect();
    hosts.sort();
    hosts.dedup();
    assert_eq!(hosts.len(), matrix.bad.len());
}
