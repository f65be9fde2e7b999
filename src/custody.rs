//! Who else may change a file: its own mode is half of the answer, the folders that lead to it are the
//! other half. Whoever may rename a folder above the policy may put another policy in its place
//! (threat A-01).

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{StatVfsMountFlags, statvfs};

/// Write permission of the group, and of everybody.
const GROUP: u32 = 0o020;
const WORLD: u32 = 0o002;

/// In a folder with this bit only the owner of an entry may move it away.
const STICKY: u32 = 0o1000;

/// Links on the way to one file, as many as Linux follows.
const LINKS_MAX: usize = 40;

/// Somebody else may change it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {problem}{}", path.display(), advice(mend.as_deref()))]
pub struct NotOurs {
    /// The file, link or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// The command that mends it. None does where it belongs to another user.
    pub mend: Option<String>,
}

fn advice(mend: Option<&str>) -> String {
    mend.map_or_else(String::new, |mend| format!("; run: {mend}"))
}

/// Looks at a file or folder and at everything on the way to it, symbolic links and what they point
/// to included. What is not there yet is nobody's.
///
/// # Errors
/// The first thing that another user owns or everybody may write to. A folder that a group may
/// write to is only warned of: container platforms hand out volumes like that.
pub fn check(path: &Path) -> Result<(), NotOurs> {
    way(path)?;
    match fs::metadata(path) {
        Ok(about) => own(path, &about),
        Err(_) => Ok(()),
    }
}

/// Makes an empty folder for temporary files that nobody else can look into. Its name begins so and is nobody else's.
///
/// # Errors
/// When it cannot be made there; says where, and what would be another place.
pub fn temporary(prefix: &str) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    // A program that is given it may go elsewhere.
    let place = match std::env::temp_dir() {
        none if none.as_os_str().is_empty() => "/tmp".into(),
        place => std::path::absolute(place)?,
    };
    let path = place.join(format!("{prefix}-{}", hex::encode(random)));
    let made = fs::DirBuilder::new().mode(0o700).create(&path);
    made.map(|()| path).map_err(|error| {
        let place = place.display();
        let said = format!(
            "no temporary folder can be made in {place}: {error}; set TMPDIR to another place"
        );
        io::Error::new(error.kind(), said)
    })
}

/// The same for what leads to a file whose own mode is looked at elsewhere.
///
/// # Errors
/// As `check`.
pub fn way(path: &Path) -> Result<(), NotOurs> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let mut left: VecDeque<OsString> = parts(&absolute);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        folder(&at)?;
        let next = at.join(&part);
        let Ok(about) = fs::symlink_metadata(&next) else {
            return Ok(());
        };
        if !about.is_symlink() {
            at = next;
            continue;
        }
        belongs(&next, &about)?;
        links += 1;
        let Some(target) = fs::read_link(&next).ok().filter(|_| links <= LINKS_MAX) else {
            return Ok(());
        };
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        let mut ahead = parts(&target);
        ahead.append(&mut left);
        left = ahead;
    }
    Ok(())
}

/// The names of a path, `.` and `/` left out.
fn parts(path: &Path) -> VecDeque<OsString> {
    let named = path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    named.collect()
}

/// Folders that were warned of. Many files are below one, and it is looked at for each.
struct Told(Mutex<BTreeSet<PathBuf>>);

static TOLD: Told = Told(Mutex::new(BTreeSet::new()));

impl Told {
    /// Was nothing said of this one yet?
    fn first(&self, path: &Path) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !told.contains(path) && told.insert(path.into())
    }
}

/// May others put something else in place of what is in this folder?
fn folder(path: &Path) -> Result<(), NotOurs> {
    let Ok(about) = fs::metadata(path) else {
        return Ok(());
    };
    belongs(path, &about)?;
    let open = about.mode() & (GROUP | WORLD);
    if open == 0 || about.mode() & STICKY != 0 || read_only(path) {
        return Ok(());
    }
    if open & WORLD != 0 && !is_volume(path, &about) {
        return Err(writable(path, &about));
    }
    if (open & WORLD != 0 || about.gid() != me()) && TOLD.first(path) {
        tracing::warn!(
            path = %path.display(),
            mode = %format_args!("{:04o}", about.mode() & 0o7777),
            "others may write to this folder, and so replace what is in it; keep agents away from it"
        );
    }
    Ok(())
}

/// Who owns it, and who may write to it?
fn own(path: &Path, about: &Metadata) -> Result<(), NotOurs> {
    belongs(path, about)?;
    // A group is no other when it is the user's own.
    let others = if about.gid() == me() {
        WORLD
    } else {
        GROUP | WORLD
    };
    match about.mode() & others == 0 || read_only(path) {
        true => Ok(()),
        false => Err(writable(path, about)),
    }
}

fn belongs(path: &Path, about: &Metadata) -> Result<(), NotOurs> {
    let me = me();
    if about.uid() == me || about.uid() == 0 {
        return Ok(());
    }
    Err(NotOurs {
        path: path.into(),
        problem: format!(
            "belongs to user {}, but this process runs as user {me}: whoever may change it may spend the wallet",
            about.uid()
        ),
        mend: None,
    })
}

fn writable(path: &Path, about: &Metadata) -> NotOurs {
    NotOurs {
        path: path.into(),
        problem: format!(
            "may be changed by others (mode {:04o}), who could then spend the wallet",
            about.mode() & 0o7777
        ),
        mend: Some(format!("chmod go-w {}", path.display())),
    }
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A mounted secret or configuration of a container platform: open by its mode, closed by its mount.
fn read_only(path: &Path) -> bool {
    statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// The root of a mounted volume. Its mode is the platform's, and who mounts it is the platform's to say.
fn is_volume(path: &Path, about: &Metadata) -> bool {
    let above = path
        .parent()
        .map_or(Err(io::ErrorKind::NotFound.into()), fs::metadata);
    above.is_ok_and(|above| above.dev() != about.dev())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(place.at("a/b")).unwrap();
            fs::write(place.at("a/b/file"), "x").unwrap();
            place.mode("a/b/file", 0o600)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn mode(self, name: &str, mode: u32) -> Self {
            fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
            self
        }

        #[track_caller]
        fn refused(&self, name: &str, culprit: &str, words: &str) {
            let error = check(&self.at(name)).unwrap_err();
            assert_eq!(error.path, self.at(culprit), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_ours_alone_is_ours() {
        let place = Place::new();
        check(&place.at("a/b/file")).unwrap();
        check(&place.at("a/b")).unwrap();
        check(&place.at("a/b/not-there/yet")).unwrap();
        check(&place.at("a/../a/./b/file")).unwrap();
    }

    #[test]
    fn a_folder_that_everybody_may_write_to_gives_the_file_away() {
        let place = Place::new().mode("a", 0o777);
        place.refused("a/b/file", "a", "chmod go-w");
        place.refused("a/b", "a", "mode 0777");
        let place = place.mode("a", 0o1777);
        check(&place.at("a/b/file")).unwrap();
    }

    #[test]
    fn the_file_itself_is_looked_at() {
        let place = Place::new().mode("a/b/file", 0o666);
        place.refused("a/b/file", "a/b/file", "mode 0666");
        let place = Place::new().mode("a/b", 0o757);
        place.refused("a/b", "a/b", "mode 0757");
    }

    #[test]
    fn a_link_is_followed_and_where_it_lies_counts() {
        let place = Place::new();
        fs::create_dir(place.at("open")).unwrap();
        symlink(place.at("a/b/file"), place.at("open/link")).unwrap();
        symlink("open/link", place.at("first")).unwrap();
        check(&place.at("first")).unwrap();
        let place = place.mode("open", 0o777);
        place.refused("open/link", "open", "go-w");
        place.refused("first", "open", "go-w");
        let place = place.mode("open", 0o755).mode("a", 0o777);
        place.refused("first", "a", "go-w");
        symlink(place.at("loop"), place.at("loop")).unwrap();
        check(&place.at("loop")).unwrap();
    }

    #[test]
    fn what_belongs_to_somebody_else_is_theirs() {
        if me() != 0 {
            return;
        }
        let place = Place::new();
        chown(place.at("a"), Some(4242), None).unwrap();
        place.refused("a/b/file", "a", "user 4242");
        let place = Place::new().mode("a", 0o1777);
        symlink(place.at("a/b/file"), place.at("a/link")).unwrap();
        check(&place.at("a/link")).unwrap();
        std::os::unix::fs::lchown(place.at("a/link"), Some(4242), None).unwrap();
        place.refused("a/link", "a/link", "user 4242");
    }
}
