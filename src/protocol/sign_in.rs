//! The x402 extension `sign-in-with-x`: a wallet that paid for a resource signs in and is not asked again.
//! A login is worth more than a price, so it is for the origin that was asked and no other, for minutes,
//! and of a form that leaves no room for other words.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::encoding::not_json;
use super::extensions::Extensions;
use super::x402_v2;
use crate::clock::Timestamp;
use crate::evm::{Address, Login};
use crate::money::Network;
use crate::payment::{Asked, Challenge, Payload, Problem, Reason, Signature};

/// Its key, and the header of the answer to it.
const SIGN_IN: &str = "sign-in-with-x";

/// Seconds that a login may be good for.
const LIFETIME_MAX: u64 = 3600;

/// Seconds by which a server's clock may differ from ours.
const SKEW: u64 = 60;

/// Seconds for which a server's question is answered. Servers take no older answers (extension
/// `sign-in-with-x`, "Verification").
const AGE_MAX: u64 = 300;

/// Characters of any one value.
const TEXT_MAX: usize = 512;

/// Resources that one login names.
const RESOURCES_MAX: usize = 8;

/// `info` of the extension.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    #[serde(borrow)]
    domain: Cow<'a, str>,
    #[serde(borrow)]
    uri: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
    #[serde(borrow)]
    issued_at: Cow<'a, str>,
    expiration_time: Option<String>,
    not_before: Option<String>,
    statement: Option<String>,
    request_id: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
}

/// One of `supportedChains`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chain<'a> {
    #[serde(borrow)]
    chain_id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// The extension, its parts as written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asks<'a> {
    #[serde(borrow)]
    info: &'a RawValue,
    #[serde(borrow)]
    supported_chains: &'a RawValue,
}

/// The header, members in the order of the official client.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    domain: &'a str,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<&'a str>,
    uri: &'a str,
    version: &'static str,
    chain_id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    nonce: &'a str,
    issued_at: &'a str,
    expiration_time: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    resources: &'a [String],
    signature: String,
}

/// The login that a challenge offers to take from this account; `None` when it offers none.
///
/// # Errors
/// [`Reason::MessageSigningRefused`] when it is for another origin, has no end or one too far away, is
/// not for the account's chain, or could be read as something else.
pub fn login(
    challenge: &Challenge,
    asked: &Asked,
    (network, address): (&Network, Address),
    now: Timestamp,
) -> Result<Option<Login>, Problem> {
    let mut offers = challenge.requirements.iter().map(|r| &r.offer.extensions);
    let Some(Some(extensions)) = offers.find(|e| e.is_some()) else {
        return Ok(None);
    };
    let extensions = Extensions::read(extensions)?;
    let Some(asks) = extensions.find(SIGN_IN) else {
        return Ok(None);
    };
    let asks: Asks<'_> = serde_json::from_str(asks.get()).map_err(|_| not_json())?;
    let info: Info<'_> = serde_json::from_str(asks.info.get()).map_err(|_| not_json())?;
    let chains = asks.supported_chains.get();
    let chains: Vec<Chain<'_>> = serde_json::from_str(chains).map_err(|_| not_json())?;
    let ours = |c: &Chain<'_>| c.chain_id == network.as_str() && c.kind == "eip191";
    let Some(chain_id) = network.chain_id().filter(|_| chains.iter().any(ours)) else {
        return Err(refused("the login is not for the chain of the account"));
    };
    bound(&info, asked)?;
    plain(&info)?;
    let expires_at = timely(&info, now)?;
    Ok(Some(Login {
        domain: info.domain.into(),
        address,
        statement: info.statement,
        uri: info.uri.into(),
        chain_id,
        nonce: info.nonce.into(),
        issued_at: info.issued_at.into(),
        expires_at,
        not_before: info.not_before,
        request_id: info.request_id,
        resources: info.resources,
    }))
}

/// The header with a signed login. Whoever has it is signed in, so no log prints it.
///
/// # Errors
/// When the signature is not one.
pub fn header(login: &Login, signature: &Signature) -> Result<Payload, Problem> {
    let Signature::Evm(bytes) = signature else {
        return Err(refused("a login is signed, not paid for"));
    };
    let said = Said {
        domain: &login.domain,
        address: login.address.to_string(),
        statement: login.statement.as_deref(),
        uri: &login.uri,
        version: "1",
        chain_id: format!("eip155:{}", login.chain_id),
        kind: "eip191",
        nonce: &login.nonce,
        issued_at: &login.issued_at,
        expiration_time: &login.expires_at,
        not_before: login.not_before.as_deref(),
        request_id: login.request_id.as_deref(),
        resources: &login.resources,
        signature: format!("0x{}", hex::encode(bytes)),
    };
    x402_v2::carry(SIGN_IN, &said)
}

fn refused(detail: &str) -> Problem {
    Problem::new(Reason::MessageSigningRefused, detail)
}

/// Is it for the origin that was asked, in all of its parts (threat X-23)?
fn bound(info: &Info<'_>, asked: &Asked) -> Result<(), Problem> {
    let (scheme, usual) = if asked.secure {
        ("https", 443)
    } else {
        ("http", 80)
    };
    let host = match asked.host.contains(':') {
        true => format!("[{}]", asked.host),
        false => asked.host.to_string(),
    };
    let domain = match asked.port == usual {
        true => host,
        false => format!("{host}:{}", asked.port),
    };
    let origin = format!("{scheme}://{domain}");
    let within = |uri: &str| {
        let rest = uri.strip_prefix(&*origin);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    };
    if info.domain != domain || !within(&info.uri) {
        return Err(refused(
            "the login is for another origin than the one asked",
        ));
    }
    match info.resources.iter().all(|r| within(r)) {
        true => Ok(()),
        false => Err(refused("the login names resources of another origin")),
    }
}

/// Has every value the form that EIP-4361 gives it? None of them can begin another line.
fn plain(info: &Info<'_>) -> Result<(), Problem> {
    let uri =
        |s: &str| !s.is_empty() && s.len() <= TEXT_MAX && s.bytes().all(|b| b.is_ascii_graphic());
    let words =
        |s: &str| s.len() <= TEXT_MAX && s.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    let nonce = (8..=128).contains(&info.nonce.len())
        && info.nonce.bytes().all(|b| b.is_ascii_alphanumeric());
    let optional = |s: &Option<String>, form: &dyn Fn(&str) -> bool| s.as_deref().is_none_or(form);
    let fine = info.version == "1"
        && nonce
        && uri(&info.uri)
        && optional(&info.statement, &words)
        && optional(&info.request_id, &uri)
        && info.resources.len() <= RESOURCES_MAX
        && info.resources.iter().all(|r| uri(r));
    match fine {
        true => Ok(()),
        false => Err(refused("the login has a form that is not signed")),
    }
}

/// Does it begin now and end soon? Gives its end.
fn timely(info: &Info<'_>, now: Timestamp) -> Result<String, Problem> {
    let moment = |text: &str| match text.len() {
        // A day alone is no moment of RFC 3339.
        11..=40 => text.parse::<Timestamp>().ok().filter(|_| text.is_ascii()),
        _ => None,
    };
    let open = || refused("the login names no end that is soon");
    let untimely = || refused("the login is not of this time");
    let issued = moment(&info.issued_at).ok_or_else(untimely)?;
    if now.after_secs(SKEW) < issued || issued.after_secs(AGE_MAX) < now {
        return Err(untimely());
    }
    if let Some(begins) = &info.not_before
        && moment(begins).is_none_or(|begins| now.after_secs(SKEW) < begins)
    {
        return Err(untimely());
    }
    let end = info.expiration_time.clone().ok_or_else(open)?;
    let ends = moment(&end).filter(|ends| *ends <= issued.after_secs(LIFETIME_MAX));
    match ends.ok_or_else(open)? <= now {
        true => Err(untimely()),
        false => Ok(end),
    }
}
