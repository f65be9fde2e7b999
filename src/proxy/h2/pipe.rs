//! A body onto a stream, no faster than its reader takes it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use crate::proxy::body::Body;
use crate::proxy::patience::Patience;

/// Most bytes that a stream claims at once of what its peer takes.
const CLAIM: usize = 64 << 10;

/// Why not all of a body was sent.
pub(super) enum Cut {
    /// Its reader wants no more, or took nothing for too long.
    Peer(h2::Error),
    /// It broke off where it came from, of which its reader is yet to be told.
    Body(SendStream<Bytes>),
}

impl From<h2::Error> for Cut {
    fn from(error: h2::Error) -> Self {
        Self::Peer(error)
    }
}

impl Cut {
    /// Resets the stream of a body that broke off.
    pub(super) fn told(self) -> h2::Error {
        match self {
            Self::Peer(error) => error,
            Self::Body(mut out) => {
                out.send_reset(Reason::INTERNAL_ERROR);
                Reason::INTERNAL_ERROR.into()
            }
        }
    }
}

/// Sends all of it.
pub(super) async fn send(
    mut body: Body,
    mut out: SendStream<Bytes>,
    patience: Patience,
) -> Result<(), Cut> {
    let mut patience = patience.beside(body.both().cloned());
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(reset) = out.poll_reset(cx) {
                return Poll::Ready(Err(reset.map_or_else(|e| e, h2::Error::from)));
            }
            Pin::new(&mut body).poll_frame(cx).map(Ok)
        });
        let frame = match next.await? {
            None => return Ok(out.send_data(Bytes::new(), true)?),
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Err(Cut::Body(out)),
        };
        match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                pour(data, last, &mut out, &mut patience).await?;
                if last {
                    return Ok(());
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return Ok(out.send_trailers(trailers)?);
                }
            }
        }
    }
}

/// Sends what the peer takes when it takes it, and nothing ahead: what waits in a queue waits without a bound.
async fn pour(
    mut data: Bytes,
    last: bool,
    out: &mut SendStream<Bytes>,
    patience: &mut Patience,
) -> Result<(), h2::Error> {
    loop {
        let room = match data.is_empty() {
            true => 0,
            false => room(data.len(), out, patience).await?,
        };
        let piece = data.split_to(room.min(data.len()));
        let over = data.is_empty();
        out.send_data(piece, last && over)?;
        if over {
            return Ok(());
        }
    }
}

/// Waits until the peer takes some of so many bytes. All of that is to be sent at once: what one stream claims and
/// does not use others miss.
async fn room(
    wanted: usize,
    out: &mut SendStream<Bytes>,
    patience: &mut Patience,
) -> Result<usize, h2::Error> {
    out.reserve_capacity(wanted.min(CLAIM));
    poll_fn(|cx| {
        if let Poll::Ready(reset) = out.poll_reset(cx) {
            return Poll::Ready(Err(reset.map_or_else(|e| e, Into::into)));
        }
        while out.capacity() == 0 {
            match out.poll_capacity(cx) {
                Poll::Ready(Some(capacity)) => drop(capacity?),
                Poll::Ready(None) => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
                Poll::Pending => {
                    ready!(patience.poll_over(cx));
                    return Poll::Ready(Err(Reason::CANCEL.into()));
                }
            }
        }
        patience.rewarded();
        Poll::Ready(Ok(out.capacity()))
    })
    .await
}
