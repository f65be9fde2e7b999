//! Spend events in a file of the operator's choice, besides standard output.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::background::Background;
use super::{LINES_MAX, append, line, named, plain};
use crate::event::{Notice, Sink, SpendEvent};

/// The sink that appends to a file, made with mode 0600. It never blocks.
pub struct EventFile {
    lines: Background,
}

impl EventFile {
    /// Opens the file, and makes it where it is not there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = Rotated {
            path: path.to_path_buf(),
            file: append(path)?,
        };
        let lines = Background::start("event-file", Box::new(file), LINES_MAX)?;
        Ok(Self { lines })
    }

    fn put(&self, mut line: String) {
        line.push('\n');
        self.lines.put(line.into_bytes());
        if let Some(lost) = self.lines.newly_lost() {
            tracing::error!(
                lost,
                "spend events could not be written to `events.file`; the ledger has them"
            );
        }
    }
}

impl Sink for EventFile {
    fn observe(&self, event: &SpendEvent) {
        self.put(line(event));
    }

    fn flagged(&self, event: &SpendEvent) {
        if !event.flags.is_empty() {
            self.put(named(event, "flagged"));
        }
    }

    fn notice(&self, notice: &Notice) {
        // Every field is a string or a number: this cannot fail.
        let json = serde_json::to_string(notice).unwrap_or_default();
        self.put(plain::json(json));
    }
}

/// A file that others may move away, as log rotation does: a new one takes its place with the next write.
struct Rotated {
    path: PathBuf,
    file: File,
}

impl Rotated {
    fn is_there(&self) -> io::Result<bool> {
        let open = self.file.metadata()?;
        Ok(match self.path.metadata() {
            Ok(named) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            Err(_) => false,
        })
    }
}

impl Write for Rotated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_there()? {
            self.file = append(&self.path)?;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_followed_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("events"), dir.path().join("events.1"));
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        let first = EventFile::open(&path).unwrap();
        first.observe(&SpendEvent::default());
        drop(first);
        let second = EventFile::open(&path).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        second.observe(&SpendEvent::default());
        second.flagged(&SpendEvent {
            flags: vec![crate::event::Flag::PaidNotDelivered],
            ..SpendEvent::default()
        });
        // Nothing to look at is no line.
        second.flagged(&SpendEvent::default());
        // Dropped, it has written what it had.
        drop(second);
        assert_eq!((lines(&moved), lines(&path)), (1, 2));
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(EventFile::open(dir.path()).is_err());
    }

    fn pipe(at: &Path) {
        let made = std::process::Command::new("mkfifo").arg(at).status();
        assert!(made.unwrap().success());
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        pipe(&path);
        let refused = EventFile::open(&path).err().unwrap().to_string();
        assert!(refused.contains("a pipe that nobody reads"), "{refused}");
        let mut options = std::fs::OpenOptions::new();
        // For reading and writing, so that nobody is waited for.
        let reader = options.read(true).write(true).open(&path).unwrap();
        let events = EventFile::open(&path).unwrap();
        events.observe(&SpendEvent::default());
        let mut line = String::new();
        let read = io::BufRead::read_line(&mut io::BufReader::new(reader), &mut line);
        assert!(read.is_ok() && line.ends_with("}\n"), "{line}");
        EventFile::open(Path::new("/dev/null")).unwrap();
        let socket = dir.path().join("socket");
        let _kept = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(EventFile::open(&socket).is_err());
    }

    #[test]
    fn a_pipe_in_the_place_of_the_file_loses_lines_and_does_not_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let mut rotated = Rotated {
            path: path.clone(),
            file: append(&path).unwrap(),
        };
        rotated.write_all(b"one\n").unwrap();
        std::fs::remove_file(&path).unwrap();
        pipe(&path);
        assert!(rotated.write_all(b"two\n").is_err());
        std::fs::remove_file(&path).unwrap();
        rotated.write_all(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }
}
