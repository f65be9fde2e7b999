//! A folder with a configuration, the binary in it, and a merchant.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use farepass::demo::merchant::Merchant;
use serde_json::Value;
use tokio::runtime::Runtime;

/// The only merchant that the policy of these tests pays.
pub(crate) const SHOP: &str = "https://shop.example";

/// Long enough for a machine that does six other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Environment that would reach the binary from outside.
const OUTSIDE: &[&str] = &[
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "PHP_INI_SCAN_DIR",
    "WGETRC",
    "FAREPASS_CONFIG",
    "NO_COLOR",
    "COLUMNS",
];

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// It ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It failed with this code, and its first line says this.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.starts_with("farepass: "), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?}: {self:?}");
        }
        self
    }
}

/// A folder that is home and working directory of every command.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// One in which `farepass init` was run and listeners are free ports.
    pub(crate) fn ready() -> Self {
        let home = Self::new();
        home.farepass(["init"]).ok();
        home.configure("listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }");
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Adds lines to the configuration.
    pub(crate) fn configure(&self, lines: &str) {
        let text = self.read("farepass.yaml") + "\n" + lines + "\n";
        fs::write(self.at("farepass.yaml"), text).unwrap();
    }

    /// The binary with these arguments, not yet started.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farepass"));
        for name in OUTSIDE {
            command.env_remove(name);
        }
        command
            .args(args)
            .current_dir(self.path())
            .env("HOME", self.path())
            .env("TMPDIR", self.temporary())
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null());
        command
    }

    /// Where the binary puts what it removes again.
    pub(crate) fn temporary(&self) -> PathBuf {
        let path = self.at("temporary files");
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Nothing is left of it.
    #[track_caller]
    pub(crate) fn assert_tidy(&self) {
        let left: Vec<_> = fs::read_dir(self.temporary()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    pub(crate) fn farepass<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ended {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let (ended, end) = std::sync::mpsc::channel::<()>();
        // A command that should have failed and serves instead.
        let watch = std::thread::spawn(move || {
            if end.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(ended);
        watch.join().unwrap();
        Ended::of(output)
    }

    /// `farepass run OPTIONS -- sh -c SCRIPT`.
    pub(crate) fn run(&self, options: &[&str], script: &str) -> Ended {
        let args = ["run"].iter().chain(options).chain(&["--", "sh", "-c"]);
        self.farepass(args.chain([&script]))
    }

    /// `farepass serve`, once it says where it listens.
    pub(crate) fn serve(&self, options: &[&str]) -> Service {
        let log = |name: &str| fs::File::create(self.at(name)).unwrap();
        let child = self
            .command(["serve"].iter().chain(options))
            .stdout(log("serve.out"))
            .stderr(log("serve.err"))
            .spawn()
            .unwrap();
        let mut service = Service {
            child,
            beacon: Value::Null,
        };
        service.beacon = until("serve.json", || {
            let status = service.child.try_wait().unwrap();
            assert!(status.is_none(), "{status:?}: {}", self.read("serve.err"));
            let beacon = self.beacon()?;
            (beacon["pid"] == service.child.id()).then_some(beacon)
        });
        service
    }

    pub(crate) fn beacon(&self) -> Option<Value> {
        let text = fs::read(self.at(".farepass/serve.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(crate) fn token(&self) -> String {
        self.read(".farepass/admin.token").trim().to_owned()
    }
}

/// A running `farepass serve`. Dropping it kills it.
pub(crate) struct Service {
    pub(crate) child: Child,
    beacon: Value,
}

impl Service {
    fn address(&self, which: &str) -> SocketAddr {
        self.beacon[which].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn proxy(&self) -> SocketAddr {
        self.address("proxy")
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.address("admin")
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        kill(&self.child, signal);
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        wait(&mut self.child)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn kill(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

pub(crate) fn wait(child: &mut Child) -> Option<i32> {
    until("the end of a process", || child.try_wait().unwrap()).code()
}

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
        pause();
    }
}

/// Between two looks at something that tells nobody when it changes.
fn pause() {
    let (_keep, nobody) = std::sync::mpsc::channel::<()>();
    let _ = nobody.recv_timeout(Duration::from_millis(10));
}

/// Is there such a program? When everything must be tried for real, its absence is a failure.
pub(crate) fn there_is(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    let must = std::env::var_os("FAREPASS_REQUIRE_INTEROP").is_some_and(|v| v == "1");
    assert!(found || !must, "{program} is not installed");
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// A merchant, and a home whose policy pays it up to 0.05 USD a request.
pub(crate) struct Street {
    pub(crate) home: Home,
    pub(crate) merchant: Merchant,
    _runtime: Runtime,
}

impl Street {
    pub(crate) fn new() -> Self {
        let home = Home::ready();
        let runtime = Runtime::new().unwrap();
        let ca = home.at("merchant");
        let merchant = runtime
            .block_on(Merchant::start(&ca, &["shop.example"]))
            .unwrap();
        let policy = home.read("farepass.yaml");
        let policy = policy.replace("api.example.com", "shop.example");
        let policy = policy.replace("      paths: [\"/v1/**\"]", "      paths: [\"/**\"]");
        fs::write(home.at("farepass.yaml"), policy).unwrap();
        home.configure(&format!(
            "tls: {{ extra_roots: [merchant/ca.pem] }}\negress: {{ resolve: {{ \"shop.example:443\": \"{}\" }} }}",
            merchant.address()
        ));
        Self {
            home,
            merchant,
            _runtime: runtime,
        }
    }

    /// Payments that the merchant verified and took.
    pub(crate) fn sold(&self) -> usize {
        self.merchant.takings().0
    }
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Sends these bytes and reads until the other side closes: status and everything after the head.
pub(crate) fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let answer = raw(address, request);
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    (status.unwrap_or(0), body.unwrap_or_default())
}

/// Sends these bytes and reads until the other side closes or falls silent.
pub(crate) fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
