//! A real LNbits pays a merchant of independent implementations: what the ledger says is what left the
//! account.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::proxy::Setup;
use crate::support::{needs, python};

struct Bench {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    at: Value,
    _data: tempfile::TempDir,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-l402")
}

impl Bench {
    fn start() -> Result<Self, String> {
        let install = |file: &str, imports| {
            let list = std::fs::read_to_string(folder().join(file)).map_err(|e| e.to_string())?;
            let lines = list.lines().map(str::trim);
            let packages: Vec<_> = lines
                .filter(|l| !l.is_empty() && !l.starts_with('#'))
                .collect();
            python::make(&packages, imports)
        };
        let lnbits = install("lnbits.txt", "bitstring")?;
        let merchant = install("requirements.txt", "fastapi, pymacaroons")?;
        let data = tempfile::tempdir().map_err(|e| e.to_string())?;
        let mut child = Command::new("python3")
            .arg(folder().join("bench.py"))
            .args([&lnbits, &merchant])
            .arg(data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let input = child.stdin.take().ok_or("no stdin")?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut line = String::new();
        output.read_line(&mut line).map_err(|e| e.to_string())?;
        let at = serde_json::from_str(&line).map_err(|e| format!("LNbits: {e}: {line:?}"))?;
        Ok(Self {
            child,
            input,
            output,
            at,
            _data: data,
        })
    }

    fn balance(&mut self) -> u64 {
        writeln!(self.input).unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }

    fn text(&self, key: &str) -> &str {
        self.at[key].as_str().unwrap()
    }
}

/// Its children end when it does, and it ends with its input.
impl Drop for Bench {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.child.wait();
    }
}

#[test]
fn what_the_ledger_says_is_what_left_the_account() {
    let Some(mut bench) = needs(Bench::start()) else {
        return;
    };
    let merchant = bench.text("merchant").to_owned();
    let mut setup = Setup::new();
    let secret = setup.dir.path().join("key");
    std::fs::write(&secret, bench.text("key")).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (host, port) = (
        merchant.strip_prefix("http://").unwrap(),
        merchant.rsplit(':').next(),
    );
    setup.config["egress"] = json!({
        "allow_private": ["127.0.0.1/32"], "ports": [port.unwrap().parse::<u16>().unwrap()]
    });
    setup.config["wallets"] = json!([{
        "name": "node", "kind": "lightning", "backend": "lnbits", "url": bench.text("lnbits"),
        "secret_file": secret, "networks": ["lightning"], "usd_per_btc": "60000 USD",
    }]);
    setup.config["rules"] = json!([{
        "name": "all", "match": { "hosts": [host] },
        "pay": { "max": "0.10 USD", "schemes": ["l402"], "insecure_http": true },
    }]);
    let proxy = setup.start();
    let before = bench.balance();
    for (path, reason) in [
        ("/fault/foreign-hash", "token_mismatch"),
        ("/fault/amountless", "amount_invalid"),
        ("/fault/bad-invoice", "invoice_invalid"),
    ] {
        let answer = proxy.get(&format!("{merchant}{path}"));
        assert_eq!(answer.reason().as_deref(), Some(reason), "{path}");
    }
    // Two of each: the second one costs nothing.
    for path in [
        "/toll/basic",
        "/l402/current",
        "/l402/aperture",
        "/l402/merged",
        "/l402/per-path/x",
    ] {
        for _ in 0..2 {
            assert_eq!(
                proxy.get(&format!("{merchant}{path}")).status,
                200,
                "{path}"
            );
        }
    }
    let never = proxy.get(&format!("{merchant}/fault/always-402"));
    assert_eq!(never.reason().as_deref(), Some("already_paid"));
    let books = proxy.ledger();
    let settled = books.sum(&["settled"]);
    assert_eq!(u128::from(before - bench.balance()), settled, "{books:?}");
    assert_eq!((books.rows.len(), settled), (3, 30_000));
    proxy.assert_verifies();
}
