//! Is a 402 a demand that we can read? Only its head, or a bounded part of its body, is looked at;
//! everything else streams through as it came.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, header, response};
use http_body::Frame;
use tokio::time::{Instant, timeout_at};

use super::Proxy;
use super::body::{Body, BodyError, Pieces, Stream};
use super::copies::{Gathered, Share};
use super::framing;
use super::tee::NotReplayable;
use crate::payment::{Challenge, Problem, Reason, Refusal};
use crate::protocol;
use crate::protocol::jsonrpc::Call;

/// Merchants send a challenge at once. Slower ones are refused, so that the agent gets an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a packed challenge. What unpacks to nothing takes its time all the same, and challenges are short.
const PACKED: usize = 64 * 1024;

/// What is read of a body that no protocol needs, so that its connection can carry the retry.
const DRAINED: usize = 64 * 1024;

/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_millis(250);

/// So much of a body is read whatever else is held: honest challenges have a few kilobytes, and are read however many
/// long ones do not end.
pub(super) const SPARED: usize = 16 * 1024;

/// What an answer asks for.
pub(super) enum Demand {
    /// Nothing that we understand: the answer goes to the agent.
    Nothing(Response<Body>),
    /// Nobody can tell, for this reason: the body is in a coding that is not read here, or there is no room for it now.
    /// It goes to the agent too.
    Unread(Response<Body>, Refusal),
    /// Money.
    Payment(Asks),
}

/// A challenge, and the merchant's own answer beside it.
pub(super) struct Asks {
    pub(super) challenge: Challenge,
    pub(super) original: Response<Body>,
    /// The call whose answer asks, when it asks within its body.
    pub(super) within: Option<Arc<Call>>,
}

/// Reads the demand of a 402. It counts in what may be held of answers in this session.
pub(super) async fn read(proxy: &Proxy, session: &Arc<str>, answer: Response<Stream>) -> Demand {
    let (head, stream) = answer.into_parts();
    let speaking = protocol::recognise(&head);
    if speaking.is_empty() {
        return Demand::Nothing(Response::from_parts(head, Body::Stream(stream)));
    }
    let (wanted, most) = (
        speaking.iter().any(|p| p.needs_body()),
        proxy.limits.challenge_body,
    );
    let mut read = Part::of(stream, proxy.answers.share(session));
    if wanted {
        read = read.in_search(&head).read(most, PATIENCE).await;
    }
    if !wanted || read.end == End::Foreign && speaking.len() > 1 {
        read = read.read(DRAINED, DRAIN_TIME).await;
    }
    let text = read.unpackable(&head, wanted);
    let (text, problem) = match text.and_then(|()| read.text(&head, wanted, most)) {
        Ok(text) => (text, None),
        Err(problem) => (None, Some(problem)),
    };
    let text = text.as_deref();
    let unread = wanted && problem.is_none() && text.is_none() && !read.pieces.is_empty();
    let endless = wanted && framing::ends_with_connection(&head);
    let mut challenge = protocol::read(&speaking, &head, text.filter(|_| !endless));
    if !is_none(&challenge) {
        return conclude(challenge, head, read.body());
    }
    let problem = problem.filter(|_| read.may_ask(&head));
    if read.end == End::Crowded
        && let Some(problem) = problem
    {
        let original = Response::from_parts(head, read.body());
        return Demand::Unread(original, crowded(problem));
    }
    challenge.problems.extend(problem);
    if endless && !is_none(&protocol::read(&speaking, &head, text)) {
        let detail = "nothing but the end of the connection ends the challenge's body";
        let problem = Problem::new(Reason::MalformedChallenge, detail);
        challenge.problems.push(problem);
    }
    match conclude(challenge, head, read.body()) {
        Demand::Nothing(original) if unread => Demand::Unread(original, in_a_coding()),
        demand => demand,
    }
}

/// There is room again once others have been read.
fn crowded(problem: Problem) -> Refusal {
    Refusal {
        retryable: true,
        ..Refusal::new(problem.reason, problem.detail)
    }
}

fn in_a_coding() -> Refusal {
    let detail = "whatever asks for money is in a content coding that is not read here";
    Refusal::new(Reason::MalformedChallenge, detail)
}

/// Does it ask for nothing, in whatever way?
fn is_none(challenge: &Challenge) -> bool {
    challenge.requirements.is_empty() && challenge.problems.is_empty()
}

fn conclude(challenge: Challenge, head: response::Parts, body: Body) -> Demand {
    let original = Response::from_parts(head, body);
    if is_none(&challenge) {
        return Demand::Nothing(original);
    }
    Demand::Payment(Asks {
        challenge,
        original,
        within: None,
    })
}

/// The beginning of a body, or all of it.
pub(super) struct Part {
    pieces: VecDeque<Bytes>,
    /// Bytes of them.
    length: usize,
    share: Option<Share>,
    trailers: Option<HeaderMap>,
    rest: Option<Stream>,
    broken: Option<BodyError>,
    /// Only what begins as terms do is read on.
    in_search: bool,
    pub(super) end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    TooLong,
    /// There is no room for it now (see [`Share`]).
    Crowded,
    TooSlow,
    Broken,
    /// It begins as no terms do.
    Foreign,
}

impl Part {
    /// All of a body that has nothing in it.
    pub(super) fn empty() -> Self {
        Self {
            pieces: VecDeque::new(),
            length: 0,
            share: None,
            trailers: None,
            rest: None,
            broken: None,
            in_search: false,
            end: End::Whole,
        }
    }

    /// Nothing yet of a body of which no more is read than this share may grow to.
    pub(super) fn of(stream: Stream, share: Share) -> Self {
        Self {
            rest: Some(stream),
            share: Some(share),
            ..Self::empty()
        }
    }

    /// The same of an answer that is looked into for terms: these are a JSON object, unless they are packed.
    pub(super) fn in_search(self, head: &response::Parts) -> Self {
        Self {
            in_search: !head.headers.contains_key(header::CONTENT_ENCODING),
            ..self
        }
    }

    /// Reads on, up to `most` bytes with those that are here, for so long.
    pub(super) async fn read(mut self, most: usize, time: Duration) -> Self {
        let Some(mut stream) = self.rest.take() else {
            return self;
        };
        let (deadline, mut gathered) = (Instant::now() + time, Gathered::default());
        loop {
            let ended = match timeout_at(deadline, stream.frame()).await {
                Err(_) => Some(End::TooSlow),
                Ok(None) => {
                    self.end = End::Whole;
                    break;
                }
                Ok(Some(Err(error))) => {
                    // Asked once more, the stream would end as if it were whole.
                    (self.end, self.broken) = (End::Broken, Some(error));
                    break;
                }
                Ok(Some(Ok(frame))) => self.take(frame, most, &mut gathered),
            };
            if let Some(end) = ended {
                (self.end, self.rest) = (end, Some(stream));
                break;
            }
        }
        self.pieces.append(&mut gathered.take());
        self
    }

    /// Keeps what came; and why no more is to be read, if so.
    fn take(&mut self, frame: Frame<Bytes>, most: usize, into: &mut Gathered) -> Option<End> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                return None;
            }
        };
        into.push(&data);
        self.length = self.length.saturating_add(data.len());
        match Share::keep(self.share.as_mut(), (self.length, most)) {
            Ok(()) => {}
            Err(NotReplayable::Crowded) => return Some(End::Crowded),
            Err(_) => return Some(End::TooLong),
        }
        let first = data.iter().find(|byte| !byte.is_ascii_whitespace());
        let first = first.filter(|_| std::mem::take(&mut self.in_search))?;
        (*first != b'{').then_some(End::Foreign)
    }

    /// Is it worth unpacking, where a challenge is expected (threats D-04, D-05)?
    fn unpackable(&self, head: &response::Parts, wanted: bool) -> Result<(), Problem> {
        let packed = head.headers.contains_key(header::CONTENT_ENCODING);
        match wanted && packed && self.length > PACKED {
            true => Err(Problem::new(
                Reason::LimitsExceeded,
                "the challenge's body is longer than allowed while it is packed (64 KiB)",
            )),
            false => Ok(()),
        }
    }

    /// The body's text for the protocols that read it; `None` when nobody asks or nobody could read it.
    pub(super) fn text(
        &self,
        head: &response::Parts,
        wanted: bool,
        most: usize,
    ) -> Result<Option<Vec<u8>>, Problem> {
        if !wanted {
            return Ok(None);
        }
        let problem = |reason, detail| Err(Problem::new(reason, detail));
        match self.end {
            End::Whole | End::Foreign => {}
            End::TooLong => {
                return problem(
                    Reason::LimitsExceeded,
                    "the challenge's body is longer than allowed",
                );
            }
            End::Crowded => {
                return problem(
                    Reason::LimitsExceeded,
                    "too much is held of answers that are being read (limits.challenge_bodies)",
                );
            }
            End::TooSlow => {
                return problem(
                    Reason::MalformedChallenge,
                    "the challenge's body did not end in time",
                );
            }
            End::Broken => {
                return problem(Reason::MalformedChallenge, "the challenge's body broke off");
            }
        }
        unpacked(&head.headers, self.bytes(), most)
    }

    /// Could a body of which this is the beginning be a challenge? What is packed may be anything.
    fn may_ask(&self, head: &response::Parts) -> bool {
        let mut bytes = self.pieces.iter().flatten();
        match bytes.find(|byte| !byte.is_ascii_whitespace()) {
            // What broke off in front of its terms has none.
            Some(b'{') => self.end != End::Broken || protocol::speaks_x402(&self.bytes()),
            Some(_) => head.headers.contains_key(header::CONTENT_ENCODING),
            None => self.end != End::Whole,
        }
    }

    fn body(self) -> Body {
        Body::Pieces(Box::new(self.into()))
    }

    /// The bytes that were read.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flatten().copied().collect()
    }
}

impl From<Part> for Pieces {
    fn from(part: Part) -> Self {
        Self {
            first: part.pieces,
            held: part.share.map(Arc::new),
            rest: part.rest,
            trailers: part.trailers,
            broken: part.broken,
        }
    }
}

/// A body without its `gzip` or `deflate`, up to `most` bytes (threat D-04). Other codings are nobody's
/// challenge.
///
/// # Errors
/// When it is broken, or longer than that.
pub fn unpacked(
    headers: &HeaderMap,
    bytes: Vec<u8>,
    most: usize,
) -> Result<Option<Vec<u8>>, Problem> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let coding = match (codings.next(), codings.next()) {
        (None, _) => return Ok(Some(bytes)),
        (Some(coding), None) => coding.to_str().unwrap_or_default().to_ascii_lowercase(),
        (Some(_), Some(_)) => return Ok(None),
    };
    let cap = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut out = Vec::new();
    let read = match coding.as_str() {
        "identity" | "" => return Ok(Some(bytes)),
        "gzip" | "x-gzip" => flate2::read::MultiGzDecoder::new(&*bytes)
            .take(cap)
            .read_to_end(&mut out),
        "deflate" => flate2::read::ZlibDecoder::new(&*bytes)
            .take(cap)
            .read_to_end(&mut out),
        _ => return Ok(None),
    };
    if out.len() > most {
        let detail = "the challenge's body is longer than allowed once unpacked";
        return Err(Problem::new(Reason::LimitsExceeded, detail));
    }
    if read.is_err() {
        let detail = "the challenge's body cannot be unpacked";
        return Err(Problem::new(Reason::MalformedChallenge, detail));
    }
    Ok(Some(out))
}
