//! Batches on their way to the collector, each signal on a way of its own: bounded, tried again within
//! bounds, and in nobody's way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, TE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

use super::Resource;
use super::partial::{Left, left};
use super::proto::{Anchor, Signal};
use super::queue::{Lane, Tally};
use super::record::{Log, Span};
use crate::clock;
use crate::fetch::Fetch;

mod frame;

use frame::{framed, method, unframed};

/// Spans or records that may wait: some seconds of a busy proxy, and at most a few MiB.
const WAITING: usize = 4096;

/// Of one request.
const BATCH: usize = 512;

/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// For everything that still waits at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// Pauses between the tries of one batch.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Longest pause that a collector may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Most bytes of an answer.
const ANSWER_MAX: usize = 64 * 1024;

/// Wall and steady clock that differ by more than this from before were set anew.
const SET_ANEW: u64 = 100_000_000;

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// `http/protobuf`.
    Http,
    /// `grpc`.
    Grpc,
}

/// Where one signal goes. No `Debug`: there are keys in its fields.
#[derive(Clone)]
pub struct Destination {
    /// The client.
    pub fetch: Fetch,
    /// The whole URL over HTTP; scheme and authority over gRPC.
    pub url: Uri,
    /// How.
    pub wire: Wire,
    /// Sent with each request.
    pub headers: HeaderMap,
    /// For one try.
    pub timeout: Duration,
}

/// The far end of a queue: sends what comes out of it. To be run as a task of its own.
pub(super) struct Courier<T> {
    queue: Receiver<T>,
    batch: Vec<T>,
    to: Destination,
    resource: Resource,
    anchor: Anchor,
    tally: Arc<Tally>,
    /// Was the last batch left out?
    failing: bool,
}

/// One for each signal that is exported.
#[derive(Default)]
pub struct Couriers {
    pub(super) spans: Option<Courier<Span>>,
    pub(super) logs: Option<Courier<Log>>,
}

impl Couriers {
    /// Runs until `over` turns true. What still waits then is tried once.
    pub async fn run(self, over: watch::Receiver<bool>) {
        let spans = async {
            if let Some(courier) = self.spans {
                courier.run(over.clone()).await;
            }
        };
        let logs = async {
            if let Some(courier) = self.logs {
                courier.run(over.clone()).await;
            }
        };
        tokio::join!(spans, logs);
    }

    /// Is there nothing to run?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_none() && self.logs.is_none()
    }
}

pub(super) fn lane<T: Signal>(
    to: Option<Destination>,
    resource: &Resource,
) -> Option<(Lane<T>, Courier<T>)> {
    let to = to?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let tally = Arc::new(Tally::default());
    let courier = Courier {
        queue: receiver,
        batch: Vec::new(),
        to,
        resource: resource.clone(),
        anchor: anchor(),
        tally: Arc::clone(&tally),
        failing: false,
    };
    let lane = Lane {
        queue: sender,
        tally,
    };
    Some((lane, courier))
}

fn anchor() -> Anchor {
    Anchor {
        steady: Instant::now(),
        wall: clock::wall().0.saturating_mul(1_000_000),
    }
}

/// When it is no longer waited.
fn farewell() -> tokio::time::Instant {
    tokio::time::Instant::now() + FAREWELL
}

/// Ends when the signal turns true; a sender that is gone means the same.
async fn turned(signal: &mut watch::Receiver<bool>) {
    // The value that `wait_for` lends must not live across the next wait.
    let _ = signal.wait_for(|on| *on).await;
}

/// Why a batch was not taken, and whether it may be yet.
enum Refused {
    Again(String, Option<Duration>),
    Never(String),
}

impl<T: Signal> Courier<T> {
    async fn run(mut self, mut over: watch::Receiver<bool>) {
        let end = loop {
            // What was gathered is kept when the end comes first.
            let there = tokio::select! {
                biased;
                () = turned(&mut over) => break farewell(),
                there = self.gather() => there,
            };
            if !there {
                return;
            }
            let request = self.request();
            let (outcome, end) = self.delivered(&request, &mut over).await;
            self.count(outcome);
            if let Some(end) = end {
                break end;
            }
        };
        let _ = timeout_at(end, self.rest()).await;
    }

    /// Tries until it is taken, or it is over: what is on its way then may have arrived, so it is waited
    /// for until the end that is given, and not sent once more.
    async fn delivered(
        &self,
        request: &Bytes,
        over: &mut watch::Receiver<bool>,
    ) -> (Result<Left, String>, Option<tokio::time::Instant>) {
        let mut delivery = std::pin::pin!(self.deliver(request, over.clone()));
        tokio::select! {
            biased;
            outcome = &mut delivery => (outcome, None),
            () = turned(over) => {
                let end = farewell();
                let outcome = timeout_at(end, delivery).await;
                (outcome.unwrap_or_else(|_| Err("no answer before the end".into())), Some(end))
            }
        }
    }

    /// Tries once to send what still waits.
    async fn rest(&mut self) {
        loop {
            if self.batch.is_empty() {
                while self.batch.len() < BATCH
                    && let Ok(item) = self.queue.try_recv()
                {
                    self.batch.push(item);
                }
            }
            if self.batch.is_empty() {
                return;
            }
            let request = self.request();
            let outcome = self.send(&request).await;
            self.count(outcome.map_err(|why| match why {
                Refused::Again(why, _) | Refused::Never(why) => why,
            }));
        }
    }

    /// Waits for a first one, and a little for others. `false`: nobody puts anything in any more.
    async fn gather(&mut self) -> bool {
        if self.batch.is_empty() && self.queue.recv_many(&mut self.batch, BATCH).await == 0 {
            return false;
        }
        let end = tokio::time::Instant::now() + GATHER;
        while let Some(room) = BATCH.checked_sub(self.batch.len()).filter(|n| *n > 0) {
            let more = self.queue.recv_many(&mut self.batch, room);
            if !matches!(timeout_at(end, more).await, Ok(1..)) {
                break;
            }
        }
        true
    }

    fn request(&mut self) -> Bytes {
        let now = anchor();
        let passed = now.steady.saturating_duration_since(self.anchor.steady);
        let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        // The same difference as long as it holds, so that spans keep their order from batch to batch.
        if self.anchor.wall.saturating_add(passed).abs_diff(now.wall) > SET_ANEW {
            self.anchor = now;
        }
        T::request(&self.batch, &self.resource, self.anchor).into()
    }

    /// The batch is over, one way or the other.
    fn count(&mut self, outcome: Result<Left, String>) {
        let many = u64::try_from(self.batch.len()).unwrap_or(u64::MAX);
        self.batch.clear();
        let (lost, problem) = match outcome {
            Ok(Left { many: 0, .. }) => (0, None),
            Ok(left) => {
                let lost = left.many.min(many);
                (
                    lost,
                    Some(format!("it left out {lost} of {many}: {}", left.why)),
                )
            }
            Err(problem) => (many, Some(problem)),
        };
        let taken = many.saturating_sub(lost);
        self.tally.exported.fetch_add(taken, Ordering::Relaxed);
        self.tally.export.fetch_add(lost, Ordering::Relaxed);
        match problem {
            None => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(signal = T::NAME, "the collector takes telemetry again");
                }
            }
            Some(problem) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(signal = T::NAME, %problem, "the collector does not take telemetry; what it misses is counted");
                }
            }
        }
    }

    /// Tries until it is taken, at most five times; once more and at once when it is over during a pause.
    async fn deliver(
        &self,
        request: &Bytes,
        mut over: watch::Receiver<bool>,
    ) -> Result<Left, String> {
        let mut pauses = PAUSES.iter();
        let mut last = false;
        loop {
            match self.send(request).await {
                Ok(left) => return Ok(left),
                Err(Refused::Never(why)) => return Err(why),
                Err(Refused::Again(why, wanted)) => match pauses.next() {
                    Some(pause) if !last => {
                        let pause = wanted.unwrap_or(*pause).min(PAUSE_MAX);
                        last = timeout(pause, turned(&mut over)).await.is_ok();
                    }
                    Some(_) | None => return Err(why),
                },
            }
        }
    }

    async fn send(&self, request: &Bytes) -> Result<Left, Refused> {
        match self.to.wire {
            Wire::Http => self.post(request).await,
            Wire::Grpc => self.call(request).await,
        }
    }

    async fn post(&self, body: &Bytes) -> Result<Left, Refused> {
        let kind = HeaderValue::from_static("application/x-protobuf");
        let request = self.to.aim(self.to.url.clone(), kind, body.clone())?;
        let answer = self.to.fetch.send(request, self.to.timeout, ANSWER_MAX);
        let answer = answer
            .await
            .map_err(|e| Refused::Again(e.to_string(), None))?;
        let (status, told) = (answer.status(), format!("it answered {}", answer.status()));
        match status {
            status if status.is_success() => Ok(left(answer.body())),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Refused::Again(told, wait(answer.headers()))),
            _ => Err(Refused::Never(told)),
        }
    }

    async fn call(&self, message: &Bytes) -> Result<Left, Refused> {
        let uri = method(&self.to.url, T::METHOD).ok_or_else(|| Refused::Never("no URL".into()))?;
        let kind = HeaderValue::from_static("application/grpc");
        let mut request = self.to.aim(uri, kind, framed(message))?;
        let trailers = HeaderValue::from_static("trailers");
        request.headers_mut().insert(TE, trailers);
        let answer = self.to.fetch.call(request, self.to.timeout, ANSWER_MAX);
        let answer = answer
            .await
            .map_err(|e| Refused::Again(e.to_string(), None))?;
        let (head, after) = (answer.0.headers(), &answer.1);
        let status = after.get(GRPC_STATUS).or_else(|| head.get(GRPC_STATUS));
        let status = status.and_then(|s| s.to_str().ok()?.parse::<u32>().ok());
        match status {
            Some(0) => Ok(left(unframed(answer.0.body()))),
            Some(status) if PASSING.contains(&status) => Err(Refused::Again(
                format!("it answered status {status}"),
                wait(head),
            )),
            Some(status) => Err(Refused::Never(format!("it answered status {status}"))),
            None if answer.0.status() == StatusCode::SERVICE_UNAVAILABLE => {
                Err(Refused::Again("it answered 503".into(), wait(head)))
            }
            None => Err(Refused::Never("it does not speak gRPC".into())),
        }
    }
}

const GRPC_STATUS: &str = "grpc-status";

/// Of gRPC, what may pass: cancelled, deadline exceeded, resource exhausted, aborted, out of range,
/// unavailable, data loss.
const PASSING: [u32; 7] = [1, 4, 8, 10, 11, 14, 15];

impl Destination {
    fn aim(&self, uri: Uri, kind: HeaderValue, body: Bytes) -> Result<Request<Bytes>, Refused> {
        let request = Request::builder().method(Method::POST).uri(uri).body(body);
        let mut request = request.map_err(|e| Refused::Never(e.to_string()))?;
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(request)
    }
}

/// What a collector that is busy asks for, in seconds.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
