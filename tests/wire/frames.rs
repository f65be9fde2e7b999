//! RFC 9113 and RFC 7541, section by section, against the listener inside a tunnel. The frame layer is a
//! library's (it is lenient in two places, and only drops what it should refuse: pseudo fields in trailers,
//! and a preface without SETTINGS): this shows that it is set up right, that nothing wrong is forwarded, and that it ends
//! connections rather than the process. The server cases of h2spec 2.6 all
//! have their like here; of these one is not kept to, the pseudo fields in trailers.

use crate::support::h2::*;
use crate::support::origin::{Origin, Then, answer};
use crate::support::proxy::Proxy;
use crate::support::{each, soon};

/// What must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// The connection ends, with GOAWAY or without.
    EndConnection,
    /// The stream ends without an answer of the merchant's; or the connection does (section 5.4).
    EndStream,
    /// Stream 1 is answered with 200, and the connection lives on.
    Answer,
    /// Nothing: the connection lives on.
    Live,
}

use Must::{Answer, EndConnection, EndStream, Live};

struct Case {
    name: &'static str,
    must: Must,
    bytes: Vec<u8>,
}

fn case(name: &'static str, must: Must, frames: &[Vec<u8>]) -> Case {
    let bytes = frames.concat();
    Case { name, must, bytes }
}

/// Nothing that must not be forwarded asks for anything else.
const BAD: &str = "/bad";

/// A request that is malformed, or a stream that ends badly.
fn bad(more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &request("GET", BAD, more))
}

/// A request with exactly these fields.
fn only(lines: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &fields(lines))
}

/// The head of a POST whose body follows.
fn post(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &request("POST", path, more))
}

fn number(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    let payload = [&id.to_be_bytes()[..], &number(value)].concat();
    frame(SETTINGS, 0, 0, &payload)
}

/// Sections 4 and 5: frames and streams.
#[rustfmt::skip]
fn frames_and_streams() -> Vec<Case> {
    let head = request("GET", "/", &[]);
    let half = head.len() / 2;
    vec![
        case("4.1 a frame of an unknown type is ignored", Live, &[frame(0xbb, 0, 0, b"????")]),
        case("4.1 a frame of an unknown type on a stream is ignored", Answer, &[frame(0xbb, 0xff, 1, b""), get(1)]),
        case("4.1 undefined flags are ignored", Live, &[frame(PING, 0x16, 0, b"12345678")]),
        case("4.1 the reserved bit is ignored", Live, &[frame(PING, 0, 0x8000_0000, b"12345678")]),
        case("4.2 DATA of the greatest size", Answer, &[post("/", &[]), frame(DATA, END_STREAM, 1, &[b'x'; 16384])]),
        case("4.2 DATA above the greatest size", EndStream, &[post(BAD, &[]), frame(DATA, END_STREAM, 1, &[b'x'; 16385])]),
        case("4.2 HEADERS above the greatest size", EndConnection, &[frame(HEADERS, WHOLE, 1, &request("GET", BAD, &[("x", &"y".repeat(16384))]))]),
        case("4.2 SETTINGS above the greatest size", EndConnection, &[frame(SETTINGS, 0, 0, &[0; 16386])]),
        case("4.2 a frame that is said to have 16 MiB", EndConnection, &[vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]]),
        case("4.3 a header block that is no HPACK", EndConnection, &[frame(HEADERS, WHOLE, 1, &[0x80])]),
        case("4.3 a block in pieces", Answer, &[frame(HEADERS, END_STREAM, 1, &head[..half]), frame(CONTINUATION, END_HEADERS, 1, &head[half..])]),
        case("4.3 PRIORITY between the pieces", EndConnection, &[frame(HEADERS, END_STREAM, 1, &head), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]), frame(CONTINUATION, END_HEADERS, 1, &[])]),
        case("4.3 another stream's HEADERS between the pieces", EndConnection, &[frame(HEADERS, END_STREAM, 1, &head), get(3)]),
        case("4.3 another stream's CONTINUATION", EndConnection, &[frame(HEADERS, END_STREAM, 1, &head), frame(CONTINUATION, END_HEADERS, 3, &[])]),
        case("5.1 idle: DATA", EndConnection, &[frame(DATA, END_STREAM, 1, b"x")]),
        case("5.1 idle: RST_STREAM", EndConnection, &[frame(RESET, 0, 1, &number(8))]),
        case("5.1 idle: WINDOW_UPDATE", EndConnection, &[frame(WINDOW, 0, 1, &number(100))]),
        case("5.1 idle: CONTINUATION", EndConnection, &[frame(CONTINUATION, END_HEADERS, 1, &head)]),
        case("5.1 idle: PRIORITY is no use of the stream", Answer, &[frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), get(1)]),
        case("5.1 half-closed: DATA", EndStream, &[bad(&[]), frame(DATA, END_STREAM, 1, b"x")]),
        case("5.1 half-closed: HEADERS", EndStream, &[bad(&[]), bad(&[])]),
        case("5.1 half-closed: CONTINUATION", EndConnection, &[bad(&[]), frame(CONTINUATION, END_HEADERS, 1, &head)]),
        case("5.1 half-closed: WINDOW_UPDATE", Answer, &[get(1), frame(WINDOW, 0, 1, &number(100))]),
        case("5.1 half-closed: PRIORITY", Answer, &[get(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])]),
        case("5.1 half-closed: RST_STREAM", Live, &[get(1), frame(RESET, 0, 1, &number(8))]),
        case("5.1 closed: DATA after RST_STREAM", Live, &[post(BAD, &[]), frame(RESET, 0, 1, &number(8)), frame(DATA, END_STREAM, 1, b"x")]),
        case("5.1 closed: HEADERS after RST_STREAM", EndStream, &[post(BAD, &[]), frame(RESET, 0, 1, &number(8)), bad(&[])]),
        case("5.1 closed: CONTINUATION after RST_STREAM", EndConnection, &[post(BAD, &[]), frame(RESET, 0, 1, &number(8)), frame(CONTINUATION, END_HEADERS, 1, &head)]),
        case("5.1 closed: PRIORITY after RST_STREAM", Live, &[get(1), frame(RESET, 0, 1, &number(8)), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])]),
        case("5.1.1 a stream with an even number", EndConnection, &[frame(HEADERS, WHOLE, 2, &request("GET", BAD, &[]))]),
        case("5.1.1 a stream below the last one", EndConnection, &[get(5), frame(HEADERS, WHOLE, 3, &request("GET", BAD, &[]))]),
        case("5.1.1 a stream with the greatest number", Live, &[get(0x7fff_ffff)]),
        case("5.4.1 nothing is read after an error", EndConnection, &[frame(DATA, 0, 0, b"x"), bad(&[])]),
        case("5.5 an unknown type within a header block", EndConnection, &[frame(HEADERS, END_STREAM, 1, &head), frame(0xbb, 0, 1, b"")]),
    ]
}

/// Section 6: the types of frames.
#[rustfmt::skip]
fn types() -> Vec<Case> {
    let head = request("GET", "/", &[]);
    let padded = |pad: u8, filling: usize| [&[pad][..], &head, &vec![0; filling]].concat();
    let priority = |on: u32| [&number(on)[..], &[15], &head].concat();
    vec![
        case("6.1 DATA on the connection", EndConnection, &[frame(DATA, 0, 0, b"x")]),
        case("6.1 DATA with padding", Answer, &[post("/", &[]), frame(DATA, END_STREAM | PADDED, 1, b"\x02xy\0\0")]),
        case("6.1 DATA with more padding than payload", EndConnection, &[post(BAD, &[]), frame(DATA, END_STREAM | PADDED, 1, b"\x06xy\0\0")]),
        case("6.1 DATA that lacks its padding's length", EndConnection, &[post(BAD, &[]), frame(DATA, END_STREAM | PADDED, 1, b"")]),
        case("6.1 empty DATA", Answer, &[post("/", &[]), frame(DATA, 0, 1, b""), frame(DATA, END_STREAM, 1, b"")]),
        case("6.2 HEADERS on the connection", EndConnection, &[frame(HEADERS, WHOLE, 0, &head)]),
        case("6.2 HEADERS with padding", Answer, &[frame(HEADERS, WHOLE | PADDED, 1, &padded(3, 3))]),
        case("6.2 HEADERS with more padding than payload", EndConnection, &[frame(HEADERS, WHOLE | PADDED, 1, &padded(255, 0))]),
        case("6.2 HEADERS with a priority", Answer, &[frame(HEADERS, WHOLE | PRIORITISED, 1, &priority(0))]),
        case("6.2 HEADERS too short for their priority", EndConnection, &[frame(HEADERS, WHOLE | PRIORITISED, 1, &[0, 0])]),
        case("5.3 HEADERS that depend on themselves", EndStream, &[frame(HEADERS, WHOLE | PRIORITISED, 1, &[&number(1)[..], &[15], &request("GET", BAD, &[])].concat())]),
        case("5.3 PRIORITY that depends on itself", EndStream, &[frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 15])]),
        case("6.3 PRIORITY on the connection", EndConnection, &[frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1])]),
        case("6.3 PRIORITY of a wrong size", EndStream, &[frame(PRIORITY, 0, 1, &[0, 0, 0, 1])]),
        case("6.4 RST_STREAM on the connection", EndConnection, &[frame(RESET, 0, 0, &number(8))]),
        case("6.4 RST_STREAM of a wrong size", EndConnection, &[post(BAD, &[]), frame(RESET, 0, 1, &[0, 0, 8])]),
        case("6.5 SETTINGS on a stream", EndConnection, &[frame(SETTINGS, 0, 1, &[])]),
        case("6.5 SETTINGS of a wrong size", EndConnection, &[frame(SETTINGS, 0, 0, &[0, 3, 0, 0])]),
        case("6.5 an acknowledgement with a payload", EndConnection, &[frame(SETTINGS, ACK, 0, &[0, 3, 0, 0, 0, 1])]),
        case("6.5.2 ENABLE_PUSH of 2", EndConnection, &[setting(2, 2)]),
        case("6.5.2 a window above its bound", EndConnection, &[setting(4, 0x8000_0000)]),
        case("6.5.2 a frame size below its bound", EndConnection, &[setting(5, 16383)]),
        case("6.5.2 a frame size above its bound", EndConnection, &[setting(5, 1 << 24)]),
        case("6.5.2 an unknown setting is ignored", Answer, &[setting(0xff, 1), get(1)]),
        case("6.5.2 no streams are wanted of us", Answer, &[setting(3, 0), get(1)]),
        case("6.5.2 a small header list is wanted", Answer, &[setting(6, 4096), get(1)]),
        case("6.5.3 settings one after the other", Answer, &[setting(4, 100), setting(4, 70_000), get(1)]),
        case("6.6 PUSH_PROMISE from a client", EndConnection, &[get(1), frame(PUSH, END_HEADERS, 1, &[&number(2)[..], &head].concat())]),
        case("6.7 PING on a stream", EndConnection, &[frame(PING, 0, 1, b"12345678")]),
        case("6.7 PING of a wrong size", EndConnection, &[frame(PING, 0, 0, b"123456")]),
        case("6.7 an acknowledgement that nobody waits for", Live, &[frame(PING, ACK, 0, b"12345678")]),
        case("6.8 GOAWAY on a stream", EndConnection, &[frame(AWAY, 0, 1, &[0; 8])]),
        case("6.8 GOAWAY too short", EndConnection, &[frame(AWAY, 0, 0, &[0; 4])]),
        case("6.9 WINDOW_UPDATE of zero on the connection", EndConnection, &[frame(WINDOW, 0, 0, &number(0))]),
        case("6.9 WINDOW_UPDATE of zero on a stream", EndStream, &[post(BAD, &[]), frame(WINDOW, 0, 1, &number(0))]),
        case("6.9 WINDOW_UPDATE of a wrong size", EndConnection, &[frame(WINDOW, 0, 0, &[0, 0, 1])]),
        case("6.9.1 the connection's window above its bound", EndConnection, &[frame(WINDOW, 0, 0, &number(0x7fff_ffff)), frame(WINDOW, 0, 0, &number(0x7fff_ffff))]),
        case("6.9.1 a stream's window above its bound", EndStream, &[post(BAD, &[]), frame(WINDOW, 0, 1, &number(0x7fff_ffff)), frame(WINDOW, 0, 1, &number(0x7fff_ffff))]),
        case("6.9.1 a window of one octet that grows", Answer, &[setting(4, 1), get(1), frame(WINDOW, 0, 1, &number(1)), setting(4, 1000)]),
        case("6.9.2 a window that becomes negative", Answer, &[setting(4, 3), get(1), setting(4, 0), frame(WINDOW, 0, 1, &number(100))]),
        case("6.9.2 a window that outgrows its bound by a setting", EndConnection, &[post(BAD, &[]), frame(WINDOW, 0, 1, &number(0x7fff_0000)), setting(4, 0x7fff_ffff)]),
        case("6.10 several CONTINUATION", Answer, &[frame(HEADERS, END_STREAM, 1, &head[..9]), frame(CONTINUATION, 0, 1, &head[9..20]), frame(CONTINUATION, END_HEADERS, 1, &head[20..])]),
        case("6.10 CONTINUATION after the end", EndConnection, &[get(1), frame(CONTINUATION, END_HEADERS, 1, &[])]),
        case("6.10 CONTINUATION after one that ended the block", EndConnection, &[frame(HEADERS, END_STREAM, 1, &head[..9]), frame(CONTINUATION, END_HEADERS, 1, &head[9..]), frame(CONTINUATION, END_HEADERS, 1, &[])]),
        case("6.10 CONTINUATION on the connection", EndConnection, &[frame(HEADERS, END_STREAM, 1, &head), frame(CONTINUATION, END_HEADERS, 0, &[])]),
        case("6.10 CONTINUATION after DATA", EndConnection, &[post(BAD, &[]), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, &[])]),
        case("7 RST_STREAM with an unknown code", Live, &[post(BAD, &[]), frame(RESET, 0, 1, &number(0xff))]),
    ]
}

/// Section 8: what a request is.
#[rustfmt::skip]
fn requests() -> Vec<Case> {
    let (m, s, a, p) = ((":method", "GET"), (":scheme", "https"), (":authority", "free.wire.test"), (":path", BAD));
    let trailers = |lines: &[(&str, &str)]| frame(HEADERS, WHOLE, 1, &fields(lines));
    vec![
        case("8.1 a body with trailers", Answer, &[post("/", &[("trailer", "x")]), frame(DATA, 0, 1, b"x"), trailers(&[("x", "1")])]),
        case("8.1 a second HEADERS without the end", EndStream, &[post(BAD, &[]), frame(HEADERS, END_HEADERS, 1, &fields(&[("x", "1")]))]),
        case("8.1 trailers with a pseudo field: it is dropped", Answer, &[post("/", &[]), trailers(&[(":method", "GET")])]),
        case("8.1 DATA after trailers", EndStream, &[post(BAD, &[]), trailers(&[("x", "1")]), frame(DATA, END_STREAM, 1, b"x")]),
        case("8.1.1 a length above the body's", EndStream, &[post(BAD, &[("content-length", "2")]), frame(DATA, END_STREAM, 1, b"x")]),
        case("8.1.1 a length below the body's", EndStream, &[post(BAD, &[("content-length", "1")]), frame(DATA, END_STREAM, 1, b"xy")]),
        case("8.1.1 a length of one of two DATA", EndStream, &[post(BAD, &[("content-length", "1")]), frame(DATA, 0, 1, b"x"), frame(DATA, END_STREAM, 1, b"y")]),
        case("8.1.1 a length without a body", EndStream, &[bad(&[("content-length", "1")])]),
        case("8.1.1 a length that is no number", EndStream, &[bad(&[("content-length", "x")])]),
        case("8.1.1 a length with a sign", EndStream, &[post(BAD, &[("content-length", "+1")]), frame(DATA, END_STREAM, 1, b"x")]),
        case("8.1.1 two lengths that differ", EndStream, &[post(BAD, &[("content-length", "1"), ("content-length", "2")]), frame(DATA, END_STREAM, 1, b"x")]),
        case("8.2.1 a name in upper case", EndStream, &[bad(&[("X-Upper", "1")])]),
        case("8.2.1 a name with a space", EndStream, &[bad(&[("x y", "1")])]),
        case("8.2.1 a name with a colon", EndStream, &[bad(&[("x:y", "1")])]),
        case("8.2.1 a name with CR LF", EndStream, &[bad(&[("x\r\ny", "1")])]),
        case("8.2.1 a name with NUL", EndStream, &[bad(&[("x\0", "1")])]),
        case("8.2.1 an empty name", EndStream, &[bad(&[("", "1")])]),
        case("8.2.1 a name beyond ASCII", EndStream, &[bad(&[("x\u{e9}", "1")])]),
        case("8.2.1 a value with CR LF and a field", EndStream, &[bad(&[("x", "1\r\nx-smuggled: 1")])]),
        case("8.2.1 a value with CR LF and a request", EndStream, &[bad(&[("x", "1\r\n\r\nGET /hidden HTTP/1.1\r\n")])]),
        case("8.2.1 a value with LF", EndStream, &[bad(&[("x", "1\nx-smuggled: 1")])]),
        case("8.2.1 a value with CR", EndStream, &[bad(&[("x", "1\r")])]),
        case("8.2.1 a value with NUL", EndStream, &[bad(&[("x", "a\0b")])]),
        case("8.2.2 connection", EndStream, &[bad(&[("connection", "keep-alive")])]),
        case("8.2.2 keep-alive", EndStream, &[bad(&[("keep-alive", "timeout=5")])]),
        case("8.2.2 proxy-connection", EndStream, &[bad(&[("proxy-connection", "keep-alive")])]),
        case("8.2.2 transfer-encoding", EndStream, &[bad(&[("transfer-encoding", "chunked")])]),
        case("8.2.2 upgrade", EndStream, &[bad(&[("upgrade", "websocket")])]),
        case("8.2.2 te that is not trailers", EndStream, &[bad(&[("te", "trailers, deflate")])]),
        case("8.2.2 te: trailers", Answer, &[frame(HEADERS, WHOLE, 1, &request("GET", "/", &[("te", "trailers")]))]),
        case("8.3 an unknown pseudo field", EndStream, &[bad(&[(":test", "1")])]),
        case("8.3 a pseudo field of answers", EndStream, &[bad(&[(":status", "200")])]),
        case("8.3 a pseudo field after a field", EndStream, &[only(&[m, s, a, ("x", "1"), p])]),
        case("8.3.1 no method", EndStream, &[only(&[s, a, p])]),
        case("8.3.1 no scheme", EndStream, &[only(&[m, a, p])]),
        case("8.3.1 no path", EndStream, &[only(&[m, s, a])]),
        case("8.3.1 no authority and no host", EndStream, &[only(&[m, s, p])]),
        case("8.3.1 host alone", Answer, &[only(&[m, s, (":path", "/"), ("host", "free.wire.test")])]),
        case("8.3.1 an empty path", EndStream, &[only(&[m, s, a, (":path", "")])]),
        case("8.3.1 two methods", EndStream, &[only(&[m, m, s, a, p])]),
        case("8.3.1 two schemes", EndStream, &[only(&[m, s, s, a, p])]),
        case("8.3.1 two paths", EndStream, &[only(&[m, s, a, p, p])]),
        case("8.3.1 two authorities", EndStream, &[only(&[m, s, a, a, p])]),
        case("8.3.1 an authority unlike host", EndStream, &[bad(&[("host", "pay.wire.test")])]),
        case("8.3.1 two hosts", EndStream, &[bad(&[("host", "free.wire.test"), ("host", "free.wire.test")])]),
        case("8.3.1 another host's authority", EndStream, &[only(&[m, s, (":authority", "pay.wire.test"), p])]),
        case("8.3.1 an authority with a user", EndStream, &[only(&[m, s, (":authority", "x@free.wire.test"), p])]),
        case("8.3.1 an authority with a path", EndStream, &[only(&[m, s, (":authority", "free.wire.test/x"), p])]),
        case("8.3.1 another scheme", EndStream, &[only(&[m, (":scheme", "http"), a, p])]),
        case("8.3.1 a scheme that is none", EndStream, &[only(&[m, (":scheme", "https://x"), a, p])]),
        case("8.3.1 a method with a space", EndStream, &[only(&[(":method", "GET /hidden HTTP/1.1"), s, a, p])]),
        case("8.3.1 a method with CR LF", EndStream, &[only(&[(":method", "GET\r\n"), s, a, p])]),
        case("8.3.1 a path with a space", EndStream, &[only(&[m, s, a, (":path", "/bad HTTP/1.1")])]),
        case("8.3.1 a path with CR LF", EndStream, &[only(&[m, s, a, (":path", "/bad HTTP/1.1\r\nx-smuggled: 1\r\nx: ")])]),
        case("8.3.1 a path without a slash", EndStream, &[only(&[m, s, a, (":path", "bad")])]),
        case("8.3.1 an absolute path", EndStream, &[only(&[m, s, a, (":path", "https://pay.wire.test/bad")])]),
        case("8.3.1 an asterisk for GET", EndStream, &[only(&[m, s, a, (":path", "*")])]),
        case("8.5 CONNECT", EndStream, &[only(&[(":method", "CONNECT"), (":authority", "free.wire.test:443")])]),
        case("8.5 CONNECT with a path", EndStream, &[only(&[(":method", "CONNECT"), s, a, p])]),
        case("RFC 8441 extended CONNECT", EndStream, &[only(&[(":method", "CONNECT"), (":protocol", "websocket"), s, a, p])]),
        case("RFC 8441 a protocol without CONNECT", EndStream, &[only(&[m, (":protocol", "websocket"), s, a, p])]),
        case("our own: TRACE", EndStream, &[only(&[(":method", "TRACE"), s, a, p])]),
        case("our own: a payment field", EndStream, &[bad(&[("x-payment", "forged")])]),
    ]
}

/// RFC 7541: compression.
#[rustfmt::skip]
fn compression() -> Vec<Case> {
    let head = request("GET", "/", &[]);
    let with = |extra: &[u8]| frame(HEADERS, WHOLE, 1, &[&head, extra].concat());
    vec![
        case("HPACK 2.3.3 an index beyond both tables", EndConnection, &[with(&[0xc6])]),
        case("HPACK 4.2 a change of size in the middle", EndConnection, &[with(&[0x20])]),
        case("HPACK 4.2 a change of size at the start", Answer, &[frame(HEADERS, WHOLE, 1, &[&[0x20][..], &head].concat())]),
        case("HPACK 5.1 an integer without an end", EndConnection, &[with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
        case("HPACK 5.2 a string longer than the block", EndConnection, &[with(&[0x00, 0x7f])]),
        case("HPACK 5.2 Huffman padding of more than 7 bits", EndConnection, &[with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")]),
        case("HPACK 5.2 Huffman padding with zeros", EndConnection, &[with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")]),
        case("HPACK 5.2 Huffman with the end symbol", EndConnection, &[with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f")]),
        case("HPACK 6.1 index zero", EndConnection, &[with(&[0x80])]),
        case("HPACK 6.2 a literal with an unknown name", EndConnection, &[with(&[0x0f, 0x7f, 0x01, b'x'])]),
        case("HPACK 6.3 a table larger than allowed", EndConnection, &[frame(HEADERS, WHOLE, 1, &[&[0x3f, 0xe1, 0xff, 0x03][..], &head].concat())]),
    ]
}

/// What every client may do: each of these is answered.
#[rustfmt::skip]
fn everyday() -> Vec<Case> {
    let host = b"free.wire.test";
    let authority = |prefix: u8| [&[prefix, 14][..], host].concat();
    // GET, https, `/`: entries 2, 7 and 4 of the static table; then the authority, by the name of entry 1.
    let indexed = |prefix: u8, more: &[u8]| {
        let block = [&[0x82, 0x87, 0x84][..], &authority(prefix), more].concat();
        frame(HEADERS, WHOLE, 1, &block)
    };
    // `custom-key: custom-value`, Huffman (RFC 7541 appendix C.4.3).
    let custom = b"\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
    let huffman = |prefix: u8| [&[prefix][..], custom].concat();
    let plain = |prefix: u8| [&[prefix, 1][..], b"x", &[1], b"y"].concat();
    let depends = |on: u32, weight: u8| frame(PRIORITY, 0, 3, &[&number(on)[..], &[weight]].concat());
    vec![
        case("GET, HEAD and POST: GET", Answer, &[get(1)]),
        case("GET, HEAD and POST: HEAD", Answer, &[frame(HEADERS, WHOLE, 1, &request("HEAD", "/", &[]))]),
        case("GET, HEAD and POST: POST", Answer, &[post("/", &[("content-length", "4")]), frame(DATA, 0, 1, b"te"), frame(DATA, END_STREAM, 1, b"st")]),
        case("a priority of the least weight", Answer, &[depends(0, 0), get(1)]),
        case("a priority of the greatest weight", Answer, &[depends(0, 255), get(1)]),
        case("a priority after another stream", Answer, &[depends(1, 15), get(1)]),
        case("an exclusive priority", Answer, &[depends(0x8000_0001, 15), get(1)]),
        case("a priority, then a lower stream", Answer, &[frame(PRIORITY, 0, 7, &[0, 0, 0, 0, 1]), get(1)]),
        case("WINDOW_UPDATE on the connection", Answer, &[frame(WINDOW, 0, 0, &number(1)), get(1)]),
        case("WINDOW_UPDATE on a stream", Answer, &[post("/", &[]), frame(WINDOW, 0, 1, &number(1)), frame(DATA, END_STREAM, 1, b"x")]),
        case("one CONTINUATION, empty", Answer, &[frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[])), frame(CONTINUATION, END_HEADERS, 1, b"")]),
        case("HEADERS with padding and a priority", Answer, &[frame(HEADERS, WHOLE | PADDED | PRIORITISED, 1, &[&[2, 0, 0, 0, 0, 15][..], &request("GET", "/", &[]), &[0, 0]].concat())]),
        case("HPACK: indexed fields, a literal that is indexed", Answer, &[indexed(0x41, &[])]),
        case("HPACK: a literal without indexing", Answer, &[indexed(0x01, &[])]),
        case("HPACK: a literal that is never indexed", Answer, &[indexed(0x11, &[])]),
        case("HPACK: a new name that is indexed", Answer, &[indexed(0x41, &plain(0x40))]),
        case("HPACK: a new name without indexing", Answer, &[indexed(0x41, &plain(0x00))]),
        case("HPACK: a new name that is never indexed", Answer, &[indexed(0x41, &plain(0x10))]),
        case("HPACK: Huffman, indexed", Answer, &[indexed(0x41, &huffman(0x40))]),
        case("HPACK: Huffman, without indexing", Answer, &[indexed(0x41, &huffman(0x00))]),
        case("HPACK: Huffman, never indexed", Answer, &[indexed(0x41, &huffman(0x10))]),
        case("HPACK: an entry of the dynamic table", Answer, &[indexed(0x41, &[&huffman(0x40)[..], &[0xbe]].concat())]),
        case("HPACK: a name out of the dynamic table", Answer, &[indexed(0x41, &[&huffman(0x40)[..], &[0x7e, 1], b"z"].concat())]),
        case("HPACK: two changes of size at the start", Answer, &[frame(HEADERS, WHOLE, 1, &[&[0x20, 0x3f, 0xe1, 0x1f, 0x82, 0x87, 0x84][..], &authority(0x41)].concat())]),
    ]
}

/// Section 3.4 stands alone: these connections begin wrong.
fn prefaces() -> Vec<(&'static str, Vec<u8>)> {
    let settings = frame(SETTINGS, 0, 0, &[]);
    vec![
        (
            "3.4 a preface that is none",
            b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec(),
        ),
        (
            "3.4 HTTP/1.1 after all",
            b"GET /bad HTTP/1.1\r\nHost: free.wire.test\r\n\r\n".to_vec(),
        ),
        (
            "3.4 a preface in lower case",
            [&PREFACE.to_ascii_lowercase()[..], &settings].concat(),
        ),
        (
            "3.4 a preface with a byte too much",
            [PREFACE, b"\n", &settings].concat(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_kept_to_the_letter() {
    let origin = Origin::scripted(|message| {
        let mut said = answer("200 OK", "fine");
        if message.method() == "HEAD" {
            said.truncate(said.len() - "fine".len());
        }
        (said, Then::Keep)
    })
    .await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"]["header_timeout"] = "5s".into();
    })
    .await;
    let sections = [
        frames_and_streams(),
        types(),
        requests(),
        compression(),
        everyday(),
    ];
    let mut cases: Vec<Case> = sections.into_iter().flatten().collect();
    let goaway = frame(AWAY, 0, 0, &[&number(0)[..], &number(0xff)].concat());
    cases.push(case(
        "6.8 GOAWAY lets what is open end",
        Answer,
        &[get(1), goaway],
    ));
    assert!(cases.len() >= 170, "{}", cases.len());
    println!("{} cases", cases.len() + prefaces().len());
    let agent = proxy.agent();
    let mut wrong = each(cases, |case| {
        let agent = agent.clone();
        async move {
            let mut h2 = H2::connect(&agent, "free.wire.test").await;
            h2.send(&case.bytes).await;
            let result = soon(case.name, follows(&mut h2, case.must)).await;
            result.map_err(|why| format!("{}: {why}", case.name))
        }
    })
    .await;
    for (name, bytes) in prefaces() {
        let mut h2 = H2::silent(&agent, "free.wire.test").await;
        h2.send(&bytes).await;
        let outcome = soon(name, h2.outcome(1)).await;
        if matches!(outcome, Outcome::Status(_) | Outcome::Reset(_)) {
            wrong.push(format!("{name}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    for connection in origin.heard() {
        let text = String::from_utf8_lossy(&connection).into_owned();
        for never in ["/hidden", "smuggled", "forged", "CONNECT", "TRACE"] {
            assert!(!text.contains(never), "{text}");
        }
    }
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_said_kept_to_and_acknowledged() {
    let origin = Origin::scripted(|_| (answer("200 OK", "fine"), Then::Keep)).await;
    let mut proxy = Proxy::start(&origin, |config| {
        config["limits"]["h2_streams"] = 2.into();
    })
    .await;
    let agent = proxy.agent();
    // Ours come first, and name the bound on streams (section 6.5.2).
    let mut h2 = H2::silent(&agent, "free.wire.test").await;
    h2.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
        .await;
    let first = soon("the first frame", h2.next()).await.unwrap();
    assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0));
    let bound = [&[0, 3][..], &number(2)].concat();
    assert!(first.payload.chunks(6).any(|s| s == bound), "{first:?}");
    // Each of theirs is acknowledged, once (section 6.5.3).
    h2.send(&setting(4, 1000)).await;
    h2.send(&frame(PING, 0, 0, b"whatnext")).await;
    let mut acknowledged = 0;
    loop {
        let frame = soon("the answer to PING", h2.next()).await.unwrap();
        match (frame.kind, frame.flags) {
            (SETTINGS, ACK) => acknowledged += 1,
            (PING, ACK) => break assert_eq!(frame.payload, b"whatnext"),
            (kind, flags) => assert!(kind == WINDOW, "{kind} {flags}"),
        }
    }
    assert_eq!(acknowledged, 2);
    // A stream too many is refused, and the others live on (section 5.1.2).
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &request("POST", "/", &[]));
    h2.send(&frame(SETTINGS, ACK, 0, &[])).await;
    h2.send(&[open(1), open(3), open(5)].concat()).await;
    let outcome = soon("the stream too many", h2.outcome(5)).await;
    assert!(matches!(outcome, Outcome::Reset(1 | 7)), "{outcome:?}");
    h2.send(&frame(DATA, END_STREAM, 1, b"x")).await;
    assert_eq!(
        soon("the first stream", h2.outcome(1)).await,
        Outcome::Status(200)
    );
    proxy.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_both_sides_ended_takes_nothing_more() {
    let origin = Origin::scripted(|_| (answer("200 OK", "fine"), Then::Keep)).await;
    let mut proxy = Proxy::start(&origin, |_| {}).await;
    let agent = proxy.agent();
    let head = request("GET", BAD, &[]);
    for (name, late) in [
        ("5.1 closed: DATA", frame(DATA, END_STREAM, 1, b"x")),
        ("5.1 closed: HEADERS", frame(HEADERS, WHOLE, 1, &head)),
        (
            "5.1 closed: CONTINUATION",
            frame(CONTINUATION, END_HEADERS, 1, &head),
        ),
    ] {
        let mut h2 = H2::connect(&agent, "free.wire.test").await;
        h2.send(&get(1)).await;
        let first = soon(name, h2.outcome(1)).await;
        assert_eq!(first, Outcome::Status(200), "{name}");
        h2.send(&late).await;
        let after = soon(name, h2.outcome(1)).await;
        let ended = matches!(
            after,
            Outcome::Reset(_) | Outcome::Away(_) | Outcome::Closed
        );
        assert!(ended, "{name}: {after:?}");
    }
    assert!(!String::from_utf8_lossy(&origin.heard().concat()).contains(BAD));
    proxy.assert_well();
}

async fn follows(h2: &mut H2, must: Must) -> Result<(), String> {
    if must == Live {
        return match h2.lives().await {
            true => Ok(()),
            false => Err("the connection ended".into()),
        };
    }
    let outcome = h2.outcome(1).await;
    let right = match (must, outcome) {
        (Answer, Outcome::Status(200)) => true,
        (EndStream, Outcome::Reset(_) | Outcome::Away(_) | Outcome::Closed) => true,
        // Refused in our words, before the merchant hears of it; or its body was, so no answer came.
        (EndStream, Outcome::Status(status)) => matches!(status, 400 | 402 | 405 | 421 | 502),
        (EndConnection, Outcome::Away(code)) => code != 0,
        (EndConnection, Outcome::Closed) => true,
        // A stream may be answered before the frame that ends the connection is read.
        (EndConnection, Outcome::Status(_)) => !h2.lives().await,
        (Answer | EndConnection | Live, _) => false,
    };
    match right {
        true => Ok(()),
        false => Err(format!("must {must:?}, but {outcome:?}")),
    }
}
