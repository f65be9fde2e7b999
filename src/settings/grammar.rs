//! How lengths of time, sizes, percentages and rates are written.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

/// A length of time: `500ms`, `90s`, `15m`, `24h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// Why a text is no length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a length of time as \"90s\", \"15m\", \"24h\" or \"7d\", at most 3650d")]
pub struct NotSpan;

impl FromStr for Span {
    type Err = NotSpan;

    fn from_str(text: &str) -> Result<Self, NotSpan> {
        const MOST: Duration = Duration::from_secs(3650 * 86_400);
        let (number, unit) = split(text).ok_or(NotSpan)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(NotSpan),
        };
        let span = number.checked_mul(millis).map(Duration::from_millis);
        span.filter(|s| *s <= MOST).map(Self).ok_or(NotSpan)
    }
}

impl fmt::Display for Span {
    /// In the largest unit that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1000, "s"),
        ];
        let fits =
            |(length, _): &&(u128, &str)| millis >= *length && millis.is_multiple_of(*length);
        match units.iter().find(fits) {
            Some((length, unit)) => write!(f, "{}{unit}", millis / length),
            None if millis == 0 => f.write_str("0s"),
            None => write!(f, "{millis}ms"),
        }
    }
}

/// A number of bytes: `512 B`, `64 KiB`, `1 MiB`, `1 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a size as \"512 B\", \"64 KiB\" or \"1 MiB\"")]
pub struct NotSize;

impl FromStr for Size {
    type Err = NotSize;

    fn from_str(text: &str) -> Result<Self, NotSize> {
        let (number, unit) = split(text).ok_or(NotSize)?;
        let bytes: u64 = match unit.strip_prefix(' ').unwrap_or(unit) {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(NotSize),
        };
        number.checked_mul(bytes).map(Self).ok_or(NotSize)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let fits = |(size, _): &&(u64, &str)| self.0 >= *size && self.0.is_multiple_of(*size);
        match units.iter().find(fits) {
            Some((size, unit)) => write!(f, "{} {unit}", self.0 / size),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// Whole hundredths: `20%`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Percent(pub u16);

impl Percent {
    /// So many hundredths of a number, rounded down.
    #[must_use]
    pub fn of(self, number: u64) -> u64 {
        let part = u128::from(number) * u128::from(self.0) / 100;
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// The least whole number that is so many hundredths of a number, or more.
    #[must_use]
    pub fn reached(self, number: u64) -> u64 {
        let part = (u128::from(number) * u128::from(self.0)).div_ceil(100);
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// A number and so many hundredths of it, rounded down; saturates.
    #[must_use]
    pub fn above(self, number: u64) -> u64 {
        number.saturating_add(self.of(number))
    }
}

/// Why a text is no percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a percentage as \"20%\", without decimals, at most 1000%")]
pub struct NotPercent;

impl FromStr for Percent {
    type Err = NotPercent;

    fn from_str(text: &str) -> Result<Self, NotPercent> {
        match split(text) {
            Some((number @ 0..=1000, "%")) => {
                u16::try_from(number).map(Self).map_err(|_| NotPercent)
            }
            _ => Err(NotPercent),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// So many in a unit of time: `30/m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how many seconds.
    pub seconds: u64,
}

/// Why a text is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a rate as \"5/s\", \"30/m\", \"100/h\" or \"1000/d\"")]
pub struct NotRate;

impl FromStr for Rate {
    type Err = NotRate;

    fn from_str(text: &str) -> Result<Self, NotRate> {
        let (number, unit) = split(text).ok_or(NotRate)?;
        let count = u32::try_from(number).map_err(|_| NotRate)?;
        let seconds = match unit {
            "/s" => 1,
            "/m" => 60,
            "/h" => 3600,
            "/d" => 86_400,
            _ => return Err(NotRate),
        };
        if count == 0 {
            return Err(NotRate);
        }
        Ok(Self { count, seconds })
    }
}

/// Digits without a leading zero, and what follows them.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    if number.len() > 1 && number.starts_with('0') {
        return None;
    }
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half of three is not reached by one.
    #[test]
    fn a_part_of_a_count_is_reached_when_it_is_whole() {
        let cases = [(50, 3, 2), (50, 4, 2), (80, 10, 8), (1, 5, 1), (100, 7, 7)];
        for (hundredths, number, reached) in cases {
            assert_eq!(Percent(hundredths).reached(number), reached, "{number}");
        }
    }

    #[test]
    fn lengths_of_time() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("90s", 90_000),
            ("15m", 900_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Span(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "90",
            "90 s",
            "1.5h",
            "-1s",
            "+1s",
            "01s",
            "1w",
            "1h30m",
            "3651d",
            "1S",
            "99999999999999999999d",
        ] {
            assert_eq!(text.parse::<Span>(), Err(NotSpan), "{text}");
        }
        let written = |text: &str| text.parse::<Span>().unwrap().to_string();
        assert_eq!(
            ["0s", "1500ms", "90s", "60s", "120m", "48h"].map(written),
            ["0s", "1500ms", "90s", "1m", "2h", "2d"]
        );
    }

    #[test]
    fn sizes_percentages_and_rates() {
        assert_eq!("1 MiB".parse(), Ok(Size(1 << 20)));
        assert_eq!("64KiB".parse(), Ok(Size(65_536)));
        assert_eq!("0 B".parse(), Ok(Size(0)));
        assert_eq!(Size(65_536).to_string(), "64 KiB");
        assert_eq!(Size(1000).to_string(), "1000 B");
        for text in ["1", "1 MB", "1  MiB", "1 mib", "1.5 MiB", "99999999999 GiB"] {
            assert_eq!(text.parse::<Size>(), Err(NotSize), "{text}");
        }
        assert_eq!("20%".parse(), Ok(Percent(20)));
        for text in ["20", "%", "1001%", "1.5%", "-1%", "20 %"] {
            assert_eq!(text.parse::<Percent>(), Err(NotPercent), "{text}");
        }
        let rate = Rate {
            count: 30,
            seconds: 60,
        };
        assert_eq!("30/m".parse(), Ok(rate));
        for text in ["30", "0/m", "30/min", "30 / m", "/m", "5000000000/s"] {
            assert_eq!(text.parse::<Rate>(), Err(NotRate), "{text}");
        }
    }
}
