//! What a proxy stands on: may anybody else change it? A start refuses then.

use std::fmt::Display;

use super::finding::Finding;
use crate::app;
use crate::config::Config;

const CHECK: &str = "files";

pub(super) fn look(config: &Config) -> Finding {
    let Err(other) = app::guard(config) else {
        let said = "nobody else may change the configuration, the state or what is trusted";
        return Finding::ok(CHECK, said);
    };
    match &other.mend {
        Some(mend) => {
            let said = format!("{} {}", other.path.display(), other.problem);
            Finding::wrong(CHECK, said, mend)
        }
        None => owned(CHECK, &other),
    }
}

/// It is another user's. To the administrator that says nothing: a service has a user of its own.
pub(super) fn owned(check: &str, problem: &impl Display) -> Finding {
    match rustix::process::geteuid().is_root() {
        true => Finding::unknown(check, format!("{problem} (ask again as that user)")),
        false => Finding::wrong(check, problem, "run it as its owner"),
    }
}
