//! The real binary on ports of the system's choice.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::agent::Agent;
use super::origin::Origin;

/// What the origin's ports are called: 443 and 80 of each of these names.
const NAMES: &[&str] = &["free.wire.test", "pay.wire.test", "blind.wire.test"];

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) dir: tempfile::TempDir,
    child: Child,
}

impl Proxy {
    /// In front of this origin. `free.wire.test` matches no rule, `pay.wire.test` may be paid,
    /// `blind.wire.test` is not opened. `change` adds to the configuration.
    pub(crate) async fn start(origin: &Origin, change: impl FnOnce(&mut Value)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = json!({
            "version": 1,
            "listen": { "proxy": "127.0.0.1:0", "admin": "127.0.0.1:0" },
            "state_dir": dir.path().join("state"),
            "tls": { "ca_dir": dir.path().join("certs"), "extra_roots": [origin.root], "passthrough": ["blind.wire.test"] },
            "egress": { "resolve": { "[2001:db8::1]:443": origin.tls } },
            "wallets": [{ "name": "main", "kind": "local", "key_file": dir.path().join("wallet.key"), "networks": ["eip155:84532"] }],
            "sessions": { "default": { "budget": "1.00 USD", "expires": "60m" } },
            "rules": [{ "name": "wire", "match": { "hosts": ["pay.wire.test"] }, "pay": { "max": "0.10 USD" } }],
            "limits": {},
        });
        for name in NAMES {
            for (port, at) in [(443, origin.tls), (80, origin.plain)] {
                config["egress"]["resolve"][format!("{name}:{port}")] = json!(at);
            }
        }
        change(&mut config);
        fs::write(dir.path().join("farepass.yaml"), config.to_string()).unwrap();
        let key = dir.path().join("wallet.key");
        fs::write(&key, format!("0x{}\n", "7".repeat(64))).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let child = spawn(&dir);
        let mut proxy = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            dir,
            child,
        };
        proxy.address = super::soon("farepass serve to be ready", proxy.ready()).await;
        proxy
    }

    async fn ready(&mut self) -> SocketAddr {
        let file = self.dir.path().join("state/serve.json");
        let mut look = tokio::time::interval(Duration::from_millis(5));
        loop {
            look.tick().await;
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("farepass serve ended with {status}:\n{}", self.stderr());
            }
            let at: Value = match fs::read(&file) {
                Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
                Err(_) => continue,
            };
            if let Some(at) = at["proxy"].as_str() {
                return at.parse().unwrap();
            }
        }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("certs/ca.pem")
    }

    pub(crate) fn agent(&self) -> Agent {
        Agent::new(self.address, &self.ca())
    }

    /// What `farepass ARGS` says on stdout.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farepass"));
        let command = command.args(args).args(["--config", "farepass.yaml"]);
        let out = command.current_dir(self.dir.path()).output().unwrap();
        assert!(out.status.success(), "{args:?}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr.log")).unwrap_or_default()
    }

    fn proc(&self, what: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{what}", self.child.id()))
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    }

    /// Open files.
    pub(crate) fn files(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Not one panic, and still there.
    pub(crate) fn assert_well(&mut self) {
        let said = self.stderr();
        assert!(!said.contains("panicked"), "{said}");
        assert!(self.alive(), "{said}");
    }
}

fn spawn(dir: &tempfile::TempDir) -> Child {
    let file = |name: &str| File::create(dir.path().join(name)).unwrap();
    // With the few open files that a shell usually allows; it must ask for more itself.
    Command::new("sh")
        .args(["-c", "ulimit -S -n 256; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_farepass"))
        .args(["serve", "--log", "warn", "--config", "farepass.yaml"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(file("stdout.log"))
        .stderr(file("stderr.log"))
        .spawn()
        .unwrap()
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
