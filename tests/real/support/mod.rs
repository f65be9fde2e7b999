//! What the journeys share: the real binary, real merchants, scripted merchants, agents.

use std::time::{Duration, Instant};

pub(crate) mod agent;
pub(crate) mod agentcore;
pub(crate) mod aws;
pub(crate) mod cases;
pub(crate) mod certs;
pub(crate) mod chain;
pub(crate) mod curl;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod lab;
pub(crate) mod mcp_stand;
pub(crate) mod merchant;
pub(crate) mod mpp_stand;
pub(crate) mod node;
pub(crate) mod permit;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod python;
pub(crate) mod schema;
pub(crate) mod shop;
pub(crate) mod signer;
pub(crate) mod stand;
pub(crate) mod tls;
pub(crate) mod toll;
pub(crate) mod wire;

/// USDC on the test network, as in the built-in table.
pub(crate) const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";

/// Waits until `look` finds something, at most `most`.
pub(crate) fn until<T>(what: &str, most: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + most;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {most:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A merchant's or a client's slowness: part of the scene, never a way to wait for something.
pub(crate) fn linger(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// What is missing on this machine skips a test loudly; with `FAREPASS_REQUIRE_INTEROP=1` it fails it.
pub(crate) fn needs<T>(found: Result<T, String>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(why) if std::env::var("FAREPASS_REQUIRE_INTEROP").is_ok_and(|v| v == "1") => {
            panic!("FAREPASS_REQUIRE_INTEROP=1, but {why}")
        }
        Err(why) => {
            // Past the test harness, which keeps the output of passing tests to itself.
            let line = format!("\n*** SKIPPED: {why}\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            None
        }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

pub(crate) fn unix_now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}
