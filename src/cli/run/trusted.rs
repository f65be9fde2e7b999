//! Certificates that the user has told programs to trust. Files of ours take the place of those that name them, so
//! they are put in there: for the program only, never for the proxy.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::sidecar::variables;
use crate::tls;

/// What the files hold, and what is to be said of those that hold nothing.
#[derive(Debug, Default)]
pub(super) struct Trusted {
    /// Each certificate once, DER.
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) problems: Vec<String>,
}

impl Trusted {
    /// Of every variable that will name a file of ours. `given` looks one up in our own environment.
    pub(super) fn read(given: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let (mut all, mut files, mut known) = (Self::default(), HashSet::new(), HashSet::new());
        let names = variables::BUNDLE.iter().chain(variables::CA);
        for name in names.chain(&["NIX_SSL_CERT_FILE"]) {
            let file = given(name).filter(|file| !file.is_empty());
            let Some(file) = file.map(PathBuf::from) else {
                continue;
            };
            if !files.insert(file.clone()) {
                continue;
            }
            // Comments in it may be in any alphabet.
            let found = match fs::read(&file) {
                Ok(bytes) => each(&String::from_utf8_lossy(&bytes)),
                Err(error) => {
                    all.skip(name, &file, &error);
                    continue;
                }
            };
            if found.is_empty() {
                all.skip(name, &file, &"no PEM certificate in it");
            }
            let new = found.into_iter().filter(|der| known.insert(der.clone()));
            all.certificates.extend(new);
        }
        all
    }

    fn skip(&mut self, name: &str, file: &Path, why: &dyn std::fmt::Display) {
        let file = file.display();
        self.problems.push(format!(
            "the certificates of ${name} are not passed on: {file}: {why}"
        ));
    }
}

/// The certificates in a text, DER.
pub(super) fn each(text: &str) -> Vec<Vec<u8>> {
    let each = text.split_inclusive("-----END CERTIFICATE-----");
    each.filter_map(tls::describe).map(|one| one.der).collect()
}
