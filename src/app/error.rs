//! Why a proxy does not start.

use std::io;
use std::path::PathBuf;

use crate::admin::TokenError;
use crate::admin::sessions::SessionError;
use crate::custody::NotOurs;
use crate::ledger::{OpenError, PostError};
use crate::section::SectionError;
use crate::settings::Entrance;
use crate::tls::TlsError;

/// Why a proxy does not start. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Whoever can change the policy can spend the wallet.
    #[error(transparent)]
    Unsafe(#[from] NotOurs),
    /// A wallet cannot be opened.
    #[error(transparent)]
    Wallet(SectionError),
    /// A signer elsewhere has another key than the wallet's, so that none of its signatures would count.
    #[error("wallet `{name}`: {problem}")]
    Key {
        /// The wallet.
        name: String,
        /// Whose key it is.
        problem: String,
    },
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Book(#[from] PostError),
    /// The authority, or the roots to trust.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The proxy to go through.
    #[error("egress.upstream_proxy: {0}")]
    Parent(String),
    /// The service for notices.
    #[error("webhook: {0}")]
    Webhook(String),
    /// The collector of traces and logs.
    #[error("telemetry: {0}")]
    Telemetry(String),
    /// A listener.
    #[error("cannot listen on {address}: {}", reason(source))]
    Listen {
        /// Where.
        address: Entrance,
        /// Why not.
        source: io::Error,
    },
    /// The admin token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A file that the proxy writes for others.
    #[error("{}: {source}", path.display())]
    File {
        /// The file, or its folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there".into(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".into(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 are for root".into(),
        _ => error.to_string(),
    }
}
