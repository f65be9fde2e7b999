//! What can be read of an L402 token without its key: the payment that it is for, and how long it says it
//! lives. Tokens are opaque to whoever holds them; only one in the usual layout (binary macaroon,
//! version 2) says anything.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Caveats that are looked at.
const CAVEATS_MAX: usize = 64;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Tags of the fields, as the libraries write them.
const LOCATION: u8 = 1;
const IDENTIFIER: u8 = 2;
const END: u8 = 0;

/// Length of the identifier that L402 mints: version 0 in two bytes, payment hash, token id.
const MINTED: usize = 66;

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The payment hash that it is for.
    pub(super) hash: Option<[u8; 32]>,
    /// Unix seconds from which on it is not valid: the earliest that it names.
    pub(super) valid_until: Option<u64>,
}

/// Reads a token. Whatever is not a macaroon in that layout says nothing.
pub(super) fn read(token: &str) -> Told {
    let bytes = STANDARD.decode(token).or_else(|_| URL_SAFE.decode(token));
    bytes
        .ok()
        .and_then(|bytes| told(&bytes))
        .unwrap_or_default()
}

fn told(bytes: &[u8]) -> Option<Told> {
    let mut rest = bytes.strip_prefix(&[2])?;
    let mut told = Told::default();
    let (mut tag, mut field) = next(&mut rest)?;
    if tag == LOCATION {
        (tag, field) = next(&mut rest)?;
    }
    if tag != IDENTIFIER {
        return None;
    }
    told.hash = minted(field);
    if next(&mut rest)?.0 != END {
        return Some(told);
    }
    for _ in 0..CAVEATS_MAX {
        let Some(caveat) = caveat(&mut rest) else {
            break;
        };
        if let Some(until) = until(caveat) {
            told.valid_until = Some(told.valid_until.map_or(until, |u| u.min(until)));
        }
    }
    Some(told)
}

/// A tag, and the bytes of its field.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (tag, after) = rest.split_first()?;
    *rest = after;
    if *tag == END {
        return Some((END, &[]));
    }
    let length = varint(rest)?;
    let (field, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some((*tag, field))
}

fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0usize;
    for shift in [0, 7, 14, 21] {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The text of one caveat; `None` at the end of them.
fn caveat<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut id = None;
    loop {
        match next(rest)? {
            (END, _) => return id,
            (IDENTIFIER, field) => id = Some(field),
            _ => {}
        }
    }
}

fn minted(identifier: &[u8]) -> Option<[u8; 32]> {
    if identifier.len() != MINTED {
        return None;
    }
    identifier.strip_prefix(&[0, 0])?.first_chunk().copied()
}

/// `<service>_valid_until=<Unix seconds>`.
fn until(caveat: &[u8]) -> Option<u64> {
    let (name, value) = std::str::from_utf8(caveat).ok()?.split_once('=')?;
    name.ends_with("valid_until")
        .then(|| value.trim().parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(identifier: &[u8], caveats: &[&str]) -> String {
        let field =
            |tag: u8, bytes: &[u8]| [&[tag, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let mut bytes = vec![2];
        bytes.extend(field(LOCATION, b"shop"));
        bytes.extend(field(IDENTIFIER, identifier));
        bytes.push(END);
        for caveat in caveats {
            bytes.extend(field(IDENTIFIER, caveat.as_bytes()));
            bytes.push(END);
        }
        bytes.push(END);
        bytes.extend(field(6, &[9; 32]));
        STANDARD.encode(bytes)
    }

    fn identifier() -> Vec<u8> {
        [&[0, 0][..], &[7; 32], &[8; 32]].concat()
    }

    #[test]
    fn a_minted_token_says_what_it_is_for_and_how_long_it_lives() {
        let caveats = [
            "services=shop:0",
            "shop_valid_until=2000",
            "valid_until=1000",
            "path=/x",
        ];
        let told = read(&token(&identifier(), &caveats));
        assert_eq!(told.hash, Some([7; 32]));
        assert_eq!(told.valid_until, Some(1000));
        // The same bytes in the other alphabet, without padding.
        let url = token(&identifier(), &caveats)
            .replace('+', "-")
            .replace('/', "_");
        assert_eq!(read(url.trim_end_matches('=')), told);
        assert_eq!(read(&token(&identifier(), &[])).valid_until, None);
    }

    #[test]
    fn what_is_no_such_token_says_nothing() {
        let whole = token(&identifier(), &["valid_until=5"]);
        for odd in [
            "",
            "v1.eyJoIjoi.0f0f",
            "%%%",
            "AAAA",
            "Ag==",
            "AgL/////////",
        ] {
            assert_eq!(read(odd), Told::default(), "{odd}");
        }
        // Any beginning of it, and any other identifier.
        for end in (0..whole.len()).step_by(4) {
            read(&whole[..end]);
        }
        assert_eq!(read(&token(&[0, 1], &[])).hash, None);
        let versioned = [&[0, 1][..], &[7; 64]].concat();
        assert_eq!(read(&token(&versioned, &[])).hash, None);
    }
}
