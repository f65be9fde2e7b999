//! Messages in the frames of gRPC.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Uri;

/// The message of a frame; nothing where it is compressed, which nobody asked for.
pub(super) fn unframed(frame: &[u8]) -> &[u8] {
    frame
        .strip_prefix(&[0])
        .and_then(|rest| rest.get(4..))
        .unwrap_or_default()
}

/// Not compressed, its length, and the message.
pub(super) fn framed(message: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The URL of a method.
pub(super) fn method(endpoint: &Uri, method: &'static str) -> Option<Uri> {
    let mut parts = endpoint.clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static(method));
    Uri::from_parts(parts).ok()
}
