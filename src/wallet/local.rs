//! Wallets of kind `local`: a private key in a file, or in an encrypted keystore. What the file holds decides
//! which chains it is for: a secp256k1 key for EVM chains, an Ed25519 key for Solana.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretBox, SecretString};

use super::key::{Key, NotAKey};
use super::keystore::{self, KeystoreError};
use super::secret_file::{self, SecretFileError};
use super::solana_key::{NotASolanaKey, SolanaKey};
use super::{Opening, Wallet, WalletError, WalletKind};
use crate::evm::{Address, Login};
use crate::money::Network;
use crate::payment::{Instruction, Signature};
use crate::section::{Section, SectionError};
use crate::settings::path;

/// The kind, as in the configuration.
pub(super) const KIND: WalletKind = WalletKind {
    kind: "local",
    remote: false,
    check: |section| settings(section, Path::new("")).map(drop),
    open,
};

/// Why a key file gave no key. Never quotes it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// Not one of the forms.
    #[error(
        "{0} holds no key: expected 64 hexadecimal digits, with or without 0x, a version 3 keystore, or the \
         JSON array of the Solana CLI"
    )]
    Form(PathBuf),
    /// Digits, but no key of the curve.
    #[error("{0} holds no key: its number is not a secp256k1 key")]
    Number(PathBuf),
    /// Begins like a Solana key, and is none.
    #[error("{path} holds no Solana key: {problem}")]
    Solana {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Encrypted, and nothing to open it with.
    #[error("{0} is encrypted: name the file with its passphrase as `passphrase_file`")]
    Locked(PathBuf),
    /// Not encrypted, although there is a passphrase.
    #[error("{0} is not encrypted, so `passphrase_file` opens nothing")]
    NotLocked(PathBuf),
    /// The keystore.
    #[error("{path}: {problem}")]
    Keystore {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: KeystoreError,
    },
    /// A passphrase that is no text.
    #[error("{0} is not UTF-8 text")]
    NotText(PathBuf),
    /// A passphrase without characters.
    #[error("the passphrase is empty")]
    Empty,
}

/// A key in memory, and where it may pay.
struct Local {
    name: String,
    networks: Vec<Network>,
    key: Held,
}

/// A key of either curve.
enum Held {
    Evm(Key),
    Solana(SolanaKey),
}

impl Held {
    fn address(&self) -> String {
        match self {
            Self::Evm(key) => key.address().to_string(),
            Self::Solana(key) => key.address().to_string(),
        }
    }

    fn is_public(&self) -> bool {
        match self {
            Self::Evm(key) => key.is_public(),
            Self::Solana(key) => key.is_public(),
        }
    }

    fn pays_on(&self, network: &Network) -> bool {
        match self {
            Self::Evm(_) => network.chain_id().is_some(),
            Self::Solana(_) => network.is_solana(),
        }
    }
}

/// A file, and the key that names it.
type Named = (Section, PathBuf);

/// `key_file` and `passphrase_file`.
fn settings(mut section: Section, base: &Path) -> Result<(Named, Option<Named>), SectionError> {
    let named = |file: Section| path(file.clone(), base).map(|path| (file, path));
    let key_file = named(section.need("key_file")?)?;
    let passphrase_file = section.take("passphrase_file").map(named).transpose()?;
    section.finish()?;
    Ok((key_file, passphrase_file))
}

fn open(opening: Opening) -> Result<Arc<dyn Wallet>, SectionError> {
    let Opening {
        section,
        name,
        networks,
        base,
        fetch: _,
    } = opening;
    let whole = section.clone();
    let ((key_file, path), passphrase_file) = settings(section, &base)?;
    let read = |(file, path): Named| passphrase(&path).map_err(|e| explain(&file, &e));
    let passphrase = passphrase_file.map(read).transpose()?;
    let key = load(&path, passphrase.as_ref()).map_err(|e| explain(&key_file, &e))?;
    check_networks(&whole, &key_file, &key, &networks)?;
    Ok(Arc::new(Local {
        name,
        networks,
        key,
    }))
}

/// Makes a new key from the system's generator in a new file that only its owner can read, encrypted
/// if there is a passphrase. Never overwrites.
///
/// # Errors
/// When the file exists or cannot be written, or the system gives no random numbers.
pub fn create_key(path: &Path, passphrase: Option<&SecretString>) -> Result<Address, KeyError> {
    let in_keystore = |problem| KeyError::Keystore {
        path: path.into(),
        problem,
    };
    let (secret, address) = fresh().map_err(in_keystore)?;
    let text = match passphrase {
        Some(passphrase) => {
            let passphrase = passphrase.expose_secret().as_bytes();
            if passphrase.is_empty() {
                return Err(KeyError::Empty);
            }
            keystore::write(&secret, address, passphrase).map_err(in_keystore)?
        }
        None => format!("0x{}", hex::encode(secret.expose_secret())),
    };
    let text = Zeroizing::new(text + "\n");
    secret_file::create(path, text.as_bytes())?;
    Ok(address)
}

/// The address of a key file, for telling the operator. The key is forgotten again.
///
/// # Errors
/// When the file holds no key that can be used.
pub fn address_of(path: &Path, passphrase: Option<&SecretString>) -> Result<String, KeyError> {
    load(path, passphrase).map(|key| key.address())
}

/// Makes a new Solana key from the system's generator, in a new file that only its owner can read, as the
/// Solana CLI writes it. Never overwrites. Returns its address.
///
/// # Errors
/// When the file exists or cannot be written, or the system gives no random numbers.
pub fn create_solana_key(path: &Path) -> Result<String, KeyError> {
    let key = SolanaKey::fresh().ok_or_else(|| KeyError::Keystore {
        path: path.into(),
        problem: KeystoreError::Randomness,
    })?;
    secret_file::create(path, key.text().as_bytes())?;
    Ok(key.address().to_string())
}

/// A random key. All but one in 2^128 numbers of 32 bytes are keys; the others are drawn again.
fn fresh() -> Result<(SecretBox<[u8; 32]>, Address), KeystoreError> {
    loop {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes).map_err(|_| KeystoreError::Randomness)?;
        let boxed = || SecretBox::init_with_mut(|key: &mut [u8; 32]| key.copy_from_slice(&*bytes));
        if let Ok(key) = Key::new(boxed()) {
            return Ok((boxed(), key.address()));
        }
    }
}

fn load(path: &Path, passphrase: Option<&SecretString>) -> Result<Held, KeyError> {
    let bytes = secret_file::read(path)?;
    let text = bytes.trim_ascii();
    let secret = match (text.first(), passphrase) {
        (Some(b'['), None) => {
            let failed = |e: NotASolanaKey| KeyError::Solana {
                path: path.into(),
                problem: e.to_string(),
            };
            return SolanaKey::read(text).map(Held::Solana).map_err(failed);
        }
        (Some(b'{'), None) => return Err(KeyError::Locked(path.into())),
        (Some(b'{'), Some(passphrase)) => {
            return unlock(path, text, passphrase).map(Held::Evm);
        }
        (_, Some(_)) => return Err(KeyError::NotLocked(path.into())),
        (_, None) => plain(text).ok_or_else(|| KeyError::Form(path.into()))?,
    };
    let key = Key::new(secret);
    key.map(Held::Evm)
        .map_err(|NotAKey| KeyError::Number(path.into()))
}

/// 64 hexadecimal digits, with or without `0x`.
fn plain(text: &[u8]) -> Option<SecretBox<[u8; 32]>> {
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits, &mut *bytes).ok()?;
    Some(SecretBox::init_with_mut(|key: &mut [u8; 32]| {
        key.copy_from_slice(&*bytes);
    }))
}

fn unlock(path: &Path, json: &[u8], passphrase: &SecretString) -> Result<Key, KeyError> {
    let failed = |problem| KeyError::Keystore {
        path: path.into(),
        problem,
    };
    let secret = keystore::open(json, passphrase.expose_secret().as_bytes()).map_err(failed)?;
    let key = Key::new(secret).map_err(|NotAKey| KeyError::Number(path.into()))?;
    match keystore::claimed(json) {
        None => Ok(key),
        Some(Ok(address)) if address == key.address() => Ok(key),
        Some(_) => Err(failed(KeystoreError::Address)),
    }
}

/// The passphrase in a file: its text without the end of the line. Everything else is part of it.
///
/// # Errors
/// When the file cannot be read, is open to others, or holds none.
pub fn passphrase(path: &Path) -> Result<SecretString, KeyError> {
    let bytes = secret_file::read(path)?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok("") => Err(KeyError::Empty),
        Ok(passphrase) => Ok(SecretString::from(passphrase)),
        Err(_) => Err(KeyError::NotText(path.into())),
    }
}

/// Networks that this key can and should pay on.
fn check_networks(
    section: &Section,
    key_file: &Section,
    key: &Held,
    networks: &[Network],
) -> Result<(), SectionError> {
    if let Some(other) = networks.iter().find(|n| !key.pays_on(n)) {
        let (of, only) = match key {
            Held::Evm(_) => ("an EVM", "eip155"),
            Held::Solana(_) => ("a Solana", "solana"),
        };
        let problem = format!("`{other}` cannot be paid on with {of} key");
        let hint = format!("list `{only}:…` networks only");
        return Err(section.error(problem).hint(hint));
    }
    let main = networks.iter().find(|n| !n.is_test());
    match main.filter(|_| key.is_public()) {
        None => Ok(()),
        Some(main) => Err(key_file
            .error(format!(
                "this key is public (development nodes ship with it), and `{main}` is a main network: \
                 anybody could take what is there"
            ))
            .hint("make a key of your own with `farepass init`, or list test networks only")),
    }
}

fn explain(section: &Section, error: &KeyError) -> SectionError {
    let explained = section.error(error.to_string());
    match error {
        KeyError::File(SecretFileError::Missing { .. }) => {
            explained.hint("`farepass init` makes a new key; paths start at the configuration file")
        }
        _ => explained,
    }
}

/// It was decided for somebody else, or somewhere else.
fn declined<T>(detail: &str) -> Result<T, WalletError> {
    Err(WalletError::Declined(detail.into()))
}

const NOT_PAYER: &str = "it is not the payer's wallet";
const NOT_LISTED: &str = "the network is not on its list";

impl Local {
    fn sign_digest(&self, key: &Key, instruction: &Instruction) -> Result<Signature, WalletError> {
        if instruction.from() != Some(key.address()) {
            return declined(NOT_PAYER);
        }
        let chain = instruction.chain_id();
        if !self.networks.iter().any(|n| n.chain_id() == chain) {
            return declined(NOT_LISTED);
        }
        let digest = instruction.digest().ok_or(WalletError::Unsupported)?;
        key.sign(digest).map(Signature::Evm)
    }

    fn sign_message(
        &self,
        key: &SolanaKey,
        instruction: &Instruction,
    ) -> Result<Signature, WalletError> {
        let (network, transfer) = match instruction {
            Instruction::Tokens { network, transfer } => (network, transfer),
            Instruction::Transfer(_)
            | Instruction::Permit(_)
            | Instruction::Tempo(_)
            | Instruction::Invoice { .. } => {
                return Err(WalletError::Unsupported);
            }
        };
        if transfer.terms().owner != key.address() {
            return declined(NOT_PAYER);
        }
        if !self.networks.contains(network) {
            return declined(NOT_LISTED);
        }
        key.sign(&transfer.message()).map(Signature::Solana)
    }
}

#[async_trait]
impl Wallet for Local {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        KIND.kind
    }

    fn address(&self, network: &Network) -> Option<String> {
        let listed = self.networks.contains(network);
        listed.then(|| self.key.address())
    }

    fn networks(&self) -> &[Network] {
        &self.networks
    }

    async fn sign(&self, instruction: &Instruction) -> Result<Signature, WalletError> {
        match &self.key {
            Held::Evm(key) => self.sign_digest(key, instruction),
            Held::Solana(key) => self.sign_message(key, instruction),
        }
    }

    async fn sign_in(&self, login: &Login) -> Result<Signature, WalletError> {
        let key = match &self.key {
            Held::Evm(key) => key,
            Held::Solana(_) => return Err(WalletError::Unsupported),
        };
        if login.address != key.address() {
            return declined("it is not the wallet that signs in");
        }
        let chain = Some(login.chain_id);
        if !self.networks.iter().any(|n| n.chain_id() == chain) {
            return declined(NOT_LISTED);
        }
        key.sign(login.digest()).map(Signature::Evm)
    }
}
