//! What moving an asset costs besides its amount.

/// Most that routing a payment may cost: the larger of a sum and a share. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fee {
    /// Millisatoshi that are allowed whatever the amount.
    pub least_msat: u64,
    /// Percent of the amount.
    pub percent: u64,
}

impl Fee {
    /// For an amount in atomic units, rounded up. `None` when it does not fit.
    #[must_use]
    pub fn most(self, amount: u128) -> Option<u128> {
        let share = amount.checked_mul(self.percent.into())?.div_ceil(100);
        Some(share.max(self.least_msat.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_are_rounded_up() {
        let fee = Fee {
            least_msat: 10_000,
            percent: 1,
        };
        for (amount, most) in [
            (0, 10_000),
            (1_000_000, 10_000),
            (1_000_001, 10_001),
            (2_000_000, 20_000),
        ] {
            assert_eq!(fee.most(amount), Some(most), "{amount}");
        }
        let all = Fee { percent: 2, ..fee };
        assert_eq!(all.most(u128::MAX), None);
        assert_eq!(Fee::default().most(7), Some(0));
    }
}
