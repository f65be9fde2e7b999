//! Every route of the API, once: what is not in this table is not answered, and what is in it is
//! described (`openapi.rs`).

use http::Method;

use super::problem::Problem;

/// What is done at a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// This description.
    Describe,
    /// May it pay, and what is it?
    Health,
    Sessions,
    OpenSession,
    Session,
    CloseSession,
    Budgets,
    Payments,
    Payment,
    Trail,
    Refusals,
    Reconcile,
    Approvals,
    AskAhead,
    Approve,
    Deny,
    Freezes,
    Freeze,
    Unfreeze,
    Merchants,
    Forget,
    Policy,
    Reload,
    Events,
}

/// One method of one path.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// Below `/api/v1/`; `{name}` stands for one segment.
    pub(super) path: &'static str,
    pub(super) op: Op,
    /// One line for people.
    pub(super) doc: &'static str,
    /// Parameters of the query, by name (`openapi.rs` describes each).
    pub(super) query: &'static [&'static str],
    /// Schema of the body.
    pub(super) body: Option<&'static str>,
    /// Schema of the answer; one in brackets is a list.
    pub(super) answer: &'static str,
    pub(super) status: u16,
}

const fn get(path: &'static str, op: Op, doc: &'static str, answer: &'static str) -> Route {
    Route {
        method: "GET",
        path,
        op,
        doc,
        query: &[],
        body: None,
        answer,
        status: 200,
    }
}

const fn post(path: &'static str, op: Op, doc: &'static str, answer: &'static str) -> Route {
    Route {
        method: "POST",
        ..get(path, op, doc, answer)
    }
}

const fn delete(path: &'static str, op: Op, doc: &'static str, answer: &'static str) -> Route {
    Route {
        method: "DELETE",
        ..get(path, op, doc, answer)
    }
}

/// The table.
pub(super) static ROUTES: &[Route] = &[
    get(
        "openapi.json",
        Op::Describe,
        "This description. Needs no token.",
        "Description",
    ),
    get(
        "health",
        Op::Health,
        "May it pay, and what is it?",
        "Health",
    ),
    get(
        "sessions",
        Op::Sessions,
        "All sessions, the newest first.",
        "[Session]",
    ),
    Route {
        body: Some("SessionWanted"),
        status: 201,
        ..post(
            "sessions",
            Op::OpenSession,
            "Opens a session. The proxy URL in the answer holds its secret and is told once.",
            "SessionOpened",
        )
    },
    get("sessions/{session}", Op::Session, "One session.", "Session"),
    delete(
        "sessions/{session}",
        Op::CloseSession,
        "Closes a session for good.",
        "Session",
    ),
    post(
        "sessions/{session}/close",
        Op::CloseSession,
        "The same, for clients without DELETE.",
        "Session",
    ),
    get(
        "budgets",
        Op::Budgets,
        "The budgets of the policy, and what counts against each now.",
        "[Budget]",
    ),
    Route {
        query: &[
            "session", "agent", "host", "rule", "state", "reason", "denied", "limit",
        ],
        ..get(
            "payments",
            Op::Payments,
            "The newest record of each payment that fits, the newest first.",
            "[SpendEvent]",
        )
    },
    get(
        "payments/{payment}",
        Op::Payment,
        "Every event of one payment or refusal, the oldest first.",
        "[SpendEvent]",
    ),
    get(
        "payments/{payment}/trail",
        Op::Trail,
        "Its records with their places in the ledger's hash chain.",
        "Trail",
    ),
    Route {
        query: &["session", "agent", "host", "rule", "reason", "limit"],
        ..get(
            "refusals",
            Op::Refusals,
            "What was not paid, with the deciding rule and the reason, the newest first.",
            "[SpendEvent]",
        )
    },
    Route {
        body: Some("Reconcile"),
        ..post(
            "reconcile",
            Op::Reconcile,
            "Asks the chains what became of a few payments, and records it.",
            "[Finding]",
        )
    },
    get(
        "approvals",
        Op::Approvals,
        "What a person is asked, answered or not, the newest first.",
        "[Approval]",
    ),
    Route {
        body: Some("Purchase"),
        status: 201,
        ..post(
            "approvals",
            Op::AskAhead,
            "Asks a person about a purchase before it is tried, or tells how the same question stands.",
            "Approval",
        )
    },
    post(
        "approvals/{approval}/approve",
        Op::Approve,
        "Yes, once, on exactly these terms.",
        "Approval",
    ),
    post("approvals/{approval}/deny", Op::Deny, "No.", "Approval"),
    get(
        "freezes",
        Op::Freezes,
        "Whose payments are frozen.",
        "[Freeze]",
    ),
    Route {
        body: Some("Whose"),
        ..post(
            "freezes",
            Op::Freeze,
            "Freezes all payments, those to a host or those of an agent.",
            "[Freeze]",
        )
    },
    Route {
        body: Some("Whose"),
        ..delete("freezes", Op::Unfreeze, "Takes a freeze back.", "[Freeze]")
    },
    get(
        "merchants",
        Op::Merchants,
        "What is remembered of the hosts that were paid.",
        "[Merchant]",
    ),
    delete(
        "merchants/{host}",
        Op::Forget,
        "Forgets the recipients and prices of a host: the next ones are the first.",
        "[Merchant]",
    ),
    get(
        "policy",
        Op::Policy,
        "The policy in force, as the operator wrote it, and its hash.",
        "Policy",
    ),
    Route {
        body: Some("ReloadWanted"),
        ..post(
            "reload",
            Op::Reload,
            "Reads the policy again: the whole new one, or the old one and why.",
            "Reloaded",
        )
    },
    get(
        "events",
        Op::Events,
        "Spend events as they are recorded (server-sent events). `Last-Event-ID` takes up where another stream ended.",
        "Stream",
    ),
];

impl Route {
    /// What stands in its place in braces, when the path is of its form.
    fn matches<'a>(&self, path: &'a str) -> Option<Option<&'a str>> {
        let (mut parts, mut variable) = (path.split('/'), None);
        for own in self.path.split('/') {
            let part = parts.next()?;
            match own.starts_with('{') {
                true if part.is_empty() => return None,
                true => variable = Some(part),
                false if own == part => {}
                false => return None,
            }
        }
        parts.next().is_none().then_some(variable)
    }
}

/// The route of a request, and what stands in braces there.
///
/// # Errors
/// When there is none, or another method would do.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Result<(Op, &'a str), Problem> {
    let mut allowed = vec![];
    for route in ROUTES {
        let Some(variable) = route.matches(path) else {
            continue;
        };
        if route.method == method.as_str() {
            return Ok((route.op, variable.unwrap_or_default()));
        }
        allowed.push(route.method);
    }
    match allowed.is_empty() {
        true => Err(Problem::NotFound),
        false => Err(Problem::Method(allowed.join(", "))),
    }
}

/// Names that the query of this route may have.
pub(super) fn query(op: Op) -> &'static [&'static str] {
    let route = ROUTES.iter().find(|route| route.op == op);
    route.map_or(&[], |route| route.query)
}
