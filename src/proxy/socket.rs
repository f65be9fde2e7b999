//! A Unix socket in a folder: who comes through it is known by user, as the kernel says.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

/// What the owner alone may connect to.
const OURS: u32 = 0o600;

/// Everybody may knock, and is looked at by user.
const KNOCK: u32 = 0o666;

/// A socket that is taken away with this value.
pub struct UnixDoor {
    listener: UnixListener,
    users: Vec<u32>,
    file: SocketFile,
}

/// The socket's name in its folder.
struct SocketFile {
    path: PathBuf,
    /// Device and inode: what has another name by now is not ours to remove.
    made: (u64, u64),
}

impl UnixDoor {
    /// Listens at `path` for the user of this process and `others`. What a process that is gone left
    /// there is replaced; where somebody listens, or what is no socket, stays.
    ///
    /// # Errors
    /// Those of the system, and `AddrInUse` when somebody listens there.
    pub fn open(path: &Path, others: &[u32], backlog: i32) -> io::Result<Self> {
        stale(path)?;
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        // Left by one that died here.
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(&new)?)?;
        let mode = if others.is_empty() { OURS } else { KNOCK };
        fs::set_permissions(&new, Permissions::from_mode(mode))?;
        // Nobody gets in before this; and under its own name it is there with the right mode at once.
        socket.listen(backlog)?;
        fs::rename(&new, path)?;
        let about = fs::symlink_metadata(path)?;
        let mut users = vec![rustix::process::geteuid().as_raw()];
        users.extend_from_slice(others);
        Ok(Self {
            listener: UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))?,
            users,
            file: SocketFile {
                path: path.into(),
                made: (about.dev(), about.ino()),
            },
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The next client, and its user (`SO_PEERCRED`: as it was when the client connected).
    pub(super) async fn accept(&self) -> io::Result<(UnixStream, u32)> {
        let (stream, _) = self.listener.accept().await?;
        let user = stream.peer_cred()?.uid();
        Ok((stream, user))
    }

    pub(super) fn serves(&self, user: u32) -> bool {
        self.users.contains(&user)
    }
}

/// Is the place free, or was it left by a process that is gone?
fn stale(path: &Path) -> io::Result<()> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !about.file_type().is_socket() {
        let what = "something is there that is no socket; move it away";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(e) => Err(e),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let about = fs::symlink_metadata(&self.path);
        if about.is_ok_and(|about| (about.dev(), about.ino()) == self.made) {
            // One that stays is recognised by nobody listening.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[tokio::test]
    async fn a_socket_is_the_owners_and_goes_with_its_door() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        let door = UnixDoor::open(&path, &[], 8).unwrap();
        assert_eq!(mode(&path), 0o600);
        let me = rustix::process::geteuid().as_raw();
        let client = UnixStream::connect(&path).await.unwrap();
        let (_, user) = door.accept().await.unwrap();
        assert_eq!(user, me);
        assert!(door.serves(me) && !door.serves(me + 1));
        // Somebody listens: nobody takes its place.
        let taken = UnixDoor::open(&path, &[], 8).err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop((client, door));
        assert!(!path.exists());
        let door = UnixDoor::open(&path, &[me + 1], 8).unwrap();
        assert_eq!(mode(&path), 0o666);
        assert!(door.serves(me) && door.serves(me + 1) && !door.serves(me + 2));
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let door = UnixDoor::open(&path, &[], 8).unwrap();
        // Another one's by now: not ours to remove.
        fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(door);
        assert!(path.exists());
        drop(other);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(UnixDoor::open(&path, &[], 8).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
