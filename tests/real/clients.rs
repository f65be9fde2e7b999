//! Unmodified programs under `farepass run`: nothing in them knows about proxies or payments.

use std::process::Output;

use crate::support::proxy::Setup;
use crate::support::python::python;
use crate::support::stand::{self, Stand};

const SHOP: &str = "https://merchant.stand.test";

/// Runs a program as the child of `farepass run` and says what was spent.
fn run(stand: &Stand, program: &[&str]) -> (Output, usize) {
    let setup = stand.setup();
    setup.write();
    let mut args = vec!["run", "--budget", "0.05 USD", "--agent", "test", "--config"];
    let file = setup.file();
    args.push(file.to_str().unwrap());
    args.push("--");
    args.extend(program);
    let out = setup.bare(&args).output().unwrap();
    (out, stand.transfers(&setup.payer()).len())
}

fn assert_bought(stand: &Stand, program: &[&str], payments: usize) {
    let (out, paid) = run(stand, program);
    let (said, noise) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(
        out.status.success(),
        "{program:?}: {}\n{said}\n{noise}",
        out.status
    );
    assert_eq!(
        said.matches("premium").count(),
        payments,
        "{program:?}: {said}\n{noise}"
    );
    assert_eq!(paid, payments, "{program:?}");
    assert!(
        noise.contains("USD"),
        "{program:?}: no summary of what was spent: {noise}"
    );
}

/// curl loses an answer of HTTP/2 that it reads together with the reset of its upload (RFC 9113 section 8.1).
#[test]
fn curl_hears_why_its_upload_goes_nowhere() {
    let proxy = Setup::new().start();
    let upload = proxy.setup.dir.path().join("upload");
    std::fs::write(&upload, vec![b'x'; 900_000]).unwrap();
    for _ in 0..10 {
        let mut curl = proxy.curl("https://10.255.255.1/");
        curl.arg("--http2").arg("--data-binary");
        let out = curl.arg(format!("@{}", upload.display())).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(said.contains("address_not_allowed"), "{out:?}");
    }
}

#[test]
fn python_urllib_with_strict_checks() {
    let Some(stand) = stand::stand() else { return };
    let script = format!(
        r#"
import ssl, urllib.request
strict = ssl.create_default_context()
strict.verify_flags |= ssl.VERIFY_X509_STRICT
print(urllib.request.urlopen("{SHOP}/v2/exact", context=strict).read())
print(urllib.request.urlopen("{SHOP}/v1/exact").read())
"#
    );
    assert_bought(stand, &["python3", "-c", &script], 2);
}

#[test]
fn python_requests_and_httpx() {
    let Some(stand) = stand::stand() else { return };
    let Some(python) = python() else { return };
    let script = format!(
        r#"
import httpx, requests
print(requests.get("{SHOP}/v2/exact").text)
print(httpx.get("{SHOP}/v1/exact").text)
print(httpx.Client(http2=True).get("{SHOP}/v2/exact").text)
with httpx.stream("GET", "{SHOP}/v2/sse-live?n=3&ms=20") as answer:
    assert sum(line.startswith("data: {{") for line in answer.iter_lines()) == 3
refused = requests.get("{SHOP}/v2/price/9")
assert refused.status_code == 402, refused.status_code
assert refused.json()["reason"] == "over_session_cap", refused.text
"#
    );
    // Three premium bodies; the stream is the fourth payment.
    let (out, paid) = run(stand, &[python.to_str().unwrap(), "-c", &script]);
    let noise = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{noise}");
    assert_eq!(
        String::from_utf8_lossy(&out.stdout)
            .matches("premium")
            .count(),
        3,
        "{noise}"
    );
    assert_eq!(paid, 4);
}

#[test]
fn node_fetch_and_https() {
    let Some(stand) = stand::stand() else { return };
    let script = format!(
        r#"
const https = require("node:https");
const old = url => new Promise((ok, no) => https.get(url, r => {{
  let text = "";
  r.on("data", d => text += d).on("end", () => ok(text));
}}).on("error", no));
(async () => {{
  console.log(await (await fetch("{SHOP}/v2/exact")).text());
  console.log(await old("{SHOP}/v1/exact"));
  const echo = await fetch("{SHOP}/v2/echo", {{ method: "POST", body: "x".repeat(1000) }});
  if ((await echo.json()).bytes !== 1000) throw new Error("the body changed");
}})();
"#
    );
    let (out, paid) = run(stand, &["node", "-e", &script]);
    let noise = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{noise}");
    assert_eq!(
        String::from_utf8_lossy(&out.stdout)
            .matches("premium")
            .count(),
        2,
        "{noise}"
    );
    assert_eq!(paid, 3);
}

#[test]
fn curl_in_both_http_versions() {
    let Some(stand) = stand::stand() else { return };
    for version in ["--http1.1", "--http2"] {
        let url = format!("{SHOP}/v2/exact");
        assert_bought(
            stand,
            &["curl", "--silent", "--show-error", "--fail", version, &url],
            1,
        );
    }
}

#[test]
fn wget_when_it_is_there() {
    let Some(stand) = stand::stand() else { return };
    if std::process::Command::new("wget")
        .arg("--version")
        .output()
        .is_err()
    {
        return;
    }
    let url = format!("{SHOP}/v1/exact");
    assert_bought(stand, &["wget", "-q", "-O", "-", &url], 1);
}

#[test]
fn the_child_keeps_its_exit_code_and_its_output() {
    let Some(stand) = stand::stand() else { return };
    let (out, paid) = run(stand, &["sh", "-c", "echo out; exit 7"]);
    assert_eq!(
        (out.status.code(), out.stdout.as_slice(), paid),
        (Some(7), b"out\n".as_slice(), 0)
    );
    let (out, _) = run(stand, &["sh", "-c", "kill -TERM $$"]);
    assert_eq!(out.status.code(), Some(128 + 15));
    let (out, _) = run(stand, &["no-such-program-anywhere"]);
    // As of a shell, and of env.
    assert_eq!(
        out.status.code(),
        Some(127),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn the_child_sees_no_secret_of_ours() {
    let Some(stand) = stand::stand() else { return };
    let setup = stand.setup();
    let key = setup.secret();
    setup.write();
    let file = setup.file();
    let args = ["run", "--config", file.to_str().unwrap(), "--", "env"];
    let out = setup.bare(&args).output().unwrap();
    let env = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(env.contains("HTTPS_PROXY="), "{env}");
    for name in [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "CURL_CA_BUNDLE",
        "JAVA_TOOL_OPTIONS",
    ] {
        assert!(env.contains(&format!("{name}=")), "{name} is missing");
    }
    assert!(
        !env.contains(&key),
        "the wallet's key is in the child's environment"
    );
    assert!(!env.contains("ca-key.pem"));
}
