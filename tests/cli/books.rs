//! Sessions, the ledger and the authority: what they print, and that no secret stays.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Ended, Home, SHOP, Street, there_is, until};

fn secret_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    let (credentials, _) = rest.rsplit_once('@').unwrap();
    credentials.split_once(':').unwrap().1
}

/// No file below holds this text.
fn assert_nowhere(dir: &Path, text: &str) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nowhere(&path, text);
        } else if let Ok(bytes) = fs::read(&path) {
            let found = bytes.windows(text.len()).any(|w| w == text.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}

#[test]
fn a_session_is_a_url() {
    let home = Home::ready();
    let args = [
        "session",
        "create",
        "--agent",
        "bot-1",
        "--budget",
        "0.50 USD",
        "--expires",
        "10m",
    ];
    let made = home.farepass(args).ok();
    assert_eq!(made.out.lines().count(), 1, "for $(…): {}", made.out);
    assert!(made.out.starts_with("http://bot-1:"), "{}", made.out);
    let secret = secret_of(made.out.trim());
    assert_eq!(secret.len(), 64);
    assert!(!made.err.contains(secret), "{}", made.err);
    assert_nowhere(home.path(), secret);

    let list = home.farepass(["session", "list", "--json"]).ok().json();
    let [row] = list.as_array().unwrap().as_slice() else {
        panic!("{list}")
    };
    assert_eq!(row["agent"], "bot-1");
    assert_eq!(row["budget"], "0.50 USD");
    assert_eq!(row["closed"], false);
    assert!(!list.to_string().contains(secret));
    let id = row["id"].as_str().unwrap();
    let table = home.farepass(["session", "list"]).ok().out;
    assert!(
        table.contains(id) && table.contains("bot-1") && table.contains("open"),
        "{table}"
    );

    let closed = home
        .farepass(["session", "close", id, "--json"])
        .ok()
        .json();
    assert_eq!(closed["closed"], true);
    home.farepass(["session", "close", id]).ok();
    let shown = home.farepass(["session", "show", id]).ok().out;
    assert!(shown.contains("state     closed"), "{shown}");
    for unknown in ["ses_", "ses_none", "", "d"] {
        for action in ["show", "close"] {
            home.farepass(["session", action, unknown])
                .failed(1, &["no session of that id"]);
        }
    }
    let begins = home.farepass(["session", "show", &id[..10]]).ok().out;
    assert_eq!(begins, shown);
    for rows in [
        &["spend"][..],
        &["ledger", "list"],
        &["ledger", "list", "--json"],
        &["ledger", "export"],
    ] {
        let of = |id| home.farepass(rows.iter().chain(&["--session", id]));
        of(id).ok();
        of(&id[..10]).ok();
        for unknown in ["ses_", "ses_none", ""] {
            of(unknown).failed(1, &["no session of that id"]);
        }
    }
}

#[test]
fn bad_sessions_are_refused() {
    let home = Home::ready();
    for (option, value, word) in [
        ("--agent", "a b", "letters"),
        ("--agent", "", "letters"),
        ("--expires", "soon", "60m"),
        ("--expires", "0s", "from 1s"),
        ("--expires", "1000000h", "to 3650d"),
    ] {
        home.farepass(["session", "create", option, value])
            .failed(2, &[word]);
    }
    assert_eq!(
        home.farepass(["session", "list", "--json"]).ok().json(),
        Value::Array(vec![])
    );
}

#[test]
fn the_default_session_is_renewed_when_it_is_over() {
    let home = Home::ready();
    let create = ["session", "create", "--default"];
    let made = home.farepass(create).ok().out;
    assert_eq!(
        made, "http://127.0.0.1:0\n",
        "no secret: whoever reaches the port is meant"
    );
    home.farepass(create).failed(1, &["still open"]);
    home.farepass(["session", "close", "default"]).ok();
    home.farepass(create).ok();
}

/// In a pod it has the pod's name, which every command there is told as `serve` is.
#[test]
fn the_default_session_of_a_pod_is_renewed_by_its_name() {
    let home = Home::ready();
    let mut command = home.command(["session", "create", "--default", "--json"]);
    command.env("FAREPASS_SESSION", "pod-7");
    command.env("FAREPASS_AGENT", "bot");
    command.env("FAREPASS_BUDGET", "0.25 USD");
    let out = command.output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let rows = home.farepass(["session", "list", "--json"]).ok().json();
    let of = |row: &serde_json::Value| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        [text("id"), text("agent"), text("budget")]
    };
    let all: Vec<_> = rows.as_array().unwrap().iter().map(of).collect();
    assert_eq!(all, [["pod-7", "bot", "0.25 USD"]]);
}

/// The same commands beside a running proxy, which owns the ledger.
#[test]
fn a_running_proxy_is_asked() {
    let home = Home::ready();
    let service = home.serve(&[]);
    let made = home
        .farepass(["session", "create", "--agent", "bot", "--json"])
        .ok()
        .json();
    let url = made["proxy"].as_str().unwrap();
    assert!(url.ends_with(&format!("@{}", service.proxy())), "{url}");
    let id = made["id"].as_str().unwrap();
    let rows = home.farepass(["session", "list", "--json"]).ok().json();
    assert!(
        rows.as_array().unwrap().iter().any(|r| r["id"] == id),
        "{rows}"
    );
    home.farepass(["session", "create", "--agent", "a b"])
        .failed(2, &["letters"]);
    home.farepass(["session", "create", "--default"])
        .failed(1, &["still open"]);
    let closed = home
        .farepass(["session", "close", id, "--json"])
        .ok()
        .json();
    assert_eq!(closed["closed"], true);
    home.farepass(["session", "close", "ses_0"])
        .failed(1, &["no session of that id"]);
    home.farepass(["ledger", "verify"]).ok();
    assert_nowhere(&home.at(".farepass"), secret_of(url));
    assert_eq!(service.stop(), Some(0));
    fs::write(home.at(".farepass/serve.json"), "{}").unwrap();
    home.farepass(["session", "list"]).ok();
}

#[test]
fn an_empty_ledger_lists_nothing() {
    let home = Home::ready();
    assert_eq!(home.farepass(["ledger", "list", "--json"]).ok().out, "[]\n");
    assert_eq!(home.farepass(["ledger", "list"]).ok().out, "");
    home.farepass(["ledger", "verify"])
        .failed(1, &["no ledger"]);
    home.farepass(["ledger", "show", "pay_1"])
        .failed(1, &["no ledger"]);
    assert!(!home.at(".farepass").exists(), "asking makes nothing");
}

#[test]
fn a_payment_is_listed_and_shown() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let script = format!("curl -sS {SHOP}/forecast; curl -sS {SHOP}/luxury");
    street.home.run(&["--agent", "bot"], &script).ok();
    let home = &street.home;
    let rows = home.farepass(["ledger", "list", "--json"]).ok().json();
    let [row] = rows.as_array().unwrap().as_slice() else {
        panic!("{rows}")
    };
    for (name, value) in [
        ("state", "settled"),
        ("agent", "bot"),
        ("host", "shop.example"),
        ("path", "/forecast"),
        ("amount", "10000"),
        ("charged", "0.01 USD"),
        ("rule", "example"),
    ] {
        assert_eq!(row[name], value, "{name}: {row}");
    }
    let all = home
        .farepass(["ledger", "list", "--denied", "--json"])
        .ok()
        .json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[0]["reason"], "over_request_cap");
    let table = home.farepass(["ledger", "list", "--denied"]).ok().out;
    assert!(table.contains("GET shop.example/forecast"), "{table}");
    assert!(table.contains("over_request_cap"), "{table}");

    let id = row["id"].as_str().unwrap();
    let page = home.farepass(["ledger", "show", &id[..16]]).ok().out;
    for word in [
        id,
        "0.01 USD",
        "10000 atomic units of USDC",
        "reserved",
        "settled",
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
    let history = home.farepass(["ledger", "show", id, "--json"]).ok().json();
    assert_eq!(history[0]["state"], "reserved");
    assert_eq!(history[1]["state"], "settled");
    home.farepass(["ledger", "show", "pay_"])
        .failed(2, &["more than one"]);
    home.farepass(["ledger", "show", "x"])
        .failed(1, &["no payment"]);
    let verified = home.farepass(["ledger", "verify", "--json"]).ok().json();
    assert_eq!(verified["payments"], 1);
}

#[test]
fn a_damaged_ledger_is_exit_code_5() {
    let home = Home::ready();
    home.farepass(["session", "create"]).ok();
    home.farepass(["ledger", "verify"]).ok();
    let file = home.at(".farepass/ledger.db");
    let mut bytes = fs::read(&file).unwrap();
    let needle = b"1.00 USD";
    let at = bytes
        .windows(needle.len())
        .position(|w| w == needle)
        .unwrap();
    bytes[at] = b'9';
    fs::write(&file, bytes).unwrap();
    let verified = home.farepass(["ledger", "verify"]);
    assert_eq!(verified.code, Some(5), "{verified:?}");
    assert!(verified.err.contains("damaged"), "{verified:?}");
}

/// Without the ledger, or with an older one, nobody is told that nothing was spent.
#[test]
fn a_lost_or_rolled_back_ledger_is_exit_code_5() {
    let home = Home::ready();
    home.farepass(["session", "create"]).ok();
    let file = home.at(".farepass/ledger.db");
    let old = fs::read(&file).unwrap();
    home.farepass(["session", "create"]).ok();
    let reads = |words: &str| {
        for command in [
            &["ledger", "verify"][..],
            &["ledger", "list"],
            &["spend"],
            &["session", "list"],
            &["explain", "https://api.example.com/v1/x"],
            &["discover", "https://127.0.0.1:1"],
        ] {
            let ended = home.farepass(command).failed(5, &[words]);
            assert_eq!(ended.out, "", "{command:?}");
        }
    };
    fs::write(&file, &old).unwrap();
    reads("rolled back or cut");
    fs::remove_file(&file).unwrap();
    reads("is missing");
    // The operator accepts it.
    fs::remove_file(home.at(".farepass/installed")).unwrap();
    home.farepass(["ledger", "list"]).ok();
    home.farepass(["explain", "https://api.example.com/v1/x"])
        .ok();
    fs::write(&file, vec![0x5a; old.len()]).unwrap();
    reads("");
}

/// What every request gets, not what one would get in a new session.
#[test]
fn a_session_that_is_over_is_explained_as_it_is() {
    let home = Home::ready();
    let explain = |agent: &[&str]| {
        let url = "https://api.example.com/v1/x";
        home.farepass(["explain", url, "--json"].iter().chain(agent))
    };
    assert_eq!(explain(&[]).ok().json()["decision"], "pay");
    home.farepass(["session", "create", "--default"]).ok();
    assert_eq!(explain(&[]).ok().json()["session"], "default");
    home.farepass(["session", "close", "default"]).ok();
    for agent in [&[][..], &["--agent", "default"]] {
        let closed = explain(agent);
        assert_eq!(closed.code, Some(3), "{closed:?}");
        let page = closed.json();
        assert_eq!(
            (&page["reason"], &page["session"]),
            (&"session_closed".into(), &"default".into())
        );
    }
    home.farepass(["session", "create", "--default", "--expires", "1s"])
        .ok();
    let expired = until("the end of a session", || {
        Some(explain(&[])).filter(|ended| ended.code == Some(3))
    });
    assert_eq!(expired.json()["reason"], "session_expired");
    // Another agent gets one of its own.
    assert_eq!(explain(&["--agent", "bot"]).ok().json()["session"], "new");
}

/// Whatever its rules say, no merchant is ever asked there, or none is believed.
#[test]
fn where_nothing_is_ever_paid_explain_says_so() {
    let home = Home::ready();
    home.configure(
        "tls: { passthrough: [api.example.com], insecure_hosts: [\"odd.example.com\"] }\n\
         egress: { resolve: { \"pin.example.com:8443\": 127.0.0.1 } }",
    );
    let text = home.read("farepass.yaml");
    let everywhere = text.replace("hosts: [\"api.example.com\"]", "hosts: [\"*\", \"*:8443\"]");
    assert_ne!(text, everywhere);
    std::fs::write(home.at("farepass.yaml"), everywhere).unwrap();
    for (url, why) in [
        ("https://api.example.com/v1/x", Some("tls.passthrough")),
        ("https://odd.example.com/v1/x", Some("tls.insecure_hosts")),
        ("https://other.example.com:8443/v1/x", Some("port 8443")),
        ("https://pin.example.com:8443/v1/x", None),
        ("https://other.example.com/v1/x", None),
    ] {
        let ended = home.farepass(["explain", url, "--json"]);
        let page = ended.json();
        let (decision, code) = match why {
            Some(_) => ("refuse", 3),
            None => ("pay", 0),
        };
        assert_eq!(page["decision"], decision, "{url} {ended:?}");
        assert_eq!(ended.code, Some(code), "{url}");
        let Some(why) = why else { continue };
        assert!(page["detail"].as_str().unwrap().contains(why), "{page}");
        let said = home.farepass(["explain", url]).out;
        let last = said.lines().last().unwrap();
        assert!(
            last.starts_with("not paid: ") && last.contains(why),
            "{last}"
        );
    }
}

/// In a pod the session of clients without credentials has the pod's name, and its agent's.
#[test]
fn what_is_asked_in_a_pod_is_asked_for_its_session() {
    let home = Home::ready();
    let run = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("FAREPASS_SESSION", "pod-7");
        command.env("FAREPASS_AGENT", "bot");
        command.env("FAREPASS_BUDGET", "0.25 USD");
        let output = command.output().unwrap();
        crate::support::Ended::of(output)
    };
    let url = "https://api.example.com/v1/x";
    let whose = |args: &[&str]| {
        let page = run(&[&["explain", url, "--json"], args].concat()).json();
        let text = |name: &str| page[name].as_str().unwrap_or("-").to_owned();
        let limit = page["limits"][0]["limit"].as_str().unwrap_or("-");
        [text("session"), text("agent"), text("reason"), limit.into()]
    };
    assert_eq!(whose(&[]), ["new", "bot", "-", "0.25 USD"]);
    run(&["session", "create", "--default"]).ok();
    assert_eq!(whose(&[]), ["pod-7", "bot", "-", "0.25 USD"]);
    assert_eq!(whose(&["--agent", "bot"])[0], "pod-7");
    // An argument beats the variables.
    assert_eq!(whose(&["--agent", "other"])[..2], ["new", "other"]);
    run(&["session", "close", "pod-7"]).ok();
    let over = whose(&[]);
    assert_eq!((&*over[0], &*over[2]), ("pod-7", "session_closed"));
}

#[test]
fn a_limit_that_counts_payments_only_has_no_money_left() {
    let home = Home::ready();
    let text = home.read("farepass.yaml");
    let rated = text.replace("pay:", "pay:\n      rate: 30/m");
    assert_ne!(text, rated);
    std::fs::write(home.at("farepass.yaml"), rated).unwrap();
    let url = "https://api.example.com/v1/x";
    let page = home.farepass(["explain", url, "--json"]).ok().json();
    let limits = page["limits"].as_array().unwrap().iter();
    let mut rates = limits.filter(|limit| limit["payments_limit"].is_number());
    let rate = rates.next().unwrap();
    assert_eq!(rate["limit"], serde_json::Value::Null, "{rate}");
    assert_eq!(rate["remaining"], serde_json::Value::Null, "{rate}");
    assert_eq!(rate["payments_limit"], 30, "{rate}");
}

#[test]
fn the_authority_is_shown_and_never_its_key() {
    let home = Home::ready();
    let shown = home.farepass(["ca", "show", "--json"]).ok().json();
    assert!(
        shown["subject"]
            .as_str()
            .unwrap()
            .contains("Farepass local CA")
    );
    assert_eq!(shown["fingerprint"].as_str().unwrap().len(), 64);
    let pem = home.farepass(["ca", "export"]).ok().out;
    assert_eq!(
        pem.replace('\n', ""),
        home.read("certs/ca.pem").replace(['\n', '\r'], "")
    );
    let der = home
        .command(["ca", "export", "--format", "der"])
        .output()
        .unwrap()
        .stdout;
    assert_eq!(der[0], 0x30);
    let both = [pem.into_bytes(), der].concat();
    assert!(!String::from_utf8_lossy(&both).contains("PRIVATE"));
    // The key is not even read.
    fs::remove_file(home.at("certs/ca-key.pem")).unwrap();
    home.farepass(["ca", "show"]).ok();
    if there_is("openssl") {
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
        let said = openssl
            .arg(home.at("certs/ca.pem"))
            .output()
            .unwrap()
            .stdout;
        let said = String::from_utf8(said)
            .unwrap()
            .replace(':', "")
            .to_lowercase();
        assert!(
            said.contains(shown["fingerprint"].as_str().unwrap()),
            "{said}"
        );
    }
    fs::remove_file(home.at("certs/ca.pem")).unwrap();
    home.farepass(["ca", "export"])
        .failed(1, &["ca.pem", "hint: "]);
}

/// Commands that hold the ledger for a moment wait for each other.
#[test]
fn many_at_once_all_get_their_session() {
    let home = Home::ready();
    let begin = |n: usize| {
        let agent = format!("bot-{n}");
        let mut command = home.command(["session", "create", "--agent", &agent]);
        let pipes = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        pipes.spawn().unwrap()
    };
    let children: Vec<_> = (0..8).map(begin).collect();
    for child in children {
        Ended::of(child.wait_with_output().unwrap()).ok();
    }
    let rows = home.farepass(["session", "list", "--json"]).ok().json();
    assert_eq!(rows.as_array().unwrap().len(), 8);
    home.farepass(["ledger", "verify"]).ok();
}

#[test]
fn too_little_of_an_id_is_told_how_much_is_needed() {
    let home = Home::ready();
    let made = home.farepass(["session", "create", "--json"]).json();
    let id = made["id"].as_str().unwrap();
    let ended = home.farepass(["session", "show", &id[..7]]);
    ended.failed(1, &["no session of that id", "at least 8 characters"]);
}
