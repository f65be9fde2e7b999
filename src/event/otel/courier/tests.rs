//! What a collector may answer, and what becomes of a batch then.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use rustls::RootCertStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::*;
use crate::event::otel::queue::Counted;
use crate::event::{SpendEvent, State};

fn log() -> Log {
    let event = SpendEvent {
        state: State::Denied,
        ..SpendEvent::default()
    };
    Log::of_event(&event, "farepass.denied")
}

/// A collector that gives these answers in turn, the last one for ever. Counts what it was asked.
async fn collector(answers: &'static [&'static str]) -> (Uri, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/logs", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let turn = Arc::new(Mutex::new(answers.iter()));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 65536];
            let _ = stream.read(&mut seen).await;
            let answer = turn.lock().unwrap().next();
            let answer = answer.or(answers.last()).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
            let length = body.len();
            let text = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    (url.parse().unwrap(), asked)
}

fn to(url: Uri) -> Destination {
    Destination {
        fetch: Fetch::new(Arc::new(RootCertStore::empty())).unwrap(),
        url,
        wire: Wire::Http,
        headers: HeaderMap::new(),
        timeout: Duration::from_secs(5),
    }
}

/// Sends one record and ends when it is counted.
async fn sent(answers: &'static [&'static str]) -> (usize, Counted) {
    let (url, asked) = collector(answers).await;
    let (lane, courier) = lane::<Log>(Some(to(url)), &Resource(vec![])).unwrap();
    let (_over, ends) = watch::channel(false);
    let running = tokio::spawn(courier.run(ends));
    lane.put(log());
    tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let (_, counted) = lane.counted();
            if counted.exported + counted.export > 0 {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let (_, counted) = lane.counted();
    drop(lane);
    running.await.unwrap();
    (asked.load(Ordering::SeqCst), counted)
}

#[tokio::test]
async fn a_busy_collector_is_asked_again() {
    let (asked, counted) = sent(&[
        "429 Busy\r\nRetry-After: 0",
        "503 No\r\nRetry-After: 0",
        "200 OK",
    ])
    .await;
    assert_eq!((asked, counted.exported, counted.export), (3, 1, 0));
}

#[tokio::test]
async fn a_collector_that_says_no_is_not_asked_again() {
    for answer in [
        &["400 Bad Request"][..],
        &["401 Unauthorized"],
        &["302 Found"],
    ] {
        let (asked, counted) = sent(answer).await;
        assert_eq!((asked, counted.exported, counted.export), (1, 0, 1));
    }
}

/// One record of those that it says it left out, and it is not asked again.
#[tokio::test]
async fn what_a_collector_leaves_out_of_a_batch_is_not_counted_as_taken() {
    let (asked, counted) = sent(&["200 OK\r\n\r\n\x0a\x08\x08\x01\x12\x04full"]).await;
    assert_eq!((asked, counted.exported, counted.export), (1, 0, 1));
    // More than there were.
    let (asked, counted) = sent(&["200 OK\r\n\r\n\x0a\x02\x08\x07"]).await;
    assert_eq!((asked, counted.exported, counted.export), (1, 0, 1));
    let (_, counted) = sent(&["200 OK\r\n\r\n\x0a\x04\x12\x02hm"]).await;
    assert_eq!((counted.exported, counted.export), (1, 0), "a warning only");
}

#[tokio::test]
async fn a_collector_that_is_always_busy_is_given_up() {
    let (asked, counted) = sent(&["503 No\r\nRetry-After: 0"]).await;
    assert_eq!((asked, counted.exported, counted.export), (5, 0, 1));
}

#[tokio::test]
async fn what_the_queue_has_no_room_for_is_counted_and_nobody_waits() {
    let (lane, courier) = lane::<Log>(
        Some(to("http://127.0.0.1:9/".parse().unwrap())),
        &Resource(vec![]),
    )
    .unwrap();
    for _ in 0..WAITING + 7 {
        lane.put(log());
    }
    assert_eq!(lane.counted().1.queue, 7);
    drop(courier);
    lane.put(log());
    assert_eq!(
        lane.counted().1.queue,
        8,
        "nor does it matter that nobody reads"
    );
}

#[tokio::test]
async fn what_waits_at_the_end_is_sent_once() {
    let (url, asked) = collector(&["200 OK"]).await;
    let (lane, courier) = lane::<Log>(Some(to(url)), &Resource(vec![])).unwrap();
    for _ in 0..BATCH + 1 {
        lane.put(log());
    }
    let (over, ends) = watch::channel(true);
    courier.run(ends).await;
    drop(over);
    assert_eq!(lane.counted().1.exported, BATCH as u64 + 1);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

async fn until_asked(asked: &AtomicUsize) {
    while asked.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_end_ends_a_pause_and_the_collector_is_asked_once_more() {
    let (url, asked) = collector(&["503 No\r\nRetry-After: 20", "200 OK"]).await;
    let (lane, courier) = lane::<Log>(Some(to(url)), &Resource(vec![])).unwrap();
    let (over, ends) = watch::channel(false);
    let running = tokio::spawn(courier.run(ends));
    lane.put(log());
    until_asked(&asked).await;
    // Behind the batch that waits.
    lane.put(log());
    sleep(Duration::from_millis(50)).await;
    over.send_replace(true);
    running.await.unwrap();
    let (_, counted) = lane.counted();
    assert_eq!((counted.exported, counted.export), (2, 0));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_collector_that_is_busy_at_the_end_is_given_up_at_once() {
    let (url, asked) = collector(&["503 No\r\nRetry-After: 20"]).await;
    let (lane, courier) = lane::<Log>(Some(to(url)), &Resource(vec![])).unwrap();
    let (over, ends) = watch::channel(false);
    let running = tokio::spawn(courier.run(ends));
    lane.put(log());
    until_asked(&asked).await;
    sleep(Duration::from_millis(50)).await;
    over.send_replace(true);
    running.await.unwrap();
    assert_eq!(lane.counted().1.export, 1);
    assert_eq!(asked.load(Ordering::SeqCst), 2, "once more, and no oftener");
}

#[tokio::test]
async fn what_is_on_its_way_at_the_end_is_not_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/logs", listener.local_addr().unwrap());
    let (lane, courier) = lane::<Log>(Some(to(url.parse().unwrap())), &Resource(vec![])).unwrap();
    let (over, ends) = watch::channel(false);
    let running = tokio::spawn(courier.run(ends));
    lane.put(log());
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = vec![0; 65536];
    assert!(stream.read(&mut seen).await.unwrap() > 0);
    over.send_replace(true);
    // It has been told that it is over, and waits for the answer all the same.
    sleep(Duration::from_millis(50)).await;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    running.await.unwrap();
    assert_eq!(lane.counted().1.exported, 1);
    let again = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(again.is_err(), "nobody came again");
}

#[test]
fn a_frame_is_a_flag_a_length_and_the_message() {
    let frame = framed(&Bytes::from_static(b"abc"));
    assert_eq!(&frame[..], b"\0\0\0\0\x03abc");
    assert_eq!(unframed(&frame), b"abc");
    assert_eq!(unframed(b"\x01\0\0\0\x03abc"), b"", "compressed");
    assert_eq!(unframed(b"\0\0"), b"");
    let uri = method(&"http://c:4317/x?y".parse().unwrap(), Log::METHOD).unwrap();
    assert_eq!(
        uri,
        "http://c:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export"
    );
}
