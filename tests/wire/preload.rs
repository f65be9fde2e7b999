//! Node with our preload: `http` and `https` with agents of a program's own, and addresses in place of names.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use crate::support::message::Message;
use crate::support::origin::{Origin, Then, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;

fn said(asked: &Message) -> (Vec<u8>, Then) {
    match asked.path() {
        "/slow" => (vec![], Then::Hang),
        "/big" => {
            let mut text = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
            text.resize(text.len() + 5_000_000, b'y');
            (text, Then::Close)
        }
        "/cut" => {
            let half = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
            (half.into(), Then::Close)
        }
        "/101" => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello";
            (head.into(), Then::Hang)
        }
        _ => {
            let length = asked.one("content-length").unwrap_or_default();
            (
                answer("200 OK", &format!("content-length: {length}")),
                Then::Keep,
            )
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_a_programs_own_are_led_to_the_proxy() {
    let node = std::process::Command::new("node").arg("--version").output();
    if node.is_err() {
        println!("SKIPPED: there is no Node");
        return;
    }
    let origin = Origin::scripted(said).await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["tls"]["passthrough"] = json!(["blind.wire.test:444"]);
    })
    .await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let url = format!("http://{}", proxy.address);
    let preload = root.join("src/app/node-preload.cjs");
    let node = Command::new("node")
        .arg(root.join("tests/wire/preload.cjs"))
        .env("HTTPS_PROXY", &url)
        .env("HTTP_PROXY", &url)
        .env("NO_PROXY", "127.0.0.1")
        .env("NODE_EXTRA_CA_CERTS", proxy.ca())
        .env("NODE_OPTIONS", format!("--require={}", preload.display()))
        .env("NODE_USE_ENV_PROXY", "1")
        .env("HERE", proxy.dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let out = soon("the end of a program", node).await.unwrap();
    let noise = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{noise}");
    assert_eq!(
        String::from_utf8_lossy(&out.stdout).trim(),
        "done",
        "{noise}"
    );
    proxy.assert_well();
}
