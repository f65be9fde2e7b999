//! What is sent, and what the service's words mean.

use super::*;

#[test]
fn digests_are_signed_as_they_are_and_messages_raw() {
    let asked = question(
        "alias/pay",
        &Ask::Message {
            message: b"message".to_vec(),
            transaction: vec![],
            paying: None,
        },
    );
    let expected = json!({
        "KeyId": "alias/pay", "Message": "bWVzc2FnZQ==", "MessageType": "RAW",
        "SigningAlgorithm": "ED25519_SHA_512",
    });
    assert_eq!(asked, expected);
}

#[test]
fn words_are_known_by_the_list_and_never_repeated_otherwise() {
    let said = |status: u16, kind: &str| {
        let body = json!({ "__type": kind, "message": "s3cret" }).to_string();
        refused(StatusCode::from_u16(status).unwrap(), body.as_bytes()).to_string()
    };
    let denied = said(400, "com.amazonaws.kms#AccessDeniedException");
    assert!(
        denied.contains("forbid it, status 400, AccessDenied"),
        "{denied}"
    );
    assert!(said(400, "ThrottlingException").contains("too often"));
    assert!(said(400, "ExpiredTokenException").contains("credentials"));
    assert_eq!(said(400, "s3cret"), "it rejects the request, status 400");
    let broken = said(500, "ThrottlingException");
    assert_eq!(broken, "it answers with status 500");
}

#[test]
fn keys_and_regions_are_names() {
    let read = |text: &str| {
        let section = Section::file("farepass.yaml", text).unwrap();
        settings(section, Path::new("")).map(|s| s.url)
    };
    let with = |rest: &str| {
        format!("{{ address: \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\", {rest} }}")
    };
    let good = read(&with("key_id: alias/pay, region: eu-central-1"));
    assert_eq!(good.unwrap(), "https://kms.eu-central-1.amazonaws.com/");
    let china = read(&with(
        "key_id: \"arn:aws-cn:kms:cn-north-1:1:key/2\", region: cn-north-1",
    ));
    assert_eq!(china.unwrap(), "https://kms.cn-north-1.amazonaws.com.cn/");
    for wrong in [
        "key_id: \"a b\", region: eu-central-1",
        "key_id: \"\", region: eu-central-1",
        "key_id: a, region: \"eu.example/\"",
        "key_id: a, region: \"-\"",
        "key_id: a",
        "region: eu-central-1",
        "key_id: a, region: eu-central-1, url: \"http://kms.example\"",
        "key_id: a, region: eu-central-1, url: \"https://kms.example/path\"",
    ] {
        assert!(read(&with(wrong)).is_err(), "{wrong}");
    }
}
