//! Why a signer elsewhere gave no signature, and what follows from it: for the payment, and for the signer.

use std::fmt::Display;

use http::StatusCode;
use serde::Deserialize;

use super::WalletError;
use crate::fetch::FetchError;

/// Why there is no signature. Names the host and codes at most, never what was sent or answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Opened by a command that only looks.
    #[error("it was opened to be looked at")]
    Unasked,
    /// Nothing left this machine.
    #[error("the request cannot be made: {0}")]
    Unmade(String),
    /// Others wait for it already.
    #[error("{0} payments wait for it already")]
    Busy(usize),
    /// It failed too often, and is left alone.
    #[error("it failed too often in a row, and is asked again in {secs} seconds")]
    Resting {
        /// Seconds until then.
        secs: u64,
    },
    /// Nobody gives us what we would show it.
    #[error("no credentials: {0}")]
    Uncredentialed(String),
    /// Nobody was there.
    #[error(transparent)]
    Unreached(FetchError),
    /// The request left, and nothing usable came back.
    #[error(transparent)]
    Unanswered(FetchError),
    /// It refused before it signed.
    #[error("{why}, status {status}{code}")]
    Refused {
        /// What the answer means.
        why: Why,
        /// The HTTP status.
        status: u16,
        /// The signer's own word for it, after a comma.
        code: String,
    },
    /// It refused with an error of JSON-RPC that comes before any signature.
    #[error("it refuses with error {0} of JSON-RPC")]
    Rpc(i64),
    /// A status that says nothing certain.
    #[error("it answers with status {status}{code}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The signer's own word for it, after a comma.
        code: String,
    },
    /// Not what was asked for.
    #[error("its answer cannot be read: {0}")]
    Unreadable(&'static str),
    /// Of another key, over something else, or none at all.
    #[error("its signature is not that of {0} over this payment")]
    Foreign(String),
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    /// This request.
    #[error("it rejects the request")]
    Rejected,
    /// Whoever asks.
    #[error("it does not accept the credentials, or the clocks differ")]
    Credentials,
    /// It asks to be paid itself, and is not.
    #[error("its own bill is not paid")]
    Bill,
    /// By its own rules.
    #[error("its policy or permissions forbid it")]
    Forbidden,
    /// No such key, or one that is switched off.
    #[error("it does not know the wallet")]
    NoWallet,
    /// A limit of its own, beside ours.
    #[error("its own limit is reached")]
    Limit,
    /// What it allows has an end.
    #[error("its own session has ended")]
    Ended,
    /// Throttled.
    #[error("it is asked too often")]
    TooOften,
}

impl Failure {
    /// What the payer is told: final only where it is certain that nothing was signed.
    pub(super) fn told(&self) -> WalletError {
        match self {
            Self::Resting { secs } => WalletError::Resting { secs: *secs },
            Self::Unasked
            | Self::Unmade(_)
            | Self::Busy(_)
            | Self::Uncredentialed(_)
            | Self::Unreached(_)
            | Self::Refused { .. }
            | Self::Rpc(_) => WalletError::Declined(self.to_string()),
            Self::Unanswered(_) | Self::Status { .. } | Self::Unreadable(_) | Self::Foreign(_) => {
                WalletError::Unknown(self.to_string())
            }
        }
    }

    /// Would the next payment fare likewise? Not so when it was about this payment, or when we did not ask.
    pub(super) fn is_of_signer(&self) -> bool {
        match self {
            Self::Uncredentialed(_)
            | Self::Unreached(_)
            | Self::Unanswered(_)
            | Self::Status { .. }
            | Self::Unreadable(_)
            | Self::Foreign(_) => true,
            Self::Unasked
            | Self::Unmade(_)
            | Self::Busy(_)
            | Self::Resting { .. }
            | Self::Rpc(_) => false,
            Self::Refused { why, .. } => match why {
                Why::Bill | Why::TooOften => true,
                // New credentials are used at once, not after a pause.
                Why::Rejected | Why::Credentials | Why::Forbidden | Why::NoWallet => false,
                // A smaller payment may fit, and a new session is a change of configuration.
                Why::Limit | Why::Ended => false,
            },
        }
    }
}

/// Why a request could not be made.
pub(super) fn unmade(why: impl Display) -> Failure {
    Failure::Unmade(why.to_string())
}

/// Only what never left is certainly unsigned.
pub(super) fn unanswered(error: FetchError) -> Failure {
    match error {
        FetchError::Url | FetchError::Crypto(_) | FetchError::Connection { .. } => {
            Failure::Unreached(error)
        }
        FetchError::Answer { .. } | FetchError::TooLong { .. } | FetchError::Late { .. } => {
            Failure::Unanswered(error)
        }
    }
}

/// What a status other than 200 says. A signer that is asked to pay for itself (402) is not paid.
pub(super) fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let code = code(body);
    let why = match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Why::Rejected,
        StatusCode::UNAUTHORIZED => Why::Credentials,
        StatusCode::PAYMENT_REQUIRED => Why::Bill,
        StatusCode::FORBIDDEN => Why::Forbidden,
        StatusCode::NOT_FOUND => Why::NoWallet,
        StatusCode::TOO_MANY_REQUESTS => Why::TooOften,
        _ => {
            let status = status.as_u16();
            return Failure::Status { status, code };
        }
    };
    let status = status.as_u16();
    Failure::Refused { why, status, code }
}

/// The signer's own word, when it is one: an error message may quote what was sent.
fn code(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Told {
        #[serde(alias = "errorType")]
        code: String,
    }
    let told: Option<Told> = serde_json::from_slice(body).ok();
    let plain = |code: &String| {
        let fits = |b: u8| b.is_ascii_lowercase() || b == b'_';
        code.len() <= 40 && code.bytes().all(fits)
    };
    let code = told.map(|told| told.code).filter(plain);
    code.map(|code| format!(", {code}")).unwrap_or_default()
}
