//! One request, from the agent's question to the agent's answer. The whole product in one function.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};

use super::activity::Activity;
use super::body::{Body, Source, Stream};
use super::challenge::{self, Demand};
use super::pool::Key;
use super::refuse::{self, ClientError};
use super::relay::Place;
use super::replay::Replay;
use super::reuse::{self, Came};
use super::serve::{Conn, Way};
use super::target::Target;
use super::trail::Trail;
use super::upgrade::{self, Upgrade};
use super::{Proxy, framing, headers, lingers, open, prepay, purchase, rpc, transparent};
use crate::event::otel::{About, Open};
use crate::payment::{Asked, Cause, PaymentId, Reason, Refusal, Session, Tool, Trace};
use crate::protocol;
use crate::tls::Trust;

/// What an agent asks, until it goes out.
pub(super) struct Question {
    pub(super) parts: Parts,
    body: Option<Stream>,
    /// When it or its answer last moved, where it has a body.
    both: Option<Arc<Activity>>,
}

impl Question {
    pub(super) fn new(conn: &Conn, request: Request<Source>) -> Self {
        let (parts, body) = request.into_parts();
        let both = (!body.is_end()).then(Activity::new);
        let long = lingers::is_long(&body);
        let mut body = conn.body(body).beside(both.clone());
        if long {
            body = body.asking(&conn.pulse);
        }
        Self {
            parts,
            body: Some(body),
            both,
        }
    }

    /// All of it, once.
    fn taken(&mut self) -> (Parts, Option<Stream>) {
        let (nothing, ()) = Request::new(()).into_parts();
        let parts = std::mem::replace(&mut self.parts, nothing);
        (parts, self.body.take())
    }
}

/// Answers one request. Never fails: every error is an answer.
///
/// Here and below, what is large is lent: each that is given it would keep room for it, and every
/// connection keeps room for all of them.
pub(super) async fn exchange(conn: &Arc<Conn>, question: &mut Question) -> Response<Body> {
    let asked = conn.pulse.ask();
    let interim = conn.lane.interim.as_ref();
    if let Some(interim) = interim {
        interim.begin(question.parts.version).await;
    }
    let answer = answered(conn, question).await;
    // What is left to wait for is the agent, which may be one that does not read.
    drop(asked);
    if let Some(interim) = interim {
        interim.end().await;
    }
    answer
}

/// The answer alone; what upstreams say before it goes another way (`interim`).
async fn answered(conn: &Arc<Conn>, question: &mut Question) -> Response<Body> {
    let version = question.parts.version;
    if version < Version::HTTP_2 && !conn.heads.next() {
        return refused(ClientError::Framing, version);
    }
    let mut route = match Route::of(conn, &mut question.parts).await {
        Ok(route) => route,
        Err(e) => return refused(e, version),
    };
    if headers::ends_here(&mut question.parts) {
        let mut answer = Response::new(Body::Empty);
        *answer.status_mut() = StatusCode::NO_CONTENT;
        return answer;
    }
    let span = route.begin(conn, &question.parts);
    let answer = forwarded(conn, &route, question).await;
    if let Some(span) = span {
        span.answered(answer.status());
    }
    answer
}

/// The answer to a request whose way is known.
async fn forwarded(conn: &Arc<Conn>, route: &Route, question: &mut Question) -> Response<Body> {
    let parts = &mut question.parts;
    if protocol::carried(&parts.headers) {
        return Box::pin(carried(conn, route, parts)).await;
    }
    let place = || Place::take(&conn.proxy, &route.session.id.0);
    let upgrade = upgrade::wanted(parts, place);
    conn.via(&mut parts.headers, parts.version);
    let read = upgrade.is_none() && rpc::may_read(conn, route, parts);
    let (held, (mut first, mut replay)) = match read {
        true => match Box::pin(rpc::capture(conn, route, question.taken())).await {
            Ok((first, replay)) => {
                let held = reuse::held(conn, route, first.headers(), || replay.asked(route));
                (held, (first, replay))
            }
            Err(answer) => return answer,
        },
        false => {
            let crowded = upgrade.as_ref().is_some_and(Upgrade::is_crowded);
            let ((held, quote), mut split) = prepay::split(conn, route, question.taken(), crowded);
            if let Some(quote) = quote
                && let Err(answer) = Box::pin(prepay::first(conn, route, quote, &mut split)).await
            {
                return answer;
            }
            (held, split)
        }
    };
    let Came {
        mut answer,
        token,
        refused,
    } = match reuse::ask(conn, route, held, &mut first, &mut replay).await {
        Ok(came) => came,
        Err(failed) => return failed,
    };
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match upgrade::join(conn, &mut answer, upgrade) {
            Ok(()) => answer.map(|_| Body::Empty),
            Err(refusal) => refusal,
        };
    }
    let answer = conn.stream(answer);
    let answer = answer.map(|stream| stream.beside(question.both.take()));
    if token.is_none() && rpc::may_ask(conn, route, &replay, &answer) {
        return Box::pin(rpc::answered(conn, route.clone(), replay, answer)).await;
    }
    if answer.status() != StatusCode::PAYMENT_REQUIRED {
        let answer = answer.map(Body::Stream);
        return match &token {
            Some(token) => reuse::told(conn, answer, token),
            None => {
                conn.lane.unasked(&route.target, answer.headers());
                delivered(conn, answer)
            }
        };
    }
    replay.upgrade = upgrade;
    Box::pin(demanded(conn, route.clone(), (replay, refused), answer)).await
}

/// A 402, whatever it asks for; and the token that was refused with it.
async fn demanded(
    conn: &Arc<Conn>,
    route: Route,
    replay: (Replay, Option<PaymentId>),
    answer: Response<Stream>,
) -> Response<Body> {
    match challenge::read(&conn.proxy, &route.session.id.0, answer).await {
        Demand::Nothing(answer) => delivered(conn, answer),
        Demand::Unread(answer, why) => {
            purchase::unread(conn, &replay.0.asked(&route), answer, why).await
        }
        Demand::Payment(asks) => purchase::purchase(conn, route, replay, asks).await,
    }
}

/// A request that is wrong in itself. What follows it on its connection may be more of the same wrong,
/// so nothing does; HTTP/2 keeps its requests apart.
fn refused(error: ClientError, version: Version) -> Response<Body> {
    let mut response = error.response();
    if error.doubtful() && version < Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        // The HTTP library adds `keep-alive` to an answer of HTTP/1.1 for a client of HTTP/1.0 that asks for that.
        *response.version_mut() = version;
    }
    response
}

/// Only the proxy pays: a payment header of the agent's own would go around the ledger (threat H-09).
async fn carried(conn: &Conn, route: &Route, parts: &Parts) -> Response<Body> {
    let asked = route.asked(&parts.method, &parts.uri, Tool::Unknown);
    let refusal = Refusal::new(
        Reason::AgentPaymentHeader,
        "the request carries a payment header of its own; only the proxy pays",
    );
    let refusal = conn.proxy.payer.refuse(&asked, refusal).await;
    refuse::refused(&refusal, conn.proxy.refusals.status)
}

/// The upstream's answer as it is, without what belongs to its hop: fields, and the version, which is
/// that of whoever sends the message on (RFC 9110 section 6.2).
pub(super) fn delivered(conn: &Conn, mut response: Response<Body>) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // What belongs to this hop names the protocol (`upgrade::join`).
        return response;
    }
    headers::clean_response(response.headers_mut());
    headers::keep_here(response.headers_mut());
    let version = std::mem::replace(response.version_mut(), Version::HTTP_11);
    conn.via(response.headers_mut(), version);
    response
}

/// May this request be sent on at all, wherever it goes?
fn forwardable(conn: &Conn, parts: &mut Parts) -> Result<(), ClientError> {
    framing::request(parts)?;
    framing::one_length(&mut parts.headers).ok_or(ClientError::Framing)?;
    let name = conn.proxy.via.as_deref();
    if matches!(conn.way, Way::Redirected { back: true, .. }) {
        return Err(ClientError::Loop);
    }
    if parts.headers.contains_key(header::VIA) && conn.proxy.mark.is_in(&parts.headers, name) {
        return Err(ClientError::Loop);
    }
    if parts
        .uri
        .authority()
        .is_some_and(|a| a.as_str().contains('@'))
    {
        return Err(ClientError::UserInfo);
    }
    Ok(())
}

/// Where one request goes and who pays: the tunnel's name, or the URI's on an open connection.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) session: Arc<Session>,
    pub(super) target: Target,
    trail: Trail,
    pub(super) secure: bool,
    trace: Option<Trace>,
}

impl Route {
    /// Pins the request to its destination (threat T-03): CONNECT, SNI, certificate and
    /// `Host` or `:authority` are one name, or nothing is forwarded.
    async fn of(conn: &Conn, parts: &mut Parts) -> Result<Self, ClientError> {
        // Some servers take methods in small letters.
        let method = parts.method.as_str();
        if ["TRACE", "CONNECT"]
            .iter()
            .any(|m| m.eq_ignore_ascii_case(method))
        {
            return Err(match conn.way {
                Way::Open { .. } if !method.eq_ignore_ascii_case("TRACE") => ClientError::NotFirst,
                _ => ClientError::Method,
            });
        }
        forwardable(conn, parts)?;
        let route = match &conn.way {
            Way::Tunnel { passage, secure } => Self {
                session: conn.proxy.doorkeeper.again(&passage.session).await,
                target: passage.target.clone(),
                trail: passage.trail.clone(),
                secure: *secure,
                trace: None,
            },
            Way::Redirected {
                address, session, ..
            } => Self {
                target: transparent::named(address, parts)?,
                session: conn.proxy.doorkeeper.again(session).await,
                trail: Trail::default(),
                secure: false,
                trace: None,
            },
            Way::Open { private } => {
                let (passage, secure) = open::passage(&conn.proxy, parts, *private).await?;
                Self {
                    session: passage.session,
                    target: passage.target,
                    trail: passage.trail,
                    secure,
                    trace: None,
                }
            }
        };
        match route.pinned(parts) {
            // Only inside a tunnel there is another connection that it could have come on (RFC 9110 section 15.5.20).
            Err(ClientError::Misdirected) if matches!(conn.way, Way::Open { .. }) => {
                Err(ClientError::Host)
            }
            pinned => pinned.map(|()| route),
        }
    }

    /// Finds out where the exchange stands in a trace, and begins its span if somebody traces it. The
    /// agent's own fields go on as they are: a merchant learns nothing of ours.
    fn begin(&mut self, conn: &Conn, parts: &Parts) -> Option<Open> {
        let Some(otel) = &conn.proxy.otel else {
            self.trace = Cause::of(&parts.headers).map(Trace::from);
            return None;
        };
        let (trace, begun) = otel.begin(&parts.headers);
        self.trace = trace;
        Some(begun?.about(&About {
            method: &parts.method,
            secure: self.secure,
            host: &self.target.host,
            port: self.target.port,
            path: parts.uri.path(),
            session: &self.session,
        }))
    }

    /// Does everything that names a host in this request name the destination?
    fn pinned(&self, parts: &Parts) -> Result<(), ClientError> {
        let port = self.default_port();
        let mut hosts = parts.headers.get_all(header::HOST).iter();
        let (host, authority) = (hosts.next(), parts.uri.authority());
        let named = match parts.version {
            Version::HTTP_11 => host.is_some(),
            // HTTP/1.0 knows no `Host`; inside a tunnel its destination is known all the same.
            Version::HTTP_10 => true,
            _ => host.is_some() || authority.is_some(),
        };
        if !named || hosts.next().is_some() {
            return Err(ClientError::Host);
        }
        if parts.uri.scheme_str().is_some_and(|s| s != self.scheme()) {
            return Err(ClientError::Form);
        }
        let same = |name: &str| self.target.is_named_by(name, port);
        let header_ok = host.is_none_or(|h| h.to_str().is_ok_and(same));
        let uri_ok = authority.is_none_or(|a| same(a.as_str()));
        match header_ok && uri_ok {
            true => Ok(()),
            false => Err(ClientError::Misdirected),
        }
    }

    /// Where it goes, as what makes two purchases the same knows it: what was signed for `https` never goes out in
    /// the clear.
    pub(super) fn place(&self) -> String {
        match self.secure {
            true => self.target.to_string(),
            false => format!("http://{}", self.target),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The connection that may carry it.
    pub(super) fn key(&self, proxy: &Proxy) -> Key {
        Key {
            trust: self.trust(proxy),
            session: Arc::clone(&self.session.id.0),
            secure: self.secure,
            target: self.target.clone(),
            trail: self.trail.clone(),
        }
    }

    /// How its upstream is met.
    pub(super) fn trust(&self, proxy: &Proxy) -> Trust {
        proxy
            .upstream
            .tls
            .trust(&self.target.host, self.target.port)
    }

    /// The question as the policy sees it.
    pub(super) fn asked(&self, method: &Method, uri: &Uri, tool: Tool) -> Asked {
        Asked {
            session: Arc::clone(&self.session),
            method: method.clone(),
            secure: self.secure,
            host: Arc::clone(&self.target.host),
            port: self.target.port,
            path: uri.path().into(),
            tool,
            request: None,
            trace: self.trace,
        }
    }

    fn default_port(&self) -> u16 {
        if self.secure { 443 } else { 80 }
    }
}
