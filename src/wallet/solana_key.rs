//! One Ed25519 key in memory, as the Solana CLI keeps it: wiped when dropped, without `Debug`, and never
//! trusted to have signed right until its own signature was checked.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretBox};

use super::WalletError;
use crate::solana::Pubkey;

/// A signing key and its address.
pub(super) struct SolanaKey {
    seed: SecretBox<[u8; 32]>,
    address: Pubkey,
}

/// Why the text of a key file holds no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotASolanaKey {
    /// Not 64 bytes.
    #[error("expected 64 numbers from 0 to 255 in brackets, as solana-keygen writes them")]
    Form,
    /// The second half is another key's.
    #[error("its second half is not the public key of its first half")]
    Halves,
}

impl SolanaKey {
    /// Reads the JSON array of the Solana CLI: a seed and its public key, 32 numbers each.
    ///
    /// # Errors
    /// When it is none, or the halves do not belong together.
    pub(super) fn read(text: &[u8]) -> Result<Self, NotASolanaKey> {
        let both = numbers(text).ok_or(NotASolanaKey::Form)?;
        let (seed, public) = both.split_at(32);
        let key = Self::of(seed)?;
        match key.address.0 == *public {
            true => Ok(key),
            false => Err(NotASolanaKey::Halves),
        }
    }

    /// A key from the system's generator. `None` when there is no randomness.
    pub(super) fn fresh() -> Option<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).ok()?;
        Self::of(&*seed).ok()
    }

    fn of(seed: &[u8]) -> Result<Self, NotASolanaKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NotASolanaKey::Form)?;
        let public = pair.public_key().as_ref().try_into();
        Ok(Self {
            seed: SecretBox::init_with_mut(|kept: &mut [u8; 32]| {
                kept.copy_from_slice(seed.get(..32).unwrap_or(&[0; 32]));
            }),
            address: Pubkey(public.map_err(|_| NotASolanaKey::Form)?),
        })
    }

    /// The account it signs for.
    pub(super) fn address(&self) -> Pubkey {
        self.address
    }

    /// Can anybody guess it? Examples and tests use one byte 32 times.
    pub(super) fn is_public(&self) -> bool {
        let seed = self.seed.expose_secret();
        seed.iter().all(|byte| Some(byte) == seed.first())
    }

    /// The key as the Solana CLI writes it.
    pub(super) fn text(&self) -> Zeroizing<String> {
        let both = self.seed.expose_secret().iter().chain(&self.address.0);
        // Never grown, so that no copy of it stays anywhere.
        let mut text = Zeroizing::new(String::with_capacity(64 * 4 + 2));
        text.push('[');
        for (i, byte) in both.enumerate() {
            if i > 0 {
                text.push(',');
            }
            let digits = [byte / 100, byte / 10 % 10, byte % 10];
            let from = digits.iter().position(|d| *d > 0).unwrap_or(2);
            let written = digits.iter().skip(from).map(|d| char::from(b'0' + d));
            text.extend(written);
        }
        text.push(']');
        text
    }

    /// Signs a message.
    ///
    /// # Errors
    /// When the signature is not our own. It never leaves this function then.
    pub(super) fn sign(&self, message: &[u8]) -> Result<[u8; 64], WalletError> {
        let declined = |detail: &str| WalletError::Declined(detail.into());
        let pair = Ed25519KeyPair::from_seed_unchecked(self.seed.expose_secret())
            .map_err(|_| declined("the key is damaged"))?;
        let signature = pair.sign(message).as_ref().try_into();
        let signature = signature.map_err(|_| declined("the signature has another length"))?;
        match is_signature(&signature, message, self.address) {
            true => Ok(signature),
            false => Err(declined("the signature is not our own")),
        }
    }
}

/// Is it a signature over this message, made with the key of this account?
pub(super) fn is_signature(signature: &[u8; 64], message: &[u8], of: Pubkey) -> bool {
    let key = UnparsedPublicKey::new(&ED25519, of.0);
    key.verify(message, signature).is_ok()
}

/// 64 numbers in brackets. Read by hand: a parser would leave copies behind.
fn numbers(text: &[u8]) -> Option<Zeroizing<[u8; 64]>> {
    let inner = text.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let mut bytes = Zeroizing::new([0; 64]);
    for (slot, item) in bytes.iter_mut().zip(inner.split(|byte| *byte == b',')) {
        let digits = std::str::from_utf8(item.trim_ascii()).ok()?;
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        *slot = digits.parse().ok().filter(|_| plain)?;
    }
    let commas = inner.iter().filter(|byte| **byte == b',').count();
    (commas == 63).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 section 7.1, test 1: seed, public key, signature over nothing.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    const SIGNATURE: &str = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";

    fn file(hex_bytes: &str) -> String {
        format!("{:?}", hex::decode(hex_bytes).unwrap())
    }

    #[test]
    fn a_key_signs_as_the_rfc_says_and_is_written_as_it_is_read() {
        let text = file(&format!("{SEED}{PUBLIC}"));
        let key = SolanaKey::read(text.as_bytes()).unwrap();
        assert_eq!(hex::encode(key.address().0), PUBLIC);
        assert_eq!(hex::encode(key.sign(b"").unwrap()), SIGNATURE);
        assert!(!key.is_public());
        assert_eq!(key.text().replace(',', ", "), text);
        let again = SolanaKey::read(key.text().as_bytes()).unwrap();
        assert_eq!(again.address(), key.address());
    }

    #[test]
    fn a_signature_is_of_one_key_over_one_message() {
        let (ours, theirs) = (SolanaKey::fresh().unwrap(), SolanaKey::fresh().unwrap());
        let mut signature = ours.sign(b"message").unwrap();
        assert!(is_signature(&signature, b"message", ours.address()));
        assert!(!is_signature(&signature, b"messages", ours.address()));
        assert!(!is_signature(&signature, b"message", theirs.address()));
        signature[63] ^= 0x20;
        assert!(!is_signature(&signature, b"message", ours.address()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = file(&format!("{SEED}{PUBLIC}"));
        for text in [
            "[]".to_owned(),
            "[1,2,3]".to_owned(),
            good.replacen("157", "257", 1),
            good.replacen("157", "-57", 1),
            good.replacen("157", "+57", 1),
            good.replacen("157", "", 1),
            good.replacen(']', ", 1]", 1),
            good.replacen(']', ",]", 1),
            file(SEED),
        ] {
            let error = SolanaKey::read(text.as_bytes()).err();
            assert_eq!(error, Some(NotASolanaKey::Form), "{text}");
        }
        let other = file(&format!("{SEED}{SEED}"));
        let error = SolanaKey::read(other.as_bytes()).err();
        assert_eq!(error, Some(NotASolanaKey::Halves));
    }

    #[test]
    fn keys_of_one_byte_are_public() {
        for byte in [0, 1, 12, 255] {
            assert!(SolanaKey::of(&[byte; 32]).unwrap().is_public());
        }
        assert!(!SolanaKey::fresh().unwrap().is_public());
    }
}
