//! The ledger: is it there, safe, and whole?

use std::time::Duration;

use tokio::time::timeout;

use super::files::owned;
use super::finding::Finding;
use crate::config::Config;
use crate::ledger::{self, OpenError};

/// A walk through millions of records takes longer than somebody wants to wait here.
const PATIENCE: Duration = Duration::from_secs(10);

const DATABASE: &str = "look at ledger.postgres, and whether psql with that URL gets in";

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    // Who only reads the ledger may do so wherever it is; a start may not.
    let book = ledger::guard(&config.state_dir).and_then(|()| config.read_ledger());
    let book = match book {
        Ok(book) => book,
        Err(OpenError::Missing(_)) => {
            return vec![Finding::ok("ledger", "none yet; the first start makes it")];
        }
        Err(error @ OpenError::Unsafe { foreign: true, .. }) => {
            return vec![owned("ledger", &error)];
        }
        Err(error @ OpenError::Unsafe { .. }) => {
            let mend = format!("chmod -R go= {}", config.state_dir.display());
            return vec![Finding::wrong("ledger", error, mend)];
        }
        Err(
            error @ (OpenError::Settings(_)
            | OpenError::Unreachable(_)
            | OpenError::Denied(_)
            | OpenError::Untrusted(_)),
        ) => return vec![Finding::wrong("ledger", error, DATABASE)],
        Err(error) => return vec![Finding::wrong("ledger", error, "farepass ledger verify")],
    };
    vec![match timeout(PATIENCE, book.verify()).await {
        Err(_) => Finding::unknown("ledger", "too long to verify here: farepass ledger verify"),
        Ok(Err(error)) => Finding::wrong("ledger", error, "farepass ledger verify"),
        Ok(Ok(report)) if report.problems.is_empty() => {
            let (records, payments) = (report.records, report.payments);
            Finding::ok(
                "ledger",
                format!("whole: {records} records, {payments} payments"),
            )
        }
        Ok(Ok(report)) => {
            let first = report.problems.first().cloned().unwrap_or_default();
            Finding::wrong(
                "ledger",
                format!("DAMAGED: {first}"),
                "farepass ledger verify",
            )
        }
    }]
}
