//! What came back for the money. A receipt is a claim: it settles, it never lowers what was signed.

use std::time::Instant;

use http::{StatusCode, header};

use super::about::{About, Paid};
use super::arrival::{Counts, Recourse};
use super::claim;
use super::outstanding::Again;
use super::record::News;
use super::{Answer, Payer, Signed};
use crate::budget::Entry;
use crate::clock::Timestamp;
use crate::event::metrics::Step;
use crate::event::{Delivery, Flag, SpendEvent, State};
use crate::failpoint;
use crate::payment::{Asked, Reason, Receipt, Refusal, RequestKey};

/// What the answer to the paid request means.
pub struct Settled {
    /// For the `Farepass-Payment` field of the answer.
    pub paid: Paid,
    /// Set when the answer must not reach the agent as if nothing were wrong: the merchant asked
    /// again (`already_paid`), denied settlement, or did not answer (`outcome_unknown`).
    pub refusal: Option<Refusal>,
    /// For what comes with the body.
    pub record: Recorded,
}

/// What was recorded when the head of a paid answer had come.
pub struct Recorded {
    /// Delivery evidence is added to it.
    pub event: Box<SpendEvent>,
    /// For an answer that the merchant may yet break off.
    pub recourse: Option<Recourse>,
}

impl Payer {
    /// Records what came back: the head of the answer to the paid request, or `None` when there was
    /// none. A receipt settles; anything else is unknown, and counts until `sweep`.
    pub async fn settle(&self, signed: Signed, answer: Option<Answer<'_>>) -> Settled {
        let (began, trace) = (Instant::now(), signed.asked.trace);
        let settled = self.conclude(signed, answer).await;
        self.took(Step::Settle, began, trace.as_ref());
        settled
    }

    async fn conclude(&self, signed: Signed, answer: Option<Answer<'_>>) -> Settled {
        let Signed {
            mut again,
            asked,
            resent,
            waiting,
            lesson,
            ..
        } = signed;
        let (protocol, about, mut paid) = (again.protocol, again.about.clone(), again.paid.clone());
        let status = answer.map(|(status, _)| meant(status, &paid));
        let receipt = answer.map_or(Receipt::Absent, |(_, headers)| protocol.receipt(headers));
        let before = again.claimed;
        let (entry, state) = claim::stands(&about, &receipt, &mut paid, before);
        again.claimed |= matches!(receipt, Receipt::Claimed(_));
        let mut event = about.event(self.clock.now(), state);
        event.delivery = answer.map(delivery);
        raise(&mut event, &about, &receipt, status);
        claim::says(&mut event, &receipt, &paid, before);
        paid.prove(&mut event);
        let _turn = self.reconciler.endings().answer(about.id(), resent).await;
        let (entry, swept) = self.stands(entry, &mut event, resent).await;
        paid.transaction.clone_from(&event.transaction);
        again.paid.transaction.clone_from(&event.transaction);
        again.paid.settled = paid.settled;
        let (usable, until) = (usable(&receipt, status), again.until);
        let sendable = again.serves(asked.request);
        self.keep(&asked, &again.payload, &paid, status);
        self.learn(&asked, &about, lesson, (&receipt, status));
        self.notice_loop(&asked, &about, (status, resent));
        let counts = Counts::of(&asked, status, resent);
        // An answer that comes when the agent has left is no merchant's fault, but nobody has it.
        let arrives = usable && !waiting.as_ref().is_some_and(|w| w.is_gone());
        let (owed, recourse) = self.remember(asked.request, again, (arrives, counts));
        // What is on its way is judged when it has arrived.
        if recourse.is_none() {
            self.judge(&about, usable, counts.anew);
        }
        event.owed = owed;
        let news = news(swept || before, resent, state);
        self.concludes(asked.trace.as_ref(), &about, &event, Some(paid.remaining));
        failpoint::reach("before-settle");
        self.tell(vec![entry], event.clone(), news).await;
        if event.owed || resent {
            self.spread().await;
        }
        failpoint::reach("after-settle");
        // What is proven before it is sent was claimed before; but no answer of it was lost yet.
        let lost = before && (resent || paid.proven.is_none());
        let refusal = refusal(&about, (&receipt, status), lost);
        Settled {
            refusal: refusal.map(|refusal| hopeful(refusal, owed, (sendable, until))),
            record: Recorded {
                event: Box::new(event),
                recourse,
            },
            paid,
        }
    }
}

impl Payer {
    /// What closed a payment meanwhile stands, above all what its chain shows: a claim is no better. But a
    /// claim says more than an end that nothing proved.
    async fn stands(&self, entry: Entry, event: &mut SpendEvent, resent: bool) -> (Entry, bool) {
        let id = event.id;
        let note = matches!(entry, Entry::Note { .. });
        let mut closed = event.clone();
        if !self.swept(&mut closed, resent).await {
            *event = closed;
            return (entry, false);
        }
        let same = closed.state == State::Settled && closed.charged == event.charged;
        match note || self.reconciler.told(id) || !same {
            true => {
                *event = closed;
                (Entry::Note { id }, true)
            }
            false => (entry, false),
        }
    }

    /// A request that is paid again and again for nothing is left alone for a while, and the operator hears of it.
    fn notice_loop(
        &self,
        asked: &Asked,
        about: &About,
        (status, resent): (Option<StatusCode>, bool),
    ) {
        let counts = !resent || status.is_some_and(|s| s.is_success());
        if let Some(request) = asked.request.filter(|_| counts)
            && let Some(until) = self.loops.record(request, status, self.clock.now())
        {
            let (host, session) = (about.host(), &asked.session.id);
            tracing::warn!(host, %session, %until, "one request is paid in a loop: no more of it");
        }
    }

    /// A request without a usable answer may be asked again, and must not be paid again. Is it owed one, and by
    /// what right if the answer that arrives breaks off?
    fn remember(
        &self,
        request: Option<RequestKey>,
        again: Again,
        (arrives, counts): (bool, Counts),
    ) -> (bool, Option<Recourse>) {
        let Some(request) = request else {
            return (false, None);
        };
        if arrives {
            self.outstanding.forget(request, again.about.id());
            return (false, Some(Recourse::new(request, again, counts)));
        }
        if !counts.anew {
            return (self.outstanding.hold_still(request, again), None);
        }
        self.outstanding.hold(request, again, self.surely());
        (true, None)
    }
}

/// What L402 merchants say to a credential that they do not take, in one word.
fn meant(status: StatusCode, paid: &Paid) -> StatusCode {
    match status == StatusCode::UNAUTHORIZED && paid.reusable_until.is_some() {
        true => StatusCode::PAYMENT_REQUIRED,
        false => status,
    }
}

/// Did the agent get something for the money? Then the next request like it is a new purchase. An error that the
/// merchant blames on the request may be what is sold.
pub(super) fn usable(receipt: &Receipt, status: Option<StatusCode>) -> bool {
    match (receipt, status) {
        (_, None | Some(StatusCode::PAYMENT_REQUIRED)) => false,
        // Whoever takes the money and then fails has not given anything (threat M-11).
        (Receipt::Claimed(_), Some(status)) => !status.is_server_error(),
        (Receipt::Denied { .. } | Receipt::Absent, Some(status)) => given(status),
    }
}

/// Is this the status of an answer that has something in it? Whoever is sent on elsewhere has nothing yet, and no
/// merchant says that it was for the money (threat M-11).
pub(super) fn given(status: StatusCode) -> bool {
    status.is_informational() || status.is_success() || status == StatusCode::NOT_MODIFIED
}

/// What a person should look at.
fn raise(event: &mut SpendEvent, about: &About, receipt: &Receipt, status: Option<StatusCode>) {
    let mut flags = vec![];
    match status {
        Some(StatusCode::PAYMENT_REQUIRED) => flags.push(Flag::PaidButDenied),
        Some(status) if status.is_client_error() || status.is_server_error() => {
            flags.push(Flag::PaidNotDelivered);
        }
        Some(status) if !usable(receipt, Some(status)) || is_another_kind(event, about) => {
            flags.push(Flag::PaidNotDelivered);
        }
        Some(_) => {}
        None => flags.push(Flag::PaidNotDelivered),
    }
    flags.extend(claim::mismatch(about, receipt, event.time));
    // Some were raised when the payment was decided on.
    flags.retain(|flag| !event.flags.contains(flag));
    event.flags.extend(flags);
}

fn is_another_kind(event: &SpendEvent, about: &About) -> bool {
    let delivery = event.delivery.as_ref();
    let whole = delivery.filter(|d| (200..300).contains(&d.status) && d.status != 204);
    let kind = whole.and_then(|d| d.content_type.as_deref());
    kind.is_some_and(|kind| about.is_another_kind(kind))
}

fn delivery((status, headers): Answer<'_>) -> Delivery {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    let kind = text(header::CONTENT_TYPE).map(|t| t.chars().take(128).collect());
    Delivery {
        status: status.as_u16(),
        content_type: kind,
        length: text(header::CONTENT_LENGTH).and_then(|t| t.parse().ok()),
        digest: None,
    }
}

/// A payload that was sent again, in vain, or to no new end: the state is what it was.
fn news(known: bool, resent: bool, state: State) -> News {
    match known || resent && state == State::Unknown {
        true => News::Flags,
        false => News::State,
    }
}

/// What is owed may be asked for again: at once where the same payload goes once more, else when nobody can charge
/// it any more.
fn hopeful(refusal: Refusal, owed: bool, (sendable, until): (bool, Timestamp)) -> Refusal {
    match refusal.reason == Reason::OutcomeUnknown && owed {
        true => Refusal {
            retryable: true,
            resets_at: (!sendable).then_some(until),
            ..refusal
        },
        false => refusal,
    }
}

/// Asking for money again after it was taken is no answer that an agent could use. `claimed`: an
/// earlier receipt said so.
fn refusal(
    about: &About,
    (receipt, status): (&Receipt, Option<StatusCode>),
    claimed: bool,
) -> Option<Refusal> {
    let (reason, detail) = match (status, receipt) {
        (Some(StatusCode::PAYMENT_REQUIRED), _) if claimed => (
            Reason::AlreadyPaid,
            "this request was paid, its answer was lost, and the merchant gives it no second time",
        ),
        (Some(StatusCode::PAYMENT_REQUIRED), Receipt::Denied { .. }) => (
            Reason::OutcomeUnknown,
            "the merchant says that settlement failed; the payload can still be charged",
        ),
        (Some(StatusCode::PAYMENT_REQUIRED), Receipt::Claimed(_) | Receipt::Absent) => (
            Reason::AlreadyPaid,
            "this request was paid once, and the merchant asks again; nothing more is signed",
        ),
        (None, _) if claimed => (
            Reason::AlreadyPaid,
            "this request was paid, its answer was lost, and now there is none",
        ),
        (None, _) => (
            Reason::OutcomeUnknown,
            "the paid request got no answer; the payload may have been charged",
        ),
        (Some(_), _) => return None,
    };
    Some(Refusal {
        rule: about.rule().cloned(),
        price: Some(about.price()),
        payment: Some(about.id()),
        ..Refusal::new(reason, detail)
    })
}
