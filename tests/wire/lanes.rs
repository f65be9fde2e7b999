//! Connections to merchants: kept by the agent that uses them, shared by those that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

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
