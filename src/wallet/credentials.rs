//! Credentials in files, read again when one of them changes. The old ones serve until the new are whole,
//! and stay at hand until the new have been accepted once: files are changed one after the other, and
//! providers take a while to learn of a new key and to forget an old one.

use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;

use super::secret_file;
use crate::section::{Section, SectionError};
use crate::settings;

/// What makes two looks at a file differ: its number, its length, and when it changed.
type Stamp = (u64, u64, i64, i64);

/// A file that holds a credential, and the key that names it.
pub(super) struct Named {
    section: Section,
    path: PathBuf,
}

/// Every kind has its name for us, its secret for us, and a key that signs requests.
pub(super) type Files<const N: usize = 3> = [Named; N];

/// Their texts, in the same order, without white space around them.
pub(super) type Texts<const N: usize = 3> = [Zeroizing<String>; N];

/// What reads the texts: credentials, or which text is wrong and why. Quotes none of them.
type Reader<T, const N: usize> =
    Box<dyn Fn(&Texts<N>) -> Result<T, (usize, &'static str)> + Send + Sync>;

/// How long new credentials that were refused are left alone, when the old ones are taken.
const DOUBT: Duration = Duration::from_secs(10);

/// How long files that could not be used are left alone. What kept them from being read may end without a
/// change of theirs, such as the rights of a folder.
const AGAIN: Duration = Duration::from_secs(3);

/// Credentials made of some files.
pub(super) struct Credentials<T, const N: usize = 3> {
    files: Files<N>,
    read: Reader<T, N>,
    kept: Mutex<Kept<T, N>>,
}

struct Kept<T, const N: usize> {
    stamps: [Option<Stamp>; N],
    /// When these could not be used, and why.
    failed: Option<(Instant, String)>,
    newest: Set<T>,
    /// Accepted before the newest were there.
    older: Option<Set<T>>,
    /// When the newest were refused last.
    doubted: Option<Instant>,
}

struct Set<T> {
    made: Arc<T>,
    used: Used,
    /// Somebody took them.
    proven: bool,
}

impl<T> Set<T> {
    fn new(made: T, number: u64) -> Self {
        Self {
            made: Arc::new(made),
            used: Used(number),
            proven: false,
        }
    }

    fn pick(&self) -> Picked<T> {
        Picked {
            made: Arc::clone(&self.made),
            used: self.used,
        }
    }
}

/// Which credentials a request was made with: every change of the files has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used(u64);

/// Credentials for one request.
pub(super) struct Picked<T> {
    made: Arc<T>,
    used: Used,
}

impl<T> Picked<T> {
    /// Some that are in no file.
    pub(super) fn only(made: Arc<T>) -> Self {
        let used = Used(0);
        Self { made, used }
    }

    /// To be told when they were accepted or refused.
    pub(super) fn used(&self) -> Used {
        self.used
    }
}

impl<T> Deref for Picked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.made
    }
}

/// Two sets of credentials beside each other, as far as whoever asks must know.
pub(super) trait Overlap: Send + Sync {
    /// Somebody took these.
    fn accepted(&self, used: Used);
    /// Somebody did not take these. Is there something else to try?
    fn refused(&self, used: Used, tried: &[Used]) -> bool;
}

/// The file that this key names, not yet looked at.
pub(super) fn named(section: Section, base: &Path) -> Result<Named, SectionError> {
    let path = settings::path(section.clone(), base)?;
    Ok(Named { section, path })
}

/// The file at this path, which this key is to blame for.
pub(super) fn at(section: Section, path: PathBuf) -> Named {
    Named { section, path }
}

impl<T, const N: usize> Credentials<T, N> {
    /// Reads all files.
    ///
    /// # Errors
    /// At the key whose file is missing, open to others, or holds something else.
    pub(super) fn open(
        files: Files<N>,
        read: impl Fn(&Texts<N>) -> Result<T, (usize, &'static str)> + Send + Sync + 'static,
    ) -> Result<Self, SectionError> {
        let stamps = stamps(&files);
        let read: Reader<T, N> = Box::new(read);
        let newest = Set::new(make(&files, &read)?, 1);
        let kept = Mutex::new(Kept {
            stamps,
            failed: None,
            newest,
            older: None,
            doubted: None,
        });
        Ok(Self { files, read, kept })
    }

    /// Those to ask with now. A change that cannot be used is told once, and looked at again.
    pub(super) fn now(&self) -> Picked<T> {
        self.looked().preferred().pick()
    }

    /// What is kept, after a look at the files.
    fn looked(&self) -> MutexGuard<'_, Kept<T, N>> {
        let stamps = stamps(&self.files);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = kept.stamps != stamps;
        if changed || kept.is_to_be_tried() {
            kept.stamps = stamps;
            match make(&self.files, &self.read) {
                Ok(made) => {
                    kept.renew(made);
                    tracing::info!(file = %self.shown(), "credentials were read again; the old ones stay until these are accepted");
                }
                Err(error) => kept.fail(error.problem, changed),
            }
        }
        kept
    }

    /// The first of its files, for the log.
    fn shown(&self) -> String {
        let first = self.files.first();
        first.map_or_else(String::new, |file| file.path.display().to_string())
    }
}

impl<T, const N: usize> Kept<T, N> {
    /// Could the files not be used, some time ago?
    fn is_to_be_tried(&self) -> bool {
        let failed = self.failed.as_ref();
        failed.is_some_and(|(at, _)| at.elapsed() >= AGAIN)
    }

    /// Told once for each change, and when it is for another reason.
    fn fail(&mut self, why: String, changed: bool) {
        let told = self.failed.as_ref().is_some_and(|(_, told)| *told == why);
        if changed || !told {
            tracing::warn!("credentials stay as they were: {why}");
        }
        self.failed = Some((Instant::now(), why));
    }

    /// Half of a change may be in these: they push out none that were accepted.
    fn renew(&mut self, made: T) {
        let new = Set::new(made, self.newest.used.0.saturating_add(1));
        let old = std::mem::replace(&mut self.newest, new);
        if old.proven || self.older.is_none() {
            self.older = Some(old);
        }
        self.doubted = None;
        self.failed = None;
    }

    fn preferred(&self) -> &Set<T> {
        let doubted = self.doubted.is_some_and(|at| at.elapsed() < DOUBT);
        match &self.older {
            Some(older) if doubted => older,
            Some(_) | None => &self.newest,
        }
    }
}

impl<T: Send + Sync, const N: usize> Overlap for Credentials<T, N> {
    fn accepted(&self, used: Used) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if used != kept.newest.used || (kept.newest.proven && kept.older.is_none()) {
            return;
        }
        kept.newest.proven = true;
        kept.doubted = None;
        if kept.older.take().is_some() {
            tracing::info!(file = %self.shown(), "the new credentials are accepted");
        }
    }

    fn refused(&self, used: Used, tried: &[Used]) -> bool {
        let mut kept = self.looked();
        let is_older = kept.older.as_ref().is_some_and(|older| older.used == used);
        if is_older {
            // Both may be refused for another reason, so they are kept; but it is the turn of the newest, also
            // where they were refused before.
            kept.doubted = None;
            return true;
        }
        if used == kept.newest.used && kept.older.is_some() {
            if kept.doubted.is_none() {
                tracing::warn!(file = %self.shown(), "the new credentials are not accepted; the old ones serve on");
            }
            kept.doubted = Some(Instant::now());
        }
        !tried.contains(&kept.preferred().used)
    }
}

fn make<T, const N: usize>(files: &Files<N>, read: &Reader<T, N>) -> Result<T, SectionError> {
    let mut texts: Texts<N> = std::array::from_fn(|_| Zeroizing::default());
    for (file, slot) in files.iter().zip(&mut texts) {
        *slot = text(file)?;
    }
    read(&texts).map_err(|(at, why)| match files.get(at) {
        Some(file) => file
            .section
            .error(format!("{}: {why}", file.path.display())),
        None => SectionError {
            file: String::new(),
            path: String::new(),
            place: None.into(),
            problem: why.into(),
            hint: None,
        },
    })
}

fn text(file: &Named) -> Result<Zeroizing<String>, SectionError> {
    let text = secret_file::read_text(&file.path);
    let text = text.map_err(|e| file.section.error(e.to_string()))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Changes of the rights count too: a file may be written first and closed to others then.
fn stamps<const N: usize>(files: &Files<N>) -> [Option<Stamp>; N] {
    let stamp = |file: &Named| {
        let m = std::fs::metadata(&file.path).ok()?;
        Some((m.ino(), m.len(), m.ctime(), m.ctime_nsec()))
    };
    files.each_ref().map(stamp)
}

/// Bytes in standard base64, wiped after use.
pub(super) fn base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    STANDARD.decode(text).ok().map(Zeroizing::new)
}

/// Is it visible ASCII, as what goes into header fields must be?
pub(super) fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
