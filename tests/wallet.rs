//! Wallets of kind `local`: every form of key file, everything that is wrong with one, and that no
//! message ever contains the key.
#![cfg(test)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use farepass::evm::{Address, Domain, TransferWithAuthorization};
use farepass::payment::{Instruction, Signature};
use farepass::section::{Section, SectionError};
use farepass::wallet::{self, Opening, Wallet, WalletError, local};
use secrecy::SecretString;
use tempfile::TempDir;

/// A key that nobody has but this test, and its address.
const KEY: &str = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
const ADDRESS: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";
/// The first account of every local development node.
const ANVIL: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// The keystore of the format's own description, and one that eth-account wrote for the same key;
/// passphrase `testpassword`.
const PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
const SCRYPT: &str = r#"{"address":"008AeEda4D805471dF9b2A5B0f38A0C3bCBA786b","crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"d4c04e631766f9e7921df4a21524a983"},"ciphertext":"708804c6ac1bef9cfa397988be246ffad7f70ac63eb7c589d8a8dc40c1e80dd7","kdf":"scrypt","kdfparams":{"dklen":32,"n":4096,"r":8,"p":1,"salt":"aa014de6513a87bf086fac538272a826"},"mac":"71fcdc5b7e054096b8c1d7f52934c298ab621ec3d1bebc57bf18cb811ff1adb0"},"id":"b1dd0342-9431-40e3-ba9e-75de64ecf7d3","version":3}"#;
const VECTOR_KEY: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
const VECTOR_ADDRESS: &str = "0x008AeEda4D805471dF9b2A5B0f38A0C3bCBA786b";

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> &Self {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn open_on(&self, networks: &[&str], keys: &str) -> Result<Arc<dyn Wallet>, SectionError> {
        let section = Section::file("farepass.yaml", keys).unwrap();
        let opening = Opening {
            section,
            name: "main".into(),
            networks: networks.iter().map(|n| n.parse().unwrap()).collect(),
            base: self.path().into(),
            fetch: None,
        };
        wallet::open("local", opening)
    }

    fn open(&self, keys: &str) -> Result<Arc<dyn Wallet>, SectionError> {
        self.open_on(&["eip155:84532"], keys)
    }

    fn refused(&self, keys: &str) -> String {
        told(self.open(keys))
    }
}

/// The message, which must never hold a key or a passphrase.
fn told(opened: Result<Arc<dyn Wallet>, SectionError>) -> String {
    let error = opened.err().unwrap();
    let text = format!("{error}\n{error:?}");
    for secret in [
        KEY,
        &KEY[..16],
        VECTOR_KEY,
        &ANVIL[2..],
        "testpassword",
        "hunter2",
    ] {
        assert!(!text.contains(secret), "{text}");
    }
    error.to_string()
}

fn address(wallet: &dyn Wallet) -> String {
    wallet.address(&"eip155:84532".parse().unwrap()).unwrap()
}

#[test]
fn a_key_is_64_digits_however_they_are_dressed() {
    let folder = Folder::new();
    let upper = KEY.to_uppercase();
    for text in [
        KEY,
        &format!("0x{KEY}"),
        &format!("{KEY}\n"),
        &format!("  0x{upper}\r\n"),
    ] {
        folder.write("wallet.key", text, 0o600);
        let wallet = folder.open("key_file: wallet.key").unwrap();
        assert_eq!(address(&*wallet), ADDRESS);
        assert_eq!((wallet.name(), wallet.kind()), ("main", "local"));
        assert_eq!(wallet.address(&"eip155:8453".parse().unwrap()), None);
    }
    folder.write("wallet.key", KEY, 0o400);
    assert!(folder.open("key_file: wallet.key").is_ok());
    let absolute = format!("key_file: {}", folder.path().join("wallet.key").display());
    assert!(folder.open(&absolute).is_ok());
    symlink(folder.path().join("wallet.key"), folder.path().join("link")).unwrap();
    assert!(folder.open("key_file: link").is_ok());
}

#[test]
fn what_is_no_key_is_said_to_be_none() {
    let folder = Folder::new();
    for text in [
        "",
        KEY.get(1..).unwrap(),
        &format!("{KEY}00"),
        &format!("0X{KEY}"),
        "hunter2",
    ] {
        let told = folder
            .write("wallet.key", text, 0o600)
            .refused("key_file: wallet.key");
        assert!(
            told.contains("wallet.key holds no key: expected 64 hexadecimal digits"),
            "{told}"
        );
    }
    for number in ["0".repeat(64), "f".repeat(64)] {
        let told = folder
            .write("wallet.key", &number, 0o600)
            .refused("key_file: wallet.key");
        assert!(told.contains("not a secp256k1 key"), "{told}");
    }
    let told = folder
        .write("wallet.key", "[1,2,3]", 0o600)
        .refused("key_file: wallet.key");
    assert!(told.contains("wallet.key holds no Solana key"), "{told}");
    folder
        .write("wallet.key", KEY, 0o600)
        .write("pass", "hunter2", 0o600);
    let told = folder.refused("{key_file: wallet.key, passphrase_file: pass}");
    assert!(told.contains("is not encrypted"), "{told}");
}

#[test]
fn a_file_that_others_can_open_is_refused_with_the_command_that_mends_it() {
    let folder = Folder::new();
    for mode in [0o644, 0o640, 0o660, 0o604, 0o601, 0o610, 0o777] {
        folder.write("wallet.key", KEY, mode);
        let told = folder.refused("key_file: wallet.key");
        let path = folder.path().join("wallet.key");
        let expected = format!("(mode {mode:04o}): run `chmod 600 {}`", path.display());
        assert!(told.contains(&expected), "{told}");
        assert!(told.starts_with("farepass.yaml:1:11: key_file:"), "{told}");
    }
    folder
        .write("wallet.key", PBKDF2, 0o600)
        .write("pass", "testpassword", 0o640);
    let told = folder.refused("{key_file: wallet.key, passphrase_file: pass}");
    assert!(
        told.contains("pass is open to others (mode 0640)"),
        "{told}"
    );
}

#[test]
fn missing_files_and_odd_ones_are_named() {
    let folder = Folder::new();
    let told = folder.refused("key_file: wallet.key");
    assert!(told.contains(&format!(
        "there is no file {}",
        folder.path().join("wallet.key").display()
    )));
    assert!(told.contains("`farepass init` makes a new key"), "{told}");
    fs::create_dir(folder.path().join("dir")).unwrap();
    assert!(
        folder
            .refused("key_file: dir")
            .contains("is not a file of at most 64 KiB")
    );
    folder.write("long", &"0".repeat(70_000), 0o600);
    assert!(
        folder
            .refused("key_file: long")
            .contains("is not a file of at most 64 KiB")
    );
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), 0o600.into()).unwrap();
    assert!(
        folder
            .refused("key_file: pipe")
            .contains("is not a file of at most 64 KiB")
    );
    assert!(folder.refused("{}").contains("`key_file` is missing"));
    folder.write("wallet.key", KEY, 0o600);
    assert!(
        folder
            .refused("{key_file: wallet.key, keyfile: x}")
            .contains("keyfile")
    );
}

#[test]
fn public_keys_pay_on_test_networks_only() {
    let folder = Folder::new();
    let small = format!("{:064x}", 0xbeef);
    for key in [ANVIL, &small] {
        folder.write("wallet.key", key, 0o600);
        assert!(folder.open("key_file: wallet.key").is_ok());
        for main in ["eip155:8453", "eip155:1", "eip155:987654321"] {
            let told = told(folder.open_on(&["eip155:84532", main], "key_file: wallet.key"));
            assert!(
                told.contains(&format!(
                    "this key is public (development nodes ship with it), and `{main}`"
                )),
                "{told}"
            );
        }
    }
    folder.write("wallet.key", KEY, 0o600);
    assert!(
        folder
            .open_on(&["eip155:8453"], "key_file: wallet.key")
            .is_ok()
    );
    let solana = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp";
    let told = told(folder.open_on(&[solana], "key_file: wallet.key"));
    assert!(told.contains("cannot be paid on with an EVM key"), "{told}");
}

#[test]
fn keystores_of_other_tools_open() {
    let folder = Folder::new();
    folder.write("pass", "testpassword\n", 0o600);
    let keys = "{key_file: wallet.json, passphrase_file: pass}";
    let named = PBKDF2.replace(
        "\"id\"",
        "\"address\":\"008aeeda4d805471df9b2a5b0f38a0c3bcba786b\",\"id\"",
    );
    let capital = PBKDF2.replace("\"crypto\"", "\"Crypto\"");
    for keystore in [PBKDF2, SCRYPT, &named, &capital] {
        folder.write("wallet.json", keystore, 0o600);
        assert_eq!(address(&*folder.open(keys).unwrap()), VECTOR_ADDRESS);
    }
    folder.write("wallet.json", &named.replace("008a", "018a"), 0o600);
    assert!(
        folder
            .refused(keys)
            .contains("the address in it is not that of its key")
    );
    folder.write("wallet.json", PBKDF2, 0o600);
    assert!(
        folder
            .refused("key_file: wallet.json")
            .contains("is encrypted: name the file")
    );
    for wrong in ["hunter2", "testpassword ", "testpassword\n\n"] {
        folder.write("pass", wrong, 0o600);
        assert!(
            folder
                .refused(keys)
                .contains("the passphrase does not open it"),
            "{wrong:?}"
        );
    }
    folder.write("pass", "\n", 0o600);
    assert!(folder.refused(keys).contains("the passphrase is empty"));
}

#[test]
fn a_hostile_keystore_eats_neither_memory_nor_time() {
    let folder = Folder::new();
    folder.write("pass", "testpassword", 0o600);
    for (from, to, expected) in [
        (
            "\"n\":4096",
            "\"n\":4611686018427387904",
            "far longer than usual",
        ),
        ("\"n\":4096", "\"n\":524288", "far longer than usual"),
        ("\"n\":4096", "\"n\":4095", "key derivation other than"),
        ("\"n\":4096", "\"n\":0", "key derivation other than"),
        ("\"n\":4096", "\"n\":-1", "not a version 3 keystore"),
        ("\"p\":1", "\"p\":4294967295", "far longer than usual"),
        ("\"r\":8", "\"r\":4294967295", "far longer than usual"),
        ("\"p\":1", "\"p\":0", "key derivation other than"),
        ("\"dklen\":32", "\"dklen\":64", "key derivation other than"),
        ("\"version\":3", "\"version\":1", "not a version 3 keystore"),
        ("aes-128-ctr", "aes-256-cbc", "key derivation other than"),
        (
            "\"kdf\":\"scrypt\"",
            "\"kdf\":\"none\"",
            "not a version 3 keystore",
        ),
        ("\"mac\":\"71", "\"mac\":\"", "not a version 3 keystore"),
        ("\"crypto\"", "\"x\"", "not a version 3 keystore"),
    ] {
        assert!(SCRYPT.contains(from));
        folder.write("wallet.json", &SCRYPT.replacen(from, to, 1), 0o600);
        let told = folder.refused("{key_file: wallet.json, passphrase_file: pass}");
        assert!(told.contains(expected), "{to}: {told}");
    }
    for (from, to) in [
        ("\"c\":262144", "\"c\":4294967295"),
        ("hmac-sha256", "hmac-sha1"),
    ] {
        folder.write("wallet.json", &PBKDF2.replace(from, to), 0o600);
        let told = folder.refused("{key_file: wallet.json, passphrase_file: pass}");
        assert!(told.contains("key derivation"), "{told}");
    }
}

#[test]
fn a_new_key_is_private_opens_again_and_overwrites_nothing() {
    let folder = Folder::new();
    let path = folder.path().join("wallet.key");
    let made = local::create_key(&path, None).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(
        address(&*folder.open("key_file: wallet.key").unwrap()),
        made.to_string()
    );
    let before = fs::read(&path).unwrap();
    let error = local::create_key(&path, None).unwrap_err().to_string();
    assert!(
        error.contains("wallet.key exists already and is left as it is"),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
    let other = local::create_key(&folder.path().join("other.key"), None).unwrap();
    assert_ne!(made, other);
    assert!(local::create_key(&folder.path().join("no/such/folder.key"), None).is_err());

    let passphrase = SecretString::from("correct horse");
    let path = folder.path().join("wallet.json");
    let made = local::create_key(&path, Some(&passphrase)).unwrap();
    folder.write("pass", "correct horse\n", 0o600);
    let wallet = folder
        .open("{key_file: wallet.json, passphrase_file: pass}")
        .unwrap();
    assert_eq!(address(&*wallet), made.to_string());
    assert_eq!(
        local::address_of(&path, Some(&passphrase)).unwrap(),
        made.to_string()
    );
    let keystore: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(keystore["crypto"]["kdf"], "scrypt");
    assert!(
        keystore["id"]
            .as_str()
            .is_some_and(|id| id.len() == 36 && &id[14..15] == "4")
    );
    let empty = SecretString::from("");
    assert!(local::create_key(&folder.path().join("e.json"), Some(&empty)).is_err());
}

fn transfer(from: &str, chain_id: u64) -> Instruction {
    Instruction::Transfer(TransferWithAuthorization {
        domain: Domain {
            name: "USDC".into(),
            version: "2".into(),
            chain_id,
            contract: Address([3; 20]),
        },
        from: Address::from_hex(from).unwrap(),
        to: Address([4; 20]),
        value: 10_000,
        valid_after: 0,
        valid_before: 1_800_000_060,
        nonce: [5; 32],
    })
}

#[tokio::test]
async fn a_wallet_signs_for_its_own_address_on_its_own_networks() {
    let folder = Folder::new();
    folder.write("wallet.key", KEY, 0o600);
    let wallet = folder.open("key_file: wallet.key").unwrap();
    let signed = wallet.sign(&transfer(ADDRESS, 84532)).await;
    let Ok(Signature::Evm(signature)) = signed else {
        panic!("not signed");
    };
    assert!(matches!(signature[64], 27 | 28));
    for foreign in [transfer(ADDRESS, 8453), transfer(VECTOR_ADDRESS, 84532)] {
        let refused = wallet.sign(&foreign).await.err().unwrap();
        assert!(matches!(refused, WalletError::Declined(_)) && refused.is_final());
        assert!(!format!("{refused} {refused:?}").contains(KEY));
    }
}

#[test]
fn kinds_that_are_not_there_are_told_apart_from_misspelt_ones() {
    let opening = |kind: &str| {
        let opening = Opening {
            section: Section::file("farepass.yaml", "key_file: x").unwrap(),
            name: "main".into(),
            networks: vec![],
            base: "/".into(),
            fetch: None,
        };
        wallet::open(kind, opening).err().unwrap().to_string()
    };
    assert!(opening("agentcore").contains("`region`"));
    assert!(opening("kms").contains("`key_id`"));
    assert!(opening("lightning").contains("`backend`"));
    assert!(opening("web3signer").contains("`url`"));
    assert!(opening("locale").contains("did you mean `local`?"));
}

#[test]
fn a_hardened_process_leaves_no_core_and_runs_on() {
    wallet::harden::harden().unwrap();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
    assert_eq!(limit.current, Some(0));
    #[cfg(target_os = "linux")]
    assert_eq!(
        rustix::process::dumpable_behavior().unwrap(),
        rustix::process::DumpableBehavior::NotDumpable
    );
}

#[test]
fn the_settings_of_signers_elsewhere_are_read_with_care() {
    let check = |keys: &str| {
        let section = Section::file("farepass.yaml", keys).unwrap();
        wallet::check("web3signer", section).map_err(|e| e.to_string())
    };
    let with = |url: &str| check(&format!("{{ url: \"{url}\", address: \"{ADDRESS}\" }}"));
    for url in ["http://127.0.0.1:9000", "https://signer.example/eth1/"] {
        assert_eq!(with(url), Ok(()));
    }
    for url in [
        "",
        "/sign",
        "ftp://signer.example/",
        "https://me:hunter2@signer.example/",
        "https://signer.example/?key=hunter2",
    ] {
        let said = with(url).unwrap_err();
        assert!(said.contains("begins with https://"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    for (keys, said) in [
        ("{ url: \"https://s.example/\" }", "`address`"),
        (
            "{ url: \"https://s.example/\", address: \"0x12\" }",
            "40 hexadecimal digits",
        ),
        (
            "{ url: \"https://s.example/\", address: \"0x2c7536e3605D9C16a7a3D7b1898e529396a65c23\" }",
            "checksum",
        ),
        ("{ url: \"https://s.example/\", adress: x }", "adress"),
    ] {
        let error = check(keys).unwrap_err();
        assert!(error.contains(said), "{keys}: {error}");
    }
    let opening = Opening {
        section: Section::file(
            "farepass.yaml",
            &format!("{{ url: \"https://s.example/\", address: \"{ADDRESS}\" }}"),
        )
        .unwrap(),
        name: "far".into(),
        networks: vec!["solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1".parse().unwrap()],
        base: "/".into(),
        fetch: None,
    };
    let said = wallet::open("web3signer", opening)
        .err()
        .unwrap()
        .to_string();
    assert!(
        said.contains("cannot be paid on with an EVM address"),
        "{said}"
    );
}

#[test]
fn credentials_are_sent_to_nobody_in_the_clear_and_looked_for_only_when_opened() {
    let keys = |url: &str| {
        format!(
            "{{ url: \"{url}\", address: \"{ADDRESS}\", api_key_id_file: id, api_key_secret_file: secret, wallet_secret_file: wallet }}"
        )
    };
    let section = |url: &str| Section::file("farepass.yaml", &keys(url)).unwrap();
    let check = |url: &str| wallet::check("cdp", section(url)).map_err(|e| e.to_string());
    for url in [
        "https://api.cdp.coinbase.com/platform",
        "http://127.0.0.1:9000/platform/",
        "http://localhost:9000",
        "http://[::1]:9000",
    ] {
        assert_eq!(check(url), Ok(()), "no file is there yet");
    }
    for url in [
        "http://api.cdp.coinbase.com/platform",
        "http://127.0.0.1.example/",
    ] {
        assert!(check(url).unwrap_err().contains("in the clear"));
    }
    let folder = Folder::new();
    let open = || {
        let opening = Opening {
            section: section("https://api.cdp.coinbase.com/platform"),
            name: "far".into(),
            networks: vec!["eip155:84532".parse().unwrap()],
            base: folder.path().into(),
            fetch: None,
        };
        wallet::open("cdp", opening).err().unwrap().to_string()
    };
    assert!(open().contains("api_key_id_file: there is no file"));
    folder.write("id", "an id", 0o600);
    folder.write("secret", "hunter2", 0o600);
    folder.write("wallet", "hunter2", 0o644);
    assert!(open().contains("wallet_secret_file: "), "{}", open());
    folder.write("wallet", "hunter2", 0o600);
    assert!(open().contains("api_key_id_file: ") && open().contains("the id of an API key"));
    folder.write("id", "organizations/one/apiKeys/two\n", 0o600);
    let said = open();
    assert!(
        said.contains("api_key_secret_file: ") && said.contains("Ed25519"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_wallet_id_is_no_path() {
    let check = |url: &str, id: &str| {
        let keys = format!(
            "{{ url: \"{url}\", wallet_id: \"{id}\", address: \"{ADDRESS}\", app_id_file: id, app_secret_file: secret, authorization_key_file: key }}"
        );
        let section = Section::file("farepass.yaml", &keys).unwrap();
        wallet::check("privy", section).map_err(|e| e.to_string())
    };
    assert_eq!(check("https://api.privy.io", "w0123456789abcdef"), Ok(()));
    for id in ["", "../other", "a/b", "a b", "a%2fb", "a?b"] {
        let said = check("https://api.privy.io", id).unwrap_err();
        assert!(said.contains("the id of a wallet"), "{id}: {said}");
    }
    let said = check("http://api.privy.io", "w0").unwrap_err();
    assert!(said.contains("in the clear"), "{said}");
}

/// The seed and public key of RFC 8032 section 7.1, test 1, as the Solana CLI writes them.
const SOLANA: &str = "[157,97,177,157,239,253,90,96,186,132,74,244,146,236,44,196,68,73,197,105,123,50,105,25,112,59,172,3,28,174,127,96,215,90,152,1,130,177,10,183,213,75,254,211,201,100,7,58,14,225,114,243,218,166,35,37,175,2,26,104,247,7,81,26]";
const SOLANA_ADDRESS: &str = "FVen3X669xLzsi6N2V91DoiyzHzg1uAgqiT8jZ9nS96Z";
const MAINNET: &str = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp";
const DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";

fn tokens(owner: &str, network: &str) -> Instruction {
    let terms = farepass::solana::Transfer {
        fee_payer: "7v54NWdBtkjuAFJrLGsS2SXnuk8nKam81mZJeeYxVFi9"
            .parse()
            .unwrap(),
        owner: owner.parse().unwrap(),
        payee: "oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass9"
            .parse()
            .unwrap(),
        mint: "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"
            .parse()
            .unwrap(),
        program: farepass::solana::TokenProgram::Token,
        amount: 10_000,
        decimals: 6,
        memo: "memo".into(),
        blockhash: farepass::solana::Blockhash([7; 32]),
    };
    let transfer = farepass::solana::TokenTransfer::new(terms).unwrap();
    Instruction::Tokens {
        network: network.parse().unwrap(),
        transfer: Box::new(transfer),
    }
}

#[tokio::test]
async fn a_solana_key_signs_for_its_own_account_on_listed_clusters_only() {
    let folder = Folder::new();
    folder.write("id.json", &format!(" {SOLANA}\n"), 0o600);
    let wallet = folder.open_on(&[DEVNET], "key_file: id.json").unwrap();
    let devnet = DEVNET.parse().unwrap();
    assert_eq!(wallet.address(&devnet).as_deref(), Some(SOLANA_ADDRESS));
    assert_eq!(wallet.address(&MAINNET.parse().unwrap()), None);
    let ours = tokens(SOLANA_ADDRESS, DEVNET);
    let Ok(Signature::Solana(signature)) = wallet.sign(&ours).await else {
        panic!("no signature");
    };
    let Instruction::Tokens { transfer, .. } = &ours else {
        panic!("{ours:?}");
    };
    let key = bs58::decode(SOLANA_ADDRESS).into_vec().unwrap();
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, key);
    key.verify(&transfer.message(), &signature).unwrap();
    for other in [
        tokens("mBKqcnGotbsSb5vNrdyhzZ5EhqZdids9QYiTRckvi7v", DEVNET),
        tokens(SOLANA_ADDRESS, MAINNET),
    ] {
        let refused = wallet.sign(&other).await;
        assert!(refused.is_err_and(|e| e.is_final()), "{other:?}");
    }
    folder.write("wallet.key", KEY, 0o600);
    let evm = folder.open("key_file: wallet.key").unwrap();
    assert!(evm.sign(&ours).await.is_err_and(|e| e.is_final()));
}

#[test]
fn a_solana_key_is_for_solana_and_a_public_one_for_tests() {
    let folder = Folder::new();
    folder.write("id.json", SOLANA, 0o600);
    assert!(folder.open_on(&[MAINNET], "key_file: id.json").is_ok());
    let evm = told(folder.open_on(&[DEVNET, "eip155:8453"], "key_file: id.json"));
    assert!(
        evm.contains("`eip155:8453` cannot be paid on with a Solana key"),
        "{evm}"
    );
    folder.write("pass", "hunter2", 0o600);
    let locked = told(folder.open_on(&[DEVNET], "{ key_file: id.json, passphrase_file: pass }"));
    assert!(locked.contains("is not encrypted"), "{locked}");
    let mut public = vec![12_u8; 32];
    let address = bs58::decode("mBKqcnGotbsSb5vNrdyhzZ5EhqZdids9QYiTRckvi7v");
    public.extend(address.into_vec().unwrap());
    folder.write("id.json", &format!("{public:?}"), 0o600);
    assert!(folder.open_on(&[DEVNET], "key_file: id.json").is_ok());
    let main = told(folder.open_on(&[DEVNET, MAINNET], "key_file: id.json"));
    assert!(main.contains("this key is public"), "{main}");
    public[40] ^= 1;
    folder.write("id.json", &format!("{public:?}"), 0o600);
    let halves = told(folder.open_on(&[DEVNET], "key_file: id.json"));
    assert!(
        halves.contains("its second half is not the public key"),
        "{halves}"
    );
    assert!(!halves.contains("12, 12"), "{halves}");
}

#[test]
fn a_new_solana_key_is_private_and_never_overwrites() {
    let folder = Folder::new();
    let path = folder.path().join("new.json");
    let made = local::create_solana_key(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(local::address_of(&path, None).unwrap(), made);
    let numbers: Vec<u8> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(numbers.len(), 64);
    assert!(local::create_solana_key(&path).is_err());
    assert_eq!(local::address_of(&path, None).unwrap(), made);
}
