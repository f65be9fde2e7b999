//! `signers:` of the file: which keys speak for which merchants. Nothing else ever tells a key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::evm::Address;
use crate::section::{Problems, Section, SectionError};
use crate::settings::HostPattern;
use crate::signer::{Algorithm, Key};

/// A key, and the hosts that it speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Which hosts.
    pub hosts: Vec<HostPattern>,
    /// Its key.
    pub key: Key,
}

impl Signer {
    fn read(mut section: Section) -> Result<Self, SectionError> {
        let hosts = section.need("hosts")?;
        let place = hosts.clone();
        let hosts = hosts.list(Section::parse::<HostPattern>)?;
        if hosts.is_empty() {
            return Err(place.error("the list of hosts is empty, so the key speaks for nobody"));
        }
        let address = section.take("address").map(Section::parse::<Address>);
        let key = match (address.transpose()?, section.take("jwk")) {
            (Some(address), None) => Key::Account(address),
            (None, Some(jwk)) => jwk_key(jwk)?,
            (Some(_), Some(jwk)) => {
                return Err(jwk.error("a signer has an `address` or a `jwk`, not both"));
            }
            (None, None) => {
                return Err(section
                    .error("the signer has neither an `address` nor a `jwk`")
                    .hint(
                        "write the account that signs typed data, or the public key that signs JWS",
                    ));
            }
        };
        section.finish()?;
        Ok(Self { hosts, key })
    }
}

/// A public key (RFC 7517, RFC 7518 section 6.2.1, RFC 8037 section 2).
fn jwk_key(mut jwk: Section) -> Result<Key, SectionError> {
    if let Some(secret) = jwk.peek("d") {
        return Err(secret
            .error("this is a private key: it does not belong here")
            .hint("leave `d` out"));
    }
    let curve = jwk.need("crv")?;
    let name = curve.clone().text()?;
    let algorithm =
        Algorithm::of_curve(&name).ok_or_else(|| curve.expected("P-256, secp256k1 or Ed25519"))?;
    let kind = jwk.need("kty")?;
    let wanted = match algorithm {
        Algorithm::Es256 | Algorithm::Es256k => "EC",
        Algorithm::EdDsa => "OKP",
    };
    if kind.clone().text()? != wanted {
        return Err(kind.expected(&format!("{wanted}, which goes with {name}")));
    }
    let x = coordinate(jwk.need("x")?)?;
    let bytes = match algorithm {
        Algorithm::EdDsa => x.to_vec(),
        Algorithm::Es256 | Algorithm::Es256k => {
            let y = coordinate(jwk.need("y")?)?;
            [&[4][..], &x, &y].concat()
        }
    };
    for said in ["kid", "alg", "use", "key_ops"] {
        jwk.take(said);
    }
    jwk.finish()?;
    Ok(Key::Public { algorithm, bytes })
}

fn coordinate(section: Section) -> Result<[u8; 32], SectionError> {
    let text = section.clone().text()?;
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| section.expected("32 bytes in base64url without padding"))
}

/// Reads `signers:`.
pub(super) fn read(section: Option<Section>, problems: &mut Problems) -> Vec<Signer> {
    let items = section.map_or(Ok(vec![]), Section::items);
    let items = problems.keep(items).unwrap_or_default();
    let read = |item: Section| problems.keep(Signer::read(item));
    items.into_iter().filter_map(read).collect()
}
