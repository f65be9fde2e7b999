//! A body onto a stream, no faster than its reader takes it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use crate::proxy::body::Body;

/// Sends all of it. `Err`: the peer wants no more, or there is no more; it was told.
pub(super) async fn send(mut body: Body, mut out: SendStream<Bytes>) -> Result<(), h2::Error> {
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(reset) = out.poll_reset(cx) {
                return Poll::Ready(Err(reset.map_or_else(|e| e, Into::into)));
            }
            Pin::new(&mut body).poll_frame(cx).map(Ok)
        });
        let frame = match next.await? {
            None => return out.send_data(Bytes::new(), true),
            Some(Ok(frame)) => frame,
            Some(Err(_)) => {
                out.send_reset(Reason::INTERNAL_ERROR);
                return Err(Reason::INTERNAL_ERROR.into());
            }
        };
        match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                if !data.is_empty() {
                    room(&mut out).await?;
                }
                out.send_data(data, last)?;
                if last {
                    return Ok(());
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return out.send_trailers(trailers);
                }
            }
        }
    }
}

/// Waits until the peer takes a byte more. No more is asked for: what one stream claims and does not use others miss.
async fn room(out: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    out.reserve_capacity(1);
    poll_fn(|cx| {
        if let Poll::Ready(reset) = out.poll_reset(cx) {
            return Poll::Ready(Err(reset.map_or_else(|e| e, Into::into)));
        }
        while out.capacity() == 0 {
            match ready!(out.poll_capacity(cx)) {
                Some(capacity) => drop(capacity?),
                None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}
