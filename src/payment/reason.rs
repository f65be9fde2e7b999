//! The stable codes of every refusal, in one table.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! reasons {
    ($($variant:ident $code:literal $title:literal,)+) => {
        /// Why a request was not paid. The code is part of the contract with agents.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $title] $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the table in docs/answers.md.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable code, `snake_case`.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            /// A short title, the same for every occurrence (RFC 9457 section 3.1.3).
            #[must_use]
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)+
                }
            }
        }
    };
}

reasons! {
    OverRequestCap "over_request_cap" "The price is above what one request may cost",
    OverSessionCap "over_session_cap" "The session's budget would be passed",
    OverBudget "over_budget" "A budget would be passed",
    RateLimited "rate_limited" "Too many payments in too short a time",
    HostNotAllowed "host_not_allowed" "No rule allows payments to this host",
    DeniedByRule "denied_by_rule" "A rule denies payments here",
    InsecureTransport "insecure_transport" "Payments travel over verified TLS only",
    NetworkNotAllowed "network_not_allowed" "The network is not allowed",
    AssetNotAllowed "asset_not_allowed" "The asset is not allowed",
    SchemeUnsupported "scheme_unsupported" "The payment scheme is not allowed or not known",
    TransferMethodUnsupported "transfer_method_unsupported" "The way of moving the asset is not allowed or not known",
    ExtensionRefused "extension_refused" "The challenge wants a signature that could be used for more than this price",
    RecipientInvalid "recipient_invalid" "The recipient is not a payable address",
    RecipientChanged "recipient_changed" "The recipient is not the one that the rule names, or that was seen before",
    ResourceMismatch "resource_mismatch" "The challenge is for another host than the one asked",
    OfferUnsigned "offer_unsigned" "The terms are not signed by a key of this merchant",
    MalformedChallenge "malformed_challenge" "The challenge cannot be read",
    AmbiguousChallenge "ambiguous_challenge" "The challenge can be read in two ways",
    VersionUnsupported "version_unsupported" "The protocol version is not known",
    InvoiceInvalid "invoice_invalid" "The Lightning invoice cannot be read",
    TokenMismatch "token_mismatch" "The token is for another payment than the invoice beside it",
    AmountInvalid "amount_invalid" "The amount is not a payable number",
    PriceChanged "price_changed" "The price changed further than is allowed",
    ValidityTooLong "validity_too_long" "The payload would be valid for too long",
    ChallengeExpired "challenge_expired" "The challenge is no longer valid",
    NoAcceptableOption "no_acceptable_option" "No way to pay in the challenge is acceptable",
    AlreadyPaid "already_paid" "This request was paid, and the merchant asks again",
    OutcomeUnknown "outcome_unknown" "A payment for this request may have been taken",
    BodyNotReplayable "body_not_replayable" "The request body is too long to send a second time",
    AgentPaymentHeader "agent_payment_header" "The agent sent payment headers of its own",
    AuthorizationConflict "authorization_conflict" "The agent's own credentials are in the way",
    DigestMismatch "digest_mismatch" "The challenge is for another request body",
    SplitInvalid "split_invalid" "The shares of the payees are wrong",
    LimitsExceeded "limits_exceeded" "The challenge is larger than allowed",
    MessageSigningRefused "message_signing_refused" "The challenge wants a message signed",
    TransportError "transport_error" "The merchant could not be reached",
    NotAPaymentChallenge "not_a_payment_challenge" "The 402 carries no terms that a program can read",
    Frozen "frozen" "Payments are frozen",
    ApprovalRequired "approval_required" "A person must approve this payment",
    ApprovalDenied "approval_denied" "A person denied this payment",
    SessionExpired "session_expired" "The session has expired",
    SessionClosed "session_closed" "The session is closed",
    CircuitOpen "circuit_open" "This merchant took payments without delivering",
    PaymentLoop "payment_loop" "The same request is paid over and over",
    WalletUnavailable "wallet_unavailable" "The wallet did not sign",
    LedgerUnavailable "ledger_unavailable" "The ledger cannot promise, so nothing is paid",
    ObserveMode "observe_mode" "The policy only observes",
    Draining "draining" "The proxy is shutting down",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}
