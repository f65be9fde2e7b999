//! A connection of HTTP/1.1 to an upstream, as whoever asks on it holds it.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};

use super::body::Body;
use super::ends::State;

/// For the next request. One that cannot be written to any more takes none: what its upstream still says answers
/// another (`ends`).
///
/// A pointer, as every connection of an agent keeps room for some of these.
pub(super) struct H1(Box<Line>);

struct Line {
    sender: http1::SendRequest<Body>,
    state: Arc<State>,
}

impl H1 {
    pub(super) fn new(sender: http1::SendRequest<Body>, state: Arc<State>) -> Self {
        Self(Box::new(Line { sender, state }))
    }

    fn is_gone(&self) -> bool {
        self.0.state.is_gone()
    }

    /// What is known of its connection.
    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.0.state)
    }

    /// Is the last exchange over, and may there be another?
    pub(super) fn is_ready(&self) -> bool {
        self.0.sender.is_ready() && !self.is_gone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.sender.is_closed() || self.is_gone()
    }

    /// Waits until the last exchange is over. May there be another?
    pub(super) async fn ready(&mut self) -> bool {
        self.0.sender.ready().await.is_ok() && !self.is_gone()
    }

    /// As [`http1::SendRequest::try_send_request`].
    pub(super) fn try_send_request(
        &mut self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>> + use<> {
        self.0.sender.try_send_request(request)
    }
}
