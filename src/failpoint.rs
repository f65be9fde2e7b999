//! Places where a test may end this process at once, as a crash or a power cut would. In debug
//! builds only: a release build has nothing to switch on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// Holds the name of a place; `NAME:3` is the third time that it is reached.
const VARIABLE: &str = "FAREPASS_FAILPOINT";

/// The one place that was chosen, and how often it is still to be reached.
struct Chosen {
    name: String,
    left: AtomicI64,
}

/// Ends the process here, without a goodbye, when the environment chose this place.
#[inline]
pub fn reach(name: &str) {
    if cfg!(debug_assertions) && chosen().is_some_and(|c| c.is_now(name)) {
        die();
    }
}

fn chosen() -> Option<&'static Chosen> {
    static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();
    let read = || {
        let text = std::env::var(VARIABLE).ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some(Chosen {
            name: name.into(),
            left: AtomicI64::new(times.parse().ok()?),
        })
    };
    CHOSEN.get_or_init(read).as_ref()
}

impl Chosen {
    fn is_now(&self, name: &str) -> bool {
        self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// SIGKILL: no destructor runs, nothing is flushed.
fn die() -> ! {
    loop {
        // A process may always kill itself.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
