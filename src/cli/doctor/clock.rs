//! The clock, against what is known without asking anybody: the newest record of the ledger, and the
//! age of this very program. A clock that runs ahead cannot be told from here.

use std::time::Duration;

use time::OffsetDateTime;

use super::finding::Finding;
use crate::clock::{Timestamp, wall};
use crate::config::Config;

/// Clocks are set back a little when they are corrected.
const SLACK: Duration = Duration::from_secs(60);

const MEND: &str = "timedatectl set-ntp true";

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let now = wall();
    let mut known = vec![];
    if let Ok(book) = config.read_ledger()
        && let Ok(newest) = book.newest().await
    {
        known.push((newest, "the newest record of the ledger"));
    }
    let program = std::env::current_exe().and_then(std::fs::metadata);
    if let Ok(changed) = program.and_then(|about| about.modified()) {
        let seconds = OffsetDateTime::from(changed).unix_timestamp();
        let made = Timestamp::from_secs(u64::try_from(seconds).unwrap_or(0));
        known.push((made, "this program's own file"));
    }
    let slack = now.after_secs(SLACK.as_secs());
    match known.iter().find(|(at, _)| *at > slack) {
        Some((at, what)) => {
            let said = format!("it is {now}, but {what} is from {at}");
            vec![Finding::wrong("clock", said, MEND)]
        }
        None => vec![Finding::ok(
            "clock",
            format!("{now}, behind nothing that is known"),
        )],
    }
}
