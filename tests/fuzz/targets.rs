//! What is fuzzed: every reader of outside bytes, and what must hold of whatever it makes of them.
//! Each function is a fuzz target of its own name; `tests/fuzz.rs` runs them over the seeds.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use farepass::budget::{Book, Entry, apply};
use farepass::clock::Timestamp;
use farepass::config::Config;
use farepass::event::SpendEvent;
use farepass::evm::{Address, Domain};
use farepass::money::{self, Amount, Network, Usd};
use farepass::payment::{
    Cause, Challenge, Instruction, Limit, Nonce, PaymentId, Receipt, RequestKey, Session,
    SessionId, Signature,
};
use farepass::policy::{Catalog, Facts, OURSELVES, Policy, Question};
use farepass::protocol::jsonrpc::Call;
use farepass::protocol::mcp::Answer;
use farepass::protocol::{self, PROTOCOLS, Repeat, Terms};
use farepass::proxy::{self, Target};
use farepass::section::{Problems, Section};
use farepass::settings::{Cidr, HostPattern, Percent, Rate, Size, Span, normalise_host};
use farepass::solana::{
    Blockhash, Pubkey, TokenAccount, TokenProgram, TokenTransfer, Transfer, same, split,
};
use farepass::wallet::agentcore::answer::authorized;
use farepass::wallet::kms::der;
use farepass::wallet::local;
use farepass::{admin, ledger, tls};
use http::{HeaderMap, HeaderValue, StatusCode, response};
use secrecy::SecretString;

/// A version 2 challenge: the header as it is, and the JSON inside it.
pub(crate) fn x402_v2_read(data: &[u8]) {
    for value in headers(data) {
        let head = head("payment-required", value);
        let challenge = protocol::read(&protocol::recognise(&head), &head, None);
        check(&challenge);
        login(&challenge);
    }
}

fn session() -> Session {
    Session {
        id: SessionId("s".into()),
        agent: "bot".into(),
        budget: Usd(1 << 40),
        created: Timestamp(0),
        expires: Timestamp(2),
    }
}

/// A login that is signed has one line for each of its parts, and is for the origin that was asked.
fn login(challenge: &Challenge) {
    let asked = farepass::payment::Asked {
        session: std::sync::Arc::new(session()),
        method: http::Method::GET,
        secure: false,
        host: "merchant.stand.test".into(),
        port: 80,
        path: "/v2/siwx".into(),
        request: None,
        trace: None,
        tool: farepass::payment::Tool::None,
    };
    let network: Network = "eip155:84532".parse().unwrap();
    let now: Timestamp = "2026-11-22T09:46:30Z".parse().unwrap();
    let login = protocol::login(challenge, &asked, (&network, Address([7; 20])), now);
    let Ok(Some(login)) = login else { return };
    let text = login.text();
    let parts = [&login.statement, &login.not_before, &login.request_id];
    let parts = parts.iter().filter(|p| p.is_some()).count();
    let listed = login.resources.len() + usize::from(!login.resources.is_empty());
    let lines = 10 + parts + listed;
    assert_eq!(text.lines().count(), lines, "{text}");
    assert!(text.starts_with("merchant.stand.test wants you to sign in"));
}

/// A version 1 challenge: the body.
pub(crate) fn x402_v1_read(data: &[u8]) {
    let head = head("content-type", HeaderValue::from_static("application/json"));
    check(&protocol::read(
        &protocol::recognise(&head),
        &head,
        Some(data),
    ));
}

/// Challenges in `WWW-Authenticate`, and MPP among them: the lines as they are, and a request of the
/// same bytes inside an honest one.
pub(crate) fn authenticate(data: &[u8]) {
    let lines = data.split(|b| *b == b'\n');
    let mut headers = HeaderMap::new();
    for value in lines.filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        headers.append("www-authenticate", value);
    }
    let request = URL_SAFE_NO_PAD.encode(data);
    let inside = ["evm", "tempo"].into_iter().filter_map(|method| {
        let line = format!(
            "Payment id=\"a\", realm=\"r\", method=\"{method}\", intent=\"charge\", request=\"{request}\""
        );
        let value = HeaderValue::from_str(&line).ok()?;
        Some(head("www-authenticate", value))
    });
    let mut lines = head("x", HeaderValue::from_static(""));
    lines.headers = headers;
    for head in inside.chain([lines]) {
        let mut challenge = protocol::read(&protocol::recognise(&head), &head, None);
        check(&challenge);
        let read = challenge.requirements.len() + challenge.problems.len();
        let repeat = Repeat {
            host: "api.example.com",
            port: 443,
            within: false,
            headers: &head.headers,
            body: &|| [0; 32],
        };
        protocol::fit(&mut challenge, &repeat);
        assert_eq!(
            challenge.requirements.len() + challenge.problems.len(),
            read
        );
    }
}

/// L402: challenges in the lines as they are, and the same bytes as an invoice and as a token beside an
/// honest invoice.
pub(crate) fn l402_read(data: &[u8]) {
    const HONEST: &str = "lnbc100n1p4s9tcspp55azcf33zvkq8nw7f300gjudlj6n3jm67hp6d26a2gn4ut6krzzjssp5rsxue7wcws4hnlgcz69dnl4fu3sd0h95f83exg402qxdq68ay8ysdqddahx2grrv9kxcxqzjc9qrsgq09xgc8urjdpz9fswj6x6nfl9jyptdqnywu5xhpdclgnwj5txqjp5gspw4qzaxpz3s77f0tdcny32dmuux85v347ax8j00gy3t3e2qcqpmtjhuk";
    let mut lines = head("x", HeaderValue::from_static(""));
    for value in data
        .split(|b| *b == b'\n')
        .filter_map(|l| HeaderValue::from_bytes(l).ok())
    {
        lines.headers.append("www-authenticate", value);
    }
    let word = String::from_utf8_lossy(data);
    let token = STANDARD.encode(data);
    let inside = [
        format!("L402 token=\"{token}\", invoice=\"{HONEST}\""),
        format!("L402 token=\"{word}\", invoice=\"{HONEST}\""),
        format!("LSAT macaroon=\"AGIA\", invoice=\"{word}\""),
    ];
    let inside = inside
        .into_iter()
        .filter_map(|text| HeaderValue::try_from(text).ok());
    let inside = inside.map(|value| head("www-authenticate", value));
    for head in inside.chain([lines]) {
        let challenge = protocol::read(&protocol::recognise(&head), &head, None);
        check(&challenge);
        for requirement in challenge
            .requirements
            .iter()
            .filter(|r| r.protocol == "l402")
        {
            assert!(requirement.network.is_lightning() && requirement.amount.0 > 0);
            assert_eq!(requirement.pay_to.len(), 66);
            let l402 = protocol::by_name("l402").unwrap();
            assert!(l402.reusable_until(requirement).is_some());
        }
    }
}

/// JSON-RPC of MCP: the same bytes as a request, as an answer to an honest one, and as terms inside one.
pub(crate) fn mcp(data: &[u8]) {
    const ASKED: &[u8] =
        br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search"}}"#;
    if let Some(call) = Call::read(data) {
        let paid = call.with(data, &["x402/payment"], "{\"a\":1}").unwrap();
        if !protocol::jsonrpc::carries_payment(data) {
            assert_eq!(mcp_payment(&paid), 1);
        }
        let again = Call::read(&paid).unwrap();
        assert_eq!((&again.name, &again.id_text), (&call.name, &call.id_text));
        let question: usize = call.question(data).map(<[u8]>::len).sum();
        assert!(question < data.len());
    }
    let call = Call::read(ASKED).unwrap();
    let whole = [
        br#"{"jsonrpc":"2.0","id":7,"result":{"isError":true,"structuredContent":"#.as_slice(),
        data,
        b"}}",
    ]
    .concat();
    for answer in [data, &whole].map(|body| Answer::read(&call, body)) {
        let Some(answer) = answer else { continue };
        assert_eq!(answer.challenge.is_some(), answer.status == 402);
        check(&answer.challenge.unwrap_or_default());
    }
}

/// What a server finds of our payment in the request that it gets.
fn mcp_payment(body: &[u8]) -> u64 {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap();
    json["params"]["_meta"]["x402/payment"]["a"]
        .as_u64()
        .unwrap_or_default()
}

/// A receipt of either version.
pub(crate) fn receipt(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for value in self::headers(data) {
        for name in protocol::RECEIPT_HEADERS {
            headers.insert(*name, value.clone());
        }
        for protocol in PROTOCOLS {
            if let Receipt::Denied { why, .. } = protocol.receipt(&headers) {
                assert!(why.len() <= 64 && !why.contains(char::is_whitespace));
            }
        }
    }
}

/// The first bytes of a redirected connection.
pub(crate) fn client_hello(data: &[u8]) {
    if let tls::Peek::Hello(hello) = tls::peek(data) {
        let name = hello.name.unwrap_or_default();
        assert!(name.is_ascii() && name.len() <= tls::HELLO_MAX);
        // What follows a whole message does not change what it says.
        assert_eq!(tls::peek(&[data, b"more"].concat()), tls::peek(data));
    }
}

/// A configuration file.
pub(crate) fn section(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Section::file("farepass.yaml", text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(mut section) => {
            let _ = section.place();
            for key in ["version", "wallets", "rules"] {
                let _ = section.take(key).map(Section::items);
            }
            let _ = section.finish();
        }
    }
}

/// Where a CONNECT or a URI wants to go: one spelling, which names itself.
pub(crate) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for port in [None, Some(443)] {
        if let Ok(target) = Target::parse(text, port) {
            assert_eq!(
                Target::parse(&target.to_string(), None).as_ref(),
                Ok(&target)
            );
            assert!(target.port > 0 && target.is_named_by(&target.authority(443), 443));
            assert_eq!(normalise_host(&target.host).as_deref(), Ok(&*target.host));
        }
    }
}

/// The small words of the configuration: each is written as it is read.
pub(crate) fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    twice::<HostPattern>(text);
    twice::<Cidr>(text);
    twice::<Span>(text);
    twice::<Size>(text);
    twice::<Percent>(text);
    twice::<Timestamp>(text);
    let _ = text.parse::<Rate>();
    if let Ok(pattern) = text.parse::<HostPattern>()
        && pattern.is_exact()
        && let Ok(target) = Target::parse(text, Some(443))
    {
        assert!(pattern.matches(&target.host, target.port), "{text}");
    }
}

/// Sums, networks, addresses, ids: one spelling each, or none (threats M-02 to M-04, M-06).
pub(crate) fn money(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    twice::<Usd>(text);
    twice::<Address>(text);
    for same in [
        text.parse::<Amount>().ok().map(|v| v.to_string()),
        text.parse::<Network>().ok().map(|v| v.to_string()),
        text.parse::<PaymentId>().ok().map(|v| v.to_string()),
    ] {
        assert!(same.is_none_or(|same| same == text), "{text:?}");
    }
    if let Ok(key) = text.parse::<RequestKey>() {
        assert_eq!(key.to_string(), text.to_ascii_lowercase());
    }
    if let (Ok(amount), [asset, ..]) = (text.parse::<Amount>(), &*money::canonical_assets()) {
        assert!(
            asset
                .price(amount)
                .is_none_or(|price| price.0 >= u64::from(amount.0 > 0))
        );
    }
}

/// A path, before rules that deny one folder and pay the rest: no spelling of that folder is paid
/// (threat H-13).
pub(crate) fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(mut question) = "https://a.example/".parse::<Question>() else {
        return;
    };
    let Ok(uri) = format!("/{text}").parse::<http::uri::PathAndQuery>() else {
        return;
    };
    question.path = uri.path().into();
    let session = session();
    let facts = Facts {
        payers: vec![("eip155:84532".parse().expect("a network"), OURSELVES.into())],
        ..Facts::default()
    };
    let answer = policy().answer(&question, &session, &facts, Timestamp(1));
    let mut plain = uri.path().to_owned();
    for (code, letter) in [
        ("%73", "s"),
        ("%53", "S"),
        ("%65", "e"),
        ("%63", "c"),
        ("%2f", "/"),
        ("%2F", "/"),
        ("%2e", "."),
        ("%2E", "."),
    ] {
        plain = plain.replace(code, letter);
    }
    let secret = plain.starts_with("/sec/") || plain.split('/').any(|s| s == ".." || s == ".");
    assert!(!secret || answer.outcome.is_err(), "{}", uri.path());
}

/// One policy for all paths.
fn policy() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(|| {
        let text =
            "rules: [{ name: never, match: { hosts: [a.example], paths: [/sec/**] }, deny: true },
          { name: rest, match: { hosts: [a.example], paths: [/**] }, pay: { max: 1 USD } }]";
        let catalog = Catalog {
            assets: money::canonical_assets(),
            validity: 300,
            requirements: 32,
            ..Catalog::default()
        };
        let mut file = Section::file("farepass.yaml", text).expect("YAML");
        Policy::read(&mut file, catalog, &mut Problems::default())
    })
}

/// A whole configuration: every error has its line.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(errors) = Config::parse(Path::new("farepass.yaml"), text) {
        assert!(!errors.is_empty());
        assert!(
            errors
                .iter()
                .all(|e| e.to_string().starts_with("farepass.yaml"))
        );
    }
}

/// Proxy credentials.
pub(crate) fn credentials(data: &[u8]) {
    let encoded = format!("Basic {}", STANDARD.encode(data));
    for value in [data, encoded.as_bytes()] {
        if let Some((user, _)) = proxy::basic(value) {
            assert!(!user.contains(':'));
        }
    }
}

/// A packed challenge: never longer than allowed.
pub(crate) fn packed(data: &[u8]) {
    const MOST: usize = 64 << 10;
    for coding in ["gzip", "deflate", "identity", "br"] {
        let value = HeaderValue::from_static(coding);
        let headers = HeaderMap::from_iter([(http::header::CONTENT_ENCODING, value)]);
        if let Ok(Some(out)) = proxy::unpacked(&headers, data.to_vec(), MOST) {
            assert!(out.len() <= MOST.max(data.len()));
        }
    }
}

/// A record of the ledger: what can be read is written the same, and no row of records passes a cap.
pub(crate) fn entries(data: &[u8]) {
    if let Ok(event) = serde_json::from_slice::<SpendEvent>(data) {
        let text = serde_json::to_string(&event).expect("an event is JSON");
        assert_eq!(serde_json::from_str(&text).ok(), Some(event));
    }
    let Ok(entries) = serde_json::from_slice::<Vec<Entry>>(data) else {
        return;
    };
    let text = serde_json::to_string(&entries).expect("entries are JSON");
    assert_eq!(serde_json::from_str(&text).ok().as_ref(), Some(&entries));
    let mut book = Book::default();
    for entry in &entries {
        let before = book.clone();
        if apply(&mut book, entry).is_err() {
            assert!(book == before, "a rejected entry changed the book");
        }
        for opened in book.sessions.values() {
            let cap = Limit::session(&opened.session);
            let spent = book.total(&cap.account, 0);
            assert!(spent.is_some_and(|s| s.amount <= opened.session.budget));
        }
    }
}

/// An agent's place in a trace: what is read is what was written.
pub(crate) fn trace(data: &[u8]) {
    if let Some(cause) = Cause::read(data) {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let places = format!("-{}-{}-", hex(&cause.trace), hex(&cause.span));
        assert_eq!(data.get(2..53), Some(places.as_bytes()));
    }
}

/// What the admin API is sent.
pub(crate) fn admin(data: &[u8]) {
    if let Ok(wanted) = serde_json::from_slice::<admin::sessions::Wanted>(data) {
        let text = serde_json::to_string(&wanted).expect("it is JSON");
        assert!(serde_json::from_str::<admin::sessions::Wanted>(&text).is_ok());
    }
    let _ = std::str::from_utf8(data).map(admin::state);
}

/// A certificate that somebody hands us.
pub(crate) fn certificate(data: &[u8]) {
    let _ = tls::subject_hash(data);
    let _ = tls::describe(&tls::pem(data));
    let _ = std::str::from_utf8(data).map(tls::describe);
}

/// A key file, plain or encrypted: a key of an address, or an error without any of it.
pub(crate) fn key_file(data: &[u8]) {
    let (_folder, path) = file("wallet.key", data);
    for passphrase in [None, Some(SecretString::from("open"))] {
        if let Err(error) = local::address_of(&path, passphrase.as_ref()) {
            assert!(error.to_string().contains("wallet.key"), "{error}");
        }
    }
}

/// What the seeds of `solana` move.
fn tokens() -> TokenTransfer {
    let key = |text: &str| text.parse().expect("an address");
    TokenTransfer::new(Transfer {
        fee_payer: key("7v54NWdBtkjuAFJrLGsS2SXnuk8nKam81mZJeeYxVFi9"),
        owner: key("mBKqcnGotbsSb5vNrdyhzZ5EhqZdids9QYiTRckvi7v"),
        payee: key("oapfTk8FG2np1vSoGANkbijWiQApHZMFAytSdCoass9"),
        mint: key("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),
        program: TokenProgram::Token,
        amount: 10_000,
        decimals: 6,
        memo: "01".repeat(16),
        blockhash: Blockhash([9; 32]),
    })
    .expect("a transfer")
}

/// A transaction that a node or a signer hands us, and addresses.
pub(crate) fn solana(data: &[u8]) {
    if let Some((signatures, message)) = split(data) {
        assert_eq!(1 + signatures.len() * 64 + message.len(), data.len());
    }
    let asked = tokens();
    if let Some(made) = same(data, &asked) {
        let amount = asked.terms().amount.to_le_bytes();
        let moved = made.message.windows(8).filter(|bytes| *bytes == amount);
        assert!(moved.count() >= 1 && data.ends_with(made.message));
    }
    if let Some(account) = TokenAccount::read(data) {
        let said = [
            &account.mint.0[..],
            &account.owner.0,
            &account.amount.to_le_bytes(),
        ]
        .concat();
        assert!(data.starts_with(&said) && data.len() >= 165);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        twice::<Pubkey>(text);
        twice::<Blockhash>(text);
        if let Ok(account) = text.parse::<Pubkey>() {
            let held = Pubkey::token_account(&account, TokenProgram::Token, &account);
            assert!(held.is_some_and(|held| !held.is_on_curve()));
        }
    }
}

/// What a service answers that makes authorizations itself: for the token that was asked for, or none.
pub(crate) fn agentcore(data: &[u8]) {
    let domain = Domain {
        name: "USDC".into(),
        version: "2".into(),
        chain_id: 84532,
        contract: Address([3; 20]),
    };
    for challenged in [false, true] {
        if let Some((transfer, signature)) = authorized(data, challenged, &domain) {
            assert_eq!(transfer.domain, domain);
            assert!(signature.len() <= data.len());
        }
    }
}

/// The marker beside a ledger: it is opened, or refused with a reason.
pub(crate) fn marker(data: &[u8]) {
    let (folder, _) = file("installed", data);
    match ledger::open(folder.path()) {
        Ok(_) => panic!("a marker without its ledger was taken for a first start"),
        Err(error) => assert!(error.to_string().contains("missing"), "{error}"),
    }
}

/// A folder of our own with one private file in it.
fn file(name: &str, data: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::write(&path, data).expect("a file");
    std::fs::set_permissions(&path, private).expect("its mode");
    (folder, path)
}

/// What is read is written, and read again the same.
fn twice<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        assert!(
            written.parse::<T>().is_ok_and(|again| again == value),
            "{text:?} {written:?}"
        );
    }
}

/// The bytes as a header line, where they can be one, and base64 of them.
fn headers(data: &[u8]) -> impl Iterator<Item = HeaderValue> {
    let encoded = STANDARD.encode(data);
    let values = [
        HeaderValue::from_bytes(data),
        HeaderValue::from_str(&encoded),
    ];
    values.into_iter().flatten()
}

fn head(name: &'static str, value: HeaderValue) -> response::Parts {
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = StatusCode::PAYMENT_REQUIRED;
    head.headers.insert(name, value);
    head
}

/// Nothing of the merchant's text in ours, and whatever can be paid can be paid to the end.
fn check(challenge: &Challenge) {
    for problem in &challenge.problems {
        assert!(problem.detail.is_ascii() && problem.detail.len() < 200);
    }
    for requirement in &challenge.requirements {
        let Some(protocol) = protocol::by_name(requirement.protocol) else {
            continue;
        };
        for asset in money::canonical_assets() {
            let terms = Terms {
                requirement,
                asset: &asset,
                payer: match asset.network.is_solana() {
                    true => "mBKqcnGotbsSb5vNrdyhzZ5EhqZdids9QYiTRckvi7v",
                    false => "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
                },
                id: PaymentId(1),
                nonce: Nonce([7; 32]),
                now: Timestamp::from_secs(1_800_000_000),
                valid_for: requirement.valid_for,
                blockhash: Some(Blockhash([9; 32])),
                fee: farepass::money::Amount(20_000),
            };
            if let Ok(instruction) = protocol.instruct(&terms) {
                if let Instruction::Tempo(transfer) = &instruction {
                    assert_eq!(transfer.total(), Some(requirement.amount.0));
                    let payees = transfer.calls.iter().map(|call| Ok(call.to));
                    assert!(payees.eq(requirement.payees().map(Address::from_hex)));
                    assert!(transfer.valid_before <= 1_800_000_025);
                }
                let signature = match &instruction {
                    Instruction::Tokens { .. } => Signature::Solana([1; 64]),
                    _ => Signature::Evm([1; 65]),
                };
                let paid = protocol.payload(requirement, &instruction, &signature, terms.id);
                assert!(paid.is_ok_and(|p| p.value.is_sensitive() && p.value.len() < 32 << 10));
            }
        }
    }
}

/// What a key service answers, in DER.
pub(crate) fn der(data: &[u8]) {
    if let Some(signature) = der::signature(data) {
        assert!(data.len() <= 72 && signature != [0; 64]);
    }
    if let Some(key) = der::public_key(data) {
        let length = match key {
            der::Key::Secp256k1(point) => point.len() + 24,
            der::Key::Ed25519(key) => key.len() + 12,
        };
        assert_eq!(length, data.len());
    }
}
