//! The operator's token: whoever can read its file may use the admin API.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

const NAME: &str = "admin.token";

/// More than any token of ours has.
const LENGTH_MAX: u64 = 256;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read it.
    #[error("{}: mode {mode:04o} lets others read the admin token; run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not what we wrote.
    #[error("{}: no token in it; delete the file to get a new one", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

/// 32 random bytes, hexadecimal.
pub struct Token(SecretString);

impl Token {
    /// The token of a state directory.
    ///
    /// # Errors
    /// When the file is missing, readable by others, or not ours.
    pub fn read(state_dir: &Path) -> Result<Self, TokenError> {
        let path = state_dir.join(NAME);
        let failed = |source| TokenError::File {
            path: path.clone(),
            source,
        };
        let file = fs::File::open(&path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Exposed { path, mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(LENGTH_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
        match text.trim() {
            token if token.len() >= 32 && token.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Self(token.into()))
            }
            _ => Err(TokenError::Unusable { path }),
        }
    }

    /// The token of a state directory, made when there is none.
    ///
    /// # Errors
    /// As `read`, or when it cannot be written.
    pub fn read_or_create(state_dir: &Path) -> Result<Self, TokenError> {
        let path = state_dir.join(NAME);
        if !path.exists() {
            let write = || {
                let mut random = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *random).map_err(|e| io::Error::other(e.to_string()))?;
                let text = Zeroizing::new(hex::encode(*random));
                // Whole or not at all: half a token would stop every later start.
                let new = path.with_extension("token.new");
                let mut options = fs::OpenOptions::new();
                let _ = fs::remove_file(&new);
                let mut file = options
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&new)?;
                writeln!(file, "{}", *text)?;
                file.sync_all()?;
                fs::rename(&new, &path)
            };
            write().map_err(|source| TokenError::File {
                path: path.clone(),
                source,
            })?;
        }
        Self::read(state_dir)
    }

    /// Does the request carry it? Compared in constant time.
    #[must_use]
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Some((scheme, token)) = value.to_str().ok().and_then(|v| v.split_once(' ')) else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer") && self.matches(token.trim().as_bytes())
    }

    /// Is it this one? Compared in constant time.
    pub(super) fn matches(&self, shown: &[u8]) -> bool {
        let expected = self.0.expose_secret().as_bytes();
        aws_lc_rs::constant_time::verify_slices_are_equal(shown, expected).is_ok()
    }

    /// Something that whoever has the token can make, and from which nobody makes the token.
    pub(super) fn derived(&self, what: &str) -> SecretString {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret().as_bytes());
        hex::encode(hmac::sign(&key, what.as_bytes())).into()
    }

    /// For the client beside a running proxy.
    pub(super) fn bearer(&self) -> Option<http::HeaderValue> {
        let text = Zeroizing::new(format!("Bearer {}", self.0.expose_secret()));
        let mut value = http::HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A start that was cut short leaves nothing that stops the next one.
    #[test]
    fn a_token_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("admin.token.new"), "half").unwrap();
        let made = Token::read_or_create(dir.path()).unwrap();
        let again = Token::read_or_create(dir.path()).unwrap();
        assert_eq!(made.0.expose_secret(), again.0.expose_secret());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        // What somebody else put there is not thrown away.
        fs::write(dir.path().join(NAME), "").unwrap();
        let read = Token::read_or_create(dir.path());
        assert!(matches!(read, Err(TokenError::Unusable { .. })));
    }
}
