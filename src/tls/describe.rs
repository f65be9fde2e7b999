//! Certificates as other programs want them: what is in one, PEM, the platform's roots, OpenSSL's name hash.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Name;

use super::authority::ORGANISATION;

/// What a person wants to know about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its subject, as `O=…, CN=…`.
    pub subject: String,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
    /// SHA-256 of its public key (SubjectPublicKeyInfo), base64: what Chromium can be told to trust.
    pub key_fingerprint: String,
    /// Its start.
    pub not_before: OffsetDateTime,
    /// Its end.
    pub not_after: OffsetDateTime,
    /// The certificate, DER.
    pub der: Vec<u8>,
}

/// Reads the first certificate of a PEM text. Needs no key. `None` when there is none.
#[must_use]
pub fn describe(pem: &str) -> Option<Description> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    Some(Description {
        subject: parsed.subject().to_string(),
        fingerprint: hex::encode(sha256(&der)),
        key_fingerprint: STANDARD.encode(sha256(parsed.public_key().raw)),
        not_before: parsed.validity().not_before.to_datetime(),
        not_after: parsed.validity().not_after.to_datetime(),
        der: der.to_vec(),
    })
}

/// Is this the certificate of a Farepass authority, of this installation or another?
pub(super) fn is_farepass(der: &[u8]) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return false;
    };
    let mut names = parsed.subject().iter_organization();
    names.any(|name| name.as_str().is_ok_and(|text| text == ORGANISATION))
}

/// Since when a revocation list should have been replaced, if it should.
pub(super) fn stale(der: &[u8]) -> Option<OffsetDateTime> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    let until = list.next_update()?.to_datetime();
    (until < OffsetDateTime::now_utc()).then_some(until)
}

/// One certificate as PEM (RFC 7468).
#[must_use]
pub fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, left) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = left;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// The roots that this machine trusts, DER; `$SSL_CERT_FILE` and `$SSL_CERT_DIR` are respected.
#[must_use]
pub fn platform_roots() -> Vec<Vec<u8>> {
    let found = rustls_native_certs::load_native_certs().certs;
    found.into_iter().map(|root| root.to_vec()).collect()
}

/// These roots and one certificate more, PEM: for clients whose roots it replaces.
#[must_use]
pub fn bundle(roots: &[Vec<u8>], ca: &str) -> String {
    let roots: String = roots.iter().map(|root| pem(root)).collect();
    roots + ca
}

/// The file name under which OpenSSL looks a certificate up in a folder, without its `.0`: the first
/// four bytes of the SHA-1 of the subject in canonical form, little endian (`X509_NAME_hash_ex`).
/// `None` when it is no certificate, or its subject is in an alphabet other than Unicode's.
#[must_use]
pub fn subject_hash(der: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let canonical = canonical(parsed.subject())?;
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let digest = aws_lc_rs::digest::digest(sha1, &canonical);
    let four: [u8; 4] = digest.as_ref().first_chunk().copied()?;
    Some(format!("{:08x}", u32::from_le_bytes(four)))
}

/// OpenSSL's canonical form: every value as UTF8String in lower case with single spaces, the sets one
/// after the other without the sequence around them.
fn canonical(name: &X509Name<'_>) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for set in name.iter() {
        let mut attributes = Vec::new();
        for attribute in set.iter() {
            let words: Vec<&str> = attribute.as_str().ok()?.split_ascii_whitespace().collect();
            let value = words.join(" ").to_ascii_lowercase();
            let mut inner = tlv(0x06, attribute.attr_type().as_bytes());
            inner.extend(tlv(0x0c, value.as_bytes()));
            attributes.extend(tlv(0x30, &inner));
        }
        all.extend(tlv(0x31, &attributes));
    }
    Some(all)
}

/// Tag, length, value (X.690).
pub(super) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = value.len().to_be_bytes();
    let used: Vec<u8> = length.iter().copied().skip_while(|b| *b == 0).collect();
    match value.len() {
        short @ 0..=127 => bytes.push(u8::try_from(short).unwrap_or(0)),
        _ => {
            bytes.push(0x80 | u8::try_from(used.len()).unwrap_or(0));
            bytes.extend(used);
        }
    }
    bytes.extend_from_slice(value);
    bytes
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    let sha256 = &aws_lc_rs::digest::SHA256;
    aws_lc_rs::digest::digest(sha256, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::tls::{Authority, java_truststore};

    #[test]
    fn lengths_take_the_short_form_up_to_127() {
        assert_eq!(tlv(4, &[7; 3]), [4, 3, 7, 7, 7]);
        assert_eq!(tlv(4, &[0; 127])[..2], [4, 127]);
        assert_eq!(tlv(4, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(tlv(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn pem_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let described = describe(authority.certificate_pem()).unwrap();
        assert_eq!(described.fingerprint, authority.fingerprint());
        assert_eq!(described.not_after, authority.not_after());
        assert!(described.subject.contains("Farepass local CA"));
        assert_eq!(describe(&pem(&described.der)).unwrap(), described);
        assert_eq!(describe("no certificate"), None);
    }

    /// Against the program whose rule it is; skipped where that is not installed.
    #[test]
    fn the_name_hash_is_openssls() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let mut files = vec![authority.certificate_pem().to_owned()];
        // Names in old alphabets have no answer here; ours is in UTF-8.
        let readable = |der: &Vec<u8>| subject_hash(der).map(|_| pem(der));
        files.extend(platform_roots().iter().filter_map(readable).take(10));
        for (number, text) in files.into_iter().enumerate() {
            let file = dir.path().join(format!("{number}.pem"));
            fs::write(&file, &text).unwrap();
            let told = Command::new("openssl")
                .args(["x509", "-noout", "-subject_hash", "-in"])
                .arg(&file)
                .output();
            let Ok(told) = told else {
                eprintln!("skipped: openssl is not installed");
                return;
            };
            let described = describe(&text).unwrap();
            assert_eq!(
                subject_hash(&described.der).unwrap(),
                String::from_utf8(told.stdout).unwrap().trim(),
                "{}",
                described.subject
            );
        }
    }

    /// Against Java's own tool; skipped where that is not installed.
    #[test]
    fn java_trusts_what_is_in_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let file = dir.path().join("roots.p12");
        let one = authority.certificate_der().to_vec();
        fs::write(&file, java_truststore(&[one.clone(), one])).unwrap();
        let told = Command::new("keytool")
            .args(["-list", "-storetype", "PKCS12", "-storepass", "changeit"])
            .arg("-keystore")
            .arg(&file)
            .output();
        let Ok(told) = told else {
            eprintln!("skipped: keytool is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&told.stdout).into_owned();
        assert_eq!(said.matches("trustedCertEntry").count(), 2, "{said}");
    }
}
