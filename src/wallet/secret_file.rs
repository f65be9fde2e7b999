//! Files that hold secrets: read once, only when nobody else can read them, wiped after use.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;

use crate::custody::{self, NotOurs};

/// Bytes of a secret. An encrypted keystore has about 500.
const LENGTH_MAX: u64 = 64 << 10;

/// Why a file with a secret could not be used. Never quotes the file.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It is not there.
    #[error("there is no file {path}")]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// Others may read or change it.
    #[error("{path} is open to others (mode {mode:04o}): run `chmod 600 {path}`")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may put another file in its place.
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
    /// Not UTF-8.
    #[error("{path} is no text")]
    NotText {
        /// Which.
        path: PathBuf,
    },
    /// A folder, a device, or longer than any secret.
    #[error("{path} is not a file of at most 64 KiB")]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// It is there already and is not overwritten.
    #[error("{path} exists already and is left as it is")]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// The operating system objects.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

/// The bytes of a file that only its owner can read. A file of root may also be readable by a group:
/// that is how Kubernetes mounts a secret for a process that is not root.
///
/// # Errors
/// When it is missing, open to others, or no file.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let failed = |source: io::Error| failure(path, source);
    // Looked at before it is opened, since opening a pipe would wait for its writer.
    check(path, &std::fs::metadata(path).map_err(failed)?)?;
    custody::check(path)?;
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    check(path, &metadata)?;
    // Room for all of it from the start: growing would leave copies behind.
    let room = usize::try_from(metadata.len().saturating_add(1)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(metadata.len())
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// The text of a file that only its owner can read, for other secrets than keys.
///
/// # Errors
/// Those of [`read`], or when it is no text.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let bytes = read(path)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| SecretFileError::NotText { path: path.into() })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The text of a token that somebody else writes, with the rights that they choose.
///
/// # Errors
/// When it is missing, no file, or no text.
pub(super) fn read_token(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let failed = |source: io::Error| failure(path, source);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > LENGTH_MAX {
        return Err(SecretFileError::NotAFile { path: path.into() });
    }
    let mut bytes = Zeroizing::new(vec![]);
    let file = File::open(path).map_err(failed)?;
    file.take(LENGTH_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_| SecretFileError::NotText { path: path.into() })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Writes a new file that only its owner can read, on the disk when this returns.
///
/// # Errors
/// When it exists, or cannot be written; then it is not there.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<(), SecretFileError> {
    let failed = |source: io::Error| failure(path, source);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let kept = written.and_then(|()| {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    });
    kept.map_err(|source| {
        // Half a key is no key, and would be in the way of the next attempt.
        let _ = std::fs::remove_file(path);
        failed(source)
    })
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), SecretFileError> {
    let path = || path.to_path_buf();
    if !metadata.is_file() || metadata.len() > LENGTH_MAX {
        return Err(SecretFileError::NotAFile { path: path() });
    }
    let mode = metadata.mode() & 0o7777;
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    let others = if metadata.uid() == 0 && !ours {
        0o037
    } else {
        0o077
    };
    if mode & others != 0 {
        return Err(SecretFileError::Exposed { path: path(), mode });
    }
    Ok(())
}

fn failure(path: &Path, source: io::Error) -> SecretFileError {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::NotFound => SecretFileError::Missing { path },
        io::ErrorKind::AlreadyExists => SecretFileError::Exists { path },
        _ => SecretFileError::Io { path, source },
    }
}
