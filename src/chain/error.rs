//! Why a chain says nothing.

use crate::fetch::FetchError;
use crate::money::Network;

/// Why the chain says nothing. Names hosts at most: URLs may hold credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Not an answer of a node.
    #[error("{host} answers {method} with status {status}")]
    Status {
        /// Who was asked.
        host: String,
        /// What for.
        method: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// An error of JSON-RPC.
    #[error("{host} refuses {method} with error {code}")]
    Refused {
        /// Who was asked.
        host: String,
        /// What for.
        method: &'static str,
        /// The code of JSON-RPC.
        code: i64,
    },
    /// Not what was asked for.
    #[error("the answer of {host} to {method} cannot be read")]
    Unreadable {
        /// Who was asked.
        host: String,
        /// What for.
        method: &'static str,
    },
    /// Another chain than the configuration says.
    #[error("{host} is a node of {found}, but was named for {network}")]
    WrongChain {
        /// Who was asked.
        host: String,
        /// The network of the configuration.
        network: Network,
        /// What it says it is.
        found: String,
    },
    /// Two answers that cannot both be true.
    #[error("the answers of {host} contradict each other: {what}")]
    Contradiction {
        /// Who was asked.
        host: String,
        /// What cannot be.
        what: &'static str,
    },
    /// More questions than one payment is worth.
    #[error(
        "the search at {host} does not end within {most} questions; a node that gives the logs of more blocks at once needs fewer"
    )]
    Endless {
        /// Who was asked.
        host: String,
        /// The bound.
        most: u32,
    },
}

impl ChainError {
    /// Is nobody there, or not in time? Every other question would be waited for as long.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_silence())
    }

    /// Is there an answer, and more of it than is read?
    pub(super) fn is_too_long(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::TooLong { .. }))
    }
}

/// What is said of a transaction that a receipt names. The merchant chose it, and it may be none, or one that
/// no answer fits: then it is no help, and the payment is looked for elsewhere. Only silence is an error.
pub(super) fn if_told<T>(said: Result<Option<T>, ChainError>) -> Result<Option<T>, ChainError> {
    match said {
        Err(error) if !error.is_silence() => Ok(None),
        said => said,
    }
}
