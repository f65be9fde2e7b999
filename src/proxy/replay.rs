//! A request that can be sent twice, if its body fits.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use tokio::time::timeout;

use super::body::{Body, Pieces, Stream};
use super::copies::Share;
use super::exchange::Route;
use super::rpc;
use super::tee::{self, Kept, NotReplayable};
use super::upgrade::Upgrade;
use crate::payment::{Asked, Challenge, RequestKey, Tool};
use crate::protocol::jsonrpc::Call;
use crate::protocol::{self, Repeat};

/// Leaves of a challenge what may be answered with this second sending of what was asked.
/// `within`: the payment goes into the body, where the agent's own credentials are in nobody's way.
pub(super) fn fit(challenge: &mut Challenge, asked: &Asked, request: &Request<Body>, within: bool) {
    let body = || digest(request.body());
    let mut headers = Cow::Borrowed(request.headers());
    if within {
        headers.to_mut().remove(header::AUTHORIZATION);
    }
    let repeat = Repeat {
        host: &asked.host,
        port: asked.port,
        within,
        headers: &headers,
        body: &body,
    };
    protocol::fit(challenge, &repeat);
}

/// Path and query.
pub(super) fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |p| p.as_str())
}

/// What a body asks for that nobody reads.
pub(super) fn unread(body: Option<&Stream>) -> Tool {
    match body.is_none_or(Stream::is_end) {
        true => Tool::None,
        false => Tool::Unknown,
    }
}

/// SHA-256 of a body that was kept for its second sending.
fn digest(body: &Body) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    body.pieces().for_each(|piece| hash.update(piece));
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

/// An agent that is still sending its body when the 402 came gets this long to end it.
pub(super) const UPLOAD: Duration = Duration::from_secs(30);

/// What is kept of a request while its first sending streams.
pub(super) struct Replay {
    pub(super) head: Head,
    /// The agent's end of the connection, if it wants to speak something else on it.
    pub(super) upgrade: Option<Upgrade>,
    /// What its body asks of an MCP server, where bodies are read.
    pub(super) call: Option<Arc<Call>>,
    /// What rules are asked about.
    tool: Tool,
    payable: bool,
    body: Copy,
}

/// A copy of a request's head. One serves both those who pay and those who were cut off.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) uri: Uri,
    version: Version,
    /// Absent where nobody could need them: a body that is not kept, at a host that no rule could pay.
    fields: Option<Fields>,
}

#[derive(Clone)]
struct Fields {
    headers: HeaderMap,
    /// How the agent wrote their names.
    extensions: Extensions,
}

impl Head {
    fn of(parts: &Parts, whole: bool) -> Self {
        let fields = || Fields {
            headers: parts.headers.clone(),
            extensions: parts.extensions.clone(),
        };
        Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            fields: whole.then(fields),
        }
    }

    /// Asks for an answer in no coding.
    pub(super) fn uncoded(&mut self) {
        if let Some(fields) = &mut self.fields {
            let identity = HeaderValue::from_static("identity");
            fields.headers.insert(header::ACCEPT_ENCODING, identity);
        }
    }

    /// The same with a header that was added to its first sending.
    pub(super) fn with(&self, name: &HeaderName, value: &HeaderValue) -> Self {
        let mut head = self.clone();
        if let Some(fields) = &mut head.fields {
            fields.headers.insert(name.clone(), value.clone());
        }
        head
    }

    /// The request once more, without a body. `None` unless that is harmless: it is idempotent (RFC
    /// 9110 section 9.2.2).
    pub(super) fn repeated(&self) -> Option<Request<Body>> {
        let harmless = matches!(
            self.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        );
        self.unseen().filter(|_| harmless)
    }

    /// The same of a request that nobody has looked at, whatever it asks.
    pub(super) fn unseen(&self) -> Option<Request<Body>> {
        let fields = self.fields.as_ref()?;
        let mut request = Request::new(Body::Empty);
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.uri);
        *request.version_mut() = self.version;
        request.headers_mut().clone_from(&fields.headers);
        request.extensions_mut().clone_from(&fields.extensions);
        Some(request)
    }
}

enum Copy {
    Empty,
    Kept(Kept),
    /// All of it, for more than one sending.
    Whole(Box<Pieces>),
    /// It was not kept.
    Gone(NotReplayable),
}

impl Replay {
    /// Splits a request into its first sending and what a second one needs. With `limit` at `None`
    /// nothing is kept: bodies of hosts that cannot be paid cost no memory.
    pub(super) fn split(
        parts: Parts,
        stream: Option<Stream>,
        limit: Option<(usize, Share)>,
    ) -> (Request<Body>, Self) {
        let stream = stream.filter(|stream| !stream.is_end());
        let tool = unread(stream.as_ref());
        let (bodyless, payable) = (stream.is_none(), limit.is_some());
        let (body, copy) = match (stream, limit) {
            (None, _) => (Body::Empty, Copy::Empty),
            (Some(stream), None) => (Body::Stream(stream), Copy::Gone(NotReplayable::NotKept)),
            (Some(stream), Some((limit, share))) => {
                let (tee, kept) = tee::tee(stream, limit, share);
                (Body::Tee(Box::new(tee)), Copy::Kept(kept))
            }
        };
        let replay = Self {
            head: Head::of(&parts, bodyless || payable),
            upgrade: None,
            call: None,
            tool,
            payable,
            body: copy,
        };
        (Request::from_parts(parts, body), replay)
    }

    /// The same for a body that was read before it is sent; `otherwise`: why it is not kept, where it is not.
    pub(super) fn of_read(
        parts: Parts,
        body: Pieces,
        otherwise: NotReplayable,
        (call, tool): (Option<Arc<Call>>, Tool),
    ) -> (Request<Body>, Self) {
        let copy = match body.copy() {
            Some(copy) => Copy::Whole(Box::new(copy)),
            None => Copy::Gone(otherwise),
        };
        let replay = Self {
            head: Head::of(&parts, true),
            upgrade: None,
            call,
            tool,
            payable: true,
            body: copy,
        };
        let body = Body::Pieces(Box::new(body));
        (Request::from_parts(parts, body), replay)
    }

    /// The question as the policy sees it.
    pub(super) fn asked(&self, route: &Route) -> Asked {
        route.asked(&self.head.method, &self.head.uri, self.tool.clone())
    }

    /// What makes this the same purchase as another of the session (SHA-256; every part is preceded
    /// by its length, so that no two requests run together).
    fn key(&self, session: &str, host: &str, headers: &HeaderMap, body: &Body) -> RequestKey {
        let mut hash = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(session.as_bytes());
        part(self.head.method.as_str().as_bytes());
        part(host.as_bytes());
        part(target(&self.head.uri).as_bytes());
        let idempotency = headers.get("idempotency-key");
        part(idempotency.map(HeaderValue::as_bytes).unwrap_or_default());
        match self.read(headers, body) {
            None => body.pieces().for_each(|piece| hash.update(piece)),
            // Whoever asks again gives the same question another number.
            Some((call, body)) => {
                hash.update(b"jsonrpc");
                call.question(&body).for_each(|part| {
                    hash.update(&(part.len() as u64).to_be_bytes());
                    hash.update(part);
                });
            }
        }
        let mut key = [0; 32];
        key.copy_from_slice(hash.finish().as_ref());
        RequestKey(key)
    }

    /// The call that a body is, with its bytes; also where no rule has bodies read, so that a request stays the same
    /// when the policy changes.
    fn read(&self, headers: &HeaderMap, body: &Body) -> Option<(Arc<Call>, Vec<u8>)> {
        if self.call.is_none() && !rpc::readable(&self.head.method, headers) {
            return None;
        }
        let body: Vec<u8> = body.pieces().flatten().copied().collect();
        let call = match &self.call {
            Some(call) => Arc::clone(call),
            None => Arc::new(Call::read(&body)?),
        };
        Some((call, body))
    }

    /// The same of a request that was forked.
    pub(super) fn key_of(&self, session: &str, host: &str, request: &Request<Body>) -> RequestKey {
        self.key(session, host, request.headers(), request.body())
    }

    /// The same request once more, without giving up what another one needs. `patience` bounds the wait for the
    /// rest of its body, beside the bound on its silences.
    pub(super) async fn fork(
        &mut self,
        patience: Option<Duration>,
    ) -> Result<Request<Body>, NotReplayable> {
        let fields = self.head.fields.as_ref().filter(|_| self.payable);
        let Fields {
            mut headers,
            extensions,
        } = fields.cloned().ok_or(NotReplayable::NotKept)?;
        headers.remove(header::EXPECT);
        self.body = match std::mem::replace(&mut self.body, Copy::Gone(NotReplayable::NotKept)) {
            Copy::Kept(kept) => Copy::Whole(Box::new(match patience {
                Some(patience) => whole(kept, patience).await?,
                None => kept.whole().await?,
            })),
            other => other,
        };
        let body = match &self.body {
            Copy::Empty => Body::Empty,
            Copy::Whole(pieces) => {
                Body::Pieces(Box::new(pieces.copy().ok_or(NotReplayable::NotKept)?))
            }
            Copy::Gone(why) => return Err(*why),
            Copy::Kept(_) => return Err(NotReplayable::NotKept),
        };
        let mut request = Request::new(body);
        request.method_mut().clone_from(&self.head.method);
        request.uri_mut().clone_from(&self.head.uri);
        *request.version_mut() = self.head.version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = extensions;
        Ok(request)
    }

    /// The same request once more: method, URI, header fields and body bytes; and its key within
    /// `session`.
    pub(super) async fn again(
        mut self,
        session: &str,
        host: &str,
    ) -> Result<(Request<Body>, RequestKey), NotReplayable> {
        let fields = self.head.fields.take().filter(|_| self.payable);
        let Fields {
            mut headers,
            extensions,
        } = fields.ok_or(NotReplayable::NotKept)?;
        // The body is at hand now: nothing is gained by waiting for a word before it.
        headers.remove(header::EXPECT);
        let body = match std::mem::replace(&mut self.body, Copy::Empty) {
            Copy::Empty => Body::Empty,
            Copy::Gone(why) => return Err(why),
            Copy::Kept(kept) => Body::Pieces(Box::new(whole(kept, UPLOAD).await?)),
            Copy::Whole(pieces) => Body::Pieces(pieces),
        };
        let key = self.key(session, host, &headers, &body);
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method;
        *request.uri_mut() = self.head.uri;
        // Which form the fields have: HTTP/2 may split cookies.
        *request.version_mut() = self.head.version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = extensions;
        if let Some(upgrade) = self.upgrade {
            request.extensions_mut().insert(upgrade);
        }
        Ok((request, key))
    }
}

async fn whole(kept: Kept, patience: Duration) -> Result<Pieces, NotReplayable> {
    let whole = timeout(patience, kept.whole()).await;
    whole.map_err(|_| NotReplayable::Broken)?
}

/// The same request, if all of its body is in memory.
pub(super) fn twin(request: &Request<Body>) -> Option<Request<Body>> {
    let mut twin = Request::new(request.body().copy()?);
    *twin.method_mut() = request.method().clone();
    *twin.uri_mut() = request.uri().clone();
    *twin.version_mut() = request.version();
    *twin.headers_mut() = request.headers().clone();
    *twin.extensions_mut() = request.extensions().clone();
    Some(twin)
}
