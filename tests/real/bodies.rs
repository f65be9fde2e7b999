//! A gibibyte each way, and memory stays where it was.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::agent::Ask;
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::{Proxy, Setup};
use crate::support::{linger, shop, until};

const LONG: Duration = Duration::from_secs(20);
const GIB: u64 = 1 << 30;
/// More than this on top of the start is a body that was kept.
const GROWTH_KIB: u64 = 48 * 1024;

fn proxy() -> (Merchant, Proxy) {
    let merchant = Merchant::start(|seen, out| {
        match seen.method.as_str() {
            "GET" => {
                write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n")?;
                let block = vec![b'g'; 1 << 16];
                for _ in 0..GIB >> 16 {
                    out.write_all(&block)?;
                }
            }
            _ => {
                let got = seen.body.length.to_string();
                write!(
                    out,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{got}",
                    got.len()
                )?;
            }
        }
        Ok(After::Keep)
    });
    let mut setup = Setup::new();
    setup
        .root(&merchant.root)
        .resolve("bulk.stand.test:443", merchant.tls.port().into());
    (merchant, setup.start())
}

/// The highest memory that was seen while `work` ran, above what it was before.
fn growth(proxy: &Proxy, work: impl FnOnce() + Send) -> u64 {
    let before = proxy.memory();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(proxy.memory());
                std::thread::park_timeout(Duration::from_millis(20));
            }
            most
        });
        work();
        done.store(true, Ordering::Relaxed);
        watch.join().unwrap().saturating_sub(before)
    })
}

#[test]
fn a_gibibyte_down() {
    let (_merchant, proxy) = proxy();
    for version in ["--http1.1", "--http2"] {
        let grown = growth(&proxy, || {
            let mut curl = proxy.curl("https://bulk.stand.test/big");
            let out = curl
                .args([
                    version,
                    "--max-time",
                    "300",
                    "--no-include",
                    "--output",
                    "/dev/null",
                ])
                .args(["--write-out", "%{size_download}"])
                .output()
                .unwrap();
            assert_eq!(
                String::from_utf8_lossy(&out.stdout),
                GIB.to_string(),
                "{version}: {out:?}"
            );
        });
        println!("{version} down: memory grew by {grown} KiB");
        assert!(grown < GROWTH_KIB, "{version}: memory grew by {grown} KiB");
    }
}

#[test]
fn a_gibibyte_up() {
    let (merchant, proxy) = proxy();
    let merchant = Arc::new(merchant);
    for version in ["--http1.1", "--http2"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zeros");
        // Sparse: it has a length, but takes no room.
        std::fs::File::create(&file).unwrap().set_len(GIB).unwrap();
        let grown = growth(&proxy, || {
            let mut curl = proxy.curl("https://bulk.stand.test/upload");
            let out = curl
                .args([
                    version,
                    "--max-time",
                    "300",
                    "--no-include",
                    "--upload-file",
                ])
                .arg(&file)
                .output()
                .unwrap();
            assert_eq!(
                String::from_utf8_lossy(&out.stdout),
                GIB.to_string(),
                "{version}: {out:?}"
            );
        });
        println!("{version} up: memory grew by {grown} KiB");
        assert!(grown < GROWTH_KIB, "{version}: memory grew by {grown} KiB");
    }
    assert_eq!(merchant.seen().len(), 2);
}

/// What is kept of all bodies together has a bound; what is beyond it streams, and is not paid for.
#[test]
fn copies_have_a_bound_together() {
    let merchant = Merchant::start(|seen, out| match seen.payment().is_some() {
        true => shop::sell("sold", out),
        false => shop::ask(&shop::challenge(), out),
    });
    let mut setup = shop::setup(&merchant);
    setup.config["limits"] = serde_json::json!({ "replay_bodies": "64 KiB" });
    let proxy = setup.start();
    let post = |length: usize| {
        let mut ask = Ask::get(&format!("https://{}/v1/x", shop::HOST));
        ask.method = "POST".into();
        ask.body = vec![b'x'; length];
        proxy.agent(LONG).send(&ask).unwrap()
    };
    let answer = post(100 << 10);
    assert_eq!(answer.reason().as_deref(), Some("body_not_replayable"));
    // Each gives back what it took.
    for _ in 0..4 {
        let answer = post(40 << 10);
        assert_eq!((answer.status, answer.text().as_str()), (200, "sold"));
    }
    assert_eq!(shop::payments(&merchant).len(), 4);
}

/// A demand of version 1, which is in its body, with so much that means nothing.
fn ask_in_a_body(padding: usize, out: &mut dyn Write) -> io::Result<After> {
    let mut entry = shop::challenge()["accepts"][0].take();
    entry["network"] = json!("base-sepolia");
    entry["maxAmountRequired"] = entry["amount"].take();
    entry["resource"] = json!(format!("https://{}/", shop::HOST));
    let body = json!({ "x402Version": 1, "error": "x".repeat(padding), "accepts": [entry] });
    let (body, head) = (body.to_string(), ASKS);
    write!(out, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
    Ok(After::Keep)
}

const ASKS: &str = "HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\n";

/// Threat D-06: nobody is asked whether such a body may be paid for before it has been read.
#[test]
fn demands_that_do_not_end_are_not_all_held() {
    let merchant = Merchant::start(|seen, out| match (seen.path(), seen.payment()) {
        ("/stalled", _) => {
            write!(out, "{ASKS}Content-Length: 1048000\r\n\r\n{{")?;
            // In small pieces: whoever is read from fast is given large buffers to be read into.
            for _ in 0..125 {
                out.write_all(&[b' '; 8_000])?;
                out.flush()?;
                linger(Duration::from_millis(10));
            }
            linger(Duration::from_secs(6));
            Ok(After::Close)
        }
        (_, Some(_)) => shop::sell("sold", out),
        _ => ask_in_a_body(0, out),
    });
    let proxy = shop::setup(&merchant).start();
    let grown = growth(&proxy, || {
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let ask = Ask::get(&format!("http://{}/stalled", shop::HOST));
                    // Refused after a while, or cut off by the merchant.
                    let _ = proxy.agent(LONG).send(&ask);
                });
            }
            until("all of them", LONG, || {
                (merchant.seen().len() == 100).then_some(())
            });
            linger(Duration::from_secs(3));
            let answer = proxy.get(&format!("https://{}/honest", shop::HOST));
            assert_eq!((answer.status, answer.text().as_str()), (200, "sold"));
        });
    });
    println!("memory grew by {grown} KiB");
    assert!(grown < GROWTH_KIB, "memory grew by {grown} KiB");
    assert_eq!(shop::payments(&merchant).len(), 1);
}

/// What finds no room is handed over as it came, with the reason; and each gives back what it took.
#[test]
fn answers_that_are_read_have_a_bound_together() {
    static WRITTEN: AtomicBool = AtomicBool::new(false);
    static RELEASED: AtomicBool = AtomicBool::new(false);
    let merchant = Merchant::start(|seen, out| match (seen.path(), seen.payment()) {
        ("/held", _) => {
            write!(out, "{ASKS}Content-Length: 50000\r\n\r\n{{")?;
            out.write_all(&[b' '; 40_000])?;
            out.flush()?;
            WRITTEN.store(true, Ordering::Relaxed);
            until("the end", LONG, || {
                RELEASED.load(Ordering::Relaxed).then_some(())
            });
            Ok(After::Close)
        }
        (_, Some(_)) => shop::sell("sold", out),
        (path, None) => ask_in_a_body(path[1..].parse().unwrap(), out),
    });
    let mut setup = shop::setup(&merchant);
    setup.config["limits"] = json!({ "challenge_bodies": "64 KiB" });
    let proxy = setup.start();
    let ask = |page: &str| -> Answer {
        let ask = Ask::get(&format!("https://{}/{page}", shop::HOST));
        proxy.agent(LONG).send(&ask).unwrap()
    };
    for _ in 0..4 {
        assert_eq!(ask("50000").text(), "sold");
    }
    let long = ask("70000");
    assert_eq!(long.reason().as_deref(), Some("limits_exceeded"));
    std::thread::scope(|scope| {
        let held = scope.spawn(|| ask("held"));
        until("it to be sent", LONG, || {
            WRITTEN.load(Ordering::Relaxed).then_some(())
        });
        // Whatever is asked before the proxy has read it takes its room.
        linger(Duration::from_millis(500));
        let answer = until("it to be held", Duration::from_secs(4), || {
            Some(ask("50001")).filter(|answer| answer.status == 402)
        });
        let decision = answer.one("farepass-decision");
        assert_eq!(decision, Some("denied; reason=\"limits_exceeded\""));
        assert!(answer.body.start.starts_with(b"{") && answer.body.length > 50_000);
        let length = answer.one("content-length").map(str::parse::<u64>);
        assert_eq!(length, Some(Ok(answer.body.length)));
        assert_eq!(ask("10000").text(), "sold");
        assert_eq!(held.join().unwrap().status, 402);
        RELEASED.store(true, Ordering::Relaxed);
    });
    assert_eq!(ask("50002").text(), "sold");
}

/// What unpacks to nothing costs its reader as much as what unpacks to something (threat D-05).
#[test]
fn a_packed_challenge_is_read_as_far_as_honest_ones_go() {
    const EMPTY: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x03\0\0\0\0\0\0\0\0\0";
    let merchant = Merchant::start(|_, out| {
        let body = EMPTY.repeat(5000);
        let head = "HTTP/1.1 402 Payment Required\r\nContent-Type: application/json";
        let length = body.len();
        write!(
            out,
            "{head}\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
        )?;
        out.write_all(&body)?;
        Ok(After::Keep)
    });
    let proxy = shop::setup(&merchant).start();
    let answer = proxy.get(&format!("https://{}/x", shop::HOST));
    assert_eq!(answer.reason().as_deref(), Some("limits_exceeded"));
    assert!(answer.text().contains("64 KiB"), "{}", answer.text());
}
