//! The body of one stream as it comes.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::proxy::framing;
use crate::proxy::interim::Sink;

/// Nobody said how long it is.
const UNKNOWN: u64 = u64::MAX;
/// The data has ended, and at most trailers follow.
const TRAILERS: u64 = UNKNOWN - 1;

/// What comes on one stream.
pub(in crate::proxy) struct Received {
    stream: RecvStream,
    /// Bytes that are still to come, or one of the two above. The `h2` crate holds the peer to it.
    left: u64,
    /// Where its sender waits for a word before it.
    waits: Option<Sink>,
}

impl Received {
    /// The body of a message with these fields.
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let length = framing::length(headers).filter(|length| *length < TRAILERS);
        Self {
            left: length.unwrap_or(UNKNOWN),
            stream,
            waits: None,
        }
    }

    /// Its sender expects a 100 (RFC 9110 section 10.1.1): it is said when the body is first asked for.
    pub(super) fn is_waited_for(&mut self, sink: Sink) {
        self.waits = Some(sink);
    }

    pub(in crate::proxy) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.left != TRAILERS {
            let data = self.stream.poll_data(cx);
            if let Some(sink) = self.waits.take()
                && data.is_pending()
            {
                sink.wants_body();
            }
            match ready!(data) {
                Some(Ok(data)) => {
                    // Taken from us at once: whoever reads no more polls no more.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    if self.left != UNKNOWN {
                        self.left = self.left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // NO_ERROR too: after the end, where it does no harm (RFC 9113 section 8.1), it does not come here.
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                None => self.left = TRAILERS,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(trailers.map(|t| t.map(Frame::trailers)).transpose())
    }

    pub(in crate::proxy) fn is_end(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(in crate::proxy) fn size(&self) -> SizeHint {
        match self.left {
            _ if self.is_end() => SizeHint::with_exact(0),
            UNKNOWN | TRAILERS => SizeHint::default(),
            left => SizeHint::with_exact(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use h2::{Reason, client, server};
    use http::Request;

    use super::*;

    /// What comes of an upload, and whether it is cut.
    async fn upload(end: Option<Reason>) -> (usize, bool) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let agent = tokio::spawn(async move {
            let (mut sender, connection) = client::handshake(near).await.unwrap();
            let moving = tokio::spawn(connection);
            let (_answer, mut out) = sender
                .send_request(Request::post("https://a.test/").body(()).unwrap(), false)
                .unwrap();
            out.send_data(Bytes::from("part"), end.is_none()).unwrap();
            // Read by us before the reset is sent.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            if let Some(reason) = end {
                out.send_reset(reason);
            }
            let _ = moving.await;
        });
        let mut connection = server::handshake(far).await.unwrap();
        let (request, _respond) = connection.accept().await.unwrap().unwrap();
        let moving = tokio::spawn(async move { while connection.accept().await.is_some() {} });
        // As long as nothing is.
        let mut headers = HeaderMap::new();
        headers.insert("content-length", TRAILERS.into());
        let mut body = Received::new(request.into_body(), &headers);
        let mut length = 0;
        let cut = loop {
            match poll_fn(|cx| body.poll(cx)).await {
                Some(Ok(frame)) => length += frame.into_data().unwrap().len(),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        moving.abort();
        agent.abort();
        (length, cut)
    }

    #[tokio::test]
    async fn only_the_end_of_a_stream_is_the_end_of_a_body() {
        assert_eq!(upload(None).await, (4, false));
        for reason in [Reason::NO_ERROR, Reason::CANCEL] {
            assert_eq!(upload(Some(reason)).await, (4, true), "{reason:?}");
        }
    }
}
