//! Where the heads of HTTP/1 requests are in a stream of bytes, in whatever pieces they come. Nothing is
//! kept and nothing is allocated: a few numbers say where in a message the next byte is.

use memchr::memchr;

const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";

/// Where in a message the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the request line, or in the empty lines before it.
    Start { empty: bool },
    /// At the first byte of a field, or of the empty line that ends the head.
    Line,
    /// Behind a CR that began a line.
    Cr,
    /// In a name, all of it so far as in this one.
    Name(&'static [u8], usize),
    /// In the value of a length.
    Length(u64),
    /// In a line that says nothing here.
    Rest,
    /// In a body, or in a chunk and what ends it: so many bytes are left.
    Body { left: u64, chunked: bool },
    /// In the size of a chunk, or behind it.
    Size { size: u64, over: bool },
    /// In a trailer. It ends with CR LF and nothing else.
    Trailer { empty: bool, cr: bool },
}

/// Follows one direction of a connection.
pub(super) struct Scan {
    at: At,
    length: Option<u64>,
    coded: bool,
}

impl Scan {
    pub(super) fn new() -> Self {
        Self {
            at: At::Start { empty: true },
            length: None,
            coded: false,
        }
    }

    /// Is the next byte within a head?
    pub(super) fn in_head(&self) -> bool {
        match self.at {
            At::Start { empty } => !empty,
            At::Line | At::Cr | At::Name(..) | At::Length(_) | At::Rest => true,
            At::Body { .. } | At::Size { .. } | At::Trailer { .. } => false,
        }
    }

    /// Does a request begin with the next byte?
    pub(super) fn is_between(&self) -> bool {
        self.at == At::Start { empty: true }
    }

    /// Looks at what came; `whole` hears of each head that ends, and whether it has two ends.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut whole: impl FnMut(bool)) {
        while let Some((first, rest)) = bytes.split_first() {
            bytes = match self.at {
                At::Start { empty } => self.start(bytes, empty),
                At::Rest => {
                    let end = memchr(b'\n', bytes);
                    if end.is_some() {
                        self.at = At::Line;
                    }
                    after(bytes, end)
                }
                At::Body { left, chunked } => self.body(bytes, left, chunked),
                At::Line | At::Cr if *first == b'\n' => {
                    let ended = self.end();
                    whole(ended);
                    rest
                }
                At::Line => self.line(*first, bytes),
                At::Cr => self.otherwise(bytes),
                At::Name(name, at) => self.name(*first, name, at, bytes, rest),
                At::Length(so_far) => {
                    self.digit(*first, so_far);
                    rest
                }
                At::Size { size, over } => {
                    self.size(*first, size, over);
                    rest
                }
                At::Trailer { empty, cr } => {
                    self.trailer(*first, empty, cr);
                    rest
                }
            };
        }
    }

    /// Most lines are none of ours, which their first byte tells, or their name at once.
    fn line<'a>(&mut self, first: u8, bytes: &'a [u8]) -> &'a [u8] {
        let name = match first {
            b'c' | b'C' => LENGTH,
            b't' | b'T' => CODING,
            b'\r' => {
                self.at = At::Cr;
                return bytes.get(1..).unwrap_or_default();
            }
            _ => return self.otherwise(bytes),
        };
        match bytes.split_at_checked(name.len()) {
            Some((here, rest)) if here.eq_ignore_ascii_case(name) => {
                self.at = At::Name(name, name.len());
                rest
            }
            Some(_) => self.otherwise(bytes),
            None => {
                self.at = At::Name(name, 0);
                bytes
            }
        }
    }

    /// This line is none of ours; its end may be the byte at hand.
    fn otherwise<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.at = At::Rest;
        bytes
    }

    fn start<'a>(&mut self, bytes: &'a [u8], empty: bool) -> &'a [u8] {
        let end = memchr(b'\n', bytes);
        let line = end.and_then(|end| bytes.get(..end)).unwrap_or(bytes);
        let empty = empty && line.iter().all(|b| *b == b'\r');
        self.at = match end {
            Some(_) if !empty => At::Line,
            Some(_) => At::Start { empty: true },
            None => At::Start { empty },
        };
        after(bytes, end)
    }

    fn name<'a>(
        &mut self,
        first: u8,
        name: &'static [u8],
        at: usize,
        bytes: &'a [u8],
        rest: &'a [u8],
    ) -> &'a [u8] {
        match name.get(at) {
            Some(expected) if first.eq_ignore_ascii_case(expected) => {
                self.at = At::Name(name, at + 1);
            }
            Some(_) => return self.otherwise(bytes),
            None => match first {
                b':' if name == LENGTH => self.at = At::Length(0),
                b':' => {
                    self.coded = true;
                    self.at = At::Rest;
                }
                // The library refuses it; so does the eye, that must not miss it.
                b' ' | b'\t' => {}
                _ => return self.otherwise(bytes),
            },
        }
        rest
    }

    fn digit(&mut self, byte: u8, so_far: u64) {
        self.at = match byte {
            b'\n' => {
                self.length = Some(so_far);
                At::Line
            }
            b'0'..=b'9' => {
                let more = so_far.saturating_mul(10);
                At::Length(more.saturating_add(u64::from(byte - b'0')))
            }
            _ => At::Length(so_far),
        };
    }

    /// The head is whole. Has it two ends?
    fn end(&mut self) -> bool {
        let (length, coded) = (self.length.take(), std::mem::take(&mut self.coded));
        self.at = match length {
            _ if coded => At::Size {
                size: 0,
                over: false,
            },
            Some(left) if left > 0 => At::Body {
                left,
                chunked: false,
            },
            Some(_) | None => At::Start { empty: true },
        };
        coded && length.is_some()
    }

    fn body<'a>(&mut self, bytes: &'a [u8], left: u64, chunked: bool) -> &'a [u8] {
        let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left.saturating_sub(here as u64);
        self.at = match (left, chunked) {
            (0, true) => At::Size {
                size: 0,
                over: false,
            },
            (0, false) => At::Start { empty: true },
            (left, chunked) => At::Body { left, chunked },
        };
        bytes.get(here..).unwrap_or_default()
    }

    fn size(&mut self, byte: u8, size: u64, over: bool) {
        let digit = char::from(byte).to_digit(16).filter(|_| !over);
        self.at = match (byte, digit) {
            (b'\n', _) if size == 0 => At::Trailer {
                empty: true,
                cr: false,
            },
            // Two more bytes end the chunk.
            (b'\n', _) => At::Body {
                left: size.saturating_add(2),
                chunked: true,
            },
            (_, Some(digit)) => At::Size {
                size: size.saturating_mul(16).saturating_add(u64::from(digit)),
                over,
            },
            (_, None) => At::Size { size, over: true },
        };
    }

    fn trailer(&mut self, byte: u8, empty: bool, cr: bool) {
        self.at = match byte {
            b'\n' if cr && empty => At::Start { empty: true },
            b'\n' if cr => At::Trailer {
                empty: true,
                cr: false,
            },
            b'\r' => At::Trailer { empty, cr: true },
            _ => At::Trailer {
                empty: false,
                cr: false,
            },
        };
    }
}

fn after(bytes: &[u8], end: Option<usize>) -> &[u8] {
    end.and_then(|end| bytes.get(end + 1..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each head, whether it has two ends; the bytes in pieces of every size.
    fn heads(text: &str) -> Vec<bool> {
        let whole = in_pieces(text, text.len());
        for size in 1..text.len() {
            assert_eq!(in_pieces(text, size), whole, "pieces of {size}: {text:?}");
        }
        whole
    }

    fn in_pieces(text: &str, size: usize) -> Vec<bool> {
        let (mut scan, mut seen) = (Scan::new(), vec![]);
        for piece in text.as_bytes().chunks(size) {
            scan.feed(piece, |two| seen.push(two));
        }
        seen
    }

    #[test]
    fn a_head_with_two_ends_is_seen_in_every_spelling() {
        for two in [
            "Content-Length: 6\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 6",
            "content-LENGTH:6\r\nX: y\r\ntransfer-ENCODING:Chunked",
            "TRANSFER-ENCODING: chunked\nCONTENT-LENGTH: 6",
            "Content-Length : 6\r\nTransfer-Encoding\t: chunked",
            "Content-Length: 6\r\nContent-Length: 6\r\nTransfer-Encoding: chunked",
            "Content-Length:\r\n 6\r\nTransfer-Encoding:\r\n chunked",
            "Content-Length: 0\r\nTransfer-Encoding: identity",
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{two}\r\n\r\n");
            assert_eq!(heads(&text), [true], "{two:?}");
        }
        for one in [
            "Content-Lengths: 0\r\nTransfer-Encoding: chunked",
            "Content-Length: 0\r\nX-Transfer-Encoding: chunked",
            "X: Content-Length: 6\r\nTransfer-Encoding: chunked",
            "Content_Length: 6\r\nTransfer-Encoding: chunked",
            "Content-Length: 0\r\nTransfer-Encodin: chunked",
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{one}\r\n\r\n");
            assert_eq!(heads(&text), [false], "{one:?}");
        }
    }

    #[test]
    fn bodies_are_passed_over() {
        let two =
            "POST /second HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        for first in [
            "GET / HTTP/1.1\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\nPOST / \r\n\r\n\r",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1A;x=\"y\"\r\nabcdefghij\r\n\r\n\r\n\r\n012345\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n002 \r\nab\r\n0\r\nA: b\r\nC: d\r\n\r\n",
            // A line of trailers ends with CR LF alone, as the library has it.
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\nContent-Length: 900\r\n\r\n",
        ] {
            assert_eq!(heads(&format!("{first}{two}")), [false, true], "{first:?}");
        }
    }
}
