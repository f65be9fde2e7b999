//! Budget and expiry of a session live in the ledger: the one of clients without credentials keeps what it was opened
//! with. Whoever has lowered `sessions.default` since may think that it holds, and is told.

use std::sync::Arc;
use std::time::Duration;

use super::ground::Ground;
use crate::clock::{Clock, Timestamp};
use crate::ledger::{Ledger, SessionRow};
use crate::money::Usd;
use crate::payment::SessionId;
use crate::settings::{Sessions, Span};

/// So far may a clock have been set back since.
const APART: Duration = Duration::from_secs(60);

/// The session of clients without credentials, if they have one.
pub(super) struct Standing {
    id: Option<SessionId>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
}

impl Standing {
    pub(super) fn of(ground: &Ground) -> Self {
        let own = ground.guests.own.as_ref();
        Self {
            id: own.map(|draft| draft.session.id.clone()),
            ledger: Arc::clone(&ground.ledger),
            clock: Arc::clone(&ground.clock) as Arc<dyn Clock>,
        }
    }

    /// Warns where it is allowed more than these say. A ledger that cannot be read says so elsewhere.
    pub(super) async fn compare(&self, sessions: &Sessions) {
        let Some(id) = self.id.as_ref().filter(|_| sessions.without_credentials) else {
            return;
        };
        if let Ok(Some(row)) = self.ledger.session(id).await {
            tell(
                &row,
                self.clock.later(),
                (sessions.budget, sessions.expires),
            );
        }
    }
}

/// Warns where an open session is allowed more than a new one would be.
pub(super) fn tell(row: &SessionRow, now: Timestamp, new: (Usd, Duration)) {
    if let Some(kept) = kept(row, now, new) {
        tracing::warn!("{kept}");
    }
}

/// What it keeps, and what to do about it.
fn kept(row: &SessionRow, now: Timestamp, (budget, expires): (Usd, Duration)) -> Option<String> {
    let session = &row.session;
    if row.closed || session.expires <= now {
        return None;
    }
    let left = Duration::from_millis(session.expires.0.saturating_sub(now.0));
    let more =
        (session.budget > budget).then(|| format!("a budget of {}, not {budget}", session.budget));
    let longer = left > expires.saturating_add(APART);
    let expires = Span(expires);
    let longer = longer.then(|| {
        format!(
            "its end at {}, more than {expires} from now",
            session.expires
        )
    });
    let all: Vec<_> = more.into_iter().chain(longer).collect();
    let all = (!all.is_empty()).then(|| all.join("; "))?;
    let id = &session.id;
    Some(format!(
        "the default session is open and keeps what it was opened with, more than sessions.default says now ({all}); to make that hold: farepass session close {id}, then farepass session create --default --budget \"{budget}\" --expires {expires}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Fixed;
    use crate::ledger::sessions::{Draft, Named};

    #[test]
    fn only_what_is_lowered_in_an_open_session_is_told() {
        let (hour, now) = (Duration::from_secs(3600), Timestamp::from_secs(10));
        let draft =
            Draft::of_default(&Named::default(), Usd(2_000_000_000), hour, &Fixed(now)).unwrap();
        let mut row = SessionRow {
            session: draft.session,
            closed: false,
            spent: Usd::default(),
            payments: 0,
        };
        let later = now.after_secs(60);
        let told = |row: &SessionRow, at, budget, expires: Duration| {
            kept(row, at, (Usd(budget), expires)).unwrap_or_default()
        };
        assert_eq!(told(&row, later, 2_000_000_000, hour), "");
        assert_eq!(told(&row, later, 9_000_000_000, hour * 2), "");
        let less = told(&row, later, 1_500_000_000, hour);
        assert!(
            less.contains("(a budget of 2.00 USD, not 1.50 USD)"),
            "{less}"
        );
        let command = "farepass session create --default --budget \"1.50 USD\" --expires 1h";
        assert!(less.ends_with(command), "{less}");
        let sooner = told(&row, later, 2_000_000_000, hour / 2);
        let end = "(its end at 1970-01-01T01:00:10.000Z, more than 30m from now)";
        assert!(sooner.contains(end), "{sooner}");
        assert_eq!(told(&row, now.after_secs(3600), 1, hour), "", "it is over");
        row.closed = true;
        assert_eq!(told(&row, later, 1, hour), "");
    }
}
