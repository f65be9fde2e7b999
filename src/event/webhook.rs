//! Notices for the operator's own service, as signed JSON (Standard Webhooks 1.0). Sent beside everything
//! else: a service that is slow or down holds up no payment and loses no record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use super::{Notice, Sink, SpendEvent};
use crate::clock;
use crate::fetch::Fetch;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Notices that may wait for a slow service. What comes beyond that is in the log only.
const WAITING: usize = 256;

/// For one try.
const PATIENCE: Duration = Duration::from_secs(10);

/// For everything that still waits at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Pauses between the tries of one notice, in seconds. None is long: a service that works again is told what waits
/// while the agent that waits for the answer is still there.
const PAUSES: [u64; 17] = [
    1, 5, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
];

/// Between the end of one try and the next.
const SHORTEST: Duration = Duration::from_secs(1);

/// A notice is given up after so long, also where each try takes its time, so that the next ones come to their turn.
const ENDURANCE: Duration = Duration::from_secs(160);

/// Shortest secret: 192 bits, as the specification says.
const SECRET_MIN: usize = 24;

/// Most bytes of an answer, which nobody reads.
const ANSWER_MAX: usize = 64 * 1024;

/// What notices are signed with. No `Debug`.
pub struct Secret(hmac::Key);

/// Why a file holds no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSecret {
    /// The part behind `whsec_` is not base64.
    #[error("what follows whsec_ is not base64")]
    Encoding,
    /// Too short to be one.
    #[error("a webhook secret has 24 bytes at least")]
    Short,
}

impl Secret {
    /// Reads `whsec_` and base64, or the bytes themselves, without white space around them.
    ///
    /// # Errors
    /// [`NotSecret`].
    pub fn read(bytes: &[u8]) -> Result<Self, NotSecret> {
        let bytes = bytes.trim_ascii();
        let key = match bytes.strip_prefix(b"whsec_") {
            Some(encoded) => {
                Zeroizing::new(STANDARD.decode(encoded).map_err(|_| NotSecret::Encoding)?)
            }
            None => Zeroizing::new(bytes.to_vec()),
        };
        if key.len() < SECRET_MIN {
            return Err(NotSecret::Short);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// `v1,` and the base64 of an HMAC-SHA-256 over id, time and body.
    fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

/// The sink. Dropping the last of it ends its task.
pub struct Webhook {
    queue: Sender<Bytes>,
}

/// Sends what the sink takes in. To be run as a task of its own.
pub struct Courier {
    queue: Receiver<Bytes>,
    fetch: Fetch,
    url: Uri,
    secret: Secret,
}

/// A sink and its courier.
#[must_use]
pub fn open(fetch: Fetch, url: Uri, secret: Secret) -> (Arc<Webhook>, Courier) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let courier = Courier {
        queue: receiver,
        fetch,
        url,
        secret,
    };
    (Arc::new(Webhook { queue: sender }), courier)
}

impl Sink for Webhook {
    /// Payments are in the log and the ledger; a service is told what a person should know.
    fn observe(&self, _event: &SpendEvent) {}

    fn notice(&self, notice: &Notice) {
        // Nothing that a person must know of at once.
        if matches!(notice, Notice::SignedIn { .. }) {
            return;
        }
        let Ok(body) = serde_json::to_vec(notice) else {
            return;
        };
        if self.queue.try_send(body.into()).is_err() {
            tracing::warn!(
                event = notice.name(),
                "the webhook is too slow; this notice is in the log only"
            );
        }
    }
}

impl Courier {
    /// Runs until `over` turns true. What still waits then is tried once, first what was being tried.
    pub async fn run(mut self, mut over: watch::Receiver<bool>) {
        let mut open = None;
        loop {
            let body = tokio::select! {
                _ = over.wait_for(|over| *over) => break,
                body = self.queue.recv() => body,
            };
            let Some(body) = body else { return };
            let id = id();
            tokio::select! {
                _ = over.wait_for(|over| *over) => {
                    open = Some((id, body));
                    break;
                }
                () = self.deliver(&id, body.clone()) => {}
            }
        }
        let farewell = async {
            if let Some((id, body)) = open {
                // It may have been taken already: whoever receives it knows it by its id.
                let _ = self.send(&id, body).await;
            }
            while let Ok(body) = self.queue.try_recv() {
                // The last word: whoever does not take it finds it in the log.
                let _ = self.send(&id(), body).await;
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
    }

    /// Tries until it is taken or refused for good, for some minutes. The same id each time.
    async fn deliver(&self, id: &str, body: Bytes) {
        let began = Instant::now();
        let mut pauses = PAUSES.iter();
        loop {
            let asked = Instant::now();
            match self.send(id, body.clone()).await {
                Ok(()) => return,
                Err(Refused::Again(problem)) => match pauses.next() {
                    Some(pause) if began.elapsed() < ENDURANCE => {
                        // From one try to the next, however long a silent service took for it.
                        let pause = Duration::from_secs(*pause);
                        sleep(pause.saturating_sub(asked.elapsed()).max(SHORTEST)).await;
                    }
                    Some(_) | None => return missed(&problem),
                },
                Err(Refused::Never(problem)) => return missed(&problem),
            }
        }
    }

    async fn send(&self, id: &str, body: Bytes) -> Result<(), Refused> {
        let timestamp = clock::wall().secs();
        let signature = self.secret.sign(id, timestamp, &body);
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            )
            .header(ID, id)
            .header(TIMESTAMP, timestamp)
            .header(SIGNATURE, signature)
            .body(body)
            .map_err(|e| Refused::Never(e.to_string()))?;
        let answer = self.fetch.send(request, PATIENCE, ANSWER_MAX).await;
        let answer = answer.map_err(|e| Refused::Again(e.to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let told = format!("it answered {status}");
        // The same words again would be refused again, and hold up whatever waits behind them.
        match status.is_client_error() && !PASSING.contains(&status) {
            true => Err(Refused::Never(told)),
            false => Err(Refused::Again(told)),
        }
    }
}

/// Of what a client is told that it did wrong, what may pass.
const PASSING: [StatusCode; 3] = [
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::TOO_EARLY,
    StatusCode::TOO_MANY_REQUESTS,
];

/// Why a notice was not taken, and whether it may be yet.
enum Refused {
    Again(String),
    Never(String),
}

fn missed(problem: &str) {
    tracing::warn!(problem, "the webhook did not take a notice");
}

/// Tells one notice from another. Without randomness it repeats, and a receiver may take it for seen.
fn id() -> String {
    let mut random = [0; 12];
    let _ = getrandom::fill(&mut random);
    format!("msg_{}", hex::encode(random))
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::clock::Timestamp;

    /// A service that takes nothing the first time, and says so. Gives what it was sent, each time.
    async fn service(first: &'static str) -> (Uri, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (heard, all) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut answer = first;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut text = String::new();
                while !text.ends_with('}') {
                    let mut some = [0; 4096];
                    let read = stream.read(&mut some).await.unwrap();
                    text.push_str(std::str::from_utf8(&some[..read]).unwrap());
                }
                let said = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(said.as_bytes()).await.unwrap();
                heard.send(text).unwrap();
                answer = "204 No Content";
            }
        });
        (url.parse().unwrap(), all)
    }

    /// Two notices, on their way to such a service; what ends that, when it has, and what holds the queue open.
    async fn two_told(
        first: &'static str,
    ) -> (
        mpsc::UnboundedReceiver<String>,
        watch::Sender<bool>,
        JoinHandle<()>,
        impl Sized,
    ) {
        let (url, heard) = service(first).await;
        let fetch = Fetch::new(Arc::new(RootCertStore::empty())).unwrap();
        let (sink, courier) = open(fetch, url, Secret::read(&[b'x'; 24]).unwrap());
        let (over, ends) = watch::channel(false);
        let running = tokio::spawn(courier.run(ends));
        for what in ["first", "second"] {
            sink.notice(&Notice::Unfrozen {
                time: Timestamp(1),
                what: what.into(),
            });
        }
        (heard, over, running, sink)
    }

    #[tokio::test]
    async fn what_is_being_tried_at_the_end_is_tried_once_more() {
        let (mut heard, over, running, _open) = two_told("503 Service Unavailable").await;
        let field = |text: &str| {
            let mut lines = text.lines().map(str::to_ascii_lowercase);
            lines.find(|line| line.starts_with("webhook-id: "))
        };
        let refused = heard.recv().await.unwrap();
        assert!(refused.contains("first"), "{refused}");
        over.send(true).unwrap();
        running.await.unwrap();
        let again = heard.recv().await.unwrap();
        assert!(again.contains("first"), "{again}");
        assert_eq!(field(&again), field(&refused), "the same notice");
        let second = heard.recv().await.unwrap();
        assert!(second.contains("second"), "{second}");
        assert_ne!(field(&second), field(&refused));
    }

    #[tokio::test]
    async fn what_is_refused_for_good_holds_up_nothing() {
        for (answer, is_final) in [
            ("400 Bad Request", true),
            ("410 Gone", true),
            ("408 Request Timeout", false),
            ("429 Too Many Requests", false),
            ("500 Internal Server Error", false),
        ] {
            let (mut heard, over, running, _open) = two_told(answer).await;
            assert!(heard.recv().await.unwrap().contains("first"));
            let next = timeout(Duration::from_secs(PAUSES[0]) / 2, heard.recv()).await;
            let next = next.ok().flatten();
            assert_eq!(next.is_some(), is_final, "{answer}: {next:?}");
            assert!(next.is_none_or(|text| text.contains("second")), "{answer}");
            over.send(true).unwrap();
            running.await.unwrap();
        }
    }

    /// An agent waits a minute or so for a person, who must have been asked by then.
    #[test]
    fn a_service_that_works_again_is_told_soon() {
        assert!(PAUSES.iter().all(|pause| *pause <= 10), "{PAUSES:?}");
        let whole: u64 = PAUSES.iter().sum();
        assert!(
            (150..=ENDURANCE.as_secs()).contains(&whole),
            "an outage of two minutes loses nothing: {whole}"
        );
    }

    /// The example of the Standard Webhooks specification, computed independently.
    #[test]
    fn a_signature_is_what_the_specification_says() {
        let secret = Secret::read(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn short_and_garbled_secrets_are_refused() {
        for (text, problem) in [
            (&b"short"[..], NotSecret::Short),
            (b"whsec_!!!", NotSecret::Encoding),
            (b"whsec_AAAA", NotSecret::Short),
        ] {
            assert_eq!(Secret::read(text).err(), Some(problem));
        }
        assert!(Secret::read(&[b'x'; 24]).is_ok());
    }
}
