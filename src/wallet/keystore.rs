//! The encrypted keystore (Web3 Secret Storage, version 3): reading any that other tools write within
//! bounds, writing one kind.

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr128BE;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::evm::{self, Address};

/// Memory that deriving a key may take: 256 MiB, what the customary n = 2^18, r = 8 needs.
const SCRYPT_MEMORY_MAX: u64 = 256 << 20;

/// Work of one derivation, n · r · p. The customary parameters have 2^21.
const SCRYPT_WORK_MAX: u64 = 1 << 23;

/// Rounds of PBKDF2. The customary number is 262,144.
const PBKDF2_ROUNDS_MAX: u32 = 10_000_000;

/// Our own parameters: as hard to guess as n = 2^17 with r = 8, in a quarter of its memory (32 MiB),
/// so that a sidecar with a small limit can open its own wallet.
const OUR_SCRYPT: Scrypt = Scrypt {
    n: 1 << 15,
    r: 8,
    p: 3,
};

/// Why a keystore could not be opened or written. Quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// Not the JSON of version 3.
    #[error("it is not a version 3 keystore")]
    Form,
    /// Another cipher, derivation or length than those of the format.
    #[error("it uses a cipher or key derivation other than aes-128-ctr with scrypt or pbkdf2")]
    Unsupported,
    /// Deriving the key would take more memory or time than an honest file asks for.
    #[error("its key derivation would take more than 256 MiB or far longer than usual")]
    TooCostly,
    /// Wrong passphrase, or a damaged file.
    #[error("the passphrase does not open it")]
    Passphrase,
    /// The key inside belongs to another address than the file says.
    #[error("the address in it is not that of its key")]
    Address,
    /// The system's generator failed.
    #[error("the system gives no random numbers")]
    Randomness,
}

#[derive(Deserialize, Serialize)]
struct Keystore {
    version: u32,
    #[serde(default)]
    id: String,
    #[serde(default)]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
}

#[derive(Deserialize, Serialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    #[serde(flatten)]
    kdf: Kdf,
    mac: String,
}

#[derive(Deserialize, Serialize)]
struct CipherParams {
    iv: String,
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "kdf", content = "kdfparams", rename_all = "lowercase")]
enum Kdf {
    Scrypt {
        dklen: u32,
        salt: String,
        #[serde(flatten)]
        cost: Scrypt,
    },
    Pbkdf2 {
        dklen: u32,
        salt: String,
        c: u32,
        prf: String,
    },
}

#[derive(Clone, Copy, Deserialize, Serialize)]
struct Scrypt {
    n: u64,
    r: u32,
    p: u32,
}

/// The private key in a keystore, and the address that the file claims for it.
///
/// # Errors
/// Every [`KeystoreError`] but `Randomness`.
pub(super) fn open(json: &[u8], passphrase: &[u8]) -> Result<SecretBox<[u8; 32]>, KeystoreError> {
    let keystore: Keystore = serde_json::from_slice(json).map_err(|_| KeystoreError::Form)?;
    if keystore.version != 3 {
        return Err(KeystoreError::Form);
    }
    let crypto = &keystore.crypto;
    let ciphertext: [u8; 32] = fixed(&crypto.ciphertext)?;
    let mac: [u8; 32] = fixed(&crypto.mac)?;
    let iv: [u8; 16] = fixed(&crypto.cipherparams.iv)?;
    if crypto.cipher != "aes-128-ctr" {
        return Err(KeystoreError::Unsupported);
    }
    let derived = crypto.kdf.derive(passphrase)?;
    let ours = mac_of(&derived, &ciphertext);
    aws_lc_rs::constant_time::verify_slices_are_equal(&ours, &mac)
        .map_err(|_| KeystoreError::Passphrase)?;
    Ok(SecretBox::init_with_mut(|key: &mut [u8; 32]| {
        key.copy_from_slice(&ciphertext);
        cipher(&derived, iv).apply_keystream(key);
    }))
}

/// The address that a keystore names, if it names one. A claim.
pub(super) fn claimed(json: &[u8]) -> Option<Result<Address, KeystoreError>> {
    let keystore: Keystore = serde_json::from_slice(json).ok()?;
    let written = keystore.address?;
    let digits = written.strip_prefix("0x").unwrap_or(&written);
    let address = Address::from_hex(&format!("0x{digits}"));
    Some(address.map_err(|_| KeystoreError::Address))
}

/// A new keystore around this key, as JSON text.
///
/// # Errors
/// [`KeystoreError::Randomness`].
pub(super) fn write(
    key: &SecretBox<[u8; 32]>,
    address: Address,
    passphrase: &[u8],
) -> Result<String, KeystoreError> {
    let salt: [u8; 32] = random()?;
    let iv: [u8; 16] = random()?;
    let kdf = Kdf::Scrypt {
        dklen: 32,
        salt: hex::encode(salt),
        cost: OUR_SCRYPT,
    };
    let derived = kdf.derive(passphrase)?;
    let mut ciphertext = Zeroizing::new(*key.expose_secret());
    cipher(&derived, iv).apply_keystream(&mut *ciphertext);
    let keystore = Keystore {
        version: 3,
        id: uuid()?,
        address: Some(hex::encode(address.0)),
        crypto: Crypto {
            cipher: "aes-128-ctr".into(),
            cipherparams: CipherParams {
                iv: hex::encode(iv),
            },
            ciphertext: hex::encode(*ciphertext),
            kdf,
            mac: hex::encode(mac_of(&derived, &ciphertext)),
        },
    };
    serde_json::to_string_pretty(&keystore).map_err(|_| KeystoreError::Form)
}

impl Kdf {
    /// 32 bytes: half of them encrypt, half of them prove.
    fn derive(&self, passphrase: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        let mut derived = Zeroizing::new([0; 32]);
        match self {
            Self::Scrypt { dklen, salt, cost } => {
                let salt = salted(*dklen, salt)?;
                let params = cost.params()?;
                scrypt::scrypt(passphrase, &salt, &params, &mut *derived)
                    .map_err(|_| KeystoreError::Unsupported)?;
            }
            Self::Pbkdf2 {
                dklen,
                salt,
                c,
                prf,
            } => {
                let salt = salted(*dklen, salt)?;
                if prf != "hmac-sha256" || *c == 0 {
                    return Err(KeystoreError::Unsupported);
                }
                if *c > PBKDF2_ROUNDS_MAX {
                    return Err(KeystoreError::TooCostly);
                }
                pbkdf2::pbkdf2_hmac::<Sha256>(passphrase, &salt, *c, &mut *derived);
            }
        }
        Ok(derived)
    }
}

impl Scrypt {
    fn params(self) -> Result<scrypt::Params, KeystoreError> {
        let (r, p) = (u64::from(self.r), u64::from(self.p));
        let memory = self.n.checked_mul(r).and_then(|nr| nr.checked_mul(128));
        let work = self.n.checked_mul(r).and_then(|nr| nr.checked_mul(p));
        if memory.is_none_or(|m| m > SCRYPT_MEMORY_MAX) || work.is_none_or(|w| w > SCRYPT_WORK_MAX)
        {
            return Err(KeystoreError::TooCostly);
        }
        let log_n = u8::try_from(self.n.trailing_zeros()).unwrap_or_default();
        if !self.n.is_power_of_two() {
            return Err(KeystoreError::Unsupported);
        }
        scrypt::Params::new(log_n, self.r, self.p, 32).map_err(|_| KeystoreError::Unsupported)
    }
}

/// The salt, when it and the length of the derived key are what the format means.
fn salted(dklen: u32, salt: &str) -> Result<Vec<u8>, KeystoreError> {
    if dklen != 32 || salt.len() > 512 {
        return Err(KeystoreError::Unsupported);
    }
    hex::decode(salt).map_err(|_| KeystoreError::Form)
}

fn mac_of(derived: &[u8; 32], ciphertext: &[u8; 32]) -> [u8; 32] {
    let (_, prove) = derived.split_at(16);
    let mut proven = Zeroizing::new(Vec::with_capacity(48));
    proven.extend_from_slice(prove);
    proven.extend_from_slice(ciphertext);
    evm::keccak(&proven)
}

fn cipher(derived: &[u8; 32], iv: [u8; 16]) -> Ctr128BE<Aes128> {
    let mut key = Zeroizing::new([0; 16]);
    key.copy_from_slice(derived.split_at(16).0);
    Ctr128BE::<Aes128>::new((&*key).into(), &iv.into())
}

fn fixed<const N: usize>(digits: &str) -> Result<[u8; N], KeystoreError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| KeystoreError::Form)?;
    Ok(bytes)
}

fn random<const N: usize>() -> Result<[u8; N], KeystoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| KeystoreError::Randomness)?;
    Ok(bytes)
}

/// A random UUID (version 4), as the format wants one.
fn uuid() -> Result<String, KeystoreError> {
    let number = u128::from_be_bytes(random()?);
    let number = number & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let digits = format!("{number:032x}");
    let (a, rest) = digits.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    Ok(format!("{a}-{b}-{c}-{d}-{e}"))
}
