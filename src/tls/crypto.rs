//! The cryptography of every connection.

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite as suite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// As in the library, but AES-128 before AES-256, as browsers have it: it takes four rounds fewer for
/// every block, and its key schedule is over SHA-256, which processors know.
const SUITES: &[SupportedCipherSuite] = &[
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// What connections are encrypted and certificates verified with.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: SUITES.to_vec(),
        ..aws_lc_rs::default_provider()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_suite_is_lost_or_added() {
        let names = |provider: CryptoProvider| {
            let suites = provider.cipher_suites.iter();
            let mut names: Vec<_> = suites.map(|s| format!("{:?}", s.suite())).collect();
            names.sort();
            names
        };
        assert_eq!(names(provider()), names(aws_lc_rs::default_provider()));
    }
}
