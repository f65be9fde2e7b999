//! Is a 402 a demand that we can read? Only its head, or a bounded part of its body, is looked at;
//! everything else streams through as it came.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, header, response};
use tokio::time::{Instant, timeout_at};

use super::body::{Body, BodyError, Pieces, Stream};
use super::copies::{Gathered, Share};
use super::framing;
use super::tee::NotReplayable;
use crate::payment::{Challenge, Problem, Reason};
use crate::protocol;
use crate::protocol::jsonrpc::Call;
use crate::settings::Limits;

/// Merchants send a challenge at once. Slower ones are refused, so that the agent gets an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is read of a body that no protocol needs, so that its connection can carry the retry.
const DRAINED: usize = 64 * 1024;

/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_millis(250);

/// What an answer asks for.
pub(super) enum Demand {
    /// Nothing that we understand: the answer goes to the agent.
    Nothing(Response<Body>),
    /// Nobody can tell: the body is in a coding that is not read here. It goes to the agent too.
    Unread(Response<Body>),
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

/// Reads the demand of a 402.
pub(super) async fn read(answer: Response<Stream>, limits: &Limits) -> Demand {
    let (head, stream) = answer.into_parts();
    let speaking = protocol::recognise(&head);
    if speaking.is_empty() {
        return Demand::Nothing(Response::from_parts(head, Body::Stream(stream)));
    }
    let wanted = speaking.iter().any(|p| p.needs_body());
    let (most, time) = if wanted {
        (limits.challenge_body, PATIENCE)
    } else {
        (DRAINED, DRAIN_TIME)
    };
    let read = Part::read(stream, most, time).await;
    let (text, problem) = match read.text(&head, wanted, limits.challenge_body) {
        Ok(text) => (text, None),
        Err(problem) => (None, Some(problem)),
    };
    let text = text.as_deref();
    let unread = wanted && problem.is_none() && text.is_none() && !read.pieces.is_empty();
    let endless = wanted && framing::ends_with_connection(&head);
    let mut challenge = protocol::read(&speaking, &head, text.filter(|_| !endless));
    if is_none(&challenge) {
        challenge
            .problems
            .extend(problem.filter(|_| read.may_ask(&head)));
        if endless && !is_none(&protocol::read(&speaking, &head, text)) {
            let detail = "nothing but the end of the connection ends the challenge's body";
            let problem = Problem::new(Reason::MalformedChallenge, detail);
            challenge.problems.push(problem);
        }
    }
    match conclude(challenge, head, read.body()) {
        Demand::Nothing(original) if unread => Demand::Unread(original),
        demand => demand,
    }
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
    share: Option<Share>,
    trailers: Option<HeaderMap>,
    rest: Option<Stream>,
    broken: Option<BodyError>,
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
}

impl Part {
    /// All of a body that has nothing in it.
    pub(super) fn empty() -> Self {
        Self {
            pieces: VecDeque::new(),
            share: None,
            trailers: None,
            rest: None,
            broken: None,
            end: End::Whole,
        }
    }

    /// Reads up to `most` bytes for so long.
    pub(super) async fn read(stream: Stream, most: usize, time: Duration) -> Self {
        Self::read_within(stream, (most, None), time).await
    }

    /// The same, and no more than this share may grow to.
    pub(super) async fn read_within(
        mut stream: Stream,
        (most, mut share): (usize, Option<Share>),
        time: Duration,
    ) -> Self {
        let deadline = Instant::now() + time;
        let (mut part, mut gathered) = (Self::empty(), Gathered::default());
        let mut length = 0usize;
        let rest = loop {
            part.end = match timeout_at(deadline, stream.frame()).await {
                Err(_) => End::TooSlow,
                Ok(None) => break None,
                Ok(Some(Err(error))) => {
                    // Asked once more, the stream would end as if it were whole.
                    (part.end, part.broken) = (End::Broken, Some(error));
                    break None;
                }
                Ok(Some(Ok(frame))) => {
                    let mut kept = Ok(());
                    if let Some(data) = frame.data_ref() {
                        length = length.saturating_add(data.len());
                        kept = Share::keep(share.as_mut(), data.len(), (length, most));
                        gathered.push(data);
                    } else if let Ok(trailers) = frame.into_trailers() {
                        part.trailers = Some(trailers);
                    }
                    match kept {
                        Ok(()) => continue,
                        Err(NotReplayable::Crowded) => End::Crowded,
                        Err(_) => End::TooLong,
                    }
                }
            };
            break Some(stream);
        };
        Self {
            pieces: gathered.take(),
            share,
            rest,
            ..part
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
            End::Whole => {}
            End::TooLong | End::Crowded => {
                return problem(
                    Reason::LimitsExceeded,
                    "the challenge's body is longer than allowed",
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
            paused: false,
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
