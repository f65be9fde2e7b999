//! MPP: the `Payment` scheme of HTTP authentication (draft-httpauth-payment-00), intent `charge`. The
//! challenge is in `WWW-Authenticate`, the credential in `Authorization`, the receipt in a header.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header, response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::authenticate::{self, Says};
use super::encoding::{self, not_json};
use super::{Protocol, Repeat, Terms, bound, charge, receipt, tempo_charge};
use crate::clock::Timestamp;
use crate::evm::keccak;
use crate::payment::{
    Challenge, Instruction, Nonce, Payload, PaymentId, Problem, Reason, Receipt, Requirement,
    Signature,
};
use crate::scheme::{self, Recipient};

/// The scheme, as it is written and as it is compared.
const SCHEME: &str = "payment";

/// Where a credential goes whose challenge leaves `Authorization` to the agent.
pub(super) const BESIDE: &str = "payment-authorization";

/// Response header with the receipt.
pub(super) const RECEIPT: &str = "payment-receipt";

/// Encoded bytes of `request`, looked at before it is decoded. The implementations refuse longer ones.
const REQUEST_MAX: usize = 16 << 10;

/// Bytes of everything that a credential echoes. Servers commonly refuse longer heads.
const ECHO_MAX: usize = 16 << 10;

/// A payload that would be dead before it arrives is not signed: seconds.
const MARGIN: u64 = 2;

/// MPP.
pub(super) struct Mpp;

/// One challenge, as the credential echoes it: members in the order of RFC 8785, and `request` and
/// `opaque` as they came, because the merchant's own check covers their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Echo {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) header: Option<String>,
    pub(super) id: String,
    pub(super) intent: String,
    pub(super) method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) opaque: Option<String>,
    pub(super) realm: String,
    pub(super) request: String,
}

/// The credential, members in the same order.
#[derive(Serialize)]
struct Credential<'a> {
    challenge: &'a RawValue,
    payload: &'a RawValue,
    source: String,
}

impl Protocol for Mpp {
    fn name(&self) -> &'static str {
        "mpp"
    }

    fn schemes(&self) -> &'static [&'static str] {
        &[charge::EVM_CHARGE, tempo_charge::TEMPO_CHARGE]
    }

    /// `Authorization` is told by its scheme (`carried`): other schemes are the agent's own.
    fn payment_headers(&self) -> &'static [&'static str] {
        &[BESIDE]
    }

    fn receipt_headers(&self) -> &'static [&'static str] {
        &[RECEIPT]
    }

    fn recognises(&self, head: &response::Parts) -> bool {
        authenticate::mentions(&head.headers, SCHEME)
    }

    fn needs_body(&self) -> bool {
        false
    }

    fn read(&self, head: &response::Parts, _body: Option<&[u8]>, into: &mut Challenge) {
        let all = authenticate::read(&head.headers);
        into.problems.extend(authenticate::beyond(all.len()));
        for asks in all.into_iter().filter(|asks| asks.scheme == SCHEME) {
            let read = asks.says.and_then(|says| Echo::read(&says));
            match read.and_then(|echo| requirement(&echo)) {
                Ok(requirement) => into.requirements.push(requirement),
                Err(problem) => into.problems.push(problem),
            }
        }
    }

    fn fits(&self, requirement: &Requirement, repeat: &Repeat<'_>) -> Result<(), Problem> {
        bound::fits(&Echo::of(requirement)?, repeat)
    }

    fn instruct(&self, terms: &Terms<'_>) -> Result<Instruction, Problem> {
        if terms.requirement.scheme == tempo_charge::TEMPO_CHARGE {
            let echo = Echo::of(terms.requirement)?;
            return tempo_charge::instruct(terms, &echo.realm, &echo.id);
        }
        if terms.valid_for < MARGIN {
            let detail = "the challenge expires before a payment could arrive";
            return Err(Problem::new(Reason::ChallengeExpired, detail));
        }
        let echo = Echo::of(terms.requirement)?;
        charge::counts_as(&echo.request()?, terms.asset)?;
        scheme::instruct(&scheme::Order {
            requirement: terms.requirement,
            asset: terms.asset,
            payer: terms.payer,
            nonce: echo.nonce(),
            valid_after: 0,
            valid_before: terms.now.secs().saturating_add(terms.valid_for),
            fee: terms.fee,
            cluster: scheme::Cluster::default(),
        })
    }

    fn challenge(&self, requirement: &Requirement) -> Option<String> {
        Echo::of(requirement).ok()?.field()
    }

    fn payload(
        &self,
        requirement: &Requirement,
        instruction: &Instruction,
        signature: &Signature,
        _id: PaymentId,
    ) -> Result<Payload, Problem> {
        let inner = scheme::payload(requirement, instruction, signature, Recipient::Checksummed)?;
        let challenge = RawValue::from_string(requirement.offer.entry.to_string());
        let chain = instruction.chain_id().ok_or_else(not_json)?;
        let from = instruction.from().ok_or_else(not_json)?;
        let credential = Credential {
            challenge: &challenge.map_err(|_| not_json())?,
            payload: &inner,
            source: format!("did:pkh:eip155:{chain}:{from}"),
        };
        let json = serde_json::to_vec(&credential).map_err(|_| not_json())?;
        let text = format!("Payment {}", encoding::encode_url(&json));
        let mut value = HeaderValue::try_from(text).map_err(|_| not_json())?;
        value.set_sensitive(true);
        let name = match Echo::of(requirement)?.header {
            Some(_) => HeaderName::from_static(BESIDE),
            None => header::AUTHORIZATION,
        };
        Ok(Payload { name, value })
    }

    fn receipt(&self, headers: &HeaderMap) -> Receipt {
        receipt::read_mpp(headers, RECEIPT)
    }
}

impl Echo {
    /// The parameters of a challenge, each of them checked (draft section 5.1).
    pub(super) fn read(says: &Says) -> Result<Self, Problem> {
        let need = |name: &str, why: &'static str| {
            let value = says.get(name).map(str::to_owned);
            value.ok_or_else(|| malformed(why))
        };
        let echo = Self {
            id: need("id", "the challenge has no id")?,
            realm: need("realm", "the challenge has no realm")?,
            method: need("method", "the challenge names no payment method")?,
            intent: need("intent", "the challenge names no intent")?,
            request: need("request", "the challenge has no request")?,
            description: says.get("description").map(str::to_owned),
            digest: says.get("digest").map(str::to_owned),
            expires: says.get("expires").map(str::to_owned),
            header: says.get("header").map(str::to_owned),
            opaque: says.get("opaque").map(str::to_owned),
        };
        if echo.id.is_empty() {
            return Err(malformed("the id of the challenge is empty"));
        }
        let lower = |b: u8| b.is_ascii_lowercase();
        let more = |b: u8| lower(b) || b.is_ascii_digit() || b":_-".contains(&b);
        if !echo.method.bytes().next().is_some_and(lower) || !echo.method.bytes().all(more) {
            return Err(malformed("the payment method is not a lower-case word"));
        }
        let of_intent = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if echo.intent.is_empty() || !echo.intent.bytes().all(of_intent) {
            return Err(malformed("the intent is not a word"));
        }
        echo.expiry()?;
        bound::check(&echo)?;
        if echo.request.len() > REQUEST_MAX {
            let detail = format!("the request is longer than {REQUEST_MAX} bytes");
            return Err(Problem::new(Reason::LimitsExceeded, detail));
        }
        let request = echo.request()?;
        if !request.trim_start().starts_with('{') {
            return Err(malformed("the request is not a JSON object"));
        }
        Ok(echo)
    }

    /// What was read before, from the offer that was kept.
    fn of(requirement: &Requirement) -> Result<Self, Problem> {
        serde_json::from_str(&requirement.offer.entry).map_err(|_| not_json())
    }

    /// The JSON text of `request`.
    pub(super) fn request(&self) -> Result<String, Problem> {
        let json = encoding::decode_url(&self.request)
            .ok_or_else(|| malformed("the request is not base64url"))?;
        encoding::check(&json)?;
        let whole: Result<&RawValue, _> = serde_json::from_str(&json);
        whole.map_err(|_| malformed("the request is not JSON"))?;
        Ok(json)
    }

    /// RFC 3339; what cannot be read is refused, as it may be long past.
    fn expiry(&self) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = &self.expires else {
            return Ok(None);
        };
        let long = text.len() > 10;
        let read = text.parse::<Timestamp>().ok().filter(|_| long);
        read.map(Some)
            .ok_or_else(|| malformed("nobody can tell when the challenge expires"))
    }

    /// As a field value of its own, with what a payment is bound to. `None`: it cannot be written so.
    fn field(&self) -> Option<String> {
        let mut params = vec![
            ("id", &self.id),
            ("realm", &self.realm),
            ("method", &self.method),
            ("intent", &self.intent),
            ("request", &self.request),
        ];
        let more = [
            ("expires", &self.expires),
            ("digest", &self.digest),
            ("opaque", &self.opaque),
        ];
        params.extend(more.iter().filter_map(|(n, v)| Some((*n, v.as_ref()?))));
        let params: Option<Vec<_>> = params.iter().map(|(n, v)| quoted(n, v)).collect();
        Some(format!("Payment {}", params?.join(", ")))
    }

    /// The nonce that binds a payment to its challenge: Keccak-256 over `id` and `realm`.
    fn nonce(&self) -> Nonce {
        Nonce(keccak(format!("{}{}", self.id, self.realm).as_bytes()))
    }
}

/// What a challenge asks for. Methods and intents that are not paid are named here.
pub(super) fn requirement(echo: &Echo) -> Result<Requirement, Problem> {
    let request = echo.request()?;
    let terms = charge::read(&echo.method, &echo.intent, &request)?;
    let entry = serde_json::to_string(echo).map_err(|_| not_json())?;
    if entry.len() > ECHO_MAX {
        let detail = format!("a challenge with its echo is longer than {ECHO_MAX} bytes");
        return Err(Problem::new(Reason::LimitsExceeded, detail));
    }
    let mut requirement = terms;
    requirement.expires = echo.expiry()?;
    requirement.offer = Arc::new(crate::payment::Offer {
        entry: entry.into(),
        ..Default::default()
    });
    Ok(requirement)
}

/// A parameter as a quoted string (RFC 9110, section 5.6.4). Not with controls in it.
fn quoted(name: &str, value: &str) -> Option<String> {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    (!value.chars().any(char::is_control)).then(|| format!("{name}=\"{escaped}\""))
}

/// A challenge that breaks its own rules.
pub(super) fn malformed(detail: &'static str) -> Problem {
    Problem::new(Reason::MalformedChallenge, detail)
}
