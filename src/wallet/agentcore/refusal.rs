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
