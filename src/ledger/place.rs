//! The folder of a ledger: who may write there, who owns it now, and the marker that tells a first
//! start from a lost ledger.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::OpenError;
use super::chain::{Hash, Head};

/// Others may read nothing and change nothing.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// Write permission for group or world.
const OTHERS_WRITE: u32 = 0o022;
/// First line of the marker, before the ledger's id.
const MARKER: &str = "farepass ledger ";

/// The folder and the names of what is in it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    dir: PathBuf,
}

/// The exclusive hold on a place. Released with the value, and by the system with the process.
pub(super) struct Hold {
    file: File,
}

impl Drop for Hold {
    /// Closing alone is not enough: a child that is being started holds the same file for a moment.
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Which files a place was made of when it was taken. What is written into files that nobody finds any more is kept
/// by nobody, and whoever looks there makes new ones.
#[derive(Clone, Debug)]
pub(super) struct Footing {
    files: [(PathBuf, Number); 2],
    /// Does a file have the same number at every look? There are file systems that make one up.
    numbered: bool,
}

/// Device and inode.
type Number = (u64, u64);

fn number(path: &Path) -> io::Result<Number> {
    let about = fs::metadata(path)?;
    Ok((about.dev(), about.ino()))
}

impl Footing {
    fn new(files: [PathBuf; 2]) -> io::Result<Self> {
        let numbers = || files.each_ref().map(|path| number(path));
        let ([lock, ledger], [again, too]) = (numbers(), numbers());
        let (lock, ledger) = (lock?, ledger?);
        let numbered = (lock, ledger) == (again?, too?);
        let [lock_file, ledger_file] = files;
        Ok(Self {
            files: [(lock_file, lock), (ledger_file, ledger)],
            numbered,
        })
    }

    /// Are they still found where they were?
    ///
    /// # Errors
    /// In words, which one is not.
    pub(super) fn check(&self) -> Result<(), String> {
        for (path, then) in &self.files {
            let said = match number(path) {
                Ok(now) if now == *then || !self.numbered => continue,
                Ok(_) => "it is another file".into(),
                Err(error) => error.to_string(),
            };
            return Err(format!(
                "the state directory was removed or replaced ({}: {said}); put it back, or stop this process",
                path.display()
            ));
        }
        Ok(())
    }
}

/// What the marker remembers: which ledger was made here, and a record that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) id: String,
    pub(super) head: Head,
}

/// The marker, open for updates.
pub(super) struct MarkerFile {
    file: File,
    id: String,
}

impl Place {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.dir.join("ledger.db")
    }

    fn lock(&self) -> PathBuf {
        self.dir.join("ledger.lock")
    }

    fn marker(&self) -> PathBuf {
        self.dir.join("installed")
    }

    /// Makes the folder when it is missing; refuses one that others may write to.
    pub(super) fn prepare(&self) -> Result<(), OpenError> {
        if !self.dir.exists() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(DIR_MODE);
            builder
                .create(&self.dir)
                .map_err(|e| storage(&self.dir, &e))?;
        }
        safe(&self.dir)?;
        self.guard()
    }

    /// Refuses a folder, or a file of ours in it, that others may write to. What is not there yet is nobody's.
    pub(super) fn guard(&self) -> Result<(), OpenError> {
        for path in [self.dir.clone(), self.ledger(), self.lock(), self.marker()] {
            if path.exists() {
                safe(&path)?;
            }
        }
        Ok(())
    }

    /// Takes the place for this process, or says who has it.
    pub(super) fn hold(&self) -> Result<Hold, OpenError> {
        let path = self.lock();
        let mut file = writable(&path).map_err(|e| storage(&path, &e))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut text = String::new();
            let read = file.read_to_string(&mut text);
            let pid = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::InUse { lock: path, pid });
        }
        let pid = format!("{}\n", std::process::id());
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(pid.as_bytes()));
        written.map_err(|e| storage(&path, &e))?;
        Ok(Hold { file })
    }

    /// What is to stay where it is, once both files are there.
    pub(super) fn footing(&self) -> Result<Footing, OpenError> {
        let footing = Footing::new([self.lock(), self.ledger()]);
        footing.map_err(|e| storage(&self.dir, &e))
    }

    /// Makes the ledger's empty file, so that its mode is ours and its name is durable.
    pub(super) fn create(&self) -> Result<(), OpenError> {
        let path = self.ledger();
        let made = writable(&path).and_then(|file| file.sync_all());
        made.and_then(|()| File::open(&self.dir)?.sync_all())
            .map_err(|e| storage(&path, &e))
    }

    /// Is there a ledger with anything in it?
    ///
    /// # Errors
    /// When nobody can tell, as for whoever may not enter the folder.
    pub(super) fn has_ledger(&self) -> Result<bool, OpenError> {
        Ok(found(&self.ledger())?.is_some_and(|length| length > 0))
    }

    /// What the marker says. `None` when there is none, or it is unreadable.
    pub(super) fn read_marker(&self) -> Option<Marker> {
        Marker::parse(&fs::read_to_string(self.marker()).ok()?)
    }

    /// Was a ledger ever made here? Also true of a marker that cannot be read.
    ///
    /// # Errors
    /// When nobody can tell.
    pub(super) fn has_marker(&self) -> Result<bool, OpenError> {
        Ok(found(&self.marker())?.is_some())
    }

    /// Replaces the marker durably, and opens it for updates.
    pub(super) fn write_marker(&self, marker: &Marker) -> Result<MarkerFile, OpenError> {
        let path = self.marker();
        let new = self.dir.join("installed.new");
        let write = || -> io::Result<File> {
            let mut file = writable(&new)?;
            file.set_len(0)?;
            file.write_all(marker.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()?;
            Ok(file)
        };
        let file = write().map_err(|e| storage(&path, &e))?;
        Ok(MarkerFile {
            file,
            id: marker.id.clone(),
        })
    }
}

impl Marker {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let id = lines.next()?.strip_prefix(MARKER)?;
        let (seq, hash) = lines.next()?.split_once(' ')?;
        let hash: Hash = hex::decode(hash).ok()?.try_into().ok()?;
        Some(Self {
            id: id.into(),
            head: Head {
                seq: seq.parse().ok()?,
                hash,
            },
        })
    }

    /// Always as long for one ledger, so that it can be written over in place.
    fn text(&self) -> String {
        format!(
            "{MARKER}{}\n{:020} {}\nIt tells a lost or rolled-back ledger.db from a first start. Whoever deletes it accepts what is missing.\n",
            self.id,
            self.head.seq,
            self.head.hex()
        )
    }
}

impl MarkerFile {
    /// Notes that the ledger has this record. Called after the commit, so it never runs ahead of
    /// the ledger; not synced, because an older note only proves less.
    pub(super) fn note(&self, head: Head) -> io::Result<()> {
        let marker = Marker {
            id: self.id.clone(),
            head,
        };
        self.file.write_all_at(marker.text().as_bytes(), 0)
    }
}

fn writable(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(FILE_MODE).open(path)
}

/// The length of what is there.
fn found(path: &Path) -> Result<Option<u64>, OpenError> {
    match fs::metadata(path) {
        Ok(about) => Ok(Some(about.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(storage(path, &e)),
    }
}

fn storage(path: &Path, error: &io::Error) -> OpenError {
    OpenError::Storage(format!("{}: {error}", path.display()))
}

/// Refuses what somebody else owns or may write to: whoever can change it has the budget.
pub(super) fn safe(path: &Path) -> Result<(), OpenError> {
    let about = fs::metadata(path).map_err(|e| storage(path, &e))?;
    let problem = |problem: String, foreign: bool| OpenError::Unsafe {
        path: path.into(),
        problem,
        foreign,
    };
    let me = rustix::process::geteuid().as_raw();
    if about.uid() != me && about.uid() != 0 {
        let said = format!(
            "belongs to user {}, but this process runs as user {me}; run it as the owner, or give it a state_dir of its own",
            about.uid()
        );
        return Err(problem(said, true));
    }
    if about.mode() & OTHERS_WRITE != 0 {
        let said = format!(
            "may be written by others (mode {:o}), and whoever writes there can reset every budget; run `chmod go-w` on it, or set state_dir to a new folder inside it",
            about.mode() & 0o7777
        );
        return Err(problem(said, false));
    }
    Ok(())
}
