//! The far side: sends one request over a pooled or fresh connection and returns the response head.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

use super::body::{Body, Source};
use super::circle::Known;
use super::dial::Dialer;
use super::ends::Ends;
use super::expect::{self, Gate, Last};
use super::eyeballs;
use super::failure::UpstreamError;
use super::form::{absolute_form, origin_form};
use super::framing;
use super::h1::H1;
use super::h2::ask;
use super::headers;
use super::interim;
use super::lane::Lane;
use super::pool::{H2, Key, Place, Pool, Spoken};
use super::replay::Head;
use super::slices::Sliced;
use crate::settings::Limits;
use crate::tls::{UpstreamTls, VerifyFailure, no_common_protocol, verify_failure};

/// A connection whose last response may still be streaming gets this long to become free.
const SETTLE: Duration = Duration::from_millis(20);

/// What is sent so shortly before a merchant gives a connection up may come too late.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Everything that reaches merchants.
pub(super) struct Upstream {
    pub(super) dialer: Dialer,
    pub(super) tls: UpstreamTls,
    pub(super) pool: Arc<Pool>,
    pub(super) limits: Limits,
}

impl Upstream {
    /// Sends the request on a connection of `key`, which takes it, and waits for the response head.
    pub(super) async fn send(
        &self,
        lane: &Lane,
        key: &Key,
        request: &mut Request<Body>,
        again: Option<&Head>,
    ) -> Result<Response<Source>, UpstreamError> {
        let again = again.filter(|_| request.body().is_end_stream());
        let activity = (!request.body().is_end_stream()).then(|| {
            let body = std::mem::replace(request.body_mut(), Body::Empty);
            let (body, activity) = body.watched();
            *request.body_mut() = body;
            activity
        });
        let mut answer = pin!(self.answer(lane, key, request, again));
        let total = self.limits.upstream_total;
        let uploading = total.max(self.limits.idle_timeout);
        let mut timer = lane.timer.until(Instant::now() + total);
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            while Pin::new(&mut timer).poll(cx).is_ready() {
                let now = Instant::now();
                // The time runs from the end of the upload, which until then may pause like any body.
                let until = activity.as_ref().map(|upload| match upload.is_over() {
                    true => upload.last() + total,
                    false => upload.last() + uploading,
                });
                match until.filter(|until| *until > now) {
                    Some(until) => timer.reset(until.min(now + total)),
                    None => return Poll::Ready(Err(UpstreamError::FirstByteTimeout)),
                }
            }
            Poll::Pending
        })
        .await
    }

    async fn answer(
        &self,
        lane: &Lane,
        key: &Key,
        request: &mut Request<Body>,
        again: Option<&Head>,
    ) -> Result<Response<Source>, UpstreamError> {
        let upgrade = request.headers().contains_key(header::UPGRADE);
        if key.secure
            && (lane.h2 || !upgrade && self.pool.is_not_h1(key))
            && let Some(sender) = self.h2(key).await?
        {
            let gate = expect::hold(request, request.version(), self.limits.expect_timeout);
            // Boxed: a connection of HTTP/1 has room for this too.
            match Box::pin(self.over_h2(lane, key, sender, (request, gate), again)).await {
                Err(UpstreamError::NotH2) => {
                    self.pool.note_not_h2(key);
                    *request = again.and_then(Head::unseen).ok_or(UpstreamError::NotH2)?;
                }
                answered => return answered,
            }
        }
        let answer = self.over_h1(lane, key, request, again).await?;
        // Nobody asked for another protocol, and no agent could use the answer, paid for or not.
        match answer.status() == StatusCode::SWITCHING_PROTOCOLS && !upgrade {
            true => Err(UpstreamError::Protocol),
            false => Ok(answer),
        }
    }

    async fn over_h2(
        &self,
        lane: &Lane,
        key: &Key,
        (mut sender, place): (H2, Place),
        (request, gate): (&mut Request<Body>, Option<Arc<Gate>>),
        again: Option<&Head>,
    ) -> Result<Response<Source>, UpstreamError> {
        absolute_form(request, &key.target)?;
        let listener = interim::listener(request, lane.interim.as_ref(), gate.as_ref());
        if sender.ready().await.is_ok() {
            match sender.send(taken(request), lane, listener.as_ref()).await {
                Ok(response) => return self.placed(response, place),
                // A stream that was reset on a living connection is an answer of sorts.
                Err(failed) => {
                    let copy = match failed {
                        UpstreamError::Refused => again.and_then(Head::unseen),
                        _ if sender.is_closed() => again.and_then(Head::repeated),
                        _ => None,
                    };
                    *request = copy.ok_or(failed)?;
                    absolute_form(request, &key.target)?;
                }
            }
        }
        drop(place);
        let (mut fresh, place) = self.h2(key).await?.ok_or(UpstreamError::Closed)?;
        fresh.ready().await?;
        let response = fresh.send(taken(request), lane, listener.as_ref()).await?;
        self.placed(response, place)
    }

    /// An answer whose body holds its place among those of its connection.
    fn placed(
        &self,
        mut response: Response<Source>,
        place: Place,
    ) -> Result<Response<Source>, UpstreamError> {
        // HTTP/2 has no 101 (RFC 9113 section 8.6).
        if headers::exceed(response.headers(), self.limits.header_count)
            || response.status() == StatusCode::SWITCHING_PROTOCOLS
        {
            return Err(UpstreamError::Protocol);
        }
        response.extensions_mut().insert(place);
        Ok(response)
    }

    async fn over_h1(
        &self,
        lane: &Lane,
        key: &Key,
        request: &mut Request<Body>,
        again: Option<&Head>,
    ) -> Result<Response<Source>, UpstreamError> {
        let asked = request.version();
        origin_form(request, key)?;
        let gate = expect::hold(request, asked, self.limits.expect_timeout);
        let hear = |request: &mut _, sender: &H1| {
            interim::hear(
                request,
                lane.interim.as_ref(),
                gate.as_ref(),
                sender.state(),
            );
        };
        if let Some(mut sender) = self.reusable(lane, key).await {
            self.pool.tally.reused.one();
            hear(request, &sender);
            match sender.try_send_request(taken(request)).await {
                Ok(response) => return self.keep(lane, key, sender, gate, response),
                // Closed under our feet before a response: the request is sent anew, once (RFC 9112
                // section 9.3.1), when it was not written or does no harm twice.
                Err(failed) => {
                    *request = unanswered(failed, again, |copy| origin_form(copy, key))?;
                }
            }
        }
        // Boxed here and below: what opens a connection is large, and most requests need none.
        let mut sender = match Box::pin(self.dial_h1(key)).await {
            Err(UpstreamError::NotH1) if !request.headers().contains_key(header::UPGRADE) => {
                self.pool.note_not_h1(key);
                let h2 = self.h2(key).await?.ok_or(UpstreamError::Closed)?;
                return Box::pin(self.over_h2(lane, key, h2, (request, gate), again)).await;
            }
            dialled => dialled?,
        };
        hear(request, &sender);
        let response = sender.try_send_request(taken(request)).await;
        let response = response.map_err(TrySendError::into_error)?;
        self.keep(lane, key, sender, gate, response)
    }

    /// This client's last connection, else an idle one of the same session.
    async fn reusable(&self, lane: &Lane, key: &Key) -> Option<H1> {
        if let Some(mut sender) = lane.take(key)
            && (sender.is_ready() || Box::pin(settled(&mut sender)).await)
        {
            return Some(sender);
        }
        self.pool.take(key)
    }

    /// Where the connection goes while its response streams. One whose end is in doubt goes nowhere.
    fn keep(
        &self,
        lane: &Lane,
        key: &Key,
        mut sender: H1,
        gate: Option<Arc<Gate>>,
        response: Response<Incoming>,
    ) -> Result<Response<Source>, UpstreamError> {
        let (mut head, body) = response.into_parts();
        framing::response(&mut head)?;
        let mut response = Response::from_parts(head, Source::Http1(body));
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        if let Some(gate) = gate.filter(|gate| gate.answered()) {
            response.extensions_mut().insert(Last::of(gate));
            return Ok(response);
        }
        if response.version() == Version::HTTP_10 {
            // The library would speak that version on it from now on, which has no bodies of unknown length.
            return Ok(response);
        }
        let Some(rest) = keeps(response.headers()) else {
            return Ok(response);
        };
        if lane.h2 {
            let (pool, key) = (Arc::clone(&self.pool), key.clone());
            tokio::spawn(async move {
                if sender.ready().await {
                    pool.put(key, sender, rest);
                }
            });
        } else {
            lane.keep(key, sender, rest);
        }
        Ok(response)
    }

    async fn dial_h1(&self, key: &Key) -> Result<H1, UpstreamError> {
        let tcp = self.dialer.reach(key).await?;
        if !key.secure {
            let known = self.dialer.circle.know(&tcp);
            let known = known.map_err(UpstreamError::Connect)?;
            return self.start_h1(Ends::new(tcp), Some(known)).await;
        }
        let tls = self.handshake(key, tcp, false).await?;
        self.start_h1(Ends::new(tls), None).await
    }

    /// A connection of HTTP/2 of the session and a place on it, or `None` when the host speaks HTTP/1.1 only.
    async fn h2(&self, key: &Key) -> Result<Option<(H2, Place)>, UpstreamError> {
        let (cell, place) = self.pool.h2(key);
        let spoken = cell
            .get_or_try_init(|| Box::pin(self.open_h2(key, &place)))
            .await?;
        Ok(match spoken {
            Spoken::H2(sender) => Some((sender.clone(), place)),
            Spoken::OnlyH1 => None,
        })
    }

    async fn open_h2(&self, key: &Key, place: &Place) -> Result<Spoken, UpstreamError> {
        let tcp = self.dialer.reach(key).await?;
        let tls = self.handshake(key, tcp, true).await?;
        if tls.get().get_ref().1.alpn_protocol() != Some(b"h2") {
            let mut sender = self.start_h1(Ends::new(tls), None).await?;
            // Whoever looks for it at once must find it ready.
            if sender.ready().await {
                self.pool.put(key.clone(), sender, Duration::MAX);
            }
            return Ok(Spoken::OnlyH1);
        }
        eyeballs::shared(tls.get().get_ref().0).map_err(UpstreamError::Connect)?;
        let sender = ask::connect(tls, place.all(), &self.limits).await?;
        Ok(Spoken::H2(sender))
    }

    async fn handshake(
        &self,
        key: &Key,
        tcp: TcpStream,
        h2: bool,
    ) -> Result<Sliced<TlsStream<TcpStream>>, UpstreamError> {
        let name = ServerName::try_from(String::from(&*key.target.host))
            .map_err(|_| UpstreamError::Certificate(VerifyFailure::Name))?;
        if !key.trust.verified() {
            tracing::warn!(target = %key.target, "the certificate of this host is not verified (tls.insecure_hosts); nothing is paid there");
        }
        let connector = self
            .tls
            .connector(&key.session, key.target.port, key.trust, h2);
        let handshake = connector.connect(name, tcp);
        let shaken = timeout(self.limits.handshake_timeout, handshake).await;
        self.pool.tally.merchants.shaken(&shaken);
        match shaken {
            Err(_) => Err(UpstreamError::HandshakeTimeout),
            Ok(Ok(stream)) => Ok(Sliced::new(stream)),
            Ok(Err(e)) => {
                let other = match !h2 && no_common_protocol(&e) {
                    true => UpstreamError::NotH1,
                    false => UpstreamError::Tls,
                };
                Err(verify_failure(&e).map_or(other, UpstreamError::Certificate))
            }
        }
    }

    async fn start_h1<S>(&self, io: Ends<S>, known: Option<Known>) -> Result<H1, UpstreamError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let state = io.state();
        let (sender, connection) = http1::Builder::new()
            .max_headers(self.limits.header_count)
            .max_header_size(self.limits.header_bytes)
            .preserve_header_case(true)
            .handshake(TokioIo::new(io))
            .await?;
        // A pointer, for a task keeps what it waits for beside what it was given.
        let connection = Box::pin(connection.with_upgrades());
        tokio::spawn(async move {
            let _known = known;
            if let Err(e) = connection.await {
                tracing::debug!(error = %e, "upstream connection ended");
            }
        });
        Ok(H1::new(sender, state))
    }
}

/// How long the sender of this answer keeps its connection while nothing is asked, as far as it says, and a little
/// less: a request that is on its way when that is over has no answer. `None`: not at all.
fn keeps(headers: &HeaderMap) -> Option<Duration> {
    let said = headers::kept_for(headers).unwrap_or(Duration::MAX);
    said.checked_sub(ON_ITS_WAY).filter(|left| !left.is_zero())
}

/// Is the last response over, or almost?
async fn settled(sender: &mut H1) -> bool {
    timeout(SETTLE, sender.ready()).await.unwrap_or(false)
}

/// The request, for whoever sends it.
fn taken(request: &mut Request<Body>) -> Request<Body> {
    std::mem::replace(request, Request::new(Body::Empty))
}

/// The request of a failed sending, if it may be sent once more: it never left, or it does no harm
/// twice and nothing that could be an answer came. Whoever took a payment once may take it for an
/// answer that never comes, so `again` is of no payment: these are sent again by the rules for unknown
/// outcomes only (threat M-11).
fn unanswered(
    mut failed: TrySendError<Request<Body>>,
    again: Option<&Head>,
    form: impl FnOnce(&mut Request<Body>) -> Result<(), UpstreamError>,
) -> Result<Request<Body>, UpstreamError> {
    if let Some(unsent) = failed.take_message() {
        return Ok(unsent);
    }
    let error = UpstreamError::from(failed.into_error());
    match again.and_then(Head::repeated) {
        Some(mut copy) if matches!(error, UpstreamError::Closed) => form(&mut copy).map(|()| copy),
        Some(_) | None => Err(error),
    }
}
