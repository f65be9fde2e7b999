//! Agents that say nothing for a while, at every place where they can: what the proxy puts away
//! meanwhile is missed by nobody.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::origin::{Origin, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;
use crate::support::wire::Wire;

/// Longer than it takes for a connection on which nothing is asked to be put away.
const WHILE: Duration = Duration::from_millis(450);

/// More than all buffers on the way take.
const LARGE: usize = 24 << 20;

/// Says what it was asked and how long the body was; `/slow` after a while, `/large` much.
async fn origin() -> Origin {
    Origin::start(&["http/1.1"], |mut wire, _| async move {
        while let Some(message) = wire.request().await {
            let said = match message.path() {
                "/large" => answer("200 OK", &"x".repeat(LARGE)),
                path => answer("200 OK", &format!("{path} {}", message.body.len())),
            };
            if message.path() == "/slow" {
                sleep(WHILE).await;
            }
            if wire.write(&said).await.is_err() {
                return;
            }
        }
    })
    .await
}

async fn ask(wire: &mut Wire, pieces: &[&str]) {
    for piece in pieces {
        sleep(WHILE).await;
        wire.write(piece.as_bytes()).await.unwrap();
    }
}

async fn hear(wire: &mut Wire, said: &str) {
    let heard = soon("an answer", wire.response("GET")).await.unwrap();
    assert_eq!(heard.text(), said);
}

/// The same everywhere; `at` comes before a path.
async fn waits_everywhere(wire: &mut Wire, at: &str) {
    let host = "Host: free.wire.test\r\n";
    ask(wire, &[&format!("GET {at}/1 HTTP/1.1\r\n{host}\r\n")]).await;
    hear(wire, "/1 0").await;
    // In the middle of a head.
    let pieces = [
        &format!("GET {at}/2 HT"),
        "TP/1.1\r\nHo",
        &host[2..],
        "\r\n",
    ];
    ask(wire, &pieces).await;
    hear(wire, "/2 0").await;
    // Two at once.
    let two = format!("GET {at}/3 HTTP/1.1\r\n{host}\r\nGET {at}/4 HTTP/1.1\r\n{host}\r\n");
    ask(wire, &[&two]).await;
    hear(wire, "/3 0").await;
    hear(wire, "/4 0").await;
    // In the middle of a body.
    let head = format!("POST {at}/5 HTTP/1.1\r\n{host}Content-Length: 6\r\n\r\nabc");
    ask(wire, &[&head, "def"]).await;
    hear(wire, "/5 6").await;
    let head = format!("POST {at}/6 HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n3\r\na");
    ask(wire, &[&head, "bc\r\n", "0\r\n", "\r\n"]).await;
    hear(wire, "/6 3").await;
    // For a merchant that takes its time.
    ask(wire, &[&format!("GET {at}/slow HTTP/1.1\r\n{host}\r\n")]).await;
    hear(wire, "/slow 0").await;
    // With an answer that it does not read yet.
    ask(wire, &[&format!("GET {at}/large HTTP/1.1\r\n{host}\r\n")]).await;
    sleep(3 * WHILE).await;
    let heard = soon("a large answer", wire.response("GET")).await.unwrap();
    assert!(heard.whole && heard.body.len() == LARGE);
    ask(wire, &[&format!("GET {at}/7 HTTP/1.1\r\n{host}\r\n")]).await;
    hear(wire, "/7 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_loses_nothing() {
    let origin = origin().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let mut inside = agent.tls("free.wire.test", &["http/1.1"]).await;
    let mut outside = agent.plain().await;
    tokio::join!(
        waits_everywhere(&mut inside, ""),
        waits_everywhere(&mut outside, "http://free.wire.test"),
    );
    // And whoever leaves while it waits is let go.
    sleep(WHILE).await;
    inside.finish().await;
    assert!(soon("the end", inside.rest()).await.is_empty());
    proxy.assert_well();
}
