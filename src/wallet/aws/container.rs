//! Credentials from an endpoint beside the process (ECS, EKS Pod Identity), and for a token of the
//! cluster from the service that changes one into the other (IRSA).

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Uri};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::credentials::{Keys, visible};
use crate::clock::Timestamp;
use crate::wallet::remote::{Failure, secret_value, unmade};

/// Hosts that may be asked without TLS: this machine, and the link-local ones of ECS and EKS.
const NEAR: [&str; 6] = [
    "127.0.0.1",
    "[::1]",
    "localhost",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::23]",
];

/// Is it an endpoint that may be asked for credentials?
pub(super) fn is_near(uri: &Uri) -> bool {
    let near = uri.host().is_some_and(|host| NEAR.contains(&host));
    match uri.scheme_str() {
        Some("https") => uri.host().is_some(),
        Some("http") => near,
        Some(_) | None => false,
    }
}

/// Asks the endpoint beside the process.
pub(super) fn question(uri: &Uri, token: Option<&str>) -> Result<Request<Bytes>, Failure> {
    let mut request = Request::get(uri.clone());
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, secret_value(token)?);
    }
    request.body(Bytes::new()).map_err(unmade)
}

/// No `Debug`: it holds secrets.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

/// What the endpoint answers.
pub(super) fn answer(body: &[u8]) -> Option<Keys> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let until = answer.expiration.map(|at| at.parse()).transpose().ok()?;
    let (id, secret) = (answer.access_key_id, answer.secret_access_key);
    // Amazon's tools take an empty one for none.
    let token = answer.token.filter(|token| !token.is_empty());
    visible(id, secret, token, until)
}

/// Asks for credentials of a role, for a token of the cluster.
pub(super) fn exchange(url: &str, role: &str, token: &str) -> Result<Request<Bytes>, Failure> {
    let form = Zeroizing::new(format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=farepass&RoleArn={}&WebIdentityToken={}",
        *encoded(role),
        *encoded(token)
    ));
    Request::post(url)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Bytes::copy_from_slice(form.as_bytes()))
        .map_err(unmade)
}

/// What that service answers: XML with four elements that matter.
pub(super) fn exchanged(body: &[u8]) -> Option<Keys> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, text) = text.split_once("<Credentials>")?;
    let (text, _) = text.split_once("</Credentials>")?;
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (inside, _) = rest.split_once(&format!("</{name}>"))?;
        Some(inside.trim().to_owned())
    };
    let until: Timestamp = element("Expiration")?.parse().ok()?;
    let token = Some(element("SessionToken")?);
    let (id, secret) = (element("AccessKeyId")?, element("SecretAccessKey")?);
    visible(id, secret, token, Some(until))
}

/// `application/x-www-form-urlencoded`, everything but the unreserved.
fn encoded(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len().saturating_mul(3)));
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_nothing_else_is() {
        let json = br#"{"AccessKeyId":"A","SecretAccessKey":"s/+=","Token":"t","Expiration":"2026-11-26T16:00:00Z","RoleArn":"r"}"#;
        let keys = answer(json).unwrap();
        assert_eq!((keys.id(), keys.secret().as_str()), ("A", "s/+="));
        let end = "2026-11-26T16:00:00Z".parse().unwrap();
        assert_eq!(keys.until(), Some(end));
        let xml = b"<AssumeRoleWithWebIdentityResponse><Result><Credentials><SessionToken>t==</SessionToken>\
            <SecretAccessKey>s/</SecretAccessKey><Expiration>2026-11-26T16:00:00Z</Expiration>\
            <AccessKeyId>B</AccessKeyId></Credentials></Result></AssumeRoleWithWebIdentityResponse>";
        let keys = exchanged(xml).unwrap();
        assert_eq!((keys.id(), keys.until()), ("B", Some(end)));
        let bare = answer(br#"{"AccessKeyId":"A","SecretAccessKey":"s","Token":""}"#);
        assert!(bare.unwrap().token().is_none(), "an empty one is none");
        for odd in [
            &b""[..],
            b"{}",
            b"<Credentials></Credentials>",
            b"\xff",
            br#"{"AccessKeyId":"A\n","SecretAccessKey":"s"}"#,
            br#"{"AccessKeyId":"A","SecretAccessKey":"s","Expiration":"soon"}"#,
        ] {
            assert!(answer(odd).is_none() && exchanged(odd).is_none());
        }
    }

    #[test]
    fn secrets_are_asked_for_nearby_or_over_tls() {
        for (url, near) in [
            ("http://169.254.170.2/v2/credentials", true),
            ("http://[fd00:ec2::23]/v1", true),
            ("https://creds.example/", true),
            ("http://creds.example/", false),
            ("http://169.254.169.254/", false),
            ("/v2", false),
        ] {
            assert_eq!(is_near(&url.parse().unwrap()), near, "{url}");
        }
    }

    #[test]
    fn a_form_carries_any_token() {
        let request = exchange("https://sts.example/", "arn:aws:iam::1:role/r", "a+b/c=").ok();
        let body = request.unwrap().into_body();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(
            text.ends_with(
                "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&WebIdentityToken=a%2Bb%2Fc%3D"
            )
        );
    }
}
