//! What a proxy stands on: may anybody else change it? A start refuses then.

use super::finding::Finding;
use crate::app;
use crate::config::Config;

const CHECK: &str = "files";

pub(super) fn look(config: &Config) -> Finding {
    let Err(other) = app::guard(config) else {
        let said = "nobody else may change the configuration, the state or what is trusted";
        return Finding::ok(CHECK, said);
    };
    let path = other.path.display();
    match other.problem.split_once("; run: ") {
        Some((problem, mend)) => Finding::wrong(CHECK, format!("{path} {problem}"), mend),
        None => Finding::wrong(CHECK, &other, format!("chown {path} to who runs farepass")),
    }
}
