//! What its refusals mean.

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::super::failure::{self, Failure, Why};

/// Its words for why it does not sign, as its API has them.
const WORDS: &[(&str, Why)] = &[
    ("AccessDeniedException", Why::Forbidden),
    ("ExpiredTokenException", Why::Credentials),
    ("InvalidSignatureException", Why::Credentials),
    ("MissingAuthenticationTokenException", Why::Credentials),
    ("ResourceNotFoundException", Why::NoWallet),
    ("ServiceQuotaExceededException", Why::TooOften),
    ("SubscriptionRequiredException", Why::Bill),
    ("ThrottlingException", Why::TooOften),
    ("UnauthorizedException", Why::Credentials),
    ("UnrecognizedClientException", Why::Credentials),
    ("ValidationException", Why::Rejected),
];

/// What the message of a `ValidationException` is about: the API has no word of its own for that, and the
/// official client looks for the same words. The message itself is never shown.
fn about(message: &str) -> Why {
    let message = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["budget", "insufficient", "spend"]) {
        return Why::Limit;
    }
    if has(&["expired", "session not found"]) {
        return Why::Ended;
    }
    match has(&["instrument", "inactive"]) {
        true => Why::NoWallet,
        false => Why::Rejected,
    }
}

/// What an answer with another status than 200 means.
pub(super) fn refused(answer: &Response<Bytes>) -> Failure {
    let told: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let field = answer.headers().get("x-amzn-errortype");
    let field = field.and_then(|value| value.to_str().ok());
    let kind = field.or(told["__type"].as_str()).or(told["code"].as_str());
    // `com.amazonaws…#Name`, or `Name:http://…`.
    let kind = kind.and_then(|kind| kind.split(':').next());
    let kind = kind.and_then(|kind| kind.rsplit('#').next());
    let message = told["message"].as_str().or(told["Message"].as_str());
    let status = answer.status();
    let known = WORDS.iter().find(|(word, _)| Some(*word) == kind);
    match known.filter(|_| status.is_client_error()) {
        Some((word, why)) => Failure::Refused {
            why: match why {
                Why::Rejected => message.map_or(*why, about),
                Why::Forbidden | Why::Credentials | Why::Bill | Why::NoWallet => *why,
                Why::TooOften | Why::Limit | Why::Ended => *why,
            },
            status: status.as_u16(),
            code: format!(", {word}"),
        },
        None => failure::refused(status, answer.body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Services of this protocol name the error in a field; a body may name it, too.
    #[test]
    fn the_word_is_in_the_field_or_in_the_body() {
        let said = |status: u16, field: Option<&str>, body: &str| {
            let mut answer = Response::builder().status(status);
            if let Some(kind) = field {
                answer = answer.header("x-amzn-errortype", kind);
            }
            refused(&answer.body(Bytes::from(body.to_owned())).unwrap()).to_string()
        };
        let url = "ThrottlingException:http://s3cret.example/";
        assert_eq!(
            said(400, Some(url), r#"{"message":"s3cret"}"#),
            "it is asked too often, status 400, ThrottlingException"
        );
        let body = r##"{"__type":"com.amazonaws#ResourceNotFoundException"}"##;
        assert!(said(404, None, body).contains("does not know the wallet"));
        assert!(said(403, None, "<html>").contains("forbid it, status 403"));
        // What broke inside may have signed, whatever it says.
        assert_eq!(
            said(500, Some("ThrottlingException"), "{}"),
            "it answers with status 500"
        );
    }
}
