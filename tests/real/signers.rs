//! Wallets whose key is elsewhere: they pay for real, believe no signature unchecked, and nothing that a
//! signer does wrong pays twice or holds up what costs nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use farepass::evm::{Address, Charge, Domain, PermitTransfer, TransferWithAuthorization};
use farepass::fetch::Fetch;
use farepass::payment::{Instruction, PaymentId, Signature};
use farepass::section::Section;
use farepass::solana::Pubkey;
use farepass::wallet::{self, Opening, Purpose, Wallet, WalletError};
use secp256k1::{Secp256k1, SecretKey};
use serde_json::{Value, json};

use crate::support::agentcore::{AgentCore, INSTRUMENT, MANAGER, SESSION, State, USER};
use crate::support::aws::{Account, Kms};
use crate::support::merchant::{After, Merchant, shop};
use crate::support::proxy::Setup;
use crate::support::signer::{Cdp, Fault, Privy, Signer, Web3signer, p256};
use crate::support::stand::stand;
use crate::support::{USDC, chain, until};

const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const PAGE: &str = "https://shop.stand.test/report";

/// A signer of one kind with this key, and the wallet that asks it, without name and networks.
pub(crate) type Scene = fn([u8; 32], &Folder) -> (Signer, Value);

/// Every kind.
pub(crate) const KINDS: &[Scene] = &[web3signer, cdp, privy, kms];

/// Those that sign what is put before them, and the one that makes authorizations itself.
const EVERY: &[Scene] = &[web3signer, cdp, privy, kms, agentcore];

/// Where credentials are.
pub(crate) struct Folder(pub(crate) tempfile::TempDir);

pub(crate) fn web3signer(key: [u8; 32], _: &Folder) -> (Signer, Value) {
    let address = chain::payer(&key);
    let api = Web3signer {
        address: address.clone(),
    };
    let signer = Signer::start(api, key);
    let url = format!("http://127.0.0.1:{}/sign", signer.port);
    (
        signer,
        json!({ "kind": "web3signer", "url": url, "address": address }),
    )
}

pub(crate) fn cdp(key: [u8; 32], folder: &Folder) -> (Signer, Value) {
    cdp_of(key, chain::payer(&key), folder)
}

pub(crate) fn cdp_solana(key: [u8; 32], folder: &Folder) -> (Signer, Value) {
    cdp_of(key, solana_address(key), folder)
}

/// What an Ed25519 key with this seed is called on Solana.
pub(crate) fn solana_address(seed: [u8; 32]) -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    Pubkey(pair.public_key().as_ref().try_into().unwrap()).to_string()
}

fn cdp_of(key: [u8; 32], address: String, folder: &Folder) -> (Signer, Value) {
    let ((api, api_public), (wallet, wallet_public)) = (p256(), p256());
    folder.write("api.id", "organizations/one/apiKeys/two\n");
    let pem = STANDARD.encode(api);
    folder.write(
        "api.secret",
        &format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n"),
    );
    folder.write("wallet.secret", &STANDARD.encode(wallet));
    let api = Cdp {
        address: address.clone(),
        transaction: Mutex::default(),
        id: "organizations/one/apiKeys/two".into(),
        api: api_public,
        wallet: wallet_public,
    };
    let signer = Signer::start(api, key);
    let keys = json!({
        "kind": "cdp",
        "url": format!("http://127.0.0.1:{}/platform", signer.port),
        "address": address,
        "api_key_id_file": folder.0.path().join("api.id"),
        "api_key_secret_file": folder.0.path().join("api.secret"),
        "wallet_secret_file": folder.0.path().join("wallet.secret"),
    });
    (signer, keys)
}

pub(crate) fn privy(key: [u8; 32], folder: &Folder) -> (Signer, Value) {
    privy_of(key, chain::payer(&key), folder)
}

pub(crate) fn privy_solana(key: [u8; 32], folder: &Folder) -> (Signer, Value) {
    privy_of(key, solana_address(key), folder)
}

fn privy_of(key: [u8; 32], address: String, folder: &Folder) -> (Signer, Value) {
    let (owner, owner_public) = p256();
    folder.write("app.id", "theapp\n");
    folder.write("app.secret", "theapps3cret\n");
    folder.write(
        "owner.key",
        &format!("wallet-auth:{}", STANDARD.encode(owner)),
    );
    let api = Privy {
        wallet: "thewallet".into(),
        address: address.clone(),
        transaction: Mutex::default(),
        app: "theapp".into(),
        secret: "theapps3cret".into(),
        owner: owner_public,
    };
    let signer = Signer::start(api, key);
    let keys = json!({
        "kind": "privy",
        "url": format!("http://127.0.0.1:{}/", signer.port),
        "wallet_id": "thewallet",
        "address": address,
        "app_id_file": folder.0.path().join("app.id"),
        "app_secret_file": folder.0.path().join("app.secret"),
        "authorization_key_file": folder.0.path().join("owner.key"),
    });
    (signer, keys)
}

pub(crate) fn kms(key: [u8; 32], folder: &Folder) -> (Signer, Value) {
    kms_of(key, folder, false)
}

pub(crate) fn kms_solana(key: [u8; 32], folder: &Folder) -> (Signer, Value) {
    kms_of(key, folder, true)
}

/// `SubjectPublicKeyInfo` of an Ed25519 key.
fn edwards(seed: [u8; 32]) -> Vec<u8> {
    let public = solana_address(seed).parse::<Pubkey>().unwrap().0;
    let head = hex::decode("302a300506032b6570032100").unwrap();
    [head, public.to_vec()].concat()
}

fn kms_of(key: [u8; 32], folder: &Folder, is_edwards: bool) -> (Signer, Value) {
    let (public, address) = match is_edwards {
        true => (edwards(key), solana_address(key)),
        false => (spki(key), chain::payer(&key)),
    };
    folder.write(
        "aws",
        "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s3cr/et+key=\n",
    );
    let api = Kms {
        account: Account::of("AKIDEXAMPLE", "s3cr/et+key="),
        key_id: "alias/pay".into(),
        public,
        edwards: is_edwards,
    };
    let signer = Signer::start(api, key);
    let keys = json!({
        "kind": "kms",
        "url": format!("http://127.0.0.1:{}", signer.port),
        "key_id": "alias/pay",
        "region": "eu-central-1",
        "address": address,
        "credentials_file": folder.0.path().join("aws"),
    });
    (signer, keys)
}

pub(crate) fn agentcore_solana(key: [u8; 32], folder: &Folder) -> (Signer, Value) {
    instrument_of(key, solana_address(key), folder, &Arc::default())
}

pub(crate) fn agentcore(key: [u8; 32], folder: &Folder) -> (Signer, Value) {
    scene_of(key, folder, &Arc::default())
}

/// One with this state.
pub(crate) fn scene_of(
    key: [u8; 32],
    folder: &Folder,
    state: &Arc<Mutex<State>>,
) -> (Signer, Value) {
    instrument_of(key, chain::payer(&key), folder, state)
}

/// The same with this address.
pub(crate) fn instrument_of(
    key: [u8; 32],
    address: String,
    folder: &Folder,
    state: &Arc<Mutex<State>>,
) -> (Signer, Value) {
    folder.write(
        "aws",
        "[pay]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s3cr/et+key=\n",
    );
    let api = AgentCore {
        account: Account::of("AKIDEXAMPLE", "s3cr/et+key="),
        address: address.clone(),
        state: Arc::clone(state),
    };
    let signer = Signer::start(api, key);
    let keys = json!({
        "kind": "agentcore",
        "url": format!("http://127.0.0.1:{}", signer.port),
        "region": "eu-central-1",
        "payment_manager_arn": MANAGER,
        "user_id": USER,
        "instrument_id": INSTRUMENT,
        "session_id": SESSION,
        "address": address,
        "credentials_file": folder.0.path().join("aws"),
        "profile": "pay",
    });
    (signer, keys)
}

/// `SubjectPublicKeyInfo` of a secp256k1 key.
pub(crate) fn spki(key: [u8; 32]) -> Vec<u8> {
    let public = SecretKey::from_slice(&key)
        .unwrap()
        .public_key(&Secp256k1::new());
    let head = hex::decode("3056301006072a8648ce3d020106052b8104000a034200").unwrap();
    [head, public.serialize_uncompressed().to_vec()].concat()
}

/// Says this kind the last byte of a signature? Then it may be wrong there, too.
fn says_v(keys: &Value) -> bool {
    keys["kind"] != "kms"
}

pub(crate) const KEY: [u8; 32] = [0x5a; 32];

impl Folder {
    /// A credential as others cannot read it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

pub(crate) fn folder() -> Folder {
    Folder(tempfile::tempdir().unwrap())
}

/// The wallet as the library opens it.
pub(crate) fn open(wallet: &Value, folder: &Folder) -> Arc<dyn Wallet> {
    let keys = wallet.clone();
    let kind = keys["kind"].clone();
    let mut own = keys.clone();
    own.as_object_mut()
        .unwrap()
        .retain(|key, _| !["kind", "networks"].contains(&key.as_str()));
    let opening = Opening {
        section: Section::file("farepass.yaml", &own.to_string()).unwrap(),
        name: "far".into(),
        networks: match &keys["networks"] {
            Value::Array(listed) => listed
                .iter()
                .map(|n| n.as_str().unwrap().parse().unwrap())
                .collect(),
            _ => vec!["eip155:84532".parse().unwrap()],
        },
        base: folder.0.path().into(),
        fetch: Some(Fetch::new(Arc::new(rustls::RootCertStore::empty())).unwrap()),
    };
    wallet::open(kind.as_str().unwrap(), opening).unwrap()
}

pub(crate) fn transfer(nonce: u8) -> TransferWithAuthorization {
    TransferWithAuthorization {
        domain: Domain {
            name: "USDC".into(),
            version: "2".into(),
            chain_id: 84532,
            contract: Address::from_hex(USDC).unwrap(),
        },
        from: Address::from_hex(&chain::payer(&KEY)).unwrap(),
        to: Address([7; 20]),
        value: 10_000,
        valid_after: 0,
        valid_before: 4_000_000_000,
        nonce: [nonce; 32],
    }
}

/// The same by Permit2.
fn permit(charge: Charge) -> PermitTransfer {
    PermitTransfer {
        chain_id: 84532,
        from: Address::from_hex(&chain::payer(&KEY)).unwrap(),
        token: Address::from_hex(USDC).unwrap(),
        amount: 10_000,
        charge,
        nonce: [0xfe; 32],
        deadline: 4_000_000_000,
        to: Address([7; 20]),
        valid_after: 0,
    }
}

pub(crate) async fn sign(wallet: &dyn Wallet, nonce: u8) -> Result<[u8; 65], WalletError> {
    static PAYMENTS: AtomicU64 = AtomicU64::new(1);
    let purpose = Purpose {
        id: PaymentId(PAYMENTS.fetch_add(1, Ordering::Relaxed).into()),
        challenge: None,
    };
    let transfer = Instruction::Transfer(transfer(nonce));
    wallet.sign_for(&transfer, &purpose).await.map(evm)
}

fn evm(signature: Signature) -> [u8; 65] {
    match signature {
        Signature::Evm(bytes)
        | Signature::Authorization {
            signature: bytes, ..
        } => bytes,
        Signature::Solana(_) | Signature::Transaction(_) | Signature::Preimage { .. } => {
            panic!("that is no signature")
        }
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn one_signature_comes_back_as_the_key_itself_would_make_it() {
    for scene in KINDS {
        let folder = folder();
        let (signer, keys) = scene(KEY, &folder);
        let wallet = open(&keys, &folder);
        assert_eq!(wallet.kind(), keys["kind"]);
        for (nonce, fault) in [Fault::None, Fault::HighS, Fault::LowV]
            .into_iter()
            .enumerate()
        {
            signer.fail(fault);
            let nonce = u8::try_from(nonce).unwrap();
            let signed = runtime().block_on(sign(&*wallet, nonce)).unwrap();
            assert_eq!(signed, chain::sign(&KEY, transfer(nonce).digest()));
        }
        signer.fail(Fault::None);
        let facilitator = Address([8; 20]);
        for charge in [Charge::Whole, Charge::UpTo { facilitator }] {
            let permit = Instruction::Permit(permit(charge));
            let signed = runtime().block_on(wallet.sign(&permit));
            let signed = signed.map(evm).unwrap();
            let digest = permit.digest().unwrap();
            assert_eq!(signed, chain::sign(&KEY, digest), "{charge:?}");
        }
        assert_eq!(signer.seen().len(), 5);
        // A signature over something else is not believed here either.
        signer.fail(Fault::OtherDigest);
        let permit = Instruction::Permit(permit(Charge::Whole));
        let refused = runtime().block_on(wallet.sign(&permit));
        assert!(!refused.err().unwrap().is_final());
    }
}

#[test]
fn what_is_certainly_unsigned_is_told_from_what_is_not() {
    let answer = |status: u16, code: &str| {
        Fault::Answer(
            status,
            json!({ "errorType": code, "errorMessage": "s3cret" }).to_string(),
        )
    };
    let refusals = [
        (
            answer(400, "invalid_request"),
            "rejects the request, status 400, invalid_request",
        ),
        (
            answer(401, "unauthorized"),
            "credentials, or the clocks differ, status 401",
        ),
        (
            answer(402, "payment_method_required"),
            "its own bill is not paid, status 402",
        ),
        (
            answer(403, "policy_violation"),
            "forbid it, status 403, policy_violation",
        ),
        (
            Fault::Answer(403, "<html>s3cret</html>".into()),
            "forbid it, status 403",
        ),
        (
            answer(404, "not_found"),
            "does not know the wallet, status 404",
        ),
        (answer(422, "Has s3cret"), "rejects the request, status 422"),
        (
            answer(429, "rate_limit_exceeded"),
            "asked too often, status 429",
        ),
    ];
    let doubts = [
        (
            answer(500, "internal_server_error"),
            "status 500, internal_server_error",
        ),
        (answer(502, "bad_gateway"), "status 502"),
        (answer(503, "service_unavailable"), "status 503"),
        (answer(504, "timed_out"), "status 504"),
        (answer(409, "already_exists"), "status 409"),
        (Fault::Answer(302, String::new()), "status 302"),
        (Fault::Answer(201, "{}".into()), "status 201"),
        (Fault::Answer(200, "s3cret".into()), "cannot be read"),
        (Fault::Answer(200, "{}".into()), "cannot be read"),
        (Fault::Answer(200, " ".repeat(70_000)), "longer than"),
        (Fault::HangUp, "no answer from 127.0.0.1"),
        (Fault::Short, "no signature of 65 bytes"),
        (Fault::OddV, "not that of 0x"),
        (Fault::OtherKey, "not that of 0x"),
        (Fault::OtherDigest, "not that of 0x"),
        (Fault::Hang, "in time"),
    ];
    for scene in EVERY {
        let folder = folder();
        let (signer, keys) = scene(KEY, &folder);
        let mut asked = 0;
        for (faults, is_final) in [(&refusals[..], true), (&doubts[..], false)] {
            for (fault, said) in faults {
                if !says_v(&keys) && matches!(fault, Fault::OddV | Fault::Short) {
                    continue;
                }
                // A new one each time: after some failures in a row it would not ask.
                let wallet = open(&keys, &folder);
                signer.fail(fault.clone());
                let error = runtime().block_on(sign(&*wallet, 1)).unwrap_err();
                asked += 1;
                assert!(error.to_string().contains(said), "{fault:?}: {error}");
                assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
                assert_eq!(error.is_final(), is_final, "{fault:?}: {error}");
                assert_eq!(signer.seen().len(), asked, "{fault:?} is asked once");
            }
        }
    }
}

#[test]
fn a_signer_that_is_not_there_has_signed_nothing() {
    for scene in EVERY {
        let folder = folder();
        let (_, mut keys) = scene(KEY, &folder);
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        keys["url"] = json!(format!("http://{}/", gone.local_addr().unwrap()));
        drop(gone);
        let wallet = open(&keys, &folder);
        let error = runtime().block_on(sign(&*wallet, 1)).unwrap_err();
        assert!(
            error.is_final() && error.to_string().contains("no connection"),
            "{error}"
        );
    }
}

#[test]
fn another_payer_or_network_is_not_even_asked_for() {
    for scene in EVERY {
        let folder = folder();
        let (signer, keys) = scene(KEY, &folder);
        let wallet = open(&keys, &folder);
        let (mut payer, mut network, mut odd) = (transfer(1), transfer(1), transfer(1));
        payer.from = Address([9; 20]);
        network.domain.chain_id = 8453;
        odd.domain.name = "US\u{10a}C".into();
        let [mut other, mut elsewhere] = [Charge::Whole; 2].map(permit);
        other.from = Address([9; 20]);
        elsewhere.chain_id = 8453;
        let transfers = [payer, network, odd].map(Instruction::Transfer);
        let permits = [other, elsewhere].map(Instruction::Permit);
        for foreign in transfers.iter().chain(&permits) {
            let refused = runtime().block_on(wallet.sign(foreign));
            assert!(refused.err().unwrap().is_final());
        }
        assert_eq!(signer.seen().len(), 0);
    }
}

#[test]
fn a_slow_signer_is_asked_by_so_many_at_once_and_no_more() {
    let folder = folder();
    let (signer, keys) = web3signer(KEY, &folder);
    signer.fail(Fault::Hang);
    let wallet = open(&keys, &folder);
    let (finals, doubts): (Vec<WalletError>, Vec<_>) = runtime().block_on(async {
        let all = (0..20).map(|nonce| {
            let wallet = Arc::clone(&wallet);
            tokio::spawn(async move { sign(&*wallet, nonce).await.unwrap_err() })
        });
        let all: Vec<_> = all.collect();
        let mut errors = vec![];
        for one in all {
            errors.push(one.await.unwrap());
        }
        errors.into_iter().partition(WalletError::is_final)
    });
    assert_eq!(
        (finals.len(), doubts.len(), signer.seen().len()),
        (4, 16, 16)
    );
    assert!(
        finals
            .iter()
            .all(|e| e.to_string().contains("16 payments wait"))
    );
}

#[test]
fn new_credentials_are_used_when_they_are_whole() {
    let folder = folder();
    let (old, keys) = cdp(KEY, &folder);
    let wallet = open(&keys, &folder);
    let asks = |nonce| runtime().block_on(sign(&*wallet, nonce));
    assert!(asks(1).is_ok());
    // Half a file, then one that others may read: what was read before goes on.
    folder.write("wallet.secret", "MIGHAgEAMBMG");
    assert!(asks(2).is_ok());
    let path = folder.0.path().join("wallet.secret");
    std::fs::remove_file(&path).unwrap();
    assert!(asks(3).is_ok());
    let (secret, _) = p256();
    folder.write("wallet.secret", &STANDARD.encode(secret));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(asks(4).is_ok());
    // Whole and closed to others, it is tried with the next signature; it is not taken, and the old one is.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(old.seen().len(), 4);
    assert!(asks(5).is_ok());
    assert_eq!(old.seen().len(), 6);
    // Who knows no other says so.
    let said = runtime().block_on(sign(&*open(&keys, &folder), 6));
    let said = said.unwrap_err();
    assert!(
        said.is_final() && said.to_string().contains("status 401"),
        "{said}"
    );
    assert_eq!(old.seen().len(), 7);
}

#[test]
fn each_kind_pays_an_official_merchant() {
    let Some(stand) = stand() else { return };
    for scene in EVERY {
        let mut setup = stand.setup();
        let folder = folder();
        let key = hex::decode(setup.secret()).unwrap().try_into().unwrap();
        let (signer, mut keys) = scene(key, &folder);
        keys["name"] = json!("main");
        keys["networks"] = json!(["eip155:84532"]);
        setup.config["wallets"] = json!([keys]);
        let proxy = setup.start();
        let answer = proxy.get("https://merchant.stand.test/v2/exact");
        assert_eq!(answer.status, 200, "{}: {}", answer.text(), proxy.stderr());
        assert_eq!(answer.json()["data"], "premium");
        assert_eq!(signer.seen().len(), 1);
        assert_eq!(stand.balance(&proxy.payer()), 1_000_000_000 - 10_000);
        assert_eq!(proxy.ledger().sum(&["settled"]), 10_000);
        proxy.assert_verifies();
    }
}

/// Each kind tells whose key it has, and whoever cannot be asked is told of with what it needs.
#[test]
fn the_doctor_asks_whose_key_it_has() {
    let finding = |setup: &Setup| {
        let out = setup.run(&["doctor", "--json"]);
        let all: Result<Vec<Value>, _> = serde_json::from_slice(&out.stdout);
        let all = all.unwrap_or_else(|e| panic!("{e}: {out:?}"));
        all.into_iter()
            .find(|f| f["check"] == "signer main")
            .unwrap()
    };
    for scene in EVERY {
        let folder = folder();
        let (_merchant, signer, setup) = paying(*scene, &folder);
        setup.write();
        let found = finding(&setup);
        assert_eq!(found["state"], "ok", "{found}");
        assert_eq!(signer.seen().len(), 0, "nothing is signed for it");
        let mut other = setup;
        other.config["wallets"][0]["url"] = json!("http://127.0.0.1:1");
        other.write();
        let found = finding(&other);
        assert_eq!(found["state"], "wrong", "{found}");
        assert!(
            found["finding"].as_str().unwrap().contains("127.0.0.1:1"),
            "{found}"
        );
        assert!(
            found["mend"].as_str().unwrap().contains("permissions: "),
            "{found}"
        );
    }
    // An API key that is not known there, and a wallet of somebody else's.
    let folder = folder();
    let (_merchant, _signer, setup) = paying(cdp, &folder);
    setup.write();
    let (secret, _) = p256();
    let pem = STANDARD.encode(secret);
    folder.write(
        "api.secret",
        &format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n"),
    );
    let found = finding(&setup);
    assert_eq!(found["state"], "wrong", "{found}");
    let (_merchant, _signer, mut setup) = paying(privy, &folder);
    setup.config["wallets"][0]["address"] = json!(chain::payer(&[9; 32]));
    setup.write();
    let found = finding(&setup);
    assert!(
        found["finding"]
            .as_str()
            .unwrap()
            .starts_with("its key is that of 0x"),
        "{found}"
    );
    assert!(
        found["mend"].as_str().unwrap().contains("address"),
        "{found}"
    );
}

/// A merchant, and a proxy whose wallet is this kind of signer.
pub(crate) fn paying(scene: Scene, folder: &Folder) -> (Merchant, Signer, Setup) {
    let merchant = Merchant::start(|seen, out| match seen.target.as_str() {
        "/free" => {
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfree")?;
            Ok(After::Keep)
        }
        _ => shop(seen, out),
    });
    let mut setup = Setup::new();
    setup.root(&merchant.root);
    setup.resolve("shop.stand.test:443", merchant.tls.port().into());
    let key = hex::decode(setup.secret()).unwrap().try_into().unwrap();
    let (signer, mut keys) = scene(key, folder);
    keys["name"] = json!("main");
    keys["networks"] = json!(["eip155:84532"]);
    setup.config["wallets"] = json!([keys]);
    (merchant, signer, setup)
}

#[test]
fn a_refusal_gives_the_money_back_and_a_bill_of_the_signer_is_not_paid() {
    for scene in EVERY {
        let folder = folder();
        let (_merchant, signer, setup) = paying(*scene, &folder);
        let proxy = setup.start();
        let bill = json!({ "errorType": "payment_method_required", "x402Version": 2 });
        signer.fail(Fault::Answer(402, bill.to_string()));
        let refused = proxy.get(PAGE);
        assert_eq!(refused.reason().as_deref(), Some("wallet_unavailable"));
        assert_eq!(signer.seen().len(), 1, "asked once, and not paid");
        assert_eq!(proxy.ledger().counted(), 0);
        let said = proxy.stderr();
        assert!(
            said.contains("its own bill is not paid, status 402"),
            "{said}"
        );
        signer.fail(Fault::None);
        assert_eq!(proxy.get(PAGE).text(), "sold");
        assert_eq!(proxy.ledger().counted(), 10_000);
        proxy.assert_verifies();
    }
}

#[test]
fn silence_holds_the_money_and_nothing_else() {
    for scene in EVERY {
        let folder = folder();
        let (merchant, signer, setup) = paying(*scene, &folder);
        let proxy = setup.start();
        signer.fail(Fault::Hang);
        let mut waits = proxy.curl(PAGE).stdout(Stdio::piped()).spawn().unwrap();
        until("the signer to be asked", PATIENCE, || {
            (!signer.seen().is_empty()).then_some(())
        });
        for _ in 0..5 {
            assert_eq!(proxy.get("https://shop.stand.test/free").text(), "free");
        }
        assert!(
            waits.try_wait().unwrap().is_none(),
            "what is free was not held up"
        );
        let out = waits.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(text.contains("wallet_unavailable"), "{text}");
        assert_eq!(proxy.ledger().sum(&["unknown"]), 10_000, "the hold stays");
        // The same purchase is not signed a second time while the first may be.
        signer.fail(Fault::None);
        assert_eq!(proxy.get(PAGE).reason().as_deref(), Some("outcome_unknown"));
        assert_eq!(signer.seen().len(), 1);
        assert!(merchant.seen().iter().all(|s| s.payment().is_none()));
        proxy.assert_verifies();
    }
}

#[test]
fn a_signer_that_fails_again_and_again_is_left_alone_and_then_tried() {
    let folder = folder();
    let (_merchant, signer, setup) = paying(web3signer, &folder);
    let proxy = setup.start();
    let page = |n: u32| format!("{PAGE}?n={n}");
    // Refusals of one payment open nothing.
    signer.fail(Fault::Answer(400, "{}".into()));
    for n in 0..7 {
        let refused = proxy.get(&page(n));
        assert_eq!(refused.reason().as_deref(), Some("wallet_unavailable"));
    }
    assert_eq!(signer.seen().len(), 7);
    signer.fail(Fault::Answer(503, "{}".into()));
    for n in 10..15 {
        proxy.get(&page(n));
    }
    assert_eq!(signer.seen().len(), 12);
    let counted = proxy.ledger().counted();
    assert_eq!(counted, 5 * 10_000, "it may have signed those");
    let refused = proxy.get(&page(20));
    assert_eq!(signer.seen().len(), 12, "it is left alone");
    let told = refused.json();
    assert_eq!(told["reason"], "wallet_unavailable");
    assert_eq!(told["retryable"], true);
    assert!(told["resets_at"].is_string(), "{told}");
    assert_eq!(proxy.get("https://shop.stand.test/free").text(), "free");
    assert_eq!(proxy.ledger().counted(), counted, "and its money is back");
    signer.fail(Fault::None);
    let mut tries = 30..;
    until("the pause to end", PATIENCE, || {
        let answer = proxy.get(&page(tries.next().unwrap()));
        (answer.status == 200).then_some(())
    });
    assert_eq!(signer.seen().len(), 13, "one trial closes it");
    assert_eq!(proxy.get(&page(9)).text(), "sold");
    proxy.assert_verifies();
}
