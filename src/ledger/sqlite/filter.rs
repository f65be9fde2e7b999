//! Which random numbers are certainly new, so that the file need not be asked: a Bloom filter.

use std::ops::Range;

/// 1 MiB. With a million numbers in it one of thirty new ones is taken for an old one, and asked for.
const WORDS: usize = 1 << 17;
/// 64 bytes.
const LINE: usize = 8;

/// See the module. Numbers must be random in their lower 41 bits. All bits of one number are in one line of
/// the processor's cache, as fetching lines is what it costs.
pub(super) struct Filter(Vec<u64>);

impl Filter {
    pub(super) fn new() -> Self {
        // Zeroes of the kernel's, which take no room before something is put there.
        Self(vec![0; WORDS])
    }

    pub(super) fn put(&mut self, number: u64) {
        let words = self.0.get_mut(line(number)).unwrap_or_default();
        for (word, bit) in words.iter_mut().zip(bits(number)) {
            *word |= bit;
        }
    }

    /// Was it perhaps put? `false` is certain.
    pub(super) fn may_have(&self, number: u64) -> bool {
        let words = self.0.get(line(number)).unwrap_or_default();
        let mut pairs = words.iter().zip(bits(number));
        pairs.all(|(word, bit)| word & bit == bit)
    }
}

/// Its words.
fn line(number: u64) -> Range<usize> {
    let first = usize::try_from(number % (WORDS / LINE) as u64).unwrap_or_default() * LINE;
    first..first + LINE
}

/// Three bits of a line, or fewer where they fall together.
fn bits(number: u64) -> [u64; LINE] {
    let mut bits = [0; LINE];
    for shift in [14, 23, 32] {
        let place = usize::try_from(number >> shift & 511).unwrap_or_default();
        if let Some(word) = bits.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sealed::number_of;

    #[test]
    fn what_was_put_is_never_taken_for_new_and_few_new_ones_for_old() {
        let mut filter = Filter::new();
        let number = |n: u64| number_of(&n.to_string()).cast_unsigned();
        for n in 0..100_000 {
            filter.put(number(n));
        }
        assert!((0..100_000).all(|n| filter.may_have(number(n))));
        let wrong = (100_000..200_000)
            .filter(|n| filter.may_have(number(*n)))
            .count();
        assert!(wrong < 200, "{wrong} of 100,000");
    }
}
