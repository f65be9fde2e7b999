//! Why the database did not do what it was asked, and what can be done about it.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;

use crate::ledger::{OpenError, PostError};

/// Never holds the URL or the password: they are in no message of the server or the driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// The server knows us not, or not this database.
    #[error("{0}")]
    Denied(String),
    /// Nobody vouches for who answers there.
    #[error("{0}")]
    Untrusted(String),
    /// The connection broke, or the server cannot now. Another connection may help.
    #[error("{0}")]
    Lost(String),
    /// Somebody else was in the way. The same once more may help.
    #[error("{0}")]
    Conflict(String),
    /// Nothing but another statement helps.
    #[error("the database refused a statement: {0}")]
    Statement(String),
    /// Made by a program with other tables, or set up so that it cannot keep what it acknowledges.
    #[error("{0}")]
    Unfit(String),
    /// The records contradict each other.
    #[error("{0}")]
    Records(String),
}

impl Fault {
    /// Are the records themselves wrong, so that trying again cannot help?
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Records(_) => true,
            Self::Denied(_)
            | Self::Untrusted(_)
            | Self::Lost(_)
            | Self::Conflict(_)
            | Self::Statement(_)
            | Self::Unfit(_) => false,
        }
    }

    /// May waiting for a while help, before the first answer?
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Conflict(_) => true,
            Self::Denied(_)
            | Self::Untrusted(_)
            | Self::Statement(_)
            | Self::Unfit(_)
            | Self::Records(_) => false,
        }
    }

    pub(super) fn late(what: &str) -> Self {
        Self::Lost(format!("the database did not answer in time ({what})"))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let code = db.code().code();
            return of_code(code, format!("{} ({code})", db.message()));
        }
        let text = error.to_string();
        let reason = match cause(&error) {
            Some(cause) => format!("{text}: {cause}"),
            None => text.clone(),
        };
        if text.starts_with("error performing TLS") {
            return match handshake(&error) {
                Handshake::Refused => {
                    Self::Untrusted(format!("its certificate is not accepted: {reason}"))
                }
                Handshake::Failed => Self::Untrusted(reason),
                Handshake::Broke => Self::Lost(reason),
            };
        }
        if text.starts_with("invalid configuration") || text.starts_with("authentication") {
            return Self::Denied(reason);
        }
        if text.starts_with("error deserializing") || text.starts_with("invalid column") {
            return Self::Records(format!("a row holds an impossible value: {reason}"));
        }
        if text.starts_with("error serializing") {
            return Self::Statement(reason);
        }
        Self::Lost(reason)
    }
}

fn cause(error: &Error) -> Option<String> {
    let mut cause = error.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

/// How a handshake ended that should have secured a connection.
enum Handshake {
    /// The certificate was not accepted.
    Refused,
    /// There was another answer than a server's that is meant.
    Failed,
    /// The connection ended in the middle, as it does when what is in between, or the server, is going away.
    Broke,
}

fn handshake(error: &Error) -> Handshake {
    let mut cause = error.source();
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<io::Error>() {
            let inner = io.get_ref();
            return match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidCertificate(_)) => Handshake::Refused,
                Some(_) => Handshake::Failed,
                None => Handshake::Broke,
            };
        }
        cause = this.source();
    }
    Handshake::Failed
}

/// PostgreSQL, appendix A: error codes.
fn of_code(code: &str, said: String) -> Fault {
    match code {
        // lock_not_available, query_canceled: the time that we set was over.
        "55P03" | "57014" => return Fault::Conflict(said),
        // read_only_sql_transaction: this server is no primary any more. in_failed_sql_transaction: of something else, which
        // was not heard.
        // feature_not_supported: what a standby says to a transaction that wants to write. invalid_sql_statement_name: of
        // another connection, behind a pooler.
        "0A000" | "25006" | "25P02" | "25P03" | "26000" => return Fault::Lost(said),
        "3D000" | "42501" => return Fault::Denied(said),
        "XX001" | "XX002" => return Fault::Records(said),
        _ => {}
    }
    match code.get(..2) {
        Some("40") => Fault::Conflict(said),
        Some("08" | "53" | "57" | "58" | "XX") => Fault::Lost(said),
        Some("28") => Fault::Denied(said),
        Some(_) | None => Fault::Statement(said),
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        let said = fault.to_string();
        match fault {
            Fault::Denied(_) => Self::Denied(said),
            Fault::Untrusted(_) => Self::Untrusted(said),
            Fault::Lost(_) | Fault::Conflict(_) => Self::Unreachable(said),
            Fault::Statement(_) | Fault::Unfit(_) => Self::Storage(said),
            Fault::Records(_) => Self::Damaged(said),
        }
    }
}

impl From<Fault> for PostError {
    fn from(fault: Fault) -> Self {
        if fault.is_damage() {
            Self::Damaged(fault.to_string())
        } else {
            Self::Unavailable(fault.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_server_say_what_can_be_done() {
        let of = |code| of_code(code, code.to_owned());
        for code in ["40001", "40P01", "55P03", "57014"] {
            assert_eq!(of(code), Fault::Conflict(code.into()), "once more");
        }
        for code in [
            "08006", "53300", "53100", "57P01", "57P03", "58030", "25006",
        ] {
            assert_eq!(of(code), Fault::Lost(code.into()), "another connection");
        }
        for code in ["28P01", "28000", "3D000", "42501"] {
            assert_eq!(of(code), Fault::Denied(code.into()));
        }
        for code in ["23505", "22021", "42P01", ""] {
            assert_eq!(of(code), Fault::Statement(code.into()));
        }
        assert!(of("XX001").is_damage());
    }
}
