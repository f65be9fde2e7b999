//! A key in Amazon's service: its address, its credentials, and Solana.

use std::net::TcpListener;

use farepass::wallet::Probe;
use serde_json::json;

use super::signers::{Folder, KEY, PAGE, folder, kms, open, paying, runtime, sign, spki};
use crate::support::aws::{Account, Kms};
use crate::support::chain;
use crate::support::http::{read_body, read_head};
use crate::support::signer::{Fault, Signer};

#[test]
fn a_key_of_another_address_is_told_at_the_start() {
    let folder = folder();
    let (_signer, mut keys) = kms(KEY, &folder);
    assert_eq!(
        runtime().block_on(open(&keys, &folder).probe()),
        Probe::Right
    );
    keys["address"] = json!(chain::payer(&[9; 32]));
    let probe = runtime().block_on(open(&keys, &folder).probe());
    assert!(
        matches!(&probe, Probe::Wrong(why) if why.contains("its key is that of 0x")),
        "{probe:?}"
    );
    // The proxy does not start with it.
    let (_merchant, _signer, mut setup) = paying(kms, &folder);
    setup.config["wallets"][0]["address"] = json!(chain::payer(&[9; 32]));
    setup.write();
    let refused = setup.run(&["serve"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("wallet `main`: its key is that of 0x"),
        "{said}"
    );
}

#[test]
fn a_signature_that_is_no_der_is_none() {
    let folder = folder();
    let (signer, keys) = kms(KEY, &folder);
    signer.fail(Fault::Short);
    let error = runtime()
        .block_on(sign(&*open(&keys, &folder), 1))
        .unwrap_err();
    assert!(error.to_string().contains("not in DER"), "{error}");
    assert!(!error.is_final());
}

#[test]
fn each_word_of_the_service_has_its_meaning() {
    let folder = folder();
    let (signer, mut keys) = kms(KEY, &folder);
    let wallet = open(&keys, &folder);
    for (kind, said) in [
        (
            "AccessDeniedException",
            "permissions forbid it, status 400, AccessDeniedException",
        ),
        ("ThrottlingException", "asked too often"),
        ("NotFoundException", "does not know the wallet"),
        ("ExpiredTokenException", "does not accept the credentials"),
    ] {
        let body = json!({ "__type": format!("com.amazonaws.kms#{kind}"), "message": "s3cret" });
        signer.fail(Fault::Answer(400, body.to_string()));
        let error = runtime().block_on(sign(&*wallet, 1)).unwrap_err();
        assert!(
            error.is_final() && error.to_string().contains(said),
            "{error}"
        );
        assert!(!error.to_string().contains("s3cret"));
    }
    signer.fail(Fault::None);
    // Another secret: the service does the sum itself.
    folder.write(
        "aws",
        "[default]\naws_access_key_id=AKIDEXAMPLE\naws_secret_access_key=wrong\n",
    );
    let error = runtime()
        .block_on(sign(&*open(&keys, &folder), 1))
        .unwrap_err();
    assert!(
        error.to_string().contains("InvalidSignatureException"),
        "{error}"
    );
    // And another region is another signature.
    let (_signer, right) = kms(KEY, &folder);
    keys = right;
    keys["region"] = json!("eu-central-2");
    let error = runtime()
        .block_on(sign(&*open(&keys, &folder), 1))
        .unwrap_err();
    assert!(
        error.to_string().contains("InvalidSignatureException"),
        "{error}"
    );
}

/// Answers one question with this text, and gives what was asked.
fn one_answer(
    text: String,
) -> (
    u16,
    std::thread::JoinHandle<(String, Option<String>, String)>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let head = read_head(&mut reader).unwrap().unwrap();
        let body = read_body(&head, &mut reader, false).unwrap().start;
        let length = text.len();
        std::io::Write::write_all(
            &mut stream,
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}").as_bytes(),
        )
        .unwrap();
        let authorization = head.one("authorization").map(str::to_owned);
        (
            head.first.clone(),
            authorization,
            String::from_utf8(body).unwrap(),
        )
    });
    (port, asked)
}

/// A key whose users have credentials with a token.
fn with_token(setup: &crate::support::proxy::Setup) -> Signer {
    let key: [u8; 32] = hex::decode(setup.secret()).unwrap().try_into().unwrap();
    let mut account = Account::of("ASIAEXAMPLE", "temporary/secret");
    account.keys[0].2 = Some("the/token==".into());
    let api = Kms {
        account,
        key_id: "alias/pay".into(),
        public: spki(key),
        edwards: false,
    };
    Signer::start(api, key)
}

fn pays_with(
    folder: &Folder,
    text: String,
    env: impl Fn(u16) -> Vec<(&'static str, String)>,
) -> (String, Option<String>, String) {
    let (_merchant, _signer, mut setup) = paying(kms, folder);
    let signer = with_token(&setup);
    let wallet = &mut setup.config["wallets"][0];
    wallet.as_object_mut().unwrap().remove("credentials_file");
    wallet["url"] = json!(format!("http://127.0.0.1:{}", signer.port));
    let (port, asked) = one_answer(text);
    setup.env.push(("HOME", folder.0.path().into()));
    for (name, value) in env(port) {
        setup.env.push((name, value.into()));
    }
    let proxy = setup.start();
    for n in 0..2 {
        let answer = proxy.get(&format!("{PAGE}?n={n}"));
        assert_eq!(answer.text(), "sold", "{}", proxy.stderr());
    }
    assert_eq!(signer.seen().len(), 2);
    let said = proxy.stderr();
    assert!(
        !said.contains("temporary/secret") && !said.contains("the/token"),
        "{said}"
    );
    asked.join().unwrap()
}

#[test]
fn credentials_come_from_the_endpoint_beside_the_process() {
    let folder = folder();
    folder.write("pod.token", "pod-token\n");
    let text = json!({
        "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "temporary/secret", "Token": "the/token==",
        "Expiration": "2099-01-01T00:00:00Z",
    });
    let token = folder.0.path().join("pod.token").display().to_string();
    let (first, authorization, _) = pays_with(&folder, text.to_string(), |port| {
        vec![
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                format!("http://127.0.0.1:{port}/v1/credentials"),
            ),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.clone()),
        ]
    });
    // Asked once for both payments.
    assert_eq!(first, "GET /v1/credentials HTTP/1.1");
    assert_eq!(authorization.as_deref(), Some("pod-token"));
}

#[test]
fn credentials_come_for_a_token_of_the_cluster() {
    let folder = folder();
    folder.write("web.token", "ey.web/identity\n");
    let text = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
        <AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>temporary/secret</SecretAccessKey>\
        <SessionToken>the/token==</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
        </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
    let token = folder.0.path().join("web.token").display().to_string();
    let (first, authorization, body) = pays_with(&folder, text.into(), |port| {
        vec![
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.clone()),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pay".into()),
            ("AWS_ENDPOINT_URL_STS", format!("http://127.0.0.1:{port}/")),
        ]
    });
    assert_eq!((first.as_str(), authorization), ("POST / HTTP/1.1", None));
    assert!(
        body.contains("Action=AssumeRoleWithWebIdentity&Version=2011-06-15"),
        "{body}"
    );
    assert!(
        body.ends_with("WebIdentityToken=ey.web%2Fidentity"),
        "{body}"
    );
}
