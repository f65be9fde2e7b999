//! What commands begin with: the configuration, a runtime, the ledger; and what is said when one of
//! them is not to be had. Each is one line.

use std::ffi::OsStr;
use std::sync::Arc;
use std::thread::available_parallelism;

use rustix::process::Signal;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::working::Working;
use super::{Exit, Failure, Terminal};
use crate::admin::TokenError;
use crate::admin::client::ClientError;
use crate::admin::sessions::SessionError;
use crate::app::StartError;
use crate::config::{Config, ConfigError};
use crate::ledger::{OpenError, PostError, Reader};
use crate::section::SectionError;
use crate::tls::TlsError;

/// The configuration that the arguments, the environment or this folder name.
pub(super) fn config(terminal: &Terminal) -> Result<Config, Failure> {
    Ok(Config::load(terminal.globals.config.as_deref())?)
}

/// The same for a command that needs these keys of the file only. What else is wrong with it is told, and does
/// not matter: the proxy that runs may have read it before.
pub(super) fn config_for(terminal: &Terminal, needed: &[&str]) -> Result<Config, Failure> {
    let (config, problems) = Config::load_partly(terminal.globals.config.as_deref(), needed)?;
    if !problems.is_empty() {
        let problem = first_of(&problems);
        terminal.say(format_args!("farepass: warning: {problem}"));
    }
    Ok(config)
}

/// What of a configuration says where the ledger is.
pub(super) const LEDGER: &[&str] = &["state_dir", "ledger"];

/// The ledger of a configuration for reading, also while its owner runs. `None` when there is none yet.
pub(super) fn book(config: &Config) -> Result<Option<Arc<dyn Reader>>, Failure> {
    match config.read_ledger() {
        Ok(book) => Ok(Some(book)),
        Err(OpenError::Missing(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Runs what must wait, on this thread.
pub(super) fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(no_runtime)?;
    full(&runtime)?;
    runtime.block_on(work)
}

/// The same, and a person at the terminal is told what takes so long.
pub(super) fn work<T>(
    what: &'static str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let _working = Working::on(what);
    wait(work)
}

/// A runtime for a whole proxy.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    let asked = std::env::var_os(WORKERS);
    workers(asked.as_deref())?;
    let mut builder = Builder::new_multi_thread();
    if asked.is_some_and(|asked| asked.is_empty()) {
        // Manifests have empty variables; to tokio that would be no number.
        builder.worker_threads(available_parallelism().map_err(no_runtime)?.get());
    }
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(no_runtime)?;
    full(&runtime)?;
    Ok(runtime)
}

/// How many threads serve connections: a name of tokio's, which reads it, and panics over a value that is no number.
const WORKERS: &str = "TOKIO_WORKER_THREADS";
/// More than any machine has processors.
const WORKERS_MAX: usize = 1024;

fn workers(asked: Option<&OsStr>) -> Result<(), Failure> {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
        return Ok(());
    };
    let number = asked.to_str().and_then(|text| text.parse().ok());
    if number.is_some_and(|number| (1..=WORKERS_MAX).contains(&number)) {
        return Ok(());
    }
    let asked = asked.display();
    let message = format_args!("{WORKERS} is a number from 1 to {WORKERS_MAX}, not `{asked}`");
    Err(Failure::new(Exit::Usage, message))
}

/// A write over the limit of a file's size fails from now on, as one to a full disk does; by itself it would end this
/// process without a word. The signal is caught and thrown away, not ignored: a program that is run would inherit that.
fn full(runtime: &Runtime) -> Result<(), Failure> {
    if super::run::ignores(Signal::XFSZ) {
        return Ok(());
    }
    let _within = runtime.enter();
    // Caught to the end, though nobody listens.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))
        .map(drop)
        .map_err(no_runtime)
}

fn no_runtime(error: std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format_args!("cannot start threads: {error}"))
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let message = match &error {
            ConfigError::Missing(missing) => {
                return Self::new(Exit::Usage, missing).hint("`farepass init` writes one");
            }
            ConfigError::Unreadable { .. } => error.to_string(),
            ConfigError::Invalid(problems) => first_of(problems),
        };
        Self::new(Exit::Usage, message)
    }
}

/// What is wrong with the file, on one line.
fn first_of(problems: &[SectionError]) -> String {
    match problems {
        [] => "the configuration is wrong".into(),
        [one] => one_line(one),
        [first, rest @ ..] => {
            let more = rest.len();
            format!("{} (and {more} more: farepass check)", one_line(first))
        }
    }
}

/// An error of the file with its hint on the same line.
fn one_line(error: &SectionError) -> String {
    let bare = SectionError {
        hint: None,
        ..error.clone()
    };
    match &error.hint {
        Some(hint) => format!("{bare}; {hint}"),
        None => bare.to_string(),
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Webhook(_)
            | StartError::Telemetry(_)
            | StartError::Unsafe { .. }
            | StartError::Parent(_)
            | StartError::Key { .. } => Self::new(Exit::Usage, error),
            StartError::Wallet(error) => Self::new(Exit::Usage, one_line(&error)),
            StartError::Ledger(error) => error.into(),
            StartError::Book(error) => error.into(),
            StartError::Tls(error) => error.into(),
            StartError::Token(error) => error.into(),
            StartError::Session(error) => error.into(),
            StartError::Listen { .. } | StartError::File { .. } => Self::new(Exit::Failed, error),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let exit = match &error {
            OpenError::InUse { .. }
            | OpenError::Missing(_)
            | OpenError::Storage(_)
            | OpenError::Unreachable(_) => Exit::Failed,
            OpenError::Unsafe { .. }
            | OpenError::Settings(_)
            | OpenError::Denied(_)
            | OpenError::Untrusted(_) => Exit::Usage,
            OpenError::Damaged(_) => Exit::Damaged,
        };
        Self::new(exit, error)
    }
}

impl From<PostError> for Failure {
    fn from(error: PostError) -> Self {
        let exit = match &error {
            PostError::Rejected(_) | PostError::Unavailable(_) => Exit::Failed,
            PostError::Damaged(_) => Exit::Damaged,
        };
        Self::new(exit, error)
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        let exit = match &error {
            TlsError::Crypto(_) => Exit::Failed,
            TlsError::File { .. }
            | TlsError::Exposed { .. }
            | TlsError::Half { .. }
            | TlsError::Unusable { .. }
            | TlsError::Secret(_)
            | TlsError::Expired { .. } => Exit::Usage,
        };
        Self::new(exit, error)
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let exit = match &error {
            TokenError::File { .. } => Exit::Failed,
            TokenError::Exposed { .. } | TokenError::Unusable { .. } => Exit::Usage,
        };
        Self::new(exit, error)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        use crate::ledger::sessions::SessionError as Book;
        match error {
            SessionError::Other(Book::Ledger(error)) => error.into(),
            SessionError::Expires
            | SessionError::DefaultAgent
            | SessionError::Other(Book::Agent | Book::Name) => Self::new(Exit::Usage, error),
            SessionError::StillOpen
            | SessionError::Unknown
            | SessionError::Other(Book::Randomness) => Self::new(Exit::Failed, error),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Token(error) => error.into(),
            ClientError::Refused { status, .. } if status == http::StatusCode::BAD_REQUEST => {
                Self::new(Exit::Usage, error)
            }
            ClientError::NoProxy(_)
            | ClientError::NoBeacon(_)
            | ClientError::Connection(..)
            | ClientError::Silent(_)
            | ClientError::Refused { .. } => Self::new(Exit::Failed, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tokio_would_panic_over_is_a_wrong_usage() {
        let taken = |asked: &str| workers(Some(OsStr::new(asked))).is_ok();
        assert!(workers(None).is_ok());
        assert!(["", "1", "3", "1024"].into_iter().all(taken));
        for wrong in ["0", "-1", "two", " 2", "1025", "99999999999999999999"] {
            assert!(!taken(wrong), "{wrong:?}");
        }
    }
}
