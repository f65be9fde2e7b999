//! The thread that keeps the file in order beside the writer: it moves the log into the file, and
//! verifies a ledger that was too long to verify before the start.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

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
        inspect(path, shared, asked);
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

/// Tries at a look through the whole ledger, and the pause before the second; each later one is twice as long.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// Records that contradict each other end all payments, also when it takes a while to find them.
fn inspect(path: &Path, shared: &Shared, asked: &Receiver<()>) {
    let look = || store::connect_reader(path).and_then(|c| verify::verify(&c));
    let mut report = look();
    for again in 0..LOOKS {
        match &report {
            Err(fault) if !fault.is_damage() => {
                tracing::warn!(%fault, "the ledger could not be verified; it is tried again");
                // Whoever asks for something meanwhile asks again.
                if asked.recv_timeout(PAUSE * (1 << again)) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
                report = look();
            }
            Ok(_) | Err(_) => break,
        }
    }
    let problem = match report {
        Ok(report) => report.problems.into_iter().next(),
        Err(fault) => {
            if !fault.is_damage() {
                tracing::error!(%fault, "the ledger was not verified: run `farepass ledger verify`");
            }
            fault.is_damage().then(|| fault.to_string())
        }
    };
    if let Some(problem) = problem {
        tracing::error!(problem, "the ledger is damaged; nothing is paid");
        shared.health(Err(PostError::Damaged(problem)));
    }
}
