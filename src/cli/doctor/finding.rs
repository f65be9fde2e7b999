//! What a check found.

use serde::Serialize;

/// Is it as it should be?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    Wrong,
    /// It cannot be told from here, or does not matter here.
    Unknown,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Wrong => "WRONG",
            Self::Unknown => "unknown",
        }
    }
}

/// One line of the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: String,
    pub(super) state: State,
    pub(super) finding: String,
    /// A command to type, or what to change.
    pub(super) mend: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: impl Into<String>, finding: impl ToString) -> Self {
        Self::new(check, State::Ok, finding)
    }

    pub(super) fn unknown(check: impl Into<String>, finding: impl ToString) -> Self {
        Self::new(check, State::Unknown, finding)
    }

    pub(super) fn wrong(
        check: impl Into<String>,
        finding: impl ToString,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            mend: Some(mend.into()),
            ..Self::new(check, State::Wrong, finding)
        }
    }

    fn new(check: impl Into<String>, state: State, finding: impl ToString) -> Self {
        Self {
            check: check.into(),
            state,
            finding: finding.to_string(),
            mend: None,
        }
    }
}
