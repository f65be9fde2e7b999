//! What time alone does to a proxy that runs on: its authority ends, and the clock of the system is set.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::clock::{Clock, Timestamp};
use crate::tls::Authority;

/// How often it looks: a clock is set in a moment.
const LOOK: Duration = Duration::from_secs(60);

/// Seconds before its end from which the authority is told of: agents need time to trust a new one.
const SOON: u64 = 30 * DAY;

/// What lasts is told once a day.
const DAY: u64 = 86_400;

/// Milliseconds that the two clocks may be apart: the system's is set a little all the time.
const APART: u64 = 60_000;

pub(super) struct Vigil {
    clock: Arc<dyn Clock>,
    /// The authority's validity.
    begins: Timestamp,
    ends: Timestamp,
    /// When the authority was told of.
    told: Option<Timestamp>,
    /// Are the clocks known to be apart?
    apart: bool,
}

impl Vigil {
    pub(super) fn over(authority: &Authority, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            begins: seconds(authority.not_before()),
            ends: seconds(authority.not_after()),
            told: None,
            apart: false,
        }
    }

    pub(super) async fn keep(mut self, mut drains: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = drains.wait_for(|d| *d) => return,
                _ = ticks.tick() => {}
            }
            let (now, wall) = (self.clock.now(), self.clock.wall());
            let told = [self.authority(now, wall), self.clocks(now, wall)];
            for said in told.into_iter().flatten() {
                tracing::warn!("{said}");
            }
        }
    }

    /// What is to be said of the authority, once a day.
    fn authority(&mut self, now: Timestamp, wall: Timestamp) -> Option<String> {
        let (begins, ends) = (self.begins, self.ends);
        let mend = "farepass ca rotate, let agents trust the new one, and start again";
        let said = if wall < begins {
            format!("the CA certificate is not valid before {begins}, so agents refuse it: {mend}")
        } else if wall >= ends {
            format!("the CA certificate expired at {ends}, so agents refuse it: {mend}")
        } else if wall.after_secs(SOON) > ends {
            format!("the CA certificate expires at {ends}: {mend}")
        } else {
            return None;
        };
        if self.told.is_some_and(|told| now < told.after_secs(DAY)) {
            return None;
        }
        self.told = Some(now);
        Some(said)
    }

    /// What is to be said when the clocks came apart.
    fn clocks(&mut self, now: Timestamp, wall: Timestamp) -> Option<String> {
        let apart = now.0.abs_diff(wall.0) > APART;
        let before = std::mem::replace(&mut self.apart, apart);
        (apart && !before).then(|| {
            format!(
                "the clock of this system says {wall}, and by what is known here it is {now}; budgets go by the latter, and sessions and questions are over when either says so"
            )
        })
    }
}

/// The certificate and its end, as the admin listener tells them.
pub(super) fn certificate(authority: &Authority) -> (String, Timestamp) {
    let pem = authority.certificate_pem().to_owned();
    (pem, seconds(authority.not_after()))
}

fn seconds(at: time::OffsetDateTime) -> Timestamp {
    Timestamp::from_secs(u64::try_from(at.unix_timestamp()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Fixed;

    fn vigil() -> Vigil {
        Vigil {
            clock: Arc::new(Fixed(Timestamp(0))),
            begins: Timestamp::from_secs(100 * DAY),
            ends: Timestamp::from_secs(465 * DAY),
            told: None,
            apart: false,
        }
    }

    #[test]
    fn the_end_of_the_authority_is_told_once_a_day_from_thirty_days_before_it() {
        let day = |day: u64| Timestamp::from_secs(day * DAY);
        for (at, expected) in [
            (99, Some("not valid before")),
            (100, None),
            (435, None),
            (436, Some("expires at")),
            (464, Some("expires at")),
            (465, Some("expired at")),
        ] {
            let mut vigil = vigil();
            let said = vigil.authority(day(at), day(at));
            let fits = match (&said, expected) {
                (Some(said), Some(part)) => said.contains(part),
                (said, part) => said.is_none() && part.is_none(),
            };
            assert!(fits, "{at} {said:?}");
            if expected.is_none() {
                continue;
            }
            let hour = day(at).after_secs(3600);
            assert_eq!(vigil.authority(hour, hour), None, "{at}");
            let next = vigil.authority(day(at + 1), day(at + 1));
            assert_eq!(next.is_some(), at != 99, "{at}");
        }
    }

    #[test]
    fn clocks_that_came_apart_are_told_of_once() {
        let mut vigil = vigil();
        let now = Timestamp::from_secs(200 * DAY);
        let mut told = |wall| vigil.clocks(now, Timestamp(wall)).is_some();
        assert!(!told(now.0 + APART));
        assert!(told(now.0 + APART + 1));
        assert!(!told(now.0 + 2 * APART));
        assert!(!told(now.0));
        assert!(told(now.0 - APART - 1));
    }
}
