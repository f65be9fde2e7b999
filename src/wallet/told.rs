//! What a signer elsewhere tells of the account that it has. Nothing is signed for it.

use bytes::Bytes;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::failure::{self, Failure, unanswered};
use super::remote::{ANSWER_MAX, DEADLINE};
use crate::fetch::Fetch;

/// An account, as its page has it.
#[derive(Deserialize)]
struct Account {
    address: String,
}

/// The address in the answer to this request, if it could be made.
///
/// # Errors
/// When it could not, there is no answer, it is a refusal, or there is no address in it.
pub(super) async fn account(
    request: Result<Request<Bytes>, Failure>,
    fetch: &Fetch,
) -> Result<String, Failure> {
    let Account { address } = answer(request?, fetch).await?;
    plain(address)
}

/// The answer to this request.
///
/// # Errors
/// When there is none, it is a refusal, or something else is in it.
pub(super) async fn answer<T: DeserializeOwned>(
    request: Request<Bytes>,
    fetch: &Fetch,
) -> Result<T, Failure> {
    let answer = fetch.send(request, DEADLINE, ANSWER_MAX).await;
    let answer = answer.map_err(unanswered)?;
    if answer.status() != StatusCode::OK {
        return Err(failure::refused(answer.status(), answer.body()));
    }
    let told = serde_json::from_slice(answer.body());
    told.map_err(|_| Failure::Unreadable("it does not tell whose key it has"))
}

/// An address is letters and digits; whatever else it is, is not shown.
///
/// # Errors
/// When it is no address.
pub(super) fn plain(address: String) -> Result<String, Failure> {
    let fits = address.len() <= 64 && address.bytes().all(|b| b.is_ascii_alphanumeric());
    match fits {
        true => Ok(address),
        false => Err(Failure::Unreadable("what it tells is no address")),
    }
}
