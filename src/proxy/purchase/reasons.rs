//! Why a demand is not paid, as far as the wire alone knows it.

use crate::payment::{PaymentId, Reason, Refusal};
use crate::proxy::tee::NotReplayable;

/// No rule can allow it: whoever answers there may be anybody (threat T-02).
pub(super) fn unverified() -> Refusal {
    Refusal::new(
        Reason::InsecureTransport,
        "the certificate of this host is not verified (tls.insecure_hosts), so nothing is paid there",
    )
}

/// A payload from before would go where the agent's own credentials are now.
pub(super) fn conflict(payment: PaymentId) -> Refusal {
    let detail = "the payment would take the place of the agent's own Authorization";
    Refusal {
        payment: Some(payment),
        ..Refusal::new(Reason::AuthorizationConflict, detail)
    }
}

/// The request cannot be sent a second time.
pub(in crate::proxy) fn not_replayable(why: NotReplayable) -> Refusal {
    let detail = match why {
        NotReplayable::TooLong => "the request body is longer than limits.replay_body",
        NotReplayable::Crowded => "too much is kept of request bodies now (limits.replay_bodies)",
        NotReplayable::Broken => "the request body did not arrive whole",
        NotReplayable::NotKept => "the request body was not kept",
    };
    Refusal {
        retryable: why == NotReplayable::Crowded,
        ..Refusal::new(Reason::BodyNotReplayable, detail)
    }
}
