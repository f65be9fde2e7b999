//! A gibibyte each way, and memory stays where it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::agent::Ask;
use crate::support::merchant::{After, Merchant};
use crate::support::proxy::{Proxy, Setup};
use crate::support::shop;

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
