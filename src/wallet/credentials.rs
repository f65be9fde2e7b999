//! Credentials in files, read again when one of them changes. The old ones serve until the new are
//! whole.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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
pub(super) type Reader<T, const N: usize = 3> = fn(&Texts<N>) -> Result<T, (usize, &'static str)>;

/// Credentials made of some files.
pub(super) struct Credentials<T, const N: usize = 3> {
    files: Files<N>,
    read: Reader<T, N>,
    kept: Mutex<Kept<T, N>>,
}

struct Kept<T, const N: usize> {
    stamps: [Option<Stamp>; N],
    made: Arc<T>,
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
    pub(super) fn open(files: Files<N>, read: Reader<T, N>) -> Result<Self, SectionError> {
        let stamps = stamps(&files);
        let made = make(&files, read).map(Arc::new)?;
        let kept = Mutex::new(Kept { stamps, made });
        Ok(Self { files, read, kept })
    }

    /// Those of now. A change that cannot be used is told once.
    pub(super) fn now(&self) -> Arc<T> {
        let stamps = stamps(&self.files);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.stamps != stamps {
            kept.stamps = stamps;
            match make(&self.files, self.read) {
                Ok(made) => kept.made = Arc::new(made),
                Err(error) => tracing::warn!("credentials stay as they were: {}", error.problem),
            }
        }
        Arc::clone(&kept.made)
    }
}

fn make<T, const N: usize>(files: &Files<N>, read: Reader<T, N>) -> Result<T, SectionError> {
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
            place: None,
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
