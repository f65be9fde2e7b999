//! How a ledger is named, found and opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use secrecy::SecretString;

use super::{Ledger, Reader, memory, place, postgres, sqlite};

/// Every backend, the default first.
pub const BACKENDS: &[Backend] = &[sqlite::BACKEND, memory::BACKEND, postgres::BACKEND];

/// How a backend is named and opened.
pub struct Backend {
    /// Its word in the configuration.
    pub kind: &'static str,
    /// As the one owner, who may post.
    pub open: fn(&Opening) -> Result<Arc<dyn Ledger>, OpenError>,
    /// To read beside an owner, who may be running. Missing when nothing outlives the process.
    pub read: fn(&Opening) -> Result<Arc<dyn Reader>, OpenError>,
}

/// What a backend is opened with.
#[derive(Clone)]
pub struct Opening {
    /// The folder for everything that outlives the process. Made when missing.
    pub state_dir: PathBuf,
    /// The database that several proxies share; without one the ledger is in the folder.
    pub database: Option<Database>,
}

/// A PostgreSQL database.
#[derive(Clone)]
pub struct Database {
    /// `postgres://user:password@host:port/database`.
    pub url: SecretString,
    /// Who may vouch for the server's certificate.
    pub roots: Arc<RootCertStore>,
    /// The file that has the URL, which stands for it in messages.
    pub file: PathBuf,
    /// Gives the URL as it is now, for each new connection; its password may be another by then.
    pub again: Option<Again>,
    /// Is it reached through a pooler that gives every transaction another connection? Nothing is left on
    /// one then.
    pub pooler: bool,
    /// How often what other proxies did is looked for.
    pub look_every: Duration,
    /// May it be away when the ledger is opened? Until it answers nothing can be posted or asked then; for
    /// whoever cannot go on without it, that is an error.
    pub later: bool,
}

/// Reads the URL again, or says in words without any of it why not.
pub type Again = Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

impl Database {
    /// With no roots, no pooler, and a look every second, and there when it is opened.
    pub fn new(url: SecretString, file: PathBuf) -> Self {
        Self {
            url,
            roots: Arc::new(RootCertStore::empty()),
            file,
            again: None,
            pooler: false,
            look_every: Duration::from_secs(1),
            later: false,
        }
    }
}

impl Opening {
    fn backend(&self) -> &'static Backend {
        match self.database {
            None => &sqlite::BACKEND,
            Some(_) => &postgres::BACKEND,
        }
    }

    /// Opens the ledger that is meant, for whoever posts.
    ///
    /// # Errors
    /// [`OpenError`]; nothing may be paid then.
    pub fn open(&self) -> Result<Arc<dyn Ledger>, OpenError> {
        (self.backend().open)(self)
    }

    /// Opens it for reading only, also while others post.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Missing`] when there is none yet.
    pub fn read(&self) -> Result<Arc<dyn Reader>, OpenError> {
        (self.backend().read)(self)
    }
}

/// Why a ledger cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error(
        "the ledger is in use by {}: it holds {}. One state directory serves one proxy; stop it, or give this one a state_dir of its own",
        pid.map_or("another process".into(), |pid| format!("process {pid}")), lock.display()
    )]
    InUse {
        /// The lock file.
        lock: PathBuf,
        /// What the lock file says about its holder.
        pid: Option<u32>,
    },
    /// Others than its owner could change it.
    #[error("{} {problem}", path.display())]
    Unsafe {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
        /// Does it belong to another user?
        foreign: bool,
    },
    /// There is none yet.
    #[error("there is no ledger at {}", .0.display())]
    Missing(PathBuf),
    /// Records are missing or contradict each other. Nothing is paid from it.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    /// The storage does not work.
    #[error("the ledger cannot be opened: {0}")]
    Storage(String),
    /// A file that says where the database is, or who vouches for it, is of no use. Quotes nothing of it.
    #[error("ledger.postgres: {0}")]
    Settings(String),
    /// The database does not answer.
    #[error("the ledger's database cannot be reached: {0}")]
    Unreachable(String),
    /// The database knows neither us nor what we ask for.
    #[error("the ledger's database does not let us in: {0}")]
    Denied(String),
    /// Who answers is not certain to be the database.
    #[error("the ledger's database is not trusted: {0}")]
    Untrusted(String),
}

/// Opens the ledger in a folder with the default backend, as its one owner.
///
/// # Errors
/// [`OpenError`]; nothing may be paid then.
pub fn open(state_dir: &Path) -> Result<Arc<dyn Ledger>, OpenError> {
    (sqlite::BACKEND.open)(&Opening {
        state_dir: state_dir.into(),
        database: None,
    })
}

/// Opens the ledger in a folder with the default backend for reading only, also while its owner runs.
///
/// # Errors
/// [`OpenError`]; [`OpenError::Missing`] when there is none yet.
pub fn read(state_dir: &Path) -> Result<Arc<dyn Reader>, OpenError> {
    let opening = Opening {
        state_dir: state_dir.into(),
        database: None,
    };
    (sqlite::BACKEND.read)(&opening)
}

/// Looks at a folder, and at what a ledger keeps in it, as every start does before it goes on. Changes nothing.
///
/// # Errors
/// [`OpenError::Unsafe`] for what others could change.
pub fn guard(state_dir: &Path) -> Result<(), OpenError> {
    place::Place::new(state_dir).guard()
}

/// Takes a folder for this process, where the ledger itself is elsewhere: one proxy for each folder.
///
/// # Errors
/// [`OpenError::InUse`], or that the folder cannot be used.
pub fn hold(state_dir: &Path) -> Result<Held, OpenError> {
    let place = place::Place::new(state_dir);
    place.prepare()?;
    Ok(Held {
        _hold: place.hold()?,
    })
}

/// A folder that is this process's until it is dropped.
pub struct Held {
    _hold: place::Hold,
}

/// A ledger that lives and dies with this value: tests, demonstrations.
#[must_use]
pub fn in_memory() -> Arc<dyn Ledger> {
    Arc::new(memory::Memory::default())
}
