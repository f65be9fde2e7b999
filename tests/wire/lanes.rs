//! Connections to merchants: kept by the agent that uses them, shared by those that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::h2::{self, DATA, H2};
use crate::support::origin::{Origin, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::Wire;

/// One of those that are open.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts its open connections. `/long` has an answer that stops in the middle.
async fn origin(open: &Arc<AtomicUsize>) -> Origin {
    let open = Arc::clone(open);
    Origin::start(&["http/1.1"], move |mut wire, _| {
        open.fetch_add(1, Ordering::SeqCst);
        let counted = Open(Arc::clone(&open));
        async move {
            let _counted = counted;
            while let Some(message) = wire.request().await {
                let said = match message.path() {
                    "/long" => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec(),
                    path => answer("200 OK", path),
                };
                if wire.write(&said).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

async fn get(wire: &mut Wire, path: &str) {
    let ask = format!("GET {path} HTTP/1.1\r\nHost: free.wire.test\r\n\r\n");
    wire.write(ask.as_bytes()).await.unwrap();
    if path != "/long" {
        let said = soon("an answer", wire.response("GET")).await.unwrap();
        assert_eq!(said.text(), path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_wait_share_what_they_do_not_use() {
    let open = Arc::new(AtomicUsize::new(0));
    let origin = origin(&open).await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"] = json!({ "pool_idle": 2 });
    })
    .await;
    let mut agents = vec![];
    for _ in 0..8 {
        let mut wire = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
        get(&mut wire, "/first").await;
        agents.push(wire);
    }
    let mut waits = proxy.agent().tls("free.wire.test", &["http/1.1"]).await;
    get(&mut waits, "/long").await;
    assert_eq!(waits.until(b"half").await.unwrap().last(), Some(&b'f'));
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let rested = async {
        while open.load(Ordering::SeqCst) > 3 {
            looks.tick().await;
        }
    };
    soon("two that are shared, and the one in use", rested).await;
    // Nobody notices.
    for wire in &mut agents {
        get(wire, "/again").await;
    }
    proxy.assert_well();
}

/// Which connection of a merchant each of its answers comes on; each says how long it is kept.
async fn numbered(seconds: u64) -> Origin {
    Origin::start(&["http/1.1"], move |mut wire, number| async move {
        while wire.request().await.is_some() {
            let said = String::from_utf8(answer("200 OK", &number.to_string())).unwrap();
            let kept = format!("\r\nKeep-Alive: timeout={seconds}, max=9\r\nContent");
            let said = said.replacen("\r\nContent", &kept, 1);
            if wire.write(said.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Asks after each of these pauses; which connections the answers came on.
async fn connections(proxy: &Proxy, version: &str, pauses: &[u64]) -> Vec<String> {
    let (mut said, agent) = (vec![], proxy.agent());
    let mut wire = agent.tls("free.wire.test", &[version]).await;
    if version == "h2" {
        let mut h2 = H2::over(wire).await;
        for (stream, pause) in (1..).step_by(2).zip(pauses) {
            tokio::time::sleep(Duration::from_millis(*pause)).await;
            h2.send(&h2::get(stream)).await;
            while let Some(frame) = soon("an answer", h2.next()).await {
                if frame.kind == DATA && !frame.payload.is_empty() {
                    said.push(String::from_utf8(frame.payload).unwrap());
                    break;
                }
            }
        }
        return said;
    }
    for pause in pauses {
        tokio::time::sleep(Duration::from_millis(*pause)).await;
        let ask = b"GET / HTTP/1.1\r\nHost: free.wire.test\r\n\r\n";
        wire.write(ask).await.unwrap();
        let answer = soon("an answer", wire.response("GET")).await.unwrap();
        assert!(answer.one("keep-alive").is_none());
        said.push(answer.text());
    }
    said
}

/// RFC 9112 appendix C.2.2: a connection on which a request would meet its end is not used.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_no_longer_than_its_merchant_does() {
    for version in ["http/1.1", "h2"] {
        let origin = numbered(3).await;
        let mut proxy = Proxy::start(&origin, |_| {}).await;
        let first = connections(&proxy, version, &[0, 100, 2300]).await;
        assert_eq!(first[0], first[1], "{version}");
        assert_ne!(first[1], first[2], "{version}: idle for too long");
        proxy.assert_well();
        let origin = numbered(1).await;
        let mut proxy = Proxy::start(&origin, |_| {}).await;
        let each = connections(&proxy, version, &[0, 100]).await;
        assert_ne!(each[0], each[1], "{version}: not kept at all");
        proxy.assert_well();
    }
}
