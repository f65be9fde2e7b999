//! A PostgreSQL server of one's own: in a temporary folder, on a free port of loopback, started as a
//! user that is not root, and stopped whatever becomes of the tests.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Of nobody, where the tests run as root: PostgreSQL refuses to.
const NOBODY: u32 = 65534;
const PASSWORD: &str = "hunter2-of-the-database";
const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    dir: PathBuf,
    bin: PathBuf,
    port: u16,
    options: Vec<String>,
    running: Mutex<Option<Child>>,
    /// Ends the server when this end of its pipe is gone, with us or before.
    reaper: Mutex<Option<(Child, ChildStdin)>>,
}

/// The folder of the newest version that is installed.
fn programs() -> Result<PathBuf, String> {
    let found = fs::read_dir("/usr/lib/postgresql").map_err(|e| format!("no PostgreSQL: {e}"))?;
    let mut found: Vec<PathBuf> = found.flatten().map(|e| e.path().join("bin")).collect();
    found.retain(|bin| bin.join("initdb").exists());
    found.sort();
    found.pop().ok_or_else(|| "there is no initdb".into())
}

/// A port that stays one's own while nobody listens at it: the kernel gives none below its range to
/// connections and listeners that ask for any.
pub(crate) fn port() -> Result<u16, String> {
    const FIRST: u32 = 10_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.map_err(|e| format!("the kernel's range of ports: {e}"))?;
    let lowest = range.split_whitespace().next().and_then(|n| n.parse().ok());
    let room = lowest.unwrap_or(32_768).min(65_536) - FIRST;
    for _ in 0..100 {
        // Other processes that do the same begin elsewhere.
        let nth = std::process::id() * 61 + TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + nth % room).map_err(|e| e.to_string())?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("there is no free port".into())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Server {
    /// A folder and a port for one.
    fn new(options: &[&str]) -> Result<Self, String> {
        let bin = programs()?;
        let dir = tempfile::Builder::new().prefix("farepass-pg-").tempdir();
        let dir = dir.map_err(|e| e.to_string())?.keep();
        let server = Self {
            dir,
            bin,
            port: port()?,
            options: options.iter().map(|&o| o.to_owned()).collect(),
            running: Mutex::default(),
            reaper: Mutex::default(),
        };
        server.give(&server.dir);
        Ok(server)
    }

    /// With more `-c` options, as `ssl=on`.
    pub(crate) fn start(options: &[&str]) -> Result<Self, String> {
        let server = Self::new(options)?;
        let password = server.file("password", PASSWORD.as_bytes());
        let out = server
            .program("initdb")
            .args([
                "-U",
                "farepass",
                "--auth=scram-sha-256",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ])
            .arg(format!("--pwfile={}", password.display()))
            .arg("-D")
            .arg(server.data())
            .output()
            .map_err(|e| e.to_string())?;
        if !out.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&out.stderr)));
        }
        server.reap()?;
        server.run();
        Ok(server)
    }

    /// A hot standby of it. From here on a commit is answered when the standby has it on its disk too.
    pub(crate) fn standby(&self) -> Result<Self, String> {
        let standby = Self::new(&[])?;
        let out = standby
            .program("pg_basebackup")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", "farepass", "-R", "-X", "stream", "-c", "fast", "-D"])
            .arg(standby.data())
            .env("PGPASSWORD", PASSWORD)
            .output()
            .map_err(|e| e.to_string())?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            return Err(format!("pg_basebackup: {said}"));
        }
        standby.reap()?;
        standby.run();
        for set in [
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        ] {
            assert!(self.sql("postgres", set).0, "{set}");
        }
        let end = Instant::now() + LONG;
        let follows = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        while self.sql("postgres", follows).1 != "1" {
            assert!(Instant::now() < end, "the standby does not follow");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Ok(standby)
    }

    /// Makes a standby the one that is written to.
    pub(crate) fn promote(&self) {
        let done = self
            .program("pg_ctl")
            .args(["promote", "-w", "-D"])
            .arg(self.data())
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// The URL of the same place here or there, whichever can be written to.
    pub(crate) fn either(&self, other: &Self, place: &str) -> String {
        let (here, there) = (self.port, other.port);
        let one = format!("@127.0.0.1:{here}/");
        place.replace(&one, &format!("@127.0.0.1:{here},127.0.0.1:{there}/"))
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn give(&self, path: &Path) {
        if is_root() {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// A file that only the server's user can read.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.give(&path);
        path
    }

    fn program(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut command = match is_root() {
            false => Command::new(program),
            true => {
                let mut as_nobody = Command::new("setpriv");
                as_nobody
                    .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                    .arg(program);
                as_nobody
            }
        };
        command.current_dir(&self.dir).env("LC_ALL", "C");
        command
    }

    fn reap(&self) -> Result<(), String> {
        let script = "read -r _; pid=$(head -n 1 \"$1/data/postmaster.pid\" 2>/dev/null) || exit 0
            kill -QUIT \"$pid\"; kill -CONT \"$pid\"; while kill -0 \"$pid\" 2>/dev/null; do sleep 0.1; done; rm -rf \"$1\"";
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&self.dir)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let stdin = child.stdin.take().ok_or("no pipe")?;
        *self.reaper.lock().unwrap() = Some((child, stdin));
        Ok(())
    }

    /// Starts it, and returns when it answers.
    pub(crate) fn run(&self) {
        let log = self.dir.join("log");
        let log = fs::File::options().create(true).append(true).open(log);
        let mut command = self.program("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .args([
                "-p",
                &self.port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
            ])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", self.dir.display()))
            .args(["-c", "max_connections=200"]);
        for option in &self.options {
            command.args(["-c", option]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        *self.running.lock().unwrap() = Some(child);
        let end = Instant::now() + LONG;
        while !self.sql("postgres", "SELECT 1").0 {
            let gone = |child: &mut Child| child.try_wait().unwrap().is_some();
            let gone = self.running.lock().unwrap().as_mut().is_none_or(gone);
            let log = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            let waits = Instant::now() < end && !gone;
            assert!(waits, "PostgreSQL does not start: {}", log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Ends every connection in the middle of whatever it does, without tidying up: as a crash does.
    pub(crate) fn crash(&self) {
        self.end(rustix::process::Signal::QUIT);
    }

    /// From now on it neither answers nor refuses, as a machine that hangs.
    pub(crate) fn hush(&self) {
        self.everyone(rustix::process::Signal::STOP);
    }

    /// It goes on where it was.
    pub(crate) fn wake(&self) {
        self.everyone(rustix::process::Signal::CONT);
    }

    /// Signals the server, and each of its processes.
    fn everyone(&self, signal: rustix::process::Signal) {
        let running = self.running.lock().unwrap();
        let Some(pid) = running.as_ref().map(Child::id) else {
            return;
        };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        for pid in std::iter::once(pid.cast_signed()).chain(children) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            // One that has just ended needs none.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn end(&self, signal: rustix::process::Signal) {
        self.wake();
        if let Some(mut child) = self.running.lock().unwrap().take() {
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, signal);
            let _ = child.wait();
        }
    }

    /// Runs SQL; whether it went well, and what it said.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> (bool, String) {
        let out = Command::new(self.bin.join("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
            ])
            .args([
                "-p",
                &self.port.to_string(),
                "-U",
                "farepass",
                "-d",
                database,
                "-c",
                sql,
            ])
            .env("PGPASSWORD", PASSWORD)
            .env("PGSSLMODE", "prefer")
            .output()
            .unwrap();
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        (out.status.success(), said)
    }

    /// The URL of an empty place for one ledger.
    pub(crate) fn place(&self, name: &str) -> String {
        let made = self.sql("postgres", &format!("CREATE SCHEMA IF NOT EXISTS {name}"));
        assert!(made.0, "{}", made.1);
        self.url(
            "127.0.0.1",
            PASSWORD,
            &format!("options=-csearch_path%3D{name}"),
        )
    }

    pub(crate) fn url(&self, host: &str, password: &str, query: &str) -> String {
        let port = self.port;
        format!("postgres://farepass:{password}@{host}:{port}/postgres?{query}")
    }

    /// The right one.
    pub(crate) fn password() -> &'static str {
        PASSWORD
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(rustix::process::Signal::INT);
        let _ = fs::remove_dir_all(&self.dir);
        if let Some((mut child, mut stdin)) = self.reaper.lock().unwrap().take() {
            let _ = stdin.write_all(b"\n");
            drop(stdin);
            let _ = child.wait();
        }
    }
}
