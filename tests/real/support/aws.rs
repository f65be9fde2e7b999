//! Services of Amazon: they verify Signature Version 4 from the bytes that arrived, and sign with a real key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::http::Head;
use super::signer::{Api, Asked};

/// Who may ask: by id, the secret and the token that goes with it.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) keys: Vec<(String, String, Option<String>)>,
    pub(crate) region: String,
}

impl Account {
    /// With one access key that has no end.
    pub(crate) fn of(id: &str, secret: &str) -> Self {
        Self {
            keys: vec![(id.into(), secret.into(), None)],
            region: "eu-central-1".into(),
        }
    }

    /// Is this request signed by one of them, for this service, now?
    pub(crate) fn verify(&self, head: &Head, body: &[u8], service: &str) -> Result<(), String> {
        let said = head.one("authorization").ok_or("no signature")?;
        let said = said
            .strip_prefix("AWS4-HMAC-SHA256 ")
            .ok_or("another algorithm")?;
        let part = |name: &str| {
            let mut parts = said.split(", ");
            let found = parts.find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
            found.ok_or(format!("no {name}"))
        };
        let credential: Vec<&str> = part("Credential")?.split('/').collect();
        let [id, day, region, named, "aws4_request"] = *credential else {
            return Err("an odd credential".into());
        };
        let keys = self.keys.iter().find(|(known, _, _)| known == id);
        let (_, secret, token) = keys.ok_or("unknown access key")?;
        let date = head.one("x-amz-date").ok_or("no date")?;
        let scope = (region, named) == (self.region.as_str(), service);
        if !scope || !date.starts_with(day) || !is_now(date) {
            return Err("another scope, or another time".into());
        }
        if head.one("x-amz-security-token") != token.as_deref() {
            return Err("another token".into());
        }
        let names = part("SignedHeaders")?;
        let signed: Vec<&str> = names.split(';').collect();
        let mut must: Vec<&str> = vec!["content-type", "host", "x-amz-date"];
        must.extend(head.one("x-amz-target").map(|_| "x-amz-target"));
        must.extend(token.as_ref().map(|_| "x-amz-security-token"));
        if !signed.is_sorted() || must.iter().any(|name| !signed.contains(name)) {
            return Err("fields are left out".into());
        }
        let fields: String = signed
            .iter()
            .map(|name| format!("{name}:{}\n", head.one(name).unwrap_or("absent").trim()))
            .collect();
        let line: Vec<&str> = head.first.split(' ').collect();
        let (method, path) = (line[0], line[1]);
        let body = hex::encode(super::sha256(body));
        let canonical = format!("{method}\n{path}\n\n{fields}\n{names}\n{body}");
        let hash = hex::encode(super::sha256(canonical.as_bytes()));
        let text =
            format!("AWS4-HMAC-SHA256\n{date}\n{day}/{region}/{service}/aws4_request\n{hash}");
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in [day, region, service, "aws4_request", &text] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(part.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        match hex::encode(key) == part("Signature")? {
            true => Ok(()),
            false => Err("the signature does not match".into()),
        }
    }
}

/// Within five minutes, as the services want it.
fn is_now(date: &str) -> bool {
    let now = super::signer::now();
    let ours = |secs: u64| {
        let text = farepass::clock::Timestamp::from_secs(secs).to_string();
        text.split('.').next().unwrap().replace(['-', ':'], "") + "Z"
    };
    (ours(now - 300)..=ours(now + 300)).contains(&date.to_owned())
}

/// One key of the Key Management Service.
pub(crate) struct Kms {
    pub(crate) account: Account,
    pub(crate) key_id: String,
    /// `SubjectPublicKeyInfo`.
    pub(crate) public: Vec<u8>,
    /// Is its curve Ed25519?
    pub(crate) edwards: bool,
}

impl Kms {
    fn checked(&self, head: &Head, body: &[u8], target: &str) -> Result<Value, (u16, Value)> {
        let wrong = |kind: &str| {
            Err((
                400,
                json!({ "__type": format!("com.amazonaws.kms#{kind}"), "message": "no" }),
            ))
        };
        let framed = head.first == "POST / HTTP/1.1"
            && head.one("content-type") == Some("application/x-amz-json-1.1")
            && head.one("x-amz-target") == Some(&format!("TrentService.{target}"));
        if !framed {
            return wrong("UnknownOperationException");
        }
        if let Err(why) = self.account.verify(head, body, "kms") {
            let unknown = why == "unknown access key";
            return match unknown {
                true => wrong("UnrecognizedClientException"),
                false => wrong("InvalidSignatureException"),
            };
        }
        let asked: Value = serde_json::from_slice(body).unwrap();
        match asked["KeyId"] == *self.key_id {
            true => Ok(asked),
            false => wrong("NotFoundException"),
        }
    }
}

impl Api for Kms {
    fn read(&self, head: &Head, body: &[u8]) -> Result<Asked, (u16, Value)> {
        let asked = self.checked(head, body, "Sign")?;
        let message = asked["Message"].as_str().unwrap_or_default();
        let message = STANDARD.decode(message).unwrap_or_default();
        let how = (
            asked["MessageType"].as_str().unwrap_or_default(),
            asked["SigningAlgorithm"].as_str().unwrap_or_default(),
        );
        let wrong = || {
            (
                400,
                json!({ "__type": "ValidationException", "message": "no" }),
            )
        };
        match (how, self.edwards) {
            (("DIGEST", "ECDSA_SHA_256"), false) => {
                let digest = message.try_into().map_err(|_| wrong())?;
                Ok(Asked::Digest(digest))
            }
            (("RAW", "ED25519_SHA_512"), true) if message.len() <= 4096 => {
                Ok(Asked::Message(message))
            }
            _ => Err(wrong()),
        }
    }

    fn told(&self, head: &Head, body: &[u8]) -> Option<Value> {
        head.one("x-amz-target")
            .filter(|t| t.ends_with(".GetPublicKey"))?;
        Some(match self.checked(head, body, "GetPublicKey") {
            Ok(_) => json!({ "KeyId": self.key_id, "PublicKey": STANDARD.encode(&self.public) }),
            Err((_, why)) => why,
        })
    }

    fn answer(&self, signature: String) -> Value {
        let bytes = hex::decode(&signature[2..]).unwrap();
        let signature = match (self.edwards, bytes.len()) {
            (false, 65) => der(&bytes),
            _ => bytes,
        };
        json!({
            "KeyId": self.key_id,
            "Signature": STANDARD.encode(signature),
            "SigningAlgorithm": "ECDSA_SHA_256",
        })
    }
}

/// r and s as a service writes them; v is not said.
fn der(signature: &[u8]) -> Vec<u8> {
    let number = |half: &[u8]| {
        let first = half.iter().position(|b| *b != 0).unwrap_or(31);
        let mut bytes = half[first..].to_vec();
        if bytes[0] >= 0x80 {
            bytes.insert(0, 0);
        }
        let length = u8::try_from(bytes.len()).unwrap();
        [vec![2, length], bytes].concat()
    };
    let both = [number(&signature[..32]), number(&signature[32..64])].concat();
    let length = u8::try_from(both.len()).unwrap();
    [vec![0x30, length], both].concat()
}
