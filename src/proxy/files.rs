//! How many files the process may have open, each connection being one: agents leave some of them to the operator,
//! the ledger and the signers (threat D-01).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::settings::Limits;

/// Most of them that are kept for others than agents and merchants.
const KEPT: u64 = 128;

/// Most files that may be open; no number for any number.
fn most() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// So many files agents and merchants leave to others.
#[must_use]
pub fn kept() -> u64 {
    most().map_or(KEPT, kept_of)
}

fn kept_of(most: u64) -> u64 {
    KEPT.min(most / 4)
}

/// An error if this was one of the last files that may be open. The system hands out the lowest number that is free,
/// so a high one says that all below it are taken.
///
/// # Errors
/// As the system says it when there is no number at all.
pub(super) fn spare(file: &impl AsFd) -> io::Result<()> {
    let number = u64::try_from(file.as_fd().as_raw_fd()).unwrap_or(0);
    match most().is_some_and(|most| last(number, most)) {
        true => Err(Errno::MFILE.into()),
        false => Ok(()),
    }
}

fn last(number: u64, most: u64) -> bool {
    number >= most.saturating_sub(kept_of(most))
}

/// No more connections of agents at once than half of the files: each may need one to a merchant. Says so when that
/// is less than what is configured.
pub(super) fn fit(limits: &mut Limits) {
    let half = most().and_then(|most| usize::try_from(most / 2).ok());
    if let Some(half) = half
        && bound(limits, half)
    {
        tracing::warn!(
            connections = limits.connections,
            connections_per_client = limits.connections_per_client,
            "so few files may be open (RLIMIT_NOFILE) that limits.connections is lower than it is configured"
        );
    }
}

/// The part of one client stays the same part. Was that a change?
fn bound(limits: &mut Limits, most: usize) -> bool {
    let most = most.max(1);
    if limits.connections <= most {
        return false;
    }
    let client = limits.connections_per_client.min(limits.connections);
    let client = client.saturating_mul(most) / limits.connections;
    limits.connections_per_client = client.max(1);
    limits.connections = most;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounded(connections: usize, connections_per_client: usize, most: usize) -> (usize, usize) {
        let mut limits = Limits {
            connections,
            connections_per_client,
            ..Limits::default()
        };
        bound(&mut limits, most);
        (limits.connections, limits.connections_per_client)
    }

    #[test]
    fn few_files_bound_all_connections_and_those_of_one_client_alike() {
        assert_eq!(bounded(10_000, 5_000, 10_000), (10_000, 5_000));
        assert_eq!(bounded(10_000, 5_000, 32), (32, 16));
        assert_eq!(bounded(100, 1_000_000, 32), (32, 32));
        assert_eq!(bounded(1_000_000, 1, 0), (1, 1));
    }

    #[test]
    fn the_last_files_are_kept_for_others() {
        assert_eq!(kept_of(64), 16);
        assert_eq!(kept_of(1_048_576), 128);
        assert!(!last(47, 64) && last(48, 64));
        assert!(last(0, 0));
    }
}
