//! A trust store for Java: PKCS #12 (RFC 7292) with certificates only, neither encrypted nor sealed,
//! because nothing in it is secret. Java reads it with and without a password.

use super::describe::tlv;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const BMP: u8 = 0x1e;
/// `[0]`, constructed.
const TAGGED: u8 = 0xa0;

/// `data` (RFC 5652).
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// `certBag` (RFC 7292 section 4.2).
const CERT_BAG: &[u8] = &[
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03,
];
/// `x509Certificate` (RFC 2985).
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// `friendlyName` (RFC 2985).
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
/// 2.16.840.1.113894.746875.1.1: without it Java reads the certificate but does not trust it.
const TRUSTED_USAGE: &[u8] = &[
    0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01,
];
/// `anyExtendedKeyUsage` (RFC 5280).
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// The file's bytes: each certificate (DER) as a trusted entry.
#[must_use]
pub fn java_truststore(certificates: &[Vec<u8>]) -> Vec<u8> {
    let bags: Vec<u8> = certificates
        .iter()
        .enumerate()
        .flat_map(|(number, der)| bag(&format!("root-{number}"), der))
        .collect();
    let safe = content(&tlv(SEQUENCE, &bags));
    let all = content(&tlv(SEQUENCE, &safe));
    let version = [0x02, 0x01, 0x03];
    tlv(SEQUENCE, &[&version[..], &all].concat())
}

/// `ContentInfo` of type `data`.
fn content(bytes: &[u8]) -> Vec<u8> {
    typed(DATA, bytes)
}

/// A type, and an octet string under `[0]`.
fn typed(oid: &[u8], bytes: &[u8]) -> Vec<u8> {
    let inner = tlv(TAGGED, &tlv(OCTETS, bytes));
    tlv(SEQUENCE, &[tlv(OID, oid), inner].concat())
}

fn bag(alias: &str, der: &[u8]) -> Vec<u8> {
    let alias: Vec<u8> = alias.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let attributes = [
        attribute(FRIENDLY_NAME, &tlv(BMP, &alias)),
        attribute(TRUSTED_USAGE, &tlv(OID, ANY_USAGE)),
    ];
    let parts = [
        tlv(OID, CERT_BAG),
        tlv(TAGGED, &typed(X509, der)),
        tlv(SET, &attributes.concat()),
    ];
    tlv(SEQUENCE, &parts.concat())
}

fn attribute(oid: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[tlv(OID, oid), tlv(SET, value)].concat())
}
