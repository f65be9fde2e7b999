//! What must never be told, and what must never be read (threats L-01 to L-08, A-02, X-17, X-22).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::Ask;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::{Proxy, Setup};
use crate::support::{shop, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// Things that agents and merchants say, which are nobody else's business.
const SAID: [(&str, &str); 9] = [
    ("a bearer token", "canary-bearer-5e1f"),
    ("a cookie", "canary-cookie-77ab"),
    ("a cookie that is set", "canary-set-cookie-0c9d"),
    ("a query value", "canary-query-4410"),
    ("text of a request body", "canary-request-body-9b2e"),
    ("text of an answer", "canary-answer-31c7"),
    ("a description", "canary-description-8d05"),
    ("an error of the facilitator", "canary-error-message-66fe"),
    ("a fragment of a refused challenge", "canary-challenge-f00d"),
];

fn said(what: &str) -> &'static str {
    SAID.iter().find(|(name, _)| *name == what).unwrap().1
}

/// A merchant in whose every corner something private stands.
fn merchant() -> Merchant {
    let counter = AtomicUsize::new(0);
    Merchant::start(move |seen, out| {
        let mut challenge = shop::challenge();
        challenge["resource"]["description"] = json!(said("a description"));
        challenge["error"] = json!(said("a description"));
        match (seen.payment(), seen.path()) {
            (None, "/dear") => {
                challenge["accepts"][0]["amount"] = json!("99000000");
                shop::ask(&challenge, out)
            }
            (None, "/broken") => {
                challenge["accepts"][0]["extra"] =
                    json!({ "name": said("a fragment of a refused challenge") });
                shop::ask(&challenge, out)
            }
            (None, "/not-http") => {
                write!(out, "{}\r\n\r\n", said("text of an answer"))?;
                Ok(After::Close)
            }
            (None, _) => shop::ask(&challenge, out),
            (Some(_), "/denied") => {
                let receipt = json!({ "success": false, "errorReason": "x", "errorMessage": said("an error of the facilitator") });
                let receipt = base64::Engine::encode(
                    &base64::engine::general_purpose::STANDARD,
                    receipt.to_string(),
                );
                write!(
                    out,
                    "HTTP/1.1 402 No\r\nPAYMENT-RESPONSE: {receipt}\r\nContent-Length: 0\r\n\r\n"
                )?;
                Ok(After::Keep)
            }
            (Some(_), "/reset") => Ok(After::Reset),
            (Some(payment), "/echo") => shop::sell(payment, out),
            (Some(_), _) if counter.fetch_add(1, Ordering::SeqCst) == 0 => {
                let (cookie, body) = (said("a cookie that is set"), said("text of an answer"));
                let receipt = shop::receipt();
                write!(
                    out,
                    "HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\nPAYMENT-RESPONSE: {receipt}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )?;
                Ok(After::Keep)
            }
            _ => shop::sell(said("text of an answer"), out),
        }
    })
}

/// Everything that somebody else could read, by where it is.
fn readable(proxy: &Proxy, refusals: String, metrics: String) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::from([
        ("stdout".into(), proxy.stdout().into_bytes()),
        ("stderr".into(), proxy.stderr().into_bytes()),
        ("refusals".into(), refusals.into_bytes()),
        ("metrics".into(), metrics.into_bytes()),
    ]);
    for command in [
        &["ledger", "list", "--denied", "--json"][..],
        &["ledger", "list", "--denied"],
        &["session", "list"],
    ] {
        let out = proxy.setup.run(command);
        all.insert(command.join(" "), [out.stdout, out.stderr].concat());
    }
    files(&proxy.setup.state(), &mut all);
    all
}

fn files(dir: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files(&path, into),
            false => {
                into.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
}

/// One run at the most talkative level, with a secret in every place that there is.
#[test]
fn no_secret_is_told_at_any_level() {
    let merchant = merchant();
    let mut setup = shop::setup(&merchant);
    setup.log = "trace";
    setup.write();
    // A session whose secret is in every request.
    let made = setup.run(&[
        "session", "create", "--agent", "bot", "--budget", "1 USD", "--json",
    ]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let url = made["proxy"].as_str().unwrap().to_owned();
    let secret = url.split(['@', ':']).nth(2).unwrap().to_owned();
    let wallet = setup.secret();
    let mut proxy = setup.start();
    let mut refusals = String::new();
    for version in ["--http1.1", "--http2"] {
        for path in [
            "/x",
            "/dear",
            "/broken",
            "/denied",
            "/reset",
            "/not-http",
            "/echo",
        ] {
            let page = format!(
                "https://{}{path}?token={}&v={version}",
                shop::HOST,
                said("a query value")
            );
            let mut curl = proxy.curl(&page);
            curl.env(
                "HTTPS_PROXY",
                format!("http://bot:{secret}@{}", proxy.address()),
            );
            curl.args([
                version,
                "--data",
                said("text of a request body"),
                "--header",
            ]);
            curl.arg(format!("Authorization: Bearer {}", said("a bearer token")));
            curl.args(["--cookie", &format!("id={}", said("a cookie"))]);
            let answer = curl.output().unwrap();
            let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
            if answer.contains("proxy-status: farepass") {
                refusals += &answer;
            }
        }
    }
    let forged = Ask {
        fields: vec![("X-PAYMENT".into(), said("a bearer token").into())],
        ..Ask::get(&format!("https://{}/x", shop::HOST))
    };
    refusals += &proxy.agent(PATIENCE).send(&forged).unwrap().text();
    fs::write(proxy.setup.file(), "rulez: []").unwrap();
    proxy.reload();
    until("the reload", PATIENCE, || {
        proxy.stderr().contains("rulez").then_some(())
    });
    let token = fs::read_to_string(proxy.setup.state().join("admin.token")).unwrap();
    let metrics = proxy.ask_admin("/metrics").unwrap().text();
    assert!(
        refusals.contains("over_request_cap") && refusals.contains("outcome_unknown"),
        "{refusals}"
    );
    assert!(!shop::payments(&merchant).is_empty());
    proxy.stop();
    proxy.setup.write();

    let mut secrets: Vec<(String, String)> =
        SAID.map(|(name, text)| (name.into(), text.into())).into();
    secrets.push(("the wallet's key".into(), wallet));
    secrets.push(("the admin token".into(), token.trim().into()));
    secrets.push(("a session's secret".into(), secret));
    let key = fs::read_to_string(proxy.setup.dir.path().join("certs/ca-key.pem")).unwrap();
    let lines = key.lines().filter(|l| !l.starts_with('-'));
    secrets.extend(lines.map(|l| ("the authority's key".into(), l.into())));
    for payment in shop::payments(&merchant) {
        let decoded =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &payment).unwrap();
        let decoded: Value = serde_json::from_slice(&decoded).unwrap();
        let signature = decoded["payload"]["signature"].as_str().unwrap()[2..].to_owned();
        secrets.push(("a signature".into(), signature));
        secrets.push(("a payload".into(), payment));
    }
    let readable = readable(&proxy, refusals, metrics);
    assert!(
        readable.len() > 8 && readable["stderr"].len() > 300,
        "the logs are there"
    );
    for (place, bytes) in &readable {
        for (what, secret) in &secrets {
            let own_file = what == "the admin token" && place.ends_with("admin.token");
            let found = memchr::memmem::find(bytes, secret.as_bytes()).is_some();
            assert!(own_file || !found, "{what} ({secret}) is in {place}");
        }
    }
}

/// Threat X-22: five kinds of addresses in a challenge, and nobody is asked.
#[test]
fn nothing_in_a_challenge_is_fetched() {
    let canary = Merchant::start(|_, out| shop::sell("seen", out));
    let at = format!("http://{}", canary.plain);
    let merchant = Merchant::start(move |seen, out| {
        if seen.payment().is_some() {
            return shop::sell("premium", out);
        }
        let mut challenge = shop::challenge();
        challenge["resource"]["iconUrl"] = json!(format!("{at}/icon"));
        challenge["accepts"][0]["extra"]["facilitator"] = json!(format!("{at}/facilitator"));
        challenge["accepts"][0]["outputSchema"] = json!({ "$ref": format!("{at}/schema.json") });
        challenge["extensions"] = json!({
            "offer-receipt": { "info": { "offers": [{ "format": "jws", "signature": "e30.e30.e30", "kid": format!("did:web:{}", &at[7..]) }] } },
            "x": { "schema": { "$schema": format!("{at}/meta"), "$ref": format!("{at}/ref") }, "jwks_uri": format!("{at}/jwks") },
        });
        shop::ask(&challenge, out)
    });
    let mut setup = shop::setup(&merchant);
    setup.config["egress"]["allow_private"] = json!(["127.0.0.0/8"]);
    setup.config["egress"]["ports"] = json!([80, 443, canary.plain.port()]);
    let mut proxy = setup.start();
    let answer = proxy
        .agent(PATIENCE)
        .send(&Ask::get(&format!("https://{}/x", shop::HOST)))
        .unwrap();
    assert_eq!(answer.text(), "premium");
    proxy.stop();
    assert_eq!(canary.seen().len(), 0);
}

/// Reads a file of /proc as this user; `None` for our own.
fn reads(uid: Option<u32>, file: &str) -> bool {
    let mut head = Command::new("head");
    head.args(["-c", "1", file])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(uid) = uid {
        head.uid(uid).gid(uid);
    }
    head.status().unwrap().success()
}

/// A program that may leave a core, as far as this machine lets it.
fn with_cores(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -S -c "$(ulimit -H -c)"; exec "$0" "$@""#]);
    command.arg(program);
    command
}

/// Threat A-02: another process of the very same user reads neither memory nor environment, and no
/// core is left of it.
#[test]
fn a_running_proxy_is_closed_to_its_own_user() {
    const NOBODY: u32 = 65_533;
    let setup = Setup::new();
    setup.write();
    // Root reads everything, so it runs as somebody else when the test does not.
    let root = rustix::process::geteuid().is_root();
    let uid = root.then_some(NOBODY);
    let mut command = match root {
        true => {
            for name in ["", "farepass.yaml", "wallet.key"] {
                chown(setup.dir.path().join(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
            // Where it was built may be closed to others.
            let binary = setup.dir.path().join("farepass");
            fs::copy(env!("CARGO_BIN_EXE_farepass"), &binary).unwrap();
            let mut command = with_cores(&binary);
            command.uid(NOBODY).gid(NOBODY);
            command
        }
        false => with_cores(Path::new(env!("CARGO_BIN_EXE_farepass"))),
    };
    let errors = fs::File::create(setup.dir.path().join("stderr.log")).unwrap();
    command
        .args(["serve", "--config"])
        .arg(setup.file())
        .current_dir(setup.dir.path());
    let mut child = command
        .env("CANARY", "1")
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("the proxy", PATIENCE, || {
            let said = fs::read_to_string(setup.dir.path().join("stderr.log")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "{said}");
            setup.state().join("serve.json").exists().then_some(())
        });
        let proc = format!("/proc/{}", child.id());
        let limits = fs::read_to_string(format!("{proc}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|l| l.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        for file in ["mem", "environ", "maps", "auxv"] {
            assert!(!reads(uid, &format!("{proc}/{file}")), "{file} can be read");
        }
        // What could be read of a process that is not closed.
        let mut sleep = Command::new("sleep");
        if let Some(uid) = uid {
            sleep.uid(uid).gid(uid);
        }
        let mut open = sleep.arg("60").spawn().unwrap();
        until("a process to read", PATIENCE, || {
            reads(uid, &format!("/proc/{}/environ", open.id())).then_some(())
        });
        open.kill().unwrap();
        open.wait().unwrap();
    }));
    child.kill().unwrap();
    child.wait().unwrap();
    ended.unwrap();
}
