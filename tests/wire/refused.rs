//! Streams that a merchant of HTTP/2 refuses without a look at them (RFC 9113 section 8.7).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::expect::challenge;
use crate::support::h2::*;
use crate::support::origin::{Origin, answer};
use crate::support::proxy::Proxy;
use crate::support::soon;

const HOST: &str = "free.wire.test";

fn whole(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &field(":status", "200"))
}

/// REFUSED_STREAM.
fn refusal(stream: u32) -> Vec<u8> {
    frame(RESET, 0, stream, &[0, 0, 0, 7])
}

/// Takes its time for its settings, which allow one stream, and refuses others that came before they were taken.
async fn narrow() -> Origin {
    Origin::start(&["h2"], |mut wire, _| async move {
        let _ = wire.exact(PREFACE.len()).await;
        let mut merchant = H2 { wire };
        tokio::time::sleep(Duration::from_millis(300)).await;
        merchant
            .send(&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]))
            .await;
        let (mut agreed, mut first) = (false, true);
        while let Some(frame) = merchant.next().await {
            match frame.kind {
                SETTINGS if frame.flags & ACK != 0 => agreed = true,
                HEADERS if agreed || std::mem::take(&mut first) => {
                    merchant.send(&whole(frame.stream)).await;
                }
                HEADERS => merchant.send(&refusal(frame.stream)).await,
                _ => {}
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_is_asked_for_no_more_at_once_than_its_settings_allow() {
    let origin = narrow().await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let mut h2 = H2::connect(&proxy.agent(), HOST).await;
    let asked: Vec<u8> = (0..10).flat_map(|n| get(2 * n + 1)).collect();
    h2.send(&asked).await;
    let mut statuses = vec![];
    soon("ten answers", async {
        while statuses.len() < 10 {
            let frame = h2.next().await.unwrap();
            assert_ne!(frame.kind, RESET, "{frame:?}");
            if frame.kind == HEADERS {
                statuses.push(status_of(&frame.payload));
            }
        }
    })
    .await;
    assert_eq!(statuses, [200; 10]);
    proxy.assert_well();
}

/// Requests that a merchant got.
fn requests(frames: &mut mpsc::UnboundedReceiver<Frame>) -> usize {
    let frames = std::iter::from_fn(|| frames.try_recv().ok());
    frames.filter(|frame| frame.kind == HEADERS).count()
}

async fn outcome(proxy: &Proxy, host: &str, method: &str, body: &[u8]) -> Outcome {
    let mut h2 = H2::connect(&proxy.agent(), host).await;
    let flags = if body.is_empty() { WHOLE } else { END_HEADERS };
    let mut asked = fields(&[
        (":method", method),
        (":scheme", "https"),
        (":authority", host),
        (":path", "/"),
    ]);
    asked = frame(HEADERS, flags, 1, &asked);
    if !body.is_empty() {
        asked.extend(frame(DATA, END_STREAM, 1, body));
    }
    h2.send(&asked).await;
    soon("an answer", h2.outcome(1)).await
}

/// The merchant answers so, which it does not the first time it is asked; and it is asked once more.
async fn sent_once_more(
    method: &str,
    answer: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static,
) {
    let (origin, mut frames) = merchant(answer).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let said = outcome(&proxy, HOST, method, b"").await;
    assert_eq!(said, Outcome::Status(200), "{method}");
    assert_eq!(requests(&mut frames), 2, "{method}");
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_refused_unseen_is_sent_once_more() {
    for method in ["GET", "POST"] {
        sent_once_more(method, |stream| match stream {
            1 => refusal(stream),
            _ => whole(stream),
        })
        .await;
    }
}

/// The merchant leaves as the request comes, and says that it has not seen it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_met_the_end_of_its_connection_is_sent_once_more() {
    for method in ["GET", "POST", "PATCH"] {
        let stays = Arc::new(AtomicBool::new(false));
        let answer = move |stream| match stays.swap(true, Ordering::SeqCst) {
            false => frame(AWAY, 0, 0, &[0; 8]),
            true => whole(stream),
        };
        sent_once_more(method, answer).await;
    }
}

/// It may have seen it: it names the stream, or an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_have_been_seen_is_not() {
    for last in [[0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 2]] {
        let (origin, mut frames) = merchant(move |stream| {
            let gone = frame(AWAY, 0, 0, &last);
            [gone, frame(RESET, 0, stream, &[0, 0, 0, 2])].concat()
        })
        .await;
        let mut proxy = Proxy::start(&origin, |_| {}).await;
        let said = outcome(&proxy, HOST, "POST", b"").await;
        assert_ne!(said, Outcome::Status(200));
        assert_eq!(requests(&mut frames), 1, "{last:?}");
        proxy.assert_well();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_refuses_everything_is_asked_twice() {
    let (origin, mut frames) = merchant(refusal).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    assert_ne!(
        outcome(&proxy, HOST, "GET", b"").await,
        Outcome::Status(200)
    );
    assert_eq!(requests(&mut frames), 2);
    // Nobody kept a copy of this one.
    assert_ne!(
        outcome(&proxy, HOST, "POST", b"x").await,
        Outcome::Status(200)
    );
    assert_eq!(requests(&mut frames), 1);
    proxy.assert_well();
}

/// A shop for HTTP/2 that refuses the first `refuses` requests with a payment.
async fn shop(refuses: usize) -> (Origin, mpsc::UnboundedReceiver<Frame>) {
    let asked = Arc::new(AtomicUsize::new(0));
    merchant(move |stream| {
        let terms = challenge();
        let terms = [(":status", "402"), ("payment-required", &*terms)];
        match asked.fetch_add(1, Ordering::SeqCst) {
            0 => frame(HEADERS, WHOLE, stream, &fields(&terms)),
            n if n <= refuses => refusal(stream),
            _ => whole(stream),
        }
    })
    .await
}

/// Threat M-11: a merchant that took the payment may say that it did not. So it gets the same once more and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_was_refused_unseen_goes_once_more_and_is_the_same() {
    let is_payment = |frame: &Frame| frame.kind == HEADERS && frame.payload.len() > 500;
    for (refuses, body) in [(1, &b""[..]), (1, b"body"), (2, b"")] {
        let (origin, mut frames) = shop(refuses).await;
        let mut proxy = Proxy::start(&origin, |_| {}).await;
        let method = if body.is_empty() { "GET" } else { "POST" };
        let said = outcome(&proxy, "pay.wire.test", method, body).await;
        let status = if refuses == 1 { 200 } else { 502 };
        assert_eq!(said, Outcome::Status(status));
        let got = std::iter::from_fn(|| frames.try_recv().ok());
        let got: Vec<_> = got.filter(is_payment).collect();
        assert_eq!(got.len(), 2, "payments");
        proxy.assert_well();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_was_refused_unseen_is_held_where_the_rule_says_so() {
    let (origin, mut frames) = shop(1).await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["rules"][0]["pay"]["on_unknown"] = "hold".into();
    })
    .await;
    let said = outcome(&proxy, "pay.wire.test", "GET", b"").await;
    assert_ne!(said, Outcome::Status(200));
    assert_eq!(requests(&mut frames), 2);
    proxy.assert_well();
}

/// A body that was kept for a payment serves here too.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_refused_unseen_is_sent_once_more_where_it_was_kept() {
    let (origin, mut frames) = merchant(|stream| match stream {
        1 => refusal(stream),
        _ => whole(stream),
    })
    .await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let said = outcome(&proxy, "pay.wire.test", "POST", b"body").await;
    assert_eq!(said, Outcome::Status(200));
    // Of the first nobody knows how much was sent before it was refused; and an answer is there with the head of the
    // second, whose body may come later.
    let body = async {
        while let Some(frame) = frames.recv().await {
            if frame.kind == DATA && frame.stream == 3 {
                return frame.payload;
            }
        }
        vec![]
    };
    assert_eq!(soon("the body", body).await, b"body");
    proxy.assert_well();
}

/// HTTP_1_1_REQUIRED (RFC 9113 section 7), as servers say that want a certificate for one place only.
#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_wants_http_1_for_something_is_asked_so() {
    let asked = Arc::new(AtomicUsize::new(0));
    let by_h2 = Arc::clone(&asked);
    let origin = Origin::start(&["h2", "http/1.1"], move |mut wire, _| {
        let by_h2 = Arc::clone(&by_h2);
        async move {
            if wire.more().await && !wire.buffer.starts_with(b"PRI") {
                while let Some(mut message) = wire.head().await {
                    wire.body(&mut message, false).await;
                    let paid = message.one("payment-signature").is_some();
                    let terms = format!(
                        "HTTP/1.1 402 X\r\nPAYMENT-REQUIRED: {}\r\nContent-Length: 0\r\n\r\n",
                        challenge()
                    );
                    let said = match message.path() == "/pay" && !paid {
                        true => terms.into_bytes(),
                        false => answer("200 OK", "by 1.1"),
                    };
                    wire.write(&said).await.unwrap();
                }
                return;
            }
            let _ = wire.exact(PREFACE.len()).await;
            let mut merchant = H2 { wire };
            merchant.send(&frame(SETTINGS, 0, 0, &[])).await;
            while let Some(got) = merchant.next().await {
                if got.kind == HEADERS {
                    by_h2.fetch_add(1, Ordering::SeqCst);
                    let reset = frame(RESET, 0, got.stream, &[0, 0, 0, 13]);
                    merchant.send(&reset).await;
                }
            }
        }
    })
    .await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    for _ in 0..2 {
        let said = outcome(&proxy, HOST, "GET", b"").await;
        assert_eq!(said, Outcome::Status(200));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "it is remembered");
    let said = outcome(&proxy, "pay.wire.test", "POST", b"kept").await;
    assert_eq!(said, Outcome::Status(200));
    proxy.assert_well();
}
