//! The thread that keeps the file in order beside the writer: it moves the log into the file, and
//! verifies a ledger that was too long to verify before the start.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

use crate::ledger::PostError;

use super::shared::Shared;
use super::store;
use super::verify;

/// The lowest priority there is (nice(2)). The log's length is bounded all the same: see `writer`.
const NICE: i32 = 19;

/// Runs until the writer ends.
pub(super) fn run(path: &Path, shared: &Shared, verify_first: bool, asked: &Receiver<()>) {
    if verify_first {
        inspect(path, shared);
    }
    // Payers wait for the writer: what is woken for them goes first where both want one processor.
    if let Err(error) = setpriority_process(Some(gettid()), NICE) {
        tracing::debug!(%error, "the ledger's keeper has the priority of its writer");
    }
    let connection = store::connect(path);
    while asked.recv().is_ok() {
        let done = connection.as_ref().map_err(ToString::to_string);
        match done.and_then(|c| store::checkpoint(c).map_err(|e| e.to_string())) {
            Ok(pages) => shared.log_pages.store(pages, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(error, "the ledger's log could not be moved into its file");
            }
        }
    }
}

/// Records that contradict each other end all payments, also when it takes a while to find them.
fn inspect(path: &Path, shared: &Shared) {
    let report = store::connect_reader(path).and_then(|c| verify::verify(&c));
    let problem = match report {
        Ok(report) => report.problems.into_iter().next(),
        Err(fault) => fault.is_damage().then(|| fault.to_string()),
    };
    if let Some(problem) = problem {
        tracing::error!(problem, "the ledger is damaged; nothing is paid");
        shared.health(Err(PostError::Damaged(problem)));
    }
}
