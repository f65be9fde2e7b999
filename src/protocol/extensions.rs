//! The `extensions` of an x402 version 2 challenge: echoed unchanged, whatever they are. The few
//! that want more than an echo are named here, with what is done about them.

use serde_json::value::RawValue;

use super::encoding::{Members, object};
use super::entry::text;
use super::statements::{self, Offered};
use crate::payment::{PaymentId, Problem, Reason};

/// The only extension that we add to: an id of the purchase, the same on every resend.
const PAYMENT_IDENTIFIER: &str = "payment-identifier";

/// Wants a login signature (`sign_in`).
const SIGN_IN: &str = "sign-in-with-x";

/// Want an approval signed next to a Permit2 payment: it outlives the payment and escapes every
/// cap. Never given.
const APPROVALS: &[&str] = &["eip2612GasSponsoring", "erc20ApprovalGasSponsoring"];

/// Say the same of a route to everybody who asks. The others may be made for one challenge, and their echo
/// may be refused with the next.
const STANDING: &[&str] = &[PAYMENT_IDENTIFIER, "bazaar"];

/// The extensions, or the members of one.
#[derive(Default)]
pub(super) struct Extensions<'a>(Members<'a>);

impl<'a> Extensions<'a> {
    /// Reads a JSON object.
    pub(super) fn read(json: &'a str) -> Result<Self, Problem> {
        object(json).map(Self)
    }

    pub(super) fn find(&self, key: &str) -> Option<&'a RawValue> {
        let found = self.0.0.iter().find(|(k, _)| k == key);
        found.map(|(_, value)| *value)
    }

    /// Does it offer to take an approval for the asset?
    pub(super) fn takes_approvals(&self) -> bool {
        APPROVALS.iter().any(|key| self.find(key).is_some())
    }

    /// The offers that the merchant signed; `None`: it signs none.
    pub(super) fn signed_offers(&self) -> Option<Vec<Offered>> {
        statements::offers(self.find(statements::KEY)?)
    }

    /// Does it ask for a login signature?
    pub(super) fn has_login(&self) -> bool {
        self.find(SIGN_IN).is_some()
    }

    /// A login hinders no payment; but one for another host than the
    /// challenge itself speaks of marks a challenge that was passed on from elsewhere.
    pub(super) fn login(&self, url: Option<&str>) -> Result<(), Problem> {
        let Some(theirs) = url.and_then(authority).map(host) else {
            return Ok(());
        };
        let theirs = theirs.trim_end_matches('.').to_ascii_lowercase();
        self.login_of(theirs.trim_matches(['[', ']']))
    }

    /// The same against the host that was asked. A domain above it may speak for it: such a login is never
    /// signed, and marks nothing.
    pub(super) fn login_of(&self, asked: &str) -> Result<(), Problem> {
        let Some(domain) = self.login_domain() else {
            return Ok(());
        };
        let named = host(&domain).trim_end_matches('.').to_ascii_lowercase();
        let above = asked
            .strip_suffix(&*named)
            .is_some_and(|sub| sub.ends_with('.') && named.contains('.'));
        match named.trim_matches(['[', ']']) == asked || above {
            true => Ok(()),
            false => Err(login_elsewhere()),
        }
    }

    fn login_domain(&self) -> Option<String> {
        let info = self.member(SIGN_IN, "info")?;
        let info = Self::read(info.get()).ok()?;
        info.find("domain").and_then(text)
    }

    /// A member of one extension.
    fn member(&self, key: &str, name: &str) -> Option<&'a RawValue> {
        Self::read(self.find(key)?.get()).ok()?.find(name)
    }

    /// May these be echoed with a request that was not asked for money yet?
    pub(super) fn stand(json: &'a str) -> bool {
        let known = |key: &str| STANDING.contains(&key);
        Self::read(json).is_ok_and(|all| all.0.0.iter().all(|(key, _)| known(key)))
    }

    /// The echo: everything as it came, and the payment's id where the merchant asked for one (x402
    /// extension `payment-identifier`). An id that is already there is the merchant's and stays.
    pub(super) fn echo(json: &'a str, id: PaymentId) -> Result<String, Problem> {
        let extensions = Self::read(json)?;
        if extensions.find(PAYMENT_IDENTIFIER).is_none() {
            return Ok(json.to_owned());
        }
        Ok(extensions.write(|key, value| match key {
            PAYMENT_IDENTIFIER => identified(value, id),
            _ => None,
        }))
    }

    /// The object again, with the values that `change` has something else for.
    fn write(&self, change: impl Fn(&str, &RawValue) -> Option<String>) -> String {
        let mut json = String::from("{");
        for (index, (key, value)) in self.0.0.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            json.push_str(&quoted(key));
            json.push(':');
            json.push_str(change(key, value).as_deref().unwrap_or(value.get()));
        }
        json.push('}');
        json
    }
}

/// The extension with `info.id`, or nothing to change.
fn identified(extension: &RawValue, id: PaymentId) -> Option<String> {
    let members = Extensions::read(extension.get()).ok()?;
    let info = Extensions::read(members.find("info")?.get()).ok()?;
    if info.find("id").is_some() {
        return None;
    }
    let echoed = info.write(|_, _| None);
    let comma = if info.0.0.is_empty() { "" } else { "," };
    let added = format!("{}{comma}\"id\":\"{id}\"}}", echoed.strip_suffix('}')?);
    Some(members.write(|key, _| (key == "info").then(|| added.clone())))
}

/// A key as JSON text.
fn quoted(key: &str) -> String {
    serde_json::Value::from(key).to_string()
}

/// `host[:port]` of a URL.
fn authority(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    authority.rsplit('@').next()
}

fn login_elsewhere() -> Problem {
    let detail = "the challenge asks for a login signature for another host";
    Problem::new(Reason::MessageSigningRefused, detail)
}

/// The host without its port.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}
