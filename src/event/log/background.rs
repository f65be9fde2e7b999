//! A writer on a thread of its own, behind a queue with an end.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the end of the process waits for lines to be written.
pub(super) const LAST_LINES: Duration = Duration::from_secs(2);

/// Lines on their way to a slow or broken place. Putting one in never waits and never fails; what
/// could not be kept is counted.
pub(super) struct Background {
    lines: Mutex<Option<Sender>>,
    /// Taken by whoever waits for the end: once is enough.
    done: Mutex<Option<Receiver<()>>>,
    lost: Arc<AtomicU64>,
    pub(super) told: AtomicU64,
}

/// Its end ends the thread.
struct Sender {
    lines: SyncSender<Vec<u8>>,
    _pauses: SyncSender<()>,
}

impl Background {
    pub(super) fn start(
        name: &str,
        mut writer: Box<dyn Write + Send>,
        most: usize,
    ) -> std::io::Result<Self> {
        let (lines, waiting) = sync_channel::<Vec<u8>>(most);
        let (pauses, pause) = sync_channel(1);
        let (ended, done) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        let work = move || {
            write_all(&mut *writer, (&waiting, &pause), &counter);
            let _ = ended.send(());
        };
        std::thread::Builder::new().name(name.into()).spawn(work)?;
        Ok(Self {
            lines: Mutex::new(Some(Sender {
                lines,
                _pauses: pauses,
            })),
            done: Mutex::new(Some(done)),
            lost,
            told: AtomicU64::new(0),
        })
    }

    pub(super) fn put(&self, line: Vec<u8>) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lines
            .as_ref()
            .is_some_and(|l| l.lines.try_send(line).is_ok());
        if !kept {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were lost since this was asked last, when there were any.
    pub(super) fn newly_lost(&self) -> Option<u64> {
        let lost = self.lost.load(Ordering::Relaxed);
        let told = self.told.swap(lost, Ordering::Relaxed);
        (lost > told).then(|| lost - told)
    }
}

impl Background {
    /// Takes no more lines.
    pub(super) fn close(&self) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.take();
    }

    /// Takes no more lines, and waits until those that it has are written, or until it is too late.
    pub(super) fn end(&self, late: Instant) {
        self.close();
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(done) = done.take() else { return };
        match done.recv_timeout(late.saturating_duration_since(Instant::now())) {
            // Out of time: a reader that does not read cannot keep the process alive.
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end(Instant::now() + LAST_LINES);
    }
}

/// Bytes that are written at once, if so many lines wait.
const CHUNK: usize = 64 * 1024;

/// After each writing. Those who put lines in meanwhile need not wake anybody.
const PAUSE: Duration = Duration::from_millis(2);

/// Until the last sender is gone. Lines that wait together are written together; those of a write that
/// fails are counted, and the next ones are tried again, on a line of their own.
fn write_all(
    writer: &mut dyn Write,
    (lines, pause): (&Receiver<Vec<u8>>, &Receiver<()>),
    lost: &AtomicU64,
) {
    let mut torn = false;
    while let Ok(mut chunk) = lines.recv() {
        let mut count = 1;
        if torn {
            // What came of the last write may be half a line: it ends here.
            chunk.insert(0, b'\n');
        }
        while chunk.len() < CHUNK
            && let Ok(line) = lines.try_recv()
        {
            chunk.extend_from_slice(&line);
            count += 1;
        }
        torn = writer
            .write_all(&chunk)
            .and_then(|()| writer.flush())
            .is_err();
        if torn {
            lost.fetch_add(count, Ordering::Relaxed);
        }
        // Nobody sends here: it waits for the time, or for the end.
        let _ = pause.recv_timeout(PAUSE);
    }
}
