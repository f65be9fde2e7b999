//! Hosts in network namespaces that the test makes itself (`tests/netns/lab.sh`): an agent, a proxy, and
//! the stand's merchants on a wire of their own.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::proxy::{Proxy, Setup};
use super::stand::Stand;

/// The user whose connections the rules let through; as in `lab.sh`.
pub(crate) const PROXY_USER: u32 = 1337;

/// Where the lab shows the program to every user.
const PROGRAM: &str = "/run/farepass/farepass";

/// Hosts and their wires. Dropping it ends them.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    child: Child,
    orders: Option<ChildStdin>,
    answers: Option<BufReader<ChildStdout>>,
    /// Connections that arrived at the merchant, and at the other host.
    pub(crate) merchant: Arc<AtomicUsize>,
    pub(crate) other: Arc<AtomicUsize>,
}

/// Root changes users and makes namespaces. Anybody else is root in a namespace of users that knows
/// nobody else, where the machine permits that.
fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// May this test run programs as several users? `None` after saying SKIPPED.
pub(crate) fn users() -> Option<()> {
    let found = root().then_some(());
    found.or_else(|| skip("only root can run the agent and the proxy as two users"))
}

/// What no package brings skips a test, whatever the environment demands.
fn skip<T>(why: &str) -> Option<T> {
    let line = format!("\n*** SKIPPED: {why}\n");
    let _ = io::stderr().write_all(line.as_bytes());
    None
}

impl Lab {
    /// `None` after saying SKIPPED: the machine lacks a program, or permits no namespaces.
    pub(crate) fn up(stand: &Stand) -> Option<Self> {
        super::needs(programs())?;
        let mut lab = Self::start(stand).unwrap();
        if lab.heard() != "ready\n" {
            return skip("this machine permits no network namespaces");
        }
        match lab.order("rules gateway-redirect").as_str() {
            "done\n" => Some(lab),
            _ => skip("this kernel has no nf_tables"),
        }
    }

    fn start(stand: &Stand) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (merchant, other) = (Arc::default(), Arc::default());
        for (name, port, count) in [
            ("merchant-443", "/merchant/tlsPort", &merchant),
            ("merchant-80", "/merchant/port", &merchant),
            ("other-443", "/hostile/tlsPort", &other),
            ("other-80", "/hostile/port", &other),
        ] {
            relay(&dir.path().join(name), stand.port(port), Arc::clone(count));
        }
        let mut unshare = searched(Command::new("unshare"));
        if !root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/netns/lab.sh");
        let mut child = unshare
            .args(["--net", "--mount", "sh"])
            .args([&script, dir.path()])
            .env("FAREPASS", env!("CARGO_BIN_EXE_farepass"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self {
            dir,
            orders: child.stdin.take(),
            answers: child.stdout.take().map(BufReader::new),
            child,
            merchant,
            other,
        })
    }

    /// Loads one of the rule sets of `lab.sh` in place of the last one.
    pub(crate) fn rules(&mut self, set: &str) {
        assert_eq!(self.order(&format!("rules {set}")), "done\n", "{set}");
    }

    fn order(&mut self, order: &str) -> String {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        self.heard()
    }

    fn heard(&mut self) -> String {
        let mut line = String::new();
        self.answers.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// The first words of a command on this host. Working directories do not survive the way there.
    fn at(&self, host: &str) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), "--mount".into()];
        if !root() {
            words.extend(["--user".into(), "--preserve-credentials".into()]);
        }
        words.push(format!("--target={}", self.child.id()));
        words.extend(["--".into(), "nsenter".into()]);
        words.extend([format!("--net=/run/netns/{host}"), "--".into()]);
        words
    }

    /// A command on this host, as the test's own user.
    pub(crate) fn on(&self, host: &str, program: &str) -> Command {
        let words = self.at(host);
        let mut command = searched(Command::new(&words[0]));
        command.args(&words[1..]).arg(program).stdin(Stdio::null());
        command
    }

    /// A set-up whose proxy runs on this host, as a user of its own when that is possible. It knows
    /// merchants by DNS alone, and takes what is redirected.
    pub(crate) fn setup(&self, stand: &Stand, host: &str, caps: &str) -> Setup {
        let mut setup = stand.setup();
        let ca = setup.dir.path().join("stand.pem");
        std::fs::copy(stand.root(), &ca).unwrap();
        setup.config["tls"]["extra_roots"] = json!([ca]);
        setup.config["egress"] = json!({
            "allow_private": ["198.51.100.0/24", "2001:db8:b::/64"],
        });
        let inside = json!({
            "proxy": "127.0.0.1:4020",
            "transparent": ["127.0.0.1:4021", "[::1]:4021"],
            "admin": "127.0.0.1:4022",
        });
        let gateway = json!({
            "proxy": "127.0.0.1:4020",
            "transparent": ["0.0.0.0:4021", "[::]:4021"],
            "allow_from": ["192.0.2.0/24", "2001:db8:a::/64"],
            "admin": "127.0.0.1:4022",
        });
        setup.config["listen"] = if host == "agent" { inside } else { gateway };
        setup.log = "info";
        setup.program = self.at(host);
        if root() {
            setup.user = Some(PROXY_USER);
            setup.program.push("setpriv".into());
            let user = PROXY_USER.to_string();
            for (option, value) in [
                ("--reuid", &*user),
                ("--regid", &user),
                ("--inh-caps", caps),
            ] {
                setup.program.extend([option.into(), value.into()]);
            }
            setup.program.extend(["--ambient-caps".into(), caps.into()]);
            setup.program.push("--clear-groups".into());
        }
        setup.program.push(PROGRAM.into());
        setup
    }

    /// curl on the agent's host, which trusts the proxy's certificates and was told of no proxy.
    pub(crate) fn curl(&self, proxy: &Proxy, url: &str) -> Command {
        let mut curl = self.on("agent", "curl");
        curl.env_clear().env("PATH", path());
        curl.args(["--silent", "--show-error", "--include", "--max-time", "30"]);
        curl.arg("--cacert").arg(proxy.ca()).arg(url);
        curl
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The script ends with its stdin, and takes the far host along.
        let relay = std::fs::read_to_string(self.dir.path().join("relays"));
        drop(self.orders.take());
        let _ = self.child.wait();
        let relay = relay.ok().and_then(|pid| pid.parse().ok());
        let relay = relay.and_then(rustix::process::Pid::from_raw);
        if let Some(relay) = relay.filter(|_| !std::thread::panicking()) {
            super::until("the far host to end", Duration::from_secs(10), || {
                rustix::process::test_kill_process(relay).err()
            });
        }
    }
}

fn programs() -> Result<(), String> {
    for (program, package) in [
        ("nft", "nftables"),
        ("iptables", "iptables"),
        ("ip", "iproute2"),
        ("unshare", "util-linux"),
        ("python3", "python3"),
    ] {
        let there = searched(Command::new(program)).arg("-V").output();
        there.map_err(|_| format!("network namespaces need {package}: no `{program}`"))?;
    }
    Ok(())
}

/// With the folders of system programs, which users have not always on their path.
fn searched(mut command: Command) -> Command {
    command.env("PATH", path());
    command
}

fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

/// Leads from a Unix socket, which every namespace sees, to a port of this one.
fn relay(socket: &Path, port: u64, count: Arc<AtomicUsize>) {
    let listener = UnixListener::bind(socket).unwrap();
    let port = u16::try_from(port).unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, Ordering::SeqCst);
            let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            join(near, far);
        }
    });
}

fn join(near: UnixStream, far: TcpStream) {
    let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (far, near);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
