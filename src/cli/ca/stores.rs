//! Where machines keep the roots they trust, and the commands that change it. Nothing is done that is
//! not shown by `--print`.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::{Exit, Failure};

/// A store of trusted roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Store {
    /// The system's: curl, Python's ssl, git, wget, Go.
    System,
    /// Chrome's and Firefox's, of this user.
    Nss,
    /// Java's.
    Java,
}

/// One thing to do. Shown as a command that a person could type.
pub(super) enum Step {
    Copy(PathBuf, PathBuf),
    Folder(PathBuf),
    Remove(PathBuf),
    Run(Vec<OsString>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |word: &Path| {
            let text = word.display().to_string();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=%+".contains(c);
            match !text.is_empty() && text.chars().all(plain) {
                true => text,
                false => format!("'{}'", text.replace('\'', "'\\''")),
            }
        };
        match self {
            Self::Copy(from, to) => {
                write!(f, "install -m 0644 {} {}", quoted(from), quoted(to))
            }
            Self::Folder(path) => write!(f, "mkdir -p {}", quoted(path)),
            Self::Remove(path) => write!(f, "rm {}", quoted(path)),
            Self::Run(words) => {
                let words: Vec<_> = words.iter().map(|w| quoted(Path::new(w))).collect();
                f.write_str(&words.join(" "))
            }
        }
    }
}

impl Step {
    /// Does it.
    pub(super) fn take(&self) -> Result<(), Failure> {
        use std::os::unix::fs::PermissionsExt as _;
        let done = match self {
            Self::Copy(from, to) => fs::copy(from, to)
                .and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(0o644))),
            Self::Folder(path) => fs::create_dir_all(path),
            Self::Remove(path) => fs::remove_file(path),
            Self::Run(words) => return self.run(words),
        };
        done.map_err(|e| {
            let failure = Failure::new(Exit::Failed, format_args!("{self}: {e}"));
            match e.kind() {
                std::io::ErrorKind::PermissionDenied => failure.hint(
                    "the store is not yours: run it as root, or see --print for the commands",
                ),
                _ => failure,
            }
        })
    }

    fn run(&self, words: &[OsString]) -> Result<(), Failure> {
        let Some((program, arguments)) = words.split_first() else {
            return Ok(());
        };
        let mut command = Command::new(program);
        let ran = command.args(arguments).stdin(Stdio::null()).output();
        let ended = ran.map_err(|e| Failure::new(Exit::Failed, format_args!("{self}: {e}")))?;
        if ended.status.success() {
            return Ok(());
        }
        // keytool complains on stdout.
        let both = [ended.stderr, ended.stdout].concat();
        let said = String::from_utf8_lossy(&both);
        let line = said.lines().find(|l| !l.trim().is_empty());
        let line = crate::cli::table::plain(line.unwrap_or("it failed without a word"));
        Err(Failure::new(Exit::Failed, format_args!("{self}: {line}")))
    }
}

fn run<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Step {
    Step::Run(words.into_iter().map(Into::into).collect())
}

/// One certificate, and the name that it has in stores.
pub(super) struct Certificate {
    pub(super) file: PathBuf,
    pub(super) der: Vec<u8>,
    pub(super) label: String,
}

/// What the stores are looked for with.
pub(super) struct Machine {
    pub(super) home: Option<PathBuf>,
    /// A trust store of Java's other than its own.
    pub(super) keystore: Option<PathBuf>,
}

/// Folder, ending, and the command that reads the folder: Debian and Alpine, Red Hat, Arch, SUSE.
const SYSTEMS: &[(&str, &str, &[&str])] = &[
    (
        "/usr/local/share/ca-certificates",
        "crt",
        &["update-ca-certificates"],
    ),
    (
        "/etc/pki/ca-trust/source/anchors",
        "pem",
        &["update-ca-trust", "extract"],
    ),
    (
        "/etc/ca-certificates/trust-source/anchors",
        "crt",
        &["update-ca-trust"],
    ),
    ("/etc/pki/trust/anchors", "pem", &["update-ca-certificates"]),
];

/// Where Debian's hook for `update-ca-certificates` puts what is installed, for Java. Who is taken out again
/// stays there.
const DEBIAN_JAVA: &str = "/etc/ssl/certs/java/cacerts";

fn system() -> Result<(PathBuf, &'static str, Step), Failure> {
    let found = SYSTEMS.iter().find(|(dir, ..)| Path::new(dir).is_dir());
    let Some((dir, ending, update)) = found else {
        return Err(Failure::new(
            Exit::Failed,
            "this system keeps its trusted roots in none of the known places",
        )
        .hint("`farepass ca export` gives the certificate to install by hand"));
    };
    Ok((dir.into(), ending, run(update.iter().copied())))
}

impl Machine {
    /// What makes a store trust a certificate.
    pub(super) fn install(&self, store: Store, one: &Certificate) -> Result<Vec<Step>, Failure> {
        match store {
            Store::System => {
                let (dir, ending, update) = system()?;
                let to = dir.join(format!("{}.{ending}", one.label));
                Ok(vec![Step::Copy(one.file.clone(), to), update])
            }
            Store::Nss => {
                let mut steps = vec![];
                for (dir, new) in self.nss()? {
                    if new {
                        steps.push(Step::Folder(dir.clone()));
                        steps.push(certutil(&dir, &["-N", "--empty-password"]));
                    }
                    let mut words = certutil_words(&dir, &["-A", "-t", "C,,", "-n", &one.label]);
                    words.extend(["-i".into(), one.file.clone().into()]);
                    steps.push(Step::Run(words));
                }
                Ok(steps)
            }
            Store::Java => Ok(self.java(one)),
        }
    }

    /// Java's store gives an alias once. Who has it already stays where it is the same certificate, and makes place
    /// where it is another one.
    fn java(&self, one: &Certificate) -> Vec<Step> {
        let mut import = self.keytool(&["-importcert", "-noprompt", "-alias", &one.label]);
        import.extend(["-file".into(), one.file.clone().into()]);
        let delete = self.keytool(&["-delete", "-alias", &one.label]);
        match answer(&self.keytool(&["-exportcert", "-alias", &one.label])) {
            None => vec![Step::Run(import)],
            Some(der) if der == one.der => vec![],
            Some(_) => vec![Step::Run(delete), Step::Run(import)],
        }
    }

    /// What undoes it, as far as there is something to undo.
    pub(super) fn uninstall(&self, store: Store, one: &Certificate) -> Result<Vec<Step>, Failure> {
        match store {
            Store::System => {
                let (dir, ending, update) = system()?;
                let there = dir.join(format!("{}.{ending}", one.label));
                // Before the update, which may take it out one day.
                let mut steps = debian_java(&one.label);
                if there.exists() {
                    steps.extend([Step::Remove(there), update]);
                }
                Ok(steps)
            }
            Store::Nss => {
                let known = |dir: &Path| succeeds(&certutil_words(dir, &["-L", "-n", &one.label]));
                let there = self
                    .nss()?
                    .into_iter()
                    .filter(|(dir, new)| !new && known(dir));
                Ok(there
                    .map(|(dir, _)| certutil(&dir, &["-D", "-n", &one.label]))
                    .collect())
            }
            Store::Java => {
                let known = self.keytool(&["-list", "-alias", &one.label]);
                let delete = self.keytool(&["-delete", "-alias", &one.label]);
                Ok(match succeeds(&known) {
                    true => vec![Step::Run(delete)],
                    false => vec![],
                })
            }
        }
    }

    /// The databases of this user, and whether one must be made first.
    fn nss(&self) -> Result<Vec<(PathBuf, bool)>, Failure> {
        let home = self.home.as_ref();
        let home = home.ok_or_else(|| Failure::new(Exit::Usage, "$HOME is not set"))?;
        let shared = home.join(".pki/nssdb");
        let mut all = vec![(shared.clone(), !shared.join("cert9.db").exists())];
        for profiles in [".mozilla/firefox", "snap/firefox/common/.mozilla/firefox"] {
            let Ok(entries) = fs::read_dir(home.join(profiles)) else {
                continue;
            };
            let paths = entries.flatten().map(|entry| entry.path());
            let databases = paths.filter(|dir| dir.join("cert9.db").exists());
            all.extend(databases.map(|dir| (dir, false)));
        }
        all.sort();
        Ok(all)
    }

    fn keytool(&self, words: &[&str]) -> Vec<OsString> {
        keytool(self.keystore.as_deref(), words)
    }
}

/// Without a store of its own, Java's.
fn keytool(keystore: Option<&Path>, words: &[&str]) -> Vec<OsString> {
    let mut all: Vec<OsString> = ["keytool", "-storepass", "changeit"].map(Into::into).into();
    all.extend(words.iter().map(Into::into));
    match keystore {
        Some(file) => all.extend(["-keystore".into(), file.into()]),
        None => all.push("-cacerts".into()),
    }
    all
}

/// What takes a certificate out of Debian's store for Java, if the hook put it there.
fn debian_java(label: &str) -> Vec<Step> {
    let store = Path::new(DEBIAN_JAVA);
    let alias = format!("debian:{label}.pem");
    let words = |what: &str| keytool(Some(store), &[what, "-alias", &alias]);
    match store.exists() && succeeds(&words("-list")) {
        true => vec![Step::Run(words("-delete"))],
        false => vec![],
    }
}

fn certutil_words(dir: &Path, words: &[&str]) -> Vec<OsString> {
    let mut place = OsString::from("sql:");
    place.push(dir);
    let mut all: Vec<OsString> = vec!["certutil".into(), "-d".into(), place];
    all.extend(words.iter().map(Into::into));
    all
}

fn certutil(dir: &Path, words: &[&str]) -> Step {
    Step::Run(certutil_words(dir, words))
}

fn succeeds(words: &[OsString]) -> bool {
    answer(words).is_some()
}

/// The answer to a question that changes nothing. A tool that is not there knows of nothing.
fn answer(words: &[OsString]) -> Option<Vec<u8>> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let out = command.output().ok()?;
    out.status.success().then_some(out.stdout)
}
