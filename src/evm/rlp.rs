//! RLP, the encoding of Ethereum's transactions (Ethereum yellow paper, appendix B). Writing only.

/// The items of a list, each encoded, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items(Vec<u8>);

impl Items {
    /// A list without items.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a string of bytes behind it.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        match bytes {
            [single] if *single < 0x80 => self.0.push(*single),
            bytes => {
                head(&mut self.0, 0x80, bytes.len());
                self.0.extend_from_slice(bytes);
            }
        }
        self
    }

    /// With a number behind it: big-endian without leading zeros, nothing being the empty string.
    #[must_use]
    pub fn number(self, number: u128) -> Self {
        let bytes = number.to_be_bytes();
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        self.bytes(bytes.split_at(zeros).1)
    }

    /// With a list behind it.
    #[must_use]
    pub fn list(mut self, list: &Self) -> Self {
        head(&mut self.0, 0xc0, list.0.len());
        self.0.extend_from_slice(&list.0);
        self
    }

    /// The list itself, with its length before it.
    #[must_use]
    pub fn encoded(&self) -> Vec<u8> {
        Self::new().list(self).0
    }
}

/// The length of what follows: up to 55 in one byte with its kind, more with a length of the length.
fn head(out: &mut Vec<u8>, kind: u8, length: usize) {
    if let Some(short) = u8::try_from(length).ok().filter(|l| *l <= 55) {
        out.push(kind.saturating_add(short));
        return;
    }
    let bytes = length.to_be_bytes();
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let digits = bytes.split_at(zeros).1;
    let count = u8::try_from(digits.len()).unwrap_or(u8::MAX);
    out.push(kind.saturating_add(55).saturating_add(count));
    out.extend_from_slice(digits);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An independent reading: one item from the front, as list or string, and the rest.
    fn item(bytes: &[u8]) -> (bool, &[u8], &[u8]) {
        let long = |n: usize| {
            let digits = &bytes[1..=n];
            assert_ne!(digits[0], 0, "a length has no leading zero");
            let length = digits.iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
            assert!(length > 55, "a short length has a short form");
            (1 + n, length)
        };
        let first = usize::from(bytes[0]);
        let (from, length) = match first {
            0..0x80 => (0, 1),
            0x80..0xb8 => (1, first - 0x80),
            0xb8..0xc0 => long(first - 0xb7),
            0xc0..0xf8 => (1, first - 0xc0),
            _ => long(first - 0xf7),
        };
        let (inner, rest) = bytes[from..].split_at(length);
        if first == 0x81 {
            assert!(inner[0] >= 0x80, "a small byte stands for itself");
        }
        (first >= 0xc0, inner, rest)
    }

    #[test]
    fn the_examples_of_the_specification_are_written() {
        let one = |items: Items| hex::encode(items.0);
        assert_eq!(one(Items::new().bytes(b"dog")), "83646f67");
        assert_eq!(one(Items::new().bytes(b"")), "80");
        assert_eq!(one(Items::new().bytes(&[0])), "00");
        assert_eq!(one(Items::new().number(0)), "80");
        assert_eq!(one(Items::new().number(15)), "0f");
        assert_eq!(one(Items::new().number(1024)), "820400");
        assert_eq!(one(Items::new().list(&Items::new())), "c0");
        let cat_dog = Items::new().bytes(b"cat").bytes(b"dog");
        assert_eq!(hex::encode(cat_dog.encoded()), "c88363617483646f67");
        let lorem = b"Lorem ipsum dolor sit amet, consectetur adipisicing elit";
        assert!(one(Items::new().bytes(lorem)).starts_with("b8384c6f"));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..12),
            number in any::<u128>(),
        ) {
            let mut items = Items::new().number(number);
            for string in &strings {
                items = items.bytes(string);
            }
            let whole = Items::new().list(&items).bytes(b"end").encoded();
            let (is_list, inner, rest) = item(&whole);
            prop_assert!(is_list && rest.is_empty());
            let (is_list, mut list, end) = item(inner);
            prop_assert!(is_list);
            prop_assert_eq!(item(end), (false, &b"end"[..], &[][..]));
            let (_, digits, others) = item(list);
            prop_assert!(digits.first() != Some(&0));
            prop_assert_eq!(digits.iter().fold(0, |sum, b| sum << 8 | u128::from(*b)), number);
            list = others;
            for string in &strings {
                let (is_list, inner, others) = item(list);
                prop_assert!(!is_list);
                prop_assert_eq!(inner, &string[..]);
                list = others;
            }
            prop_assert!(list.is_empty());
        }
    }
}
