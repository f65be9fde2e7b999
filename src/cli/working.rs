//! A sign of life for whoever waits at a terminal: what is being done, and for how long.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Before the first word, and between two.
const BEAT: Duration = Duration::from_secs(1);

/// Says so on stderr once a second, in one line that is gone when this is dropped. Says nothing where stderr
/// is no terminal.
pub(super) struct Working(Option<(Arc<Bell>, JoinHandle<()>)>);

/// Rung when the work is done.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    waits: Condvar,
}

impl Working {
    pub(super) fn on(what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let bell = Arc::new(Bell::default());
        let heard = Arc::clone(&bell);
        let thread = std::thread::Builder::new();
        let thread = thread.spawn(move || tell(what, &heard));
        // Without a thread the work is done all the same.
        Self(thread.ok().map(|thread| (bell, thread)))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some((bell, thread)) = self.0.take() {
            *bell.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
            bell.waits.notify_one();
            // It ends at once; one that panicked has nothing to tell.
            let _ = thread.join();
        }
    }
}

fn tell(what: &str, bell: &Bell) {
    let (began, mut width) = (Instant::now(), 0);
    let mut rung = bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
    while !*rung {
        let waited = bell.waits.wait_timeout(rung, BEAT);
        rung = waited.unwrap_or_else(PoisonError::into_inner).0;
        if !*rung && began.elapsed() >= BEAT {
            let line = format!("{what} … {} s", began.elapsed().as_secs());
            width = line.chars().count();
            show(&line);
        }
    }
    if width > 0 {
        show(&" ".repeat(width));
        show("");
    }
}

/// From the beginning of the line. No control sequences but a carriage return: any terminal can do that.
fn show(line: &str) {
    let mut stderr = io::stderr();
    // Nothing can be done when stderr is closed.
    let _ = write!(stderr, "\r{line}").and_then(|()| stderr.flush());
}
