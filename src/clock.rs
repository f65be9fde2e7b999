//! Time as a value. Only `System` reads the wall clock.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{Duration as Span, OffsetDateTime};

/// Milliseconds since the Unix epoch, UTC. Written as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// From whole seconds since the epoch; saturates.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn secs(self) -> u64 {
        self.0 / 1000
    }

    /// This long after; saturates.
    #[must_use]
    pub const fn after_secs(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    fn date(self) -> OffsetDateTime {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        OffsetDateTime::UNIX_EPOCH
            .checked_add(Span::milliseconds(millis))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = self.date();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            d.year(),
            u8::from(d.month()),
            d.day(),
            d.hour(),
            d.minute(),
            d.second(),
            d.millisecond()
        )
    }
}

/// Why a text is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a time as 2026-01-31 or 2026-01-31T12:00:00Z, UTC")]
pub struct NotMoment;

impl FromStr for Timestamp {
    type Err = NotMoment;

    /// A moment (RFC 3339), or the beginning of a day in UTC.
    fn from_str(text: &str) -> Result<Self, NotMoment> {
        let whole = match text.len() {
            10 => format!("{text}T00:00:00Z"),
            _ => text.to_owned(),
        };
        // The library takes any byte between the day and the time, also a line break.
        if !matches!(whole.as_bytes().get(10), Some(b'T' | b't' | b' ')) {
            return Err(NotMoment);
        }
        let date = OffsetDateTime::parse(&whole, &Rfc3339).map_err(|_| NotMoment)?;
        let millis = date.unix_timestamp_nanos() / 1_000_000;
        u64::try_from(millis).map(Self).map_err(|_| NotMoment)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let date = OffsetDateTime::parse(&text, &Rfc3339).map_err(serde::de::Error::custom)?;
        let millis = date.unix_timestamp_nanos() / 1_000_000;
        u64::try_from(millis)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// How far back a budget looks. What is spent counts in buckets, which have the second in which they end
/// for their number: whatever the window was then and is now, what lies in it counts. Of a bucket that
/// lies in it in part all of it counts, against the spender, so a rolling window is exact to 1/60 of its
/// length and one that replaces another to as much as that one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Window {
    /// The last so many seconds, at every moment.
    Rolling {
        /// Length of the window.
        seconds: u64,
    },
    /// The calendar day, UTC.
    Day,
    /// The calendar month, UTC.
    Month,
    /// All time.
    Always,
}

/// Seconds.
const DAY: u64 = 86_400;

impl Window {
    /// The first bucket that counts at `now`, and the one in which is counted what is spent then.
    #[must_use]
    pub fn buckets(self, now: Timestamp) -> (u64, u64) {
        let width = match self {
            Self::Rolling { seconds } => (seconds / 60).max(1),
            Self::Day | Self::Month | Self::Always => DAY,
        };
        let first = match self {
            Self::Always => 0,
            _ => self.starts_at(now).secs().saturating_add(1),
        };
        let last = (now.secs() / width).saturating_add(1);
        (first, last.saturating_mul(width))
    }

    /// When the calendar window that `now` is in began; a rolling one begins at no moment of its own.
    #[must_use]
    pub fn starts_at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Rolling { seconds } => {
                Timestamp(now.0.saturating_sub(seconds.saturating_mul(1000)))
            }
            Self::Day => Timestamp::from_secs(now.secs() / DAY * DAY),
            Self::Month => {
                let date = now.date().date();
                let first = date.replace_day(1).unwrap_or(date);
                let secs = first.midnight().assume_utc().unix_timestamp();
                Timestamp::from_secs(u64::try_from(secs).unwrap_or_default())
            }
            Self::Always => Timestamp(0),
        }
    }

    /// Its length in seconds, if it rolls.
    #[must_use]
    pub fn rolls(self) -> Option<u64> {
        match self {
            Self::Rolling { seconds } => Some(seconds),
            Self::Day | Self::Month | Self::Always => None,
        }
    }

    /// When what is counted now stops counting: the end of the calendar window, or one whole length
    /// from now. `None` for ever.
    #[must_use]
    pub fn resets_at(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Rolling { seconds } => Some(now.after_secs(seconds)),
            Self::Day => Some(Timestamp::from_secs((now.secs() / DAY + 1) * DAY)),
            Self::Month => {
                let date = now.date();
                let (year, month) = match date.month() {
                    time::Month::December => (date.year() + 1, time::Month::January),
                    month => (date.year(), month.next()),
                };
                let first = time::Date::from_calendar_date(year, month, 1).ok()?;
                let secs = first.midnight().assume_utc().unix_timestamp();
                u64::try_from(secs).ok().map(Timestamp::from_secs)
            }
            Self::Always => None,
        }
    }
}

/// What time it is. The one seam through which wall time enters.
pub trait Clock: Send + Sync {
    /// Time for budgets, holds and expiries. Never steps back while the process runs.
    fn now(&self) -> Timestamp;
    /// Time as the rest of the world sees it, for validity windows of signatures.
    fn wall(&self) -> Timestamp;
    /// The later of both. What is over when either clock says so (a session, a question to a person) is written and
    /// judged by it: a wall clock that is set forward ends what there is, and nothing that begins after that.
    fn later(&self) -> Timestamp {
        self.now().max(self.wall())
    }
}

/// The system's clock. `now` starts at the wall clock and then follows a clock that nobody can set
/// and that goes on while the machine sleeps: a wall clock that is set back or forward releases
/// nothing and reopens no window, and a laptop's midnight is not late by a night.
pub struct System {
    started: Duration,
    base: AtomicU64,
}

/// Time since some moment that stays the same while the machine runs.
fn uptime() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

impl System {
    /// Starts at wall time, or at `floor` (the newest time in the ledger) when the wall clock is behind it.
    #[must_use]
    pub fn starting_at(floor: Timestamp) -> Self {
        Self {
            started: uptime(),
            base: AtomicU64::new(wall().max(floor).0),
        }
    }

    /// From now on it is at least this time: what a ledger that was found late has seen already.
    pub fn not_before(&self, floor: Timestamp) {
        let base = floor.0.saturating_sub(self.elapsed());
        self.base.fetch_max(base, Ordering::Relaxed);
    }

    fn elapsed(&self) -> u64 {
        let elapsed = uptime().saturating_sub(self.started).as_millis();
        u64::try_from(elapsed).unwrap_or(u64::MAX)
    }
}

impl Clock for System {
    fn now(&self) -> Timestamp {
        let base = self.base.load(Ordering::Relaxed);
        Timestamp(base.saturating_add(self.elapsed()))
    }

    fn wall(&self) -> Timestamp {
        wall()
    }
}

/// The wall clock, read once.
#[must_use]
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
}

/// A clock that stands still, for tests and for questions about another moment.
pub struct Fixed(pub Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn wall(&self) -> Timestamp {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_starts_at_the_later_of_wall_and_ledger_and_goes_on() {
        let before = wall();
        let clock = System::starting_at(Timestamp(0));
        assert!(clock.now() >= before && clock.now().0 < before.0 + 60_000);
        let future = Timestamp(before.0 + 1_000_000_000);
        let clock = System::starting_at(future);
        let first = clock.now();
        assert!(
            first >= future,
            "a wall clock behind the ledger is not believed"
        );
        while clock.now() == first {
            std::hint::spin_loop();
        }
        assert!(clock.now() > first);
        assert!(clock.wall() < future, "the wall is told as it is");
        let later = Timestamp(future.0 + 1_000_000_000);
        clock.not_before(later);
        let then = clock.now();
        assert!(later <= then && then.0 < later.0 + 60_000);
        clock.not_before(future);
        assert!(clock.now() >= then, "it never steps back");
    }

    #[test]
    fn a_moment_is_written_as_one() {
        let moment = |text: &str| text.parse::<Timestamp>().ok();
        let eight = moment("2027-01-15T08:00:00Z");
        assert!(eight.is_some());
        assert_eq!(moment("2027-01-15t08:00:00z"), eight);
        assert_eq!(moment("2027-01-15 08:00:00Z"), eight);
        for between in ['x', '\n', '\r', '\t', '\0', '\u{1b}', '1', 'Z', 'ü'] {
            assert_eq!(moment(&format!("2027-01-15{between}08:00:00Z")), None);
        }
    }

    /// What was spent under one window counts under every other one that it lies in, and no longer than
    /// for its bucket.
    #[test]
    fn a_window_that_replaces_another_loses_nothing_and_keeps_nothing_for_ever() {
        let rolling = |seconds| Window::Rolling { seconds };
        let all = [
            rolling(1),
            rolling(60),
            rolling(3600),
            rolling(DAY),
            rolling(45 * DAY),
            Window::Day,
            Window::Month,
            Window::Always,
        ];
        // Around the turn of a year.
        let year = 1_798_761_600;
        for (was, is) in all.iter().flat_map(|was| all.map(|is| (*was, is))) {
            for spent in (0..40).map(|n| year - 2 * DAY + n * 10_801) {
                let (_, bucket) = was.buckets(Timestamp::from_secs(spent));
                for now in (0..60).map(|n| spent + n * n * 1009) {
                    let now = Timestamp::from_secs(now);
                    let (first, last) = is.buckets(now);
                    let start = is.starts_at(now).secs();
                    let counts = bucket >= first;
                    assert!(counts || spent < start, "{was:?} {is:?} {spent} {now}");
                    let over = is != Window::Always && bucket <= start;
                    assert!(!(counts && over), "{was:?} {is:?} {spent} {now}");
                    assert!(first <= last);
                }
            }
        }
    }
}
