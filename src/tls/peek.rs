//! What a ClientHello says before anybody answers it: whom it asks for, and whether it hides whom it
//! really means. Pure: bytes in, an answer out, and every length is the sender's claim until checked.

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peek {
    /// The beginning of a ClientHello; more is to come.
    Partial,
    /// A whole ClientHello.
    Hello(Hello),
    /// No ClientHello.
    Other,
}

/// The part of a ClientHello that matters for where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// `server_name` (RFC 6066 section 3), as it was sent.
    pub name: Option<String>,
    /// Is there an encrypted ClientHello inside (RFC 9849)? Then `name` need not be the name that is
    /// meant. Browsers also send noise that looks like one; nobody can tell from outside.
    pub encrypted: bool,
}

/// First byte of a record that carries handshake messages (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;

/// Type of the message (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;

/// Most bytes of a ClientHello. Those with post-quantum keys have 2 KiB, an encrypted inner one with
/// tickets 4 KiB; a record holds 16 KiB.
pub const HELLO_MAX: usize = 16 * 1024;

/// A record holds no more than this (RFC 8446 section 5.1).
const RECORD_MAX: usize = 16 * 1024;

const SERVER_NAME: u16 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// Reads as much of a ClientHello as is there.
#[must_use]
pub fn peek(bytes: &[u8]) -> Peek {
    let message = match message(bytes) {
        Ok(message) => message,
        Err(other) => return other,
    };
    match hello(&message) {
        Some(hello) => Peek::Hello(hello),
        None => Peek::Other,
    }
}

/// The body of the first handshake message, which may be spread over records.
fn message(bytes: &[u8]) -> Result<Vec<u8>, Peek> {
    let mut rest = Reader(bytes);
    let mut message: Vec<u8> = vec![];
    loop {
        if let Some((head, body)) = message.split_first_chunk::<4>() {
            let [kind, length @ ..] = *head;
            let [a, b, c] = length;
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            if kind != CLIENT_HELLO || length > HELLO_MAX {
                return Err(Peek::Other);
            }
            if let Some(body) = body.get(..length) {
                return Ok(body.to_vec());
            }
        }
        match rest.0.first() {
            None => return Err(Peek::Partial),
            Some(&HANDSHAKE) => {}
            Some(_) => return Err(Peek::Other),
        }
        let Some(&[_, _, _, high, low]) = rest.0.first_chunk::<5>() else {
            return Err(Peek::Partial);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > RECORD_MAX {
            return Err(Peek::Other);
        }
        let Some(record) = rest.take(5 + length).and_then(|r| r.get(5..)) else {
            return Err(Peek::Partial);
        };
        message.extend_from_slice(record);
    }
}

/// `None` for what no server would answer.
fn hello(message: &[u8]) -> Option<Hello> {
    let mut rest = Reader(message);
    rest.take(2 + 32)?; // version and random
    rest.vector8()?; // session id
    rest.vector16()?; // cipher suites
    rest.vector8()?; // compression methods
    let mut hello = Hello::default();
    if rest.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(rest.vector16()?);
    let mut named = false;
    while !extensions.0.is_empty() {
        let (kind, data) = (extensions.u16()?, extensions.vector16()?);
        match kind {
            // Twice would be two answers to one question (RFC 8446 section 4.2 forbids it).
            SERVER_NAME if named => return None,
            SERVER_NAME => {
                named = true;
                hello.name = Some(server_name(data)?);
            }
            ENCRYPTED_CLIENT_HELLO => hello.encrypted = true,
            _ => {}
        }
    }
    rest.0.is_empty().then_some(hello)
}

/// The one name of the list (RFC 6066 section 3: no more than one of a type, and there is one type).
fn server_name(data: &[u8]) -> Option<String> {
    let mut rest = Reader(data);
    let mut list = Reader(rest.vector16()?);
    let kind = list.take(1)?;
    let name = list.vector16()?;
    let whole = kind == [0] && list.0.is_empty() && rest.0.is_empty() && !name.is_empty();
    let name = std::str::from_utf8(name).ok()?;
    (whole && name.is_ascii()).then(|| name.to_owned())
}

/// Takes from the front, or nothing at all.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        bytes.first_chunk().map(|b| u16::from_be_bytes(*b))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).unwrap();
        [&length.to_be_bytes()[..], bytes].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(data)].concat()
    }

    fn sni(name: &str) -> Vec<u8> {
        let entry = [&[0][..], &vector(name.as_bytes())].concat();
        extension(SERVER_NAME, &vector(&entry))
    }

    fn body(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(vector(&[0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(vector(&extensions.concat()));
        body
    }

    /// The message in records of at most `each` bytes.
    fn records(body: &[u8], each: usize) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[CLIENT_HELLO], &length[1..], body].concat();
        let record = |part: &[u8]| [&[HANDSHAKE, 3, 1][..], &vector(part)].concat();
        message.chunks(each).flat_map(record).collect()
    }

    #[test]
    fn the_name_is_read_however_it_is_cut() {
        let body = body(&[sni("API.example.com"), extension(43, &[2, 3, 4])]);
        let expected = Peek::Hello(Hello {
            name: Some("API.example.com".into()),
            encrypted: false,
        });
        for each in [1, 3, 7, 50, 16_000] {
            let mut whole = records(&body, each);
            for cut in 0..whole.len() {
                assert_eq!(peek(&whole[..cut]), Peek::Partial, "{each} {cut}");
            }
            assert_eq!(peek(&whole), expected, "{each}");
            whole.extend(b"what follows");
            assert_eq!(peek(&whole), expected, "{each}");
        }
    }

    #[test]
    fn a_hidden_name_is_seen_as_such() {
        let hidden = body(&[extension(ENCRYPTED_CLIENT_HELLO, &[0; 40]), sni("a.test")]);
        let Peek::Hello(hello) = peek(&records(&hidden, 9_000)) else {
            panic!("a hello");
        };
        assert_eq!(
            (hello.name.as_deref(), hello.encrypted),
            (Some("a.test"), true)
        );
        assert_eq!(
            peek(&records(&body(&[]), 9_000)),
            Peek::Hello(Hello::default())
        );
    }

    #[test]
    fn what_no_server_would_answer_is_no_hello() {
        let two = [&vector(b"a.test")[..], &[0], &vector(b"b.test")].concat();
        let two = extension(SERVER_NAME, &vector(&[&[0][..], &two].concat()));
        let mut long = records(&body(&[]), 9_000);
        long[6] = 0xff; // the message claims 16 MB
        for (what, bytes) in [
            ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            ("SSH", b"SSH-2.0-x".to_vec()),
            ("an alert", vec![0x15, 3, 3, 0, 2, 1, 0]),
            (
                "another message",
                records(&body(&[]), 9_000)
                    .iter()
                    .enumerate()
                    .map(|(i, b)| if i == 5 { 2 } else { *b })
                    .collect(),
            ),
            ("an empty record", vec![HANDSHAKE, 3, 1, 0, 0]),
            ("a long record", vec![HANDSHAKE, 3, 1, 0xff, 0xff]),
            ("a long message", long),
            (
                "two names",
                records(&body(&[sni("a.test"), sni("b.test")]), 9_000),
            ),
            ("two names in one", records(&body(&[two]), 9_000)),
            ("an empty name", records(&body(&[sni("")]), 9_000)),
            (
                "a name in other letters",
                records(&body(&[sni("b\u{fc}cher.test")]), 9_000),
            ),
            (
                "a cut extension",
                records(&body(&[vec![0, 43, 0, 9, 1]]), 9_000),
            ),
        ] {
            assert_eq!(peek(&bytes), Peek::Other, "{what}");
        }
    }
}
