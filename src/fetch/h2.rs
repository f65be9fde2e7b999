//! The same over HTTP/2 from its first byte, with the fields that come after a body: what gRPC needs.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::target::{Target, dial};
use super::{AGENT, Fetch, FetchError, Until, whole};

impl Fetch {
    /// Sends a request over a connection that speaks HTTP/2 without asking, and reads at most `most`
    /// bytes of body, and the fields behind it. Any status is an answer.
    ///
    /// # Errors
    /// Those of [`Fetch::send`].
    pub async fn call(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
        most: usize,
    ) -> Result<(Response<Bytes>, HeaderMap), FetchError> {
        let target = Target::of(request.uri()).ok_or(FetchError::Url)?;
        let end = Instant::now() + deadline;
        let stream = target.reached(end, dial(&target, end)).await?;
        let request = target.aim_h2(request)?;
        if !target.secure {
            let asked = exchange(stream, request, &target, most);
            return target.answered(end, asked).await;
        }
        let stream = target.reached(end, target.shake(&self.h2, stream)).await?;
        let asked = exchange(stream, request, &target, most);
        target.answered(end, asked).await
    }
}

impl Target {
    /// The request with its authority in the URI, and without what HTTP/2 has no place for.
    fn aim_h2(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, FetchError> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
        let scheme = if self.secure { "https" } else { "http" };
        let uri: Result<Uri, _> = format!("{scheme}://{}{path}", self.authority).parse();
        head.uri = uri.map_err(|_| FetchError::Url)?;
        head.headers.remove(HOST);
        head.headers.remove(CONNECTION);
        let agent = HeaderValue::from_static(AGENT);
        head.headers.entry(USER_AGENT).or_insert(agent);
        Ok(Request::from_parts(head, Full::new(body)))
    }
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    target: &Target,
    most: usize,
) -> Result<(Response<Bytes>, HeaderMap), FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| target.broken(&e))?;
    let bounds = (Until::End, most);
    whole(sender.send_request(request), connection, target, bounds).await
}
