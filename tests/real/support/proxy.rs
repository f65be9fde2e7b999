//! The real binary: a configuration in a temporary directory, `farepass serve`, and its books.

use std::fs::{self, File};
use std::io::PipeWriter;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{chain, until};

const BINARY: &str = env!("CARGO_BIN_EXE_farepass");

/// A configuration before it runs. It is written as JSON, which is YAML too.
pub(crate) struct Setup {
    pub(crate) config: Value,
    pub(crate) dir: tempfile::TempDir,
    /// `--log`: warnings, unless a test looks for more.
    pub(crate) log: &'static str,
    /// Its environment, besides ours.
    pub(crate) env: Vec<(&'static str, PathBuf)>,
    /// The program, and what it is started through: here, or on a host of a lab.
    pub(crate) program: Vec<String>,
    /// The user that owns its files, when it is another than the test's.
    pub(crate) user: Option<u32>,
    /// Where it writes, when that is no file.
    pub(crate) stdout: Option<PipeWriter>,
    pub(crate) stderr: Option<PipeWriter>,
    key: [u8; 32],
}

impl Setup {
    /// A policy that pays every `*.stand.test` host up to 0.10 USD, one dollar a session.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut key = [0; 32];
        getrandom::fill(&mut key).unwrap();
        let config = json!({
            "version": 1,
            "listen": { "proxy": "127.0.0.1:0", "admin": "127.0.0.1:0" },
            "state_dir": dir.path().join("state"),
            "tls": { "ca_dir": dir.path().join("certs"), "extra_roots": [] },
            "egress": { "resolve": {} },
            "wallets": [{ "name": "main", "kind": "local", "key_file": dir.path().join("wallet.key"), "networks": ["eip155:84532"] }],
            "sessions": { "default": { "budget": "1.00 USD", "expires": "60m" } },
            "rules": [{ "name": "stand", "match": { "hosts": ["*.stand.test"] }, "pay": { "max": "0.10 USD" } }],
        });
        Self {
            config,
            dir,
            log: "warn",
            env: vec![],
            program: vec![BINARY.into()],
            user: None,
            stdout: None,
            stderr: None,
            key,
        }
    }

    /// The wallet's secret key; before it runs.
    pub(crate) fn key(&mut self, key: [u8; 32]) -> &mut Self {
        self.key = key;
        self
    }

    pub(crate) fn root(&mut self, ca: &Path) -> &mut Self {
        let roots = self.config["tls"]["extra_roots"].as_array_mut().unwrap();
        roots.push(json!(ca));
        self
    }

    pub(crate) fn resolve(&mut self, name: &str, port: u64) -> &mut Self {
        self.config["egress"]["resolve"][name] = json!(format!("127.0.0.1:{port}"));
        self
    }

    pub(crate) fn budget(&mut self, budget: &str) -> &mut Self {
        self.config["sessions"]["default"]["budget"] = json!(budget);
        self
    }

    /// The address that pays.
    pub(crate) fn payer(&self) -> String {
        chain::payer(&self.key)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("farepass.yaml")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Writes the configuration and the key; starts nothing.
    pub(crate) fn write(&self) {
        fs::write(
            self.file(),
            serde_json::to_string_pretty(&self.config).unwrap(),
        )
        .unwrap();
        let key = self.dir.path().join("wallet.key");
        fs::write(&key, format!("0x{}\n", hex::encode(self.key))).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        if self.user.is_some() {
            let entries = fs::read_dir(self.dir.path()).unwrap();
            for path in entries
                .map(|e| e.unwrap().path())
                .chain([self.dir.path().into()])
            {
                std::os::unix::fs::chown(path, self.user, self.user).unwrap();
            }
        }
    }

    /// The wallet's secret key, hexadecimal.
    pub(crate) fn secret(&self) -> String {
        hex::encode(self.key)
    }

    /// `farepass ARGS --config …`.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare(args);
        command.arg("--config").arg(self.file());
        command
    }

    /// `farepass ARGS`, its environment free of proxies.
    pub(crate) fn bare(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]);
        for name in [
            "HTTPS_PROXY",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "NO_PROXY",
            "no_proxy",
        ] {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(args).current_dir(self.dir.path());
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts `serve` and waits until it says where it listens.
    pub(crate) fn start(self) -> Proxy {
        self.write();
        let child = spawn(&self, None);
        let mut proxy = Proxy {
            setup: self,
            child,
            at: Value::Null,
        };
        proxy.wait_ready();
        proxy
    }
}

fn spawn(setup: &Setup, fail_point: Option<&str>) -> Child {
    let open = |pipe: &Option<PipeWriter>, name: &str| match pipe {
        Some(pipe) => Stdio::from(pipe.try_clone().unwrap()),
        None => {
            let path = setup.dir.path().join(name);
            let file = File::options().create(true).append(true).open(path);
            file.unwrap().into()
        }
    };
    let mut command = setup.command(&["serve", "--log", setup.log]);
    if let Some(point) = fail_point {
        command.env("FAREPASS_FAILPOINT", point);
    }
    command
        .stdout(open(&setup.stdout, "stdout.log"))
        .stderr(open(&setup.stderr, "stderr.log"))
        .spawn()
        .unwrap()
}

/// A running proxy. Dropping it kills it.
pub(crate) struct Proxy {
    pub(crate) setup: Setup,
    child: Child,
    at: Value,
}

impl Proxy {
    fn wait_ready(&mut self) {
        let file = self.setup.state().join("serve.json");
        let pid = self.child.id();
        self.at = until(
            "farepass serve to be ready",
            Duration::from_secs(30),
            || {
                if let Ok(Some(status)) = self.child.try_wait() {
                    panic!("farepass serve ended with {status}:\n{}", self.stderr());
                }
                let at: Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
                (at["pid"] == pid).then_some(at)
            },
        );
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.at["proxy"].as_str().unwrap().parse().unwrap()
    }

    /// Where programs are told to go, as it is written.
    pub(crate) fn entrance(&self) -> &str {
        self.at["proxy"].as_str().unwrap()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.at["admin"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.setup.dir.path().join("certs/ca.pem")
    }

    pub(crate) fn payer(&self) -> String {
        self.setup.payer()
    }

    pub(crate) fn agent(&self, deadline: Duration) -> super::agent::Agent {
        super::agent::Agent::new(self.address(), &self.ca(), deadline)
    }

    /// curl with proxy and CA set, and this URL.
    pub(crate) fn curl(&self, url: &str) -> Command {
        let mut curl = super::curl::curl(&self.url(), &self.ca());
        curl.arg(url);
        curl
    }

    pub(crate) fn get(&self, url: &str) -> super::http::Answer {
        super::curl::fetch(self.curl(url)).unwrap()
    }

    /// Answer of the admin listener.
    pub(crate) fn ask_admin(&self, path: &str) -> std::io::Result<super::http::Answer> {
        super::stand::request(self.admin().port(), "GET", path, &Value::Null)
    }

    /// The operator's token.
    pub(crate) fn token(&self) -> String {
        read(&self.setup.state().join("admin.token"))
            .trim()
            .to_owned()
    }

    pub(crate) fn stdout(&self) -> String {
        read(&self.setup.dir.path().join("stdout.log"))
    }

    pub(crate) fn stderr(&self) -> String {
        read(&self.setup.dir.path().join("stderr.log"))
    }

    /// Spend events, one JSON object a line.
    pub(crate) fn events(&self) -> Vec<Value> {
        let line =
            |l: &str| serde_json::from_str(l).unwrap_or_else(|e| panic!("stdout: {e}: {l:?}"));
        self.stdout().lines().map(line).collect()
    }

    /// The ledger, once it has booked the end of every exchange: that comes after the agent's answer.
    pub(crate) fn ledger(&self) -> Books {
        let end = std::time::Instant::now() + Duration::from_secs(3);
        loop {
            let books = Books::of(&self.setup);
            let open = books.rows.iter().any(|row| row["state"] == "reserved");
            if !open || std::time::Instant::now() > end {
                return books;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// `ledger verify` finds nothing wrong.
    pub(crate) fn assert_verifies(&self) {
        let out = self.setup.run(&["ledger", "verify"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            out.status.success(),
            "ledger verify: {}\n{said}",
            out.status
        );
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = read(Path::new(&format!("/proc/{}/status", self.child.id())));
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// SIGHUP.
    pub(crate) fn reload(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// SIGUSR1.
    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::USR1);
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.terminate();
        until("farepass to stop", Duration::from_secs(30), || {
            self.child.try_wait().unwrap()
        })
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// After `stop` or `kill`: the same directory again.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.setup, None);
        self.wait_ready();
    }

    /// As `start_again`, but it kills itself where `fail_point` says: perhaps before it is ready,
    /// and then this is false.
    pub(crate) fn start_to_die(&mut self, fail_point: &str) -> bool {
        self.child = spawn(&self.setup, Some(fail_point));
        let (file, pid) = (self.setup.state().join("serve.json"), self.child.id());
        let at = until(
            "farepass serve to be ready",
            Duration::from_secs(30),
            || {
                if !self.alive() {
                    return Some(None);
                }
                let at: Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
                (at["pid"] == pid).then_some(Some(at))
            },
        );
        match at {
            Some(at) => {
                self.at = at;
                true
            }
            None => false,
        }
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- stderr of farepass\n{}", self.stderr());
        }
    }
}

fn read(path: &Path) -> String {
    fs::read(path)
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default()
}

/// The ledger as `ledger list --json` tells it.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) rows: Vec<Value>,
}

impl Books {
    pub(crate) fn of(setup: &Setup) -> Self {
        let out = setup.run(&["ledger", "list", "--json", "--limit", "0"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "ledger list: {}\n{said}", out.status);
        let text = String::from_utf8(out.stdout).unwrap();
        let rows = match serde_json::from_str::<Value>(&text) {
            Ok(Value::Array(rows)) => rows,
            _ => text
                .lines()
                .map(|l| serde_json::from_str(l).unwrap())
                .collect(),
        };
        let rows = rows
            .into_iter()
            .filter(|row| row["state"] != "denied")
            .collect();
        Self { rows }
    }

    /// Sum of atomic units in these states: what was taken of a payment that is settled, where its row says so, else
    /// what was signed.
    pub(crate) fn sum(&self, states: &[&str]) -> u128 {
        let counted = |row: &&Value| states.iter().any(|s| row["state"] == *s);
        let amount = |row: &Value| {
            let taken = row["amount_settled"].as_str();
            let taken = taken.filter(|_| row["state"] == "settled");
            let amount = taken.or(row["amount"].as_str());
            amount.unwrap().parse::<u128>().unwrap()
        };
        self.rows.iter().filter(counted).map(amount).sum()
    }

    /// Everything that counts: settled, unknown and reserved.
    pub(crate) fn counted(&self) -> u128 {
        self.sum(&["settled", "unknown", "reserved"])
    }

    pub(crate) fn nonces(&self) -> Vec<String> {
        let nonce = |row: &Value| row["nonce"].as_str().map(str::to_ascii_lowercase);
        self.rows.iter().filter_map(nonce).collect()
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        let flags = self
            .rows
            .iter()
            .filter_map(|row| row["flags"].as_array())
            .flatten();
        flags
            .filter_map(|f| f.as_str().map(str::to_owned))
            .collect()
    }
}
