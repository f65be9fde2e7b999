//! The demonstration ends by itself, well, quickly, and leaves nothing behind.
#![cfg(test)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use farepass::demo::agent::Agent;
use http::{Request, Response};
use http_body_util::Full;
use rustix::process::{Pid, Signal, kill_process};

/// Runs it with a temporary folder, no configuration and no proxy of the surroundings.
fn demo(temporary: &std::path::Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_farepass"))
        .arg("demo")
        .env_clear()
        .env("TMPDIR", temporary)
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .current_dir(temporary)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn it_buys_refuses_and_balances_its_books() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let output = demo(folder.path());
    let took = started.elapsed();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}\n{stderr}");
    assert_eq!(stderr, "");
    assert!(took < Duration::from_secs(10), "{took:?}");

    let count = |what: &str| said.matches(what).count();
    assert_eq!(
        count("answer    200 "),
        4,
        "one free page, three bought\n{said}"
    );
    assert_eq!(count("answer    402 application/problem+json"), 3, "{said}");
    for reason in ["over_session_cap", "over_request_cap", "host_not_allowed"] {
        assert_eq!(count(&format!("\"reason\": \"{reason}\"")), 1, "{said}");
    }
    for protocol in ["402 in x402-v1:", "402 in x402-v2:"] {
        assert!(said.contains(protocol), "{protocol}\n{said}");
    }
    assert_eq!(count("  settled   "), 3, "{said}");
    assert_eq!(count("  denied    "), 3, "{said}");
    assert!(
        said.contains("took 3 payments, 0.04 USD: the same"),
        "{said}"
    );
    assert!(said.contains("every sum right"), "{said}");
    assert!(
        !said.contains('\u{1b}'),
        "colour on a terminal only\n{said}"
    );
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "it cleans up after itself");
}

/// It promises that everything stays on the machine, whatever the surroundings say of telemetry.
#[test]
fn it_sends_no_telemetry() {
    let folder = tempfile::tempdir().unwrap();
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", collector.local_addr().unwrap());
    let output = Command::new(env!("CARGO_BIN_EXE_farepass"))
        .arg("demo")
        .env_clear()
        .env("TMPDIR", folder.path())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    collector.set_nonblocking(true).unwrap();
    let asked = collector.accept();
    assert!(asked.is_err(), "somebody was told: {asked:?}");
}

#[test]
fn lines_are_short_enough_for_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo(folder.path());
    let said = String::from_utf8(output.stdout).unwrap();
    for line in said.lines().filter(|l| !l.contains("Farepass-Payment")) {
        assert!(line.chars().count() <= 110, "{line}");
    }
}

#[test]
fn a_full_disk_or_a_closed_pipe_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let output = demo_in(&nowhere);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("farepass: "), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Also when it is told to stop, or its terminal is closed.
#[test]
fn an_end_before_its_end_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let folder = tempfile::tempdir().unwrap();
        let left = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut started = Started(
            Command::new(env!("CARGO_BIN_EXE_farepass"))
                .arg("demo")
                .env_clear()
                .env("TMPDIR", folder.path())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let began = Instant::now();
        while left() == 0 && began.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        assert_eq!(left(), 1, "its folder");
        kill_process(Pid::from_child(&started.0), signal).unwrap();
        assert_ne!(started.0.wait().unwrap().code(), None, "{signal:?}");
        assert_eq!(left(), 0, "{signal:?}");
    }
}

/// With a temporary folder that is not there.
fn demo_in(temporary: &std::path::Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_farepass"))
        .arg("demo")
        .env_clear()
        .env("TMPDIR", temporary)
        .output()
        .unwrap()
}

/// One request of somebody's own client.
async fn get(agent: &Agent, path: &str) -> Response<Bytes> {
    let request = Request::get(path).body(Full::default()).unwrap();
    agent.send("weather.example", request).await.unwrap()
}

/// What docs/answers.md shows between these two.
fn shown(from: &str, to: &str) -> String {
    let answers = include_str!("../docs/answers.md");
    let (_, rest) = answers.split_once(from).unwrap();
    rest.split(to).next().unwrap().to_owned()
}

fn members(document: impl AsRef<[u8]>) -> serde_json::Value {
    serde_json::from_slice(document.as_ref()).unwrap()
}

/// The names of a field's parameters.
fn parameters(field: &str) -> Vec<&str> {
    let parameters = field.split("; ").skip(1);
    parameters.filter_map(|p| p.split('=').next()).collect()
}

/// Ends with the test, whichever way that ends.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[tokio::test]
async fn it_stays_for_a_client_of_ones_own_until_it_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Command::new(env!("CARGO_BIN_EXE_farepass"))
        .args(["demo", "--stay"])
        .env_clear()
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn();
    let mut demo = Started(demo.unwrap());
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap());
    let (mut said, mut line) = (String::new(), String::new());
    while !line.starts_with("Ctrl-C") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "{said}");
        said.push_str(&line);
    }
    let value = |name: &str| {
        let (_, rest) = said.split_once(&format!("{name}=")).unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    };
    let proxy = value("HTTPS_PROXY");
    let proxy = proxy.strip_prefix("http://").unwrap().parse().unwrap();
    let root = std::fs::read_to_string(value("CURL_CA_BUNDLE")).unwrap();
    let agent = Agent::new(proxy, &root).unwrap();

    let bought = get(&agent, "/forecast").await;
    assert_eq!(bought.status(), 200);
    assert!(bought.headers().contains_key("farepass-payment"));
    let refused = get(&agent, "/luxury").await;
    assert_eq!(refused.status(), 402);
    assert_eq!(members(shown("```json\n", "```")), members(refused.body()));
    let field = shown("\nFarepass-Payment:", "\n");
    let note = bought.headers()["farepass-payment"].to_str().unwrap();
    assert_eq!(parameters(&field), parameters(note));

    kill_process(Pid::from_child(&demo.0), Signal::TERM).unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.0.wait().unwrap().code(), Some(0), "{rest}");
    assert!(
        rest.contains("  settled   ") && rest.contains("over_request_cap"),
        "{rest}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
