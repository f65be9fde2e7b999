//! Which random numbers are certainly new, so that the file need not be asked: a Bloom filter.

/// 1 MiB. With a million numbers in it one of twenty new ones is taken for an old one, and asked for.
const WORDS: usize = 1 << 17;
const BITS: u64 = WORDS as u64 * 64;

/// See the module. Numbers must be random in their lower 46 bits.
pub(super) struct Filter(Vec<u64>);

impl Filter {
    pub(super) fn new() -> Self {
        // Zeroes of the kernel's, which take no room before something is put there.
        Self(vec![0; WORDS])
    }

    pub(super) fn put(&mut self, number: u64) {
        for place in places(number) {
            if let Some(word) = self.0.get_mut(place.word) {
                *word |= place.bit;
            }
        }
    }

    /// Was it perhaps put? `false` is certain.
    pub(super) fn may_have(&self, number: u64) -> bool {
        let is_set = |place: Place| self.0.get(place.word).is_none_or(|w| w & place.bit != 0);
        places(number).into_iter().all(is_set)
    }
}

struct Place {
    word: usize,
    bit: u64,
}

fn places(number: u64) -> [Place; 2] {
    [number, number >> 23].map(|number| Place {
        word: usize::try_from(number % BITS / 64).unwrap_or_default(),
        bit: 1 << (number % 64),
    })
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
