//! Signature Version 4 of Amazon's services ("Create a signed AWS API request"), for requests without a query.

use hmac::{Hmac, Mac as _};
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};

use super::credentials::Keys;
use crate::clock::Timestamp;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What a signature is good for: one day, one region, one service.
pub(super) struct Scope<'a> {
    /// `20150830T123600Z`.
    pub(super) date: &'a str,
    /// Where the service is.
    pub(super) region: &'a str,
    /// Its name.
    pub(super) service: &'a str,
}

/// ISO 8601 without separators, UTC, whole seconds: `20150830T123600Z`.
pub(super) fn date(now: Timestamp) -> String {
    let text = Timestamp::from_secs(now.secs()).to_string();
    let bare = text.split('.').next().unwrap_or_default();
    bare.replace(['-', ':'], "") + "Z"
}

/// The field `Authorization` of a POST. `headers` are all that is signed: sorted, lower case, with plain values.
/// `path` needs no encoding.
pub(super) fn authorization(
    keys: &Keys,
    scope: &Scope<'_>,
    path: &str,
    headers: &[(&'static str, String)],
    body: &[u8],
) -> Zeroizing<String> {
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let canonical = Zeroizing::new(canonical(path, headers, &names, body));
    let day = scope.date.get(..8).unwrap_or_default();
    let credential = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
    let text = format!("{ALGORITHM}\n{}\n{credential}\n{hash}", scope.date);
    let first = Zeroizing::new(format!("AWS4{}", keys.secret().as_str()));
    let parts = [day, scope.region, scope.service, "aws4_request", &text];
    let signature = parts
        .iter()
        .fold(Zeroizing::new(first.as_bytes().to_vec()), |key, part| {
            Zeroizing::new(hmac(&key, part.as_bytes()))
        });
    let (id, signature) = (keys.id(), hex::encode(&*signature));
    Zeroizing::new(format!(
        "{ALGORITHM} Credential={id}/{credential}, SignedHeaders={names}, Signature={signature}"
    ))
}

fn canonical(path: &str, headers: &[(&'static str, String)], names: &str, body: &[u8]) -> String {
    let field = |(name, value): &(&str, String)| format!("{name}:{}\n", value.trim());
    let fields: String = headers.iter().map(field).collect();
    let body = hex::encode(Sha256::digest(body));
    format!("POST\n{path}\n\n{fields}\n{names}\n{body}")
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // A key may have any length, so there is always one.
    let mac = Hmac::<Sha256>::new_from_slice(key);
    mac.map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `post-vanilla` and `post-header-key-sort`-like cases of Amazon's own test suite for Signature Version 4.
    #[test]
    fn requests_are_signed_as_the_test_suite_says() {
        let id = "AKIDEXAMPLE".to_owned();
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned();
        let keys = Keys::new(id, secret, None, None);
        let scope = Scope {
            date: "20150830T123600Z",
            region: "us-east-1",
            service: "service",
        };
        let host = ("host", "example.amazonaws.com".to_owned());
        let date = ("x-amz-date", scope.date.to_owned());
        let said = authorization(&keys, &scope, "/", &[host.clone(), date.clone()], b"");
        let vanilla = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        assert_eq!(
            *said,
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders=host;x-amz-date, Signature={vanilla}"
            )
        );
        let form = (
            "content-type",
            "application/x-www-form-urlencoded".to_owned(),
        );
        let said = authorization(&keys, &scope, "/", &[form, host, date], b"Param1=value1");
        let with_body = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a";
        assert!(said.ends_with(with_body), "{}", *said);
    }

    #[test]
    fn moments_are_written_without_separators() {
        assert_eq!(date(Timestamp(1_440_938_160_999)), "20150830T123600Z");
    }
}
