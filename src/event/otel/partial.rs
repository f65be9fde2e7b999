//! What a collector says of a batch that it took in part: `partial_success` of the OTLP specification, the same
//! two fields for spans and for records.

/// Most characters of its reason that are told on.
const REASON_MAX: usize = 200;

/// Of a batch, what was not taken. It is not to be sent again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) many: u64,
    pub(super) why: String,
}

/// Reads the answer to an export. One that is no such message says nothing of the kind.
pub(super) fn left(answer: &[u8]) -> Left {
    let mut left = Left::default();
    for (number, value) in Fields(answer) {
        if let (1, Value::Bytes(partial)) = (number, value) {
            for field in Fields(partial) {
                match field {
                    // An `int64`: what is below zero is as good as none.
                    (1, Value::Number(many)) => {
                        left.many = many.cast_signed().max(0).cast_unsigned()
                    }
                    (2, Value::Bytes(why)) => left.why = shown(why),
                    _ => {}
                }
            }
        }
    }
    left
}

fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars()
        .flat_map(char::escape_debug)
        .take(REASON_MAX)
        .collect()
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed length, which no field here has.
    Other,
}

/// Fields of a message in the encoding of Protocol Buffers, up to the first that is malformed.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_taken_is_read_with_its_reason() {
        // An unknown field of each kind around `{ partial_success: { 3, "full\n" } }`.
        let told = b"\x10\x96\x01\x19abcdefgh\x0a\x09\x08\x03\x12\x05full\n\x1d1234";
        let expected = Left {
            many: 3,
            why: "full\\n".into(),
        };
        assert_eq!(left(told), expected);
        let warned = left(b"\x0a\x04\x12\x02hm");
        assert_eq!((warned.many, &*warned.why), (0, "hm"));
    }

    #[test]
    fn any_bytes_are_an_answer() {
        for answer in [
            &b""[..],
            b"{}",
            b"\x0a",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            // Below zero.
            b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0b",
        ] {
            assert_eq!(left(answer), Left::default(), "{answer:?}");
        }
        let long = [&b"\x0a\xad\x02\x12\xaa\x02"[..], &[b'x'; 298]].concat();
        assert_eq!(left(&long).why.len(), REASON_MAX);
    }
}
